"""Published weights are found, verified and loaded to the last tensor.

Authors
 * qlung_plugin contributors
"""

import hashlib
import http.client
import os
import socket
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import nn

from qlung_plugin.lobes.models import beats, efficientat, panns
from qlung_plugin.lobes.models.beats import BEATs
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.models.panns import PANNs
from qlung_plugin.lobes.models.weights import (
    fetch_weights,
    load_every_tensor,
    without_wrapper,
)

URL = "https://example.org/files/"
PUBLISHED = {
    "large": (URL + "large.pt", None),
    "queried": (URL + "queried.pt?download=1", None),
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A fake server: what it holds by URL, and a list of the requests."""

    class Server:
        files, requests = {}, []

    def download(url, path):
        Server.requests.append(url)
        with open(path, "wb") as file:
            file.write(Server.files[url])

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return Server


def test_checksum_of_the_first_download_is_kept(server, caplog):
    server.files[URL + "large.pt"] = b"the weights"
    path = fetch_weights("large", PUBLISHED)
    assert path.read_bytes() == b"the weights"
    assert "No checksum is published for large.pt" in caplog.text
    # It is not downloaded twice, and not warned of twice.
    caplog.clear()
    assert fetch_weights("large", PUBLISHED) == path
    assert len(server.requests) == 1 and not caplog.records
    # Damage on the disk is noticed,
    path.write_bytes(b"the w")
    with pytest.raises(ValueError, match="delete it to download") as error:
        fetch_weights("large", PUBLISHED)
    assert str(path) in str(error.value)
    # so is another file under the same address,
    path.unlink()
    server.files[URL + path.name] = b"other weights"
    with pytest.raises(ValueError, match="instead of") as error:
        fetch_weights("large", PUBLISHED)
    # and a bad first download is overcome as the message says.
    record = path.with_name("large.sha256")
    assert record.name in str(error.value)
    path.unlink()
    record.unlink()
    assert fetch_weights("large", PUBLISHED).read_bytes() == b"other weights"


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_published_checksum(server, kind):
    published = hashlib.new(kind, b"the weights").hexdigest()
    server.files[URL + "large.pt"] = b"the weights"
    names = {"large": (URL + "large.pt", published)}
    path = fetch_weights("large", names)
    assert not path.with_suffix(".sha256").exists()
    path.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=f"instead of {published}"):
        fetch_weights("large", names)


def test_the_weights_at_hand_are_the_published_ones():
    data = os.environ.get("QLUNG_DATA", "")
    path = Path(data, "weights", "mn04_as_mAP_432.pt")
    if not path.is_file():
        pytest.skip("the weights are not here")
    published = hashlib.sha256(path.read_bytes()).hexdigest()
    assert efficientat.PUBLISHED["mn04_as"][1] == published


def test_prefix_of_all_names_or_of_none():
    assert without_wrapper({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}
    assert without_wrapper({"module.a.module.b": 1}) == {"a.module.b": 1}


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError(socket.gaierror(-2, "Name or service not known")),
        http.client.IncompleteRead(b"half"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_without_a_network_the_message_says_how_to_proceed(
    server, monkeypatch, failure
):
    def fail(url, path):
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ConnectionError) as error:
        fetch_weights("queried", PUBLISHED)
    message = str(error.value)
    assert PUBLISHED["queried"][0] in message
    assert "--pretrained_weights /path/to/queried.pt" in message
    assert "--pretrained_weights none" in message


def test_a_query_is_no_part_of_the_file_name(server):
    server.files[URL + "queried.pt?download=1"] = b"the weights"
    assert fetch_weights("queried", PUBLISHED).name == "queried.pt"


@pytest.mark.parametrize(
    "backbone, name, published",
    [
        (EfficientAT, "mn04_as", efficientat.PUBLISHED),
        (BEATs, "BEATs_iter3_plus_AS2M", beats.PUBLISHED),
        (PANNs, "Cnn14", panns.PUBLISHED),
    ],
)
def test_a_backbone_asks_for_its_file(server, backbone, name, published):
    url, checksum = published[name]
    assert name in url
    server.files[url] = b"other weights"
    with torch.device("meta"), pytest.raises(ValueError, match=checksum):
        backbone(pretrained_weights=name)


def test_a_name_that_is_not_published_is_told_the_ones_that_are(server):
    with pytest.raises(FileNotFoundError, match="'small'.*large, queried"):
        fetch_weights("small", PUBLISHED)
    assert fetch_weights("none", PUBLISHED) is None
    assert not server.requests


def test_each_tensor_that_does_not_fit_is_named():
    tensors = [
        ("weight", torch.zeros(3, 2)),
        ("bias", torch.zeros(2)),
        ("bias", torch.zeros(2)),
    ]
    with pytest.raises(ValueError) as error:
        load_every_tensor(nn.Linear(2, 2), tensors, "a.pt", "Look there.")
    assert str(error.value) == (
        "a.pt does not fit Linear: 2 of its tensors differ (twice: bias;"
        " weight: (3, 2) in the file, (2, 2) in the model). Look there."
    )
