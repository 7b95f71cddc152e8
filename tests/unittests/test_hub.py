"""Tests of models on the Hugging Face hub, without a network.

Authors
 * qlung_plugin contributors
"""

import shutil

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from qlung_plugin.inference import hub
from qlung_plugin.inference.models import open_model
from tests.unittests.small_runs import LABELS


@pytest.fixture
def cache(originals, tmp_path):
    """A snapshot as the hub's library keeps it: links to blobs."""
    blobs = tmp_path / "cache" / "models--owner--name" / "blobs"
    snapshot = blobs.parent / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in (originals / "exported").iterdir():
        shutil.copy(path, blobs / f"{path.name}-hash")
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}-hash")
    return snapshot


def test_id_is_downloaded(cache, originals, monkeypatch):
    asked = []

    def snapshot_download(hub_id, allow_patterns):
        asked.append((hub_id, set(allow_patterns)))
        return str(cache)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    plain = {"model.json", "model.safetensors", "hyperparams.yaml"}
    opened = open_model("owner/name")
    open_model("owner/name", trust=True)
    assert asked == [
        ("owner/name", plain),
        ("owner/name", plain | {"*.ckpt"}),
    ]
    expected = open_model(originals / "exported")
    for key, value in expected["backbone"].state_dict().items():
        assert torch.equal(opened["backbone"].state_dict()[key], value)
    # The folder itself may be passed, too, and leads nowhere else.
    assert open_model(cache)["labels"] == LABELS
    (cache / "model.json").unlink()
    (cache / "model.json").symlink_to(originals / "exported" / "model.json")
    with pytest.raises(ValueError, match="a link out of its folder"):
        open_model(cache)


def test_yaml_of_the_hub_is_refused_with_its_line(cache, monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", lambda *a, **b: str(cache))
    (cache / "model.json").unlink()
    with pytest.raises(ValueError, match="line [0-9]+, .*pretrainer: !new:"):
        open_model("owner/name")


def test_hub_that_cannot_be_reached(monkeypatch):
    def snapshot_download(*arguments, **options):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(FileNotFoundError) as caught:
        open_model("owner/name")
    message = str(caught.value)
    assert "owner/name is no folder here" in message and "no network" in message


@pytest.mark.parametrize(
    "source",
    [
        "name",
        "a/b/c",
        "/a/b",
        "./a",
        "../a",
        "a/..",
        "a/b..c",
        "a/b;ls",
        "a/b c",
        "-a/b",
        "a/-b",
        "https://a/b",
        "~/a",
        "a/b\n",
        "é/b",
        "",
    ],
)
def test_what_is_no_id_is_not_asked_for(source, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", None)
    with pytest.raises(FileNotFoundError, match="no folder|no model"):
        open_model(source)


def test_folder_is_never_taken_for_an_id(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    exported.rename(tmp_path / "owner" / "name")
    assert open_model("owner/name")["labels"] == LABELS
    (tmp_path / "owner" / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="is no model"):
        open_model("owner/empty")
    with pytest.raises(ValueError, match="is a file"):
        open_model("owner/name/model.json")
