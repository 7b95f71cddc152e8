"""Tests of what a run folder's files are called, and of which folder is one.

Authors
 * qlung_plugin contributors
"""

import json
from pathlib import Path

import pytest

from qlung_plugin.runs.folder import RunFolder


@pytest.mark.parametrize("made", ["save", "model"])
def test_a_training_is_known_by_its_checkpoints_or_its_model(tmp_path, made):
    run = RunFolder(tmp_path)
    assert not run.is_training
    (tmp_path / made).mkdir()
    assert run.is_training


def test_a_link_that_leads_nowhere_is_a_damaged_result(tmp_path):
    (tmp_path / "metrics.json").symlink_to(Path("nowhere"))
    assert RunFolder(tmp_path).has_results
    with pytest.raises(OSError, match="metrics.json"):
        RunFolder(tmp_path).read_metrics()


def test_an_interrupted_training_is_gone_on_with(tmp_path):
    checkpoint = tmp_path / "save" / "CKPT+1"
    checkpoint.mkdir(parents=True)
    assert not RunFolder(tmp_path).is_used()  # nothing was saved in it
    (checkpoint / "CKPT.yaml").touch()
    assert RunFolder(tmp_path).is_used()
    assert not RunFolder(tmp_path, tmp_path / "elsewhere").is_used()


def test_the_longest_history_is_that_of_the_last_epoch(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_history() == []
    for name, epochs in (("CKPT+a", 1), ("CKPT+b", 3), ("CKPT+c", 0)):
        (run.save / name).mkdir(parents=True)
        rows = [{"epoch": epoch + 1, "lr": 0.1} for epoch in range(epochs)]
        if rows:
            (run.save / name / "history.ckpt").write_text(json.dumps(rows))
    assert [row["epoch"] for row in run.read_history()] == [1, 2, 3]
    (run.save / "CKPT+a" / "history.ckpt").write_text('[{"epoch": "one"}]')
    with pytest.raises(ValueError, match=r"history.ckpt: \[0\].epoch is 'one'"):
        run.read_history()
