"""Tests of how the recipes' scripts speak.

Authors
 * qlung_plugin contributors
"""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qlung_plugin.runs import scripts
from qlung_plugin.runs.scripts import (
    describe_options,
    explain_errors,
    free_cores,
    set_threads,
)
from tests.recipes.conftest import run_script

ROOT = Path(__file__).resolve().parents[3]
TRAIN = ROOT / "recipes" / "ICBHI" / "classification" / "train.py"


@pytest.fixture
def raised(monkeypatch, capsys):
    """What is said of an error that nobody catches."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)

    def raised(error, *arguments, log=None):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        explain_errors(log)
        try:
            raise error
        except BaseException:
            sys.excepthook(*sys.exc_info())
        return capsys.readouterr().err

    return raised


def test_an_error_is_a_line(raised):
    assert raised(ValueError("a.wav is empty")) == "Error: a.wav is empty\n"
    assert raised(FileNotFoundError(2, "No such file", "a.wav")) == (
        "Error: [Errno 2] No such file: 'a.wav'\n"
    )


def test_a_mistake_tells_where_its_traceback_is(raised):
    error = TypeError("Invalid argument to class A", "unexpected keyword 'b'")
    assert raised(error) == (
        "TypeError: Invalid argument to class A, unexpected keyword 'b'\n"
        "The traceback is with --debug\n"
    )
    assert "The traceback is in a/log.txt" in raised(error, log="a/log.txt")


def test_debug_shows_the_traceback_before_the_line(raised):
    said = raised(ValueError("empty"), "--debug").splitlines()
    assert said[0].startswith("Traceback") and said[-1] == "Error: empty"


def test_the_log_has_the_traceback(raised, tmp_path):
    handler = logging.FileHandler(tmp_path / "log.txt")
    logging.getLogger().addHandler(handler)
    try:
        said = raised(ValueError("empty"), log=tmp_path / "log.txt")
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert said == "Error: empty\n"
    assert "Traceback" in (tmp_path / "log.txt").read_text()


SLEEPER = """
import time
from qlung_plugin.runs.scripts import start_script

start_script("")
print("started", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    "signum, code, said",
    [
        (signal.SIGTERM, 128 + signal.SIGTERM, "Terminated"),
        (signal.SIGINT, -signal.SIGINT, "Interrupted"),
    ],
)
def test_an_interruption_says_what_continues(signum, code, said):
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # In the background of a shell, it would be ignored.
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(signum)
    _, error = process.communicate()
    assert process.returncode == code
    assert error.strip() == f"{said}: the same command continues"


# Help


def test_help_shows_the_options_of_the_yaml_that_is_named(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "# ####\n# Title\n\n# How fast\nlr: 0.1  # or less\n"
        "__set_seed: !apply:random.seed [1]\n"
        "quality: !new:a.B\n    alpha: 0.7  # share\n"
    )
    said = describe_options("About\n\nAuthors\n * us", ["t.py", str(path)])
    assert "# How fast\n--lr 0.1  # or less\n--quality !new:a.B\n" in said
    assert "    alpha: 0.7  # share\n" in said
    assert said.startswith("About")
    for hidden in ("Title", "__set_seed", "* us"):
        assert hidden not in said


@pytest.mark.parametrize(
    "script", sorted(ROOT.glob("recipes/*/*/[tde]*.py")), ids=str
)
def test_every_script_names_a_yaml_to_describe(script):
    about = script.read_text().split('"""')[1]
    said = describe_options(about, [str(script)])
    assert "\n--output_folder " in said and "--data_folder !PLACE" in said


@pytest.mark.parametrize(
    "database, option",
    [("ICBHI", "--split official"), ("SPRSound", "--train_partition train")],
)
def test_help_of_a_linked_script_is_of_its_own_recipe(database, option):
    script = ROOT / "recipes" / database / "classification" / "train.py"
    assert f"\n{option}" in describe_options("hparams/ce.yaml", [str(script)])


def test_help_of_a_training(capsys):
    with pytest.raises(SystemExit) as ended:
        run_script(TRAIN, TRAIN.parent / "hparams/qlung.yaml", {"help": ""})
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "--test_fold 0  # of the 5 patient folds" in said
    assert "--batch_size 32" in said
    assert "--max_grad_norm" in said  # SpeechBrain's own


# Threads


@pytest.fixture
def machine(monkeypatch):
    """Six cores, of which some work."""
    chosen = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)

    def load(load):
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
        return chosen

    return load


@pytest.mark.parametrize("load, free", [(0.2, 6), (1.6, 4), (40.0, 1)])
def test_as_many_threads_as_cores_are_free(machine, capsys, load, free):
    chosen = machine(load)
    assert free_cores() == free
    assert set_threads() == free and chosen == [free]
    assert f"Threads: {free}, of 6 cores" in capsys.readouterr().err


def test_a_run_goes_on_as_it_was_begun(machine, capsys):
    chosen = machine(0.0)
    assert set_threads(recorded=3) == 3 and chosen == [3]
    assert "as it was begun" in capsys.readouterr().err


def test_who_sets_the_threads_is_left_alone(machine, monkeypatch, caplog):
    machine(0.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert set_threads() == set_threads(recorded=2) == 2
    assert not caplog.text
    with caplog.at_level(logging.WARNING, scripts.__name__):
        assert set_threads(recorded=1) == 2
    assert "Begun on 1 threads, now on 2" in caplog.text
