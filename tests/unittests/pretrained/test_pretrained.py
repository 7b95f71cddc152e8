"""Tests of the names of the models that ship.

Authors
 * qlung_plugin contributors
"""

import shutil
from pathlib import Path

import pytest

from qlung_plugin import pretrained
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.models import find_checkpoints, open_model
from qlung_plugin.inference.provenance import read_training_data
from tests.unittests.small_runs import LABELS


@pytest.fixture
def shipped(exported, tmp_path, monkeypatch):
    """A made model in the place of the one for other devices."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return exported.rename(tmp_path / "pretrained" / "transfer")


def test_name_opens_the_model_that_ships(shipped):
    assert open_model("transfer")["labels"] == LABELS
    assert find_checkpoints("transfer", "all") == ["selected"]
    model = RespiratorySoundClassifier.from_hparams(source="transfer")
    assert model.labels == LABELS
    assert str(shipped / "README.md") in pretrained.describe_shipped("transfer")


@pytest.mark.parametrize("name", pretrained.MODELS)
def test_parts_of_those_that_ship_fit(name, tmp_path):
    """Elsewhere they are checked as any other model; under their name, not."""
    shutil.copytree(pretrained.FOLDER / name, tmp_path / name)
    assert open_model(tmp_path / name)["labels"] == open_model(name)["labels"]


@pytest.mark.parametrize("name", ["Transfer", "transfers", "", "qlung"])
def test_another_name_is_told_those_that_ship(shipped, name):
    with pytest.raises(FileNotFoundError, match="transfer, icbhi|no model"):
        open_model(name)


def test_name_means_the_same_beside_a_folder_of_that_name(shipped, caplog):
    """Nothing of the folder is read, and a warning says how to name it."""
    Path("transfer").mkdir()
    Path("transfer", "metrics.json").write_text("{}")
    model = open_model("transfer")
    assert model["labels"] == LABELS
    assert "the folder of that name is ./transfer" in caplog.text
    known = read_training_data("transfer", model["provenance"])
    assert known["database"] == "ICBHI 2017"
    for path in ("./transfer", "transfer/", Path("transfer")):
        with pytest.raises(FileNotFoundError, match="is no model"):
            open_model(path)


def test_path_opens_the_folder_of_that_name(shipped):
    shipped.rename("transfer")
    for path in ("./transfer", "transfer/", Path("transfer")):
        assert open_model(path)["labels"] == LABELS
    with pytest.raises(FileNotFoundError, match="is not there: install it"):
        open_model("transfer")
