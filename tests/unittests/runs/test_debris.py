"""Tests of what is removed that killed runs left behind.

Authors
 * qlung_plugin contributors
"""

import json
import os
import subprocess
import sys

import pytest

from qlung_plugin.runs.debris import sweep


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def save(folder, epochs, missing=()):
    """A checkpoint of so many epochs."""
    folder.mkdir(parents=True)
    rows = json.dumps([{"epoch": e + 1, "loss": 1.0} for e in range(epochs)])
    files = {"CKPT.yaml": "", "history.ckpt": rows, "complete": ""}
    for name in files.keys() - set(missing):
        (folder / name).write_text(files[name])


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_temporary_files_of_dead_processes(tmp_path, dead):
    (tmp_path / "validation").mkdir()
    kept = [f".metrics.{os.getpid()}.json", "metrics.json", ".note.txt"]
    gone = [f".{name}" for name in (f"metrics.{dead}.json", f"a.{dead}.yaml")]
    for name in (*kept, *gone, f"validation/.a.{dead}.png"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert names(tmp_path) == sorted([*kept, "validation"])


@pytest.mark.parametrize(
    "missing", [["complete"], ["CKPT.yaml"], ["CKPT.yaml", "complete"]]
)
def test_checkpoints_that_are_none(tmp_path, missing):
    save(tmp_path / "save" / "CKPT+1", 1)
    save(tmp_path / "save" / "CKPT+2", 2, missing)
    (tmp_path / "save" / "CKPT+3").mkdir()
    (tmp_path / "save" / "other.yaml").touch()
    sweep(tmp_path, tmp_path / "save")
    assert sorted(path.name for path in (tmp_path / "save").iterdir()) == [
        "CKPT+1",
        "other.yaml",
    ]


def line(epoch, note=""):
    return f"epoch: {epoch}, lr: 1.00e-03 - train loss: 4.57{note}\n"


@pytest.mark.parametrize(
    "log, epochs, left",
    [
        (line(1) + line(2), 2, line(1) + line(2)),
        (line(1) + line(2), 1, line(1)),
        (line(1) + line(2), 0, ""),
        (line(10) + line(1), 1, line(1)),
        (line(1) + line(1, "2"), 1, line(1, "2")),
        ("Epoch loaded: 1\n" + line(2), 1, "Epoch loaded: 1\n"),
    ],
)
def test_epochs_that_are_repeated_leave_the_log(tmp_path, log, epochs, left):
    if epochs:
        save(tmp_path / "save" / "CKPT+1", 0)
        save(tmp_path / "save" / "CKPT+2", epochs)
    (tmp_path / "train_log.txt").write_text(log)
    sweep(tmp_path, tmp_path / "save", tmp_path / "train_log.txt")
    assert (tmp_path / "train_log.txt").read_text() == left


def test_a_log_of_which_no_history_tells_is_left(tmp_path):
    save(tmp_path / "save" / "CKPT+1", 1, missing=["history.ckpt"])
    (tmp_path / "train_log.txt").write_text(line(1) + line(2))
    sweep(tmp_path, tmp_path / "save", tmp_path / "train_log.txt")
    assert (tmp_path / "train_log.txt").read_text() == line(1) + line(2)
