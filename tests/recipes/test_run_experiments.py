"""Several configurations and seeds: a quick stand-in for train.py, then itself.

Authors
 * qlung_plugin contributors
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.recipes.conftest import RECIPE, ROOT, TINY, arguments
from tests.recipes.stand_in import (
    CALL,
    ONE,
    RUNS,
    call,
    options_of,
    starts,
    write_yaml,
)


def test_every_configuration_with_every_seed(experiments, tmp_path, capsys):
    assert experiments.main([*CALL, "--lr", "0.5"]) == 0
    for run in RUNS:
        name, seed = run.split("/")
        [start] = starts(tmp_path / "out" / run)
        assert start["argv"][1] == f"{name}.yaml"
        assert options_of(start) == {
            "--seed": seed,
            "--data_folder": "ICBHI",
            "--output_folder": f"out/{run}",
            "--cache_folder": "out/cache",
            "--lr": "0.5",
        }
        assert not (tmp_path / "out" / run / "sprsound").exists()
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(table) == 8 and (table["score"] == 100).all()
    assert "out/results.md" in capsys.readouterr().out
    assert (tmp_path / "out" / "results.md").is_file()
    assert (tmp_path / "out" / "scores.png").is_file()


def test_what_is_finished_is_not_run_again(experiments, tmp_path):
    assert experiments.main(CALL) == 0
    assert experiments.main(call("--seeds", "2", "3")) == 0
    for run in (*RUNS, "a/3", "b/3"):
        assert len(starts(tmp_path / "out" / run)) == 1
    assert len(pd.read_csv(tmp_path / "out" / "results.csv")) == 12


def test_evaluation_follows_its_training(experiments, tmp_path):
    assert experiments.main(CALL) == 0
    evaluated = call("--sprsound", "SPRSound", "--partition", "intra")
    assert experiments.main(evaluated) == 0
    for run in RUNS:
        folder = tmp_path / "out" / run
        assert len(starts(folder)) == 1
        [start] = starts(folder / "sprsound")
        assert start["argv"][1].endswith("hparams/cross_dataset.yaml")
        assert options_of(start) == {
            "--run_folder": f"out/{run}",
            "--data_folder": "SPRSound",
            "--output_folder": f"out/{run}/sprsound",
            "--cache_folder": "out/cache",
            "--partition": "intra",
            "--checkpoint": "all",
        }
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert table["database"].value_counts().to_dict() == {
        "ICBHI 2017": 8,
        "SPRSound 2022": 8,
    }
    with pytest.raises(SystemExit, match="out/a/1/sprsound was made otherwise"):
        experiments.main([*evaluated[:-1], "inter"])


def test_so_many_at_a_time(experiments, tmp_path):
    for name in ("a", "b"):
        write_yaml(tmp_path / f"{name}.yaml", "slow")
    experiments.main([*CALL, "--sprsound", "SPRSound"])
    ended = list((tmp_path / "out").rglob("ended.json"))
    spans = [json.loads(path.read_text()) for path in ended]
    assert len(spans) == 8
    at_once = [
        sum(s["start"] <= one["start"] < s["end"] for s in spans)
        for one in spans
    ]
    assert max(at_once) == 2


def test_broken_run_is_reported_and_stops_no_other(
    experiments, tmp_path, capsys
):
    write_yaml(tmp_path / "b.yaml", "break 1;")
    call = [*CALL, "--sprsound", "SPRSound"]
    assert experiments.main(call) == 1
    error = capsys.readouterr().err
    assert "b/1: exit code 1, the end of out/b/1/console.txt" in error
    assert "line 99" in error and "line 10\n" not in error
    assert "the loss is not finite" in error
    assert not (tmp_path / "out" / "b" / "1" / "sprsound").exists()
    report = (tmp_path / "out" / "results.md").read_text()
    assert "b/1 has no metrics.json: unfinished or broken" in report
    assert len(pd.read_csv(tmp_path / "out" / "results.csv")) == 12
    # What broke is what the same command runs again.
    (tmp_path / "mended").touch()
    assert experiments.main(call) == 0
    counts = {run: len(starts(tmp_path / "out" / run)) for run in RUNS}
    assert counts == {"a/1": 1, "a/2": 1, "b/1": 2, "b/2": 1}
    assert len(pd.read_csv(tmp_path / "out" / "results.csv")) == 16


def test_script_that_ends_without_results_is_broken(
    experiments, tmp_path, monkeypatch, capsys
):
    (tmp_path / "nothing.py").write_text("print('done')")
    monkeypatch.setattr(experiments, "TRAIN", tmp_path / "nothing.py")
    with pytest.raises(SystemExit, match="No run is finished"):
        experiments.main(ONE)
    assert "b/1: exit code 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "signum, code",
    [
        (signal.SIGINT, "Interrupted: the same command continues"),
        (signal.SIGTERM, 128 + signal.SIGTERM),
    ],
)
def test_interruption_ends_the_scripts(experiments, tmp_path, signum, code):
    write_yaml(tmp_path / "b.yaml", "hang 1; hang 2;")
    hanging = [tmp_path / "out" / "b" / seed for seed in ("1", "2")]
    handler = signal.getsignal(signal.SIGTERM)

    def interrupt():
        deadline = time.monotonic() + 300
        while not all((f / "half.txt").exists() for f in hanging):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as caught:
        experiments.main(CALL)
    thread.join()
    assert caught.value.code == code
    assert signal.getsignal(signal.SIGTERM) is handler
    for folder in hanging:
        [start] = starts(folder)
        with pytest.raises(ProcessLookupError):
            os.kill(start["pid"], 0)
        assert not (folder / "metrics.json").exists()
    assert experiments.main(CALL) == 0
    counts = {run: len(starts(tmp_path / "out" / run)) for run in RUNS}
    assert counts == {"a/1": 1, "a/2": 1, "b/1": 2, "b/2": 2}


SLEEPER = """
import os, time
from qlung_plugin.runs.scripts import start_script

