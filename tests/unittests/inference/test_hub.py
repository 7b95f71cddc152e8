"""Tests of models on the Hugging Face hub, without a network.

Authors
 * qlung_plugin contributors
"""

import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import DryRunError, LocalEntryNotFoundError

from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.safe_files import LARGEST_WEIGHTS
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


class StandIn:
    """A hub with one repository, which answers from the cache."""

    def __init__(self, snapshot):
        self.snapshot = snapshot
        self.sizes = {"model.json": 1000, "model.safetensors": 4000}
        self.reachable = True
        self.asked = []

    def snapshot_download(
        self, hub_id, allow_patterns, dry_run=False, local_files_only=False
    ):
        if not dry_run:
            assert self.reachable or local_files_only
            self.asked.append((hub_id, set(allow_patterns)))
            if self.snapshot is None:
                raise LocalEntryNotFoundError("not in the cache")
            return str(self.snapshot)
        if not self.reachable:
            raise DryRunError("no network")
        sizes = (self.sizes[name] for name in allow_patterns)
        return [SimpleNamespace(file_size=size) for size in sizes]


@pytest.fixture
def stand_in(cache, monkeypatch):
    there = StandIn(cache)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", there.snapshot_download
    )
    return there


def test_id_is_downloaded(cache, originals, stand_in):
    opened = open_model("owner/name")
    assert stand_in.asked == [
        ("owner/name", {"model.json", "model.safetensors"})
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


def test_what_is_too_large_is_not_downloaded(stand_in):
    stand_in.sizes["model.safetensors"] = LARGEST_WEIGHTS
    with pytest.raises(ValueError, match="owner/name is too large"):
        open_model("owner/name")
    assert not stand_in.asked


def test_hub_that_cannot_be_reached(stand_in):
    stand_in.reachable = False
    assert open_model("owner/name")["labels"] == LABELS
    stand_in.snapshot = None
    with pytest.raises(FileNotFoundError) as caught:
        open_model("owner/name")
    message = str(caught.value)
    assert "owner/name is no folder here" in message and "no network" in message


@pytest.mark.parametrize(
    "source",
    [
        "name",
        "/a/b",
        "../a",
        "a/b;ls",
        "https://a/b",
        "a/b\n",
        "",
    ],
)
def test_what_is_no_id_is_not_asked_for(source, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    with pytest.raises(FileNotFoundError, match="no folder|no model"):
        open_model(source)


def test_folder_is_never_taken_for_an_id(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    exported.rename(tmp_path / "owner" / "name")
    assert open_model("owner/name")["labels"] == LABELS
    (tmp_path / "owner" / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="is no model"):
        open_model("owner/empty")
    with pytest.raises(ValueError, match="is a file"):
        open_model("owner/name/model.json")
