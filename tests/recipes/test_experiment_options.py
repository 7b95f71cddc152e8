"""What experiments are made of: folds, cores, other data, and what is refused.

Authors
 * qlung_plugin contributors
"""

import json
import os
from pathlib import Path

import pytest
import torch

from qlung_plugin.runs import jobs
from tests.recipes.stand_in import CALL, ONE, call, starts


@pytest.mark.parametrize(
    "folds, expected",
    [
        ("patients", {"--split": "patient_folds", "--test_fold": "{}"}),
        (
            "training",
            {
                "--valid_fraction": "0.2",
                "--valid_fold": "{}",
                "--test_each_epoch": "False",
            },
        ),
    ],
)
def test_every_fold_is_a_run(experiments, folds, expected):
    """What is made of them is in the tests of experiments."""
    given = experiments.parse_arguments([*ONE, "--folds", folds])
    runs = experiments.plan_runs(*given)
    assert list(runs) == [f"b/1/fold_{k}" for k in range(5)]
    for k, [step] in enumerate(runs.values()):
        options = dict(zip(step.command[2::2], step.command[3::2]))
        assert options["--output_folder"] == f"out/b/1/fold_{k}"
        for key, value in expected.items():
            assert options[key] == value.format(k)
        assert step.about == {"configuration": "b", "seed": "1", "fold": k}


def test_every_device_is_held_out_in_a_run(experiments):
    given = experiments.parse_arguments([*ONE, "--folds", "devices"])
    runs = experiments.plan_runs(*given)
    devices = ["AKGC417L", "LittC2SE", "Meditron"]
    assert list(runs) == [f"b/1/fold_{device}" for device in devices]
    for device, [step] in zip(devices, runs.values()):
        options = dict(zip(step.command[2::2], step.command[3::2]))
        assert options["--valid_device"] == device
        assert options["--test_each_epoch"] == "False"
        assert step.about["fold"] == device


# The machine


def test_cores_are_shared(experiments, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert jobs.plan_slots() == [{"OMP_NUM_THREADS": "1"}] * 6
    assert jobs.plan_slots(2) == [{"OMP_NUM_THREADS": "3"}] * 2
    assert jobs.plan_slots(8) == [{"OMP_NUM_THREADS": "1"}] * 8
    experiments.main(ONE)
    [start] = starts(tmp_path / "out" / "b" / "1")
    assert start["environment"]["OMP_NUM_THREADS"] == "3"
    record = tmp_path / "out" / "b" / "1" / "experiment.json"
    environment = json.loads(record.read_text())["environment"]
    assert environment == {"OMP_NUM_THREADS": "3"}
    # Beside other work there are fewer at a time, and the numbers are the same.
    monkeypatch.setattr(os, "getloadavg", lambda: (3.9, 0.0, 0.0))
    assert jobs.plan_slots() == [{"OMP_NUM_THREADS": "1"}] * 2
    assert jobs.plan_slots(2) == [{"OMP_NUM_THREADS": "3"}] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert jobs.plan_slots(6) == [{"OMP_NUM_THREADS": "4"}] * 6


@pytest.mark.parametrize(
    "visible, jobs_at_once, expected",
    [
        (None, None, ["0", "1"]),
        ("3,5", None, ["3", "5"]),
        (None, 1, ["0"]),
        ("3,5", 3, ["3", "5", "3"]),
    ],
)
def test_each_run_has_one_gpu(monkeypatch, visible, jobs_at_once, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = jobs.plan_slots(jobs_at_once)
    assert slots == [{"CUDA_VISIBLE_DEVICES": device} for device in expected]


# The command line


def test_another_recipe_trains_on_other_data(experiments):
    call = "--train other.py --data SPRSound --hparams a.yaml --seeds 1"
    Path("other.py").touch()
    options, others = experiments.parse_arguments(
        [*call.split(), "--output", "out", "--folds", "patients"]
    )
    runs = experiments.plan_runs(options, others)
    assert len(runs) == 5
    for number, (step,) in enumerate(runs.values()):
        assert step.command[0] == str(Path("other.py").absolute())
        told = " ".join(step.command)
        assert "--data_folder SPRSound" in told
        assert f"--split patient_folds --test_fold {number}" in told


@pytest.mark.parametrize(
    "call, message",
    [
        (CALL[3:], "--hparams is missing"),
        (call("--jobs", "0"), "--jobs must be 1 or more"),
        (call("--hparams", "a.yaml", "./a.yaml"), "different"),
        (call("--hparams", "c.yaml"), "c.yaml is no file"),
        (call("--icbhi", "nowhere"), "nowhere is no folder"),
        (call("--train", "nowhere.py"), "nowhere.py is no file"),
        (
            call("--train", "stand_in.py", "--folds", "devices"),
            "are ICBHI's: omit --train",
        ),
        ([*CALL, "--seed=3"], "--seed=3 is set by this script"),
        (
            [*CALL, "--folds", "patients", "--split", "official"],
            "--split is set by this script",
        ),
        (
            [*CALL, "--folds", "training", "--sprsound", "SPRSound"],
            "omit --sprsound",
        ),
        (
            [*CALL, "--folds", "devices", "--sprsound", "SPRSound"],
            "omit --sprsound",
        ),
        (["--collect", "out", "--lr", "1"], "trains nothing"),
    ],
)
def test_wrong_arguments(experiments, capsys, call, message):
    with pytest.raises(SystemExit):
        experiments.main(call)
    assert message in capsys.readouterr().err
    assert not os.path.exists("out")


def test_collect_only_reads(experiments, tmp_path):
    experiments.main(CALL)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*/*")}
    call = ["--collect", "out", "--output", "tables", "--hparams", "b"]
    assert experiments.main(call) == 0
    assert before == {
        p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*/*")
    }
    report = (tmp_path / "tables" / "results.md").read_text()
    assert "### Difference to b" in report
    assert experiments.main(["--collect", "out"]) == 0
    assert "Difference to a" in (tmp_path / "out" / "results.md").read_text()


def test_damaged_results_are_left_out_and_named(experiments, tmp_path, capsys):
    experiments.main(CALL)
    path = tmp_path / "out" / "a" / "1" / "metrics.json"
    path.write_text("{")
    capsys.readouterr()
    assert experiments.main(["--collect", "out"]) == 1
    line = "out/a/1 is left out: out/a/1/metrics.json is no valid JSON"
    assert capsys.readouterr().err.startswith(line)
    assert line in (tmp_path / "out" / "results.md").read_text()
    for path in (tmp_path / "out").rglob("metrics.json"):
        path.write_text("{}")
    with pytest.raises(SystemExit, match="out/a/1/metrics.json lacks data"):
        experiments.main(["--collect", "out"])


@pytest.mark.parametrize(
    "further, message",
    [
        (["--cache_folder", "ICBHI/in"], "ICBHI/in.* lies in the data folder"),
        (["--hparams", "b.yaml"], "--hparams is given 2 times"),
    ],
)
def test_what_no_run_can_be_made_of(experiments, tmp_path, further, message):
    with pytest.raises(ValueError, match=message):
        experiments.main([*CALL, *further])
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ICBHI" / "in").exists()