start_script("hparams/a.yaml")
print("pid", os.getpid(), flush=True)
time.sleep(600)
"""
LAUNCHER = """
from pathlib import Path
from qlung_plugin.runs.jobs import Step, execute

options = ["--data_folder", "ICBHI", "--output_folder", "out"]
step = Step(Path("out"), ["sleeper.py", "a.yaml", *options], "ICBHI", {})
execute({"a": [step]}, [{}])
"""


def is_running(process):
    """Whether it is there, and no zombie that nobody asks for."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_experiments_leave_no_training_behind(experiments, tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    console = tmp_path / "out" / "console.txt"
    launcher = subprocess.Popen([sys.executable, "launcher.py"], cwd=tmp_path)
    wait_for(lambda: console.exists() and "pid" in console.read_text())
    training = int(console.read_text().split()[1])
    assert is_running(training)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not is_running(training))
    assert "Terminated: the same command continues" in console.read_text()


# What is there was made otherwise


def test_another_yaml_is_refused(experiments, tmp_path):
    experiments.main(CALL)
    write_yaml(tmp_path / "b.yaml", lr=3)
    with pytest.raises(SystemExit) as caught:
        experiments.main(call("--seeds", "1", "2", "3"))
    message = str(caught.value.code)
    assert "out/b/1 was made otherwise: lr: it was 0.1, now it is 3" in message
    assert "out/b/2" in message and "out/a" not in message
    assert "Choose another --output" in message and "delete" in message
    assert not (tmp_path / "out" / "a" / "3").exists()


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--icbhi", "SPRSound", "data folder: it was"),
        # More epochs, too: what is finished is not gone on with here.
        ("--number_of_epochs", "3", "number_of_epochs: it was 2, now it is 3"),
    ],
)
def test_another_option_is_refused_even_before_the_end(
    experiments, tmp_path, option, value, message
):
    write_yaml(tmp_path / "b.yaml", "break 1;")
    with pytest.raises(SystemExit, match="No run is finished"):
        experiments.main(ONE)
    with pytest.raises(SystemExit, match=f"out/b/1 .* {message}"):
        experiments.main(
            [*call("--hparams", "b.yaml", "--seeds", "1", option, value)]
        )
    # Where the cache is, changes no result.
    (tmp_path / "mended").touch()
    assert experiments.main([*ONE, "--cache_folder", "elsewhere"]) == 0
    start = starts(tmp_path / "out" / "b" / "1")[-1]
    assert options_of(start)["--cache_folder"] == "elsewhere"


def test_what_the_script_wrote_itself_counts(experiments, tmp_path):
    """It was gone on with by hand, with more epochs."""
    experiments.main(ONE)
    folder = tmp_path / "out" / "b" / "1"
    record = json.loads((folder / "experiment.json").read_text())["made_with"]
    del record["data folder"]
    record["options"]["lr"] = 0.3
    record |= {"manifests": {}, "recordings": "0", "threads": 1}
    (folder / "configuration.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="out/b/1 .* lr: it was 0.3, now"):
        experiments.main(ONE)


def test_results_of_unknown_making_are_refused(experiments, tmp_path):
    (tmp_path / "out" / "a" / "1").mkdir(parents=True)
    (tmp_path / "out" / "a" / "1" / "metrics.json").write_text("{}")
    with pytest.raises(SystemExit, match="out/a/1 holds files, but no exp"):
        experiments.main(CALL)


# Folds


# The recipes themselves

WITHOUT_FIGURES = """
import pathlib, runpy, sys
from qlung_plugin.utils import files
files.write_figure = lambda figure, path: None
sys.path[0] = str(pathlib.Path({script!r}).parent)
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_the_recipes_themselves(
    experiments, corpus, sprsound_corpus, cache, tmp_path, monkeypatch
):
    """With their scripts; only figures are left out."""
    recipes = ROOT / "recipes"
    for name, script in (
        ("TRAIN", recipes / "ICBHI" / "classification" / "train.py"),
        ("EVALUATE", recipes / "SPRSound" / "cross_dataset" / "evaluate.py"),
    ):
        launcher = tmp_path / script.name
        launcher.write_text(WITHOUT_FIGURES.format(script=str(script)))
        monkeypatch.setattr(experiments, name, launcher)
    call = [
        *("--hparams", str(RECIPE / "hparams" / "ce.yaml")),
        str(RECIPE / "hparams" / "qlung.yaml"),
        *("--seeds", "1", "--jobs", "2", "--output", "out"),
        *("--icbhi", str(corpus), "--sprsound", str(sprsound_corpus)),
        *("--cache_folder", str(cache)),
        *arguments({**TINY, "number_of_epochs": 1}),
    ]
    assert experiments.main(call) == 0
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(table) == 4 * 3  # evaluations and checkpoints
    for row in table.itertuples():
        folder = tmp_path / "out" / row.configuration / str(row.seed)
        if "SPRSound" in row.database:
            folder /= "sprsound"
        metrics = json.loads((folder / "metrics.json").read_text())
        expected = metrics[row.checkpoint]
        assert row.score == pytest.approx(expected["score"], abs=1e-4)
        assert row.epoch == expected["epoch"] == 1
        assert row.patients == expected["patients"]
    report = (tmp_path / "out" / "results.md").read_text()
    assert "not ICBHI 2017's" in report and "Published" not in report
    assert report.count("### Difference to ce") == 2
