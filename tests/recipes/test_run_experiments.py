"""Several configurations and seeds: a quick stand-in for train.py, then itself.

Authors
 * qlung_plugin contributors
"""

import importlib.util
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
import torch

from qlung_plugin.runs import experiment_report, jobs
from tests.recipes.conftest import RECIPE, ROOT, TINY, arguments

SCRIPT = ROOT / "recipes" / "run_experiments.py"

# Writes what train.py and evaluate.py write; the YAML's text says how it fails.
STAND_IN = """
import json, os, pathlib, sys, time

yaml, given = sys.argv[1], sys.argv[2:]
options = dict(zip(given[::2], given[1::2]))
output = pathlib.Path(options["--output_folder"])
about = {"argv": sys.argv, "pid": os.getpid(), "start": time.time()}
about["environment"] = dict(os.environ)
seed = options.get("--seed", "")
behaviour = pathlib.Path(yaml).read_text()
with open(output / "starts.txt", "a") as file:
    file.write(json.dumps(about) + "\\n")
if f"hang {seed};" in behaviour and not (output / "half.txt").exists():
    (output / "half.txt").touch()
    time.sleep(600)
if f"break {seed};" in behaviour and not pathlib.Path("mended").exists():
    for line in range(100):
        print("line", line)
    sys.exit("the loss is not finite")
time.sleep(0.5 if "slow" in behaviour else 0)

database = "SPRSound 2022" if "--run_folder" in options else "ICBHI 2017"
labels = "normal crackle wheeze both".split()
def evaluate(folder):
    folder.mkdir(exist_ok=True)
    shares = [f"p_{label}" for label in labels]
    rows = [",".join(["id,patient,label,prediction,recording,device,age,sex",
                      "location,quality", *shares])]
    rows += [f"{k}_{i},{k},{label},{label},,,,,,," +
             ",".join(str(int(j == i)) for j in range(4))
             for k in range(3) for i, label in enumerate(labels)]
    score = dict.fromkeys("sp se score se_two_class score_two_class".split(), 100)
    counts = dict.fromkeys(labels, 3)
    score |= {"macro_f1": 100, "recall": dict.fromkeys(labels, 100),
              "patients": 3, "confusion": [[3 * (i == j) for j in range(4)]
                                           for i in range(4)]}
    metrics = {"data": {"database": database, "subset": None,
                        "split": "official", "protocol": "of the stand-in"}}
    for key in ("selected", "last"):
        table = folder / ("predictions" + "_last" * (key == "last") + ".csv")
        table.write_text("\\n".join([*rows, ""]))
        metrics[key] = {**score, "counts": counts, "epoch": 1, "selection": key}
    (folder / "metrics.json").write_text(json.dumps(metrics))
if "--run_folder" not in options:
    evaluate(output / "validation")
evaluate(output)
about["end"] = time.time()
(output / "ended.json").write_text(json.dumps(about))
"""


@pytest.fixture(autouse=True)
def interruptible():
    """As at a terminal: in the background of a shell, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """The script as a module, with the stand-in, in an empty folder."""
    spec = importlib.util.spec_from_file_location("run_experiments", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    for name in ("TRAIN", "EVALUATE"):
        monkeypatch.setattr(module, name, tmp_path / "stand_in.py")
    monkeypatch.setattr(jobs, "POLL", 0.01)
    # The figure takes longer than all the rest; test_experiments draws it.
    monkeypatch.setattr(
        experiment_report, "scores_figure", lambda *tables: None
    )
    monkeypatch.setattr(
        experiment_report, "write_figure", lambda figure, path: path.touch()
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_yaml(tmp_path / f"{name}.yaml")
    for name in ("ICBHI", "SPRSound"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").touch()
    return module


def write_yaml(path, behaviour="", lr=0.1):
    """What run_experiments passes on, and how the stand-in behaves."""
    path.write_text(
        f"# {behaviour}\nseed: 1\nlr: {lr}\nnumber_of_epochs: 2\n"
        "split: official\ntest_fold: 0\n"
        "valid_fraction: 0.2\nvalid_fold: 0\nvalid_device: null\ntest_each_epoch: True\n"
        "data_folder: !PLACEHOLDER\noutput_folder: out\ncache_folder: cache\n"
    )


CALL = (
    "--hparams a.yaml b.yaml --seeds 1 2 --icbhi ICBHI --output out --jobs 2"
).split()


def call(*changes):
    """The command line with other options, or others besides."""
    options = {}
    for word in (*CALL, *changes):
        if word.startswith("--"):
            options[word] = values = []
        else:
            values.append(word)
    return [word for name in options for word in (name, *options[name])]


ONE = call("--hparams", "b.yaml", "--seeds", "1")
RUNS = [f"{name}/{seed}" for name in ("a", "b") for seed in (1, 2)]


def starts(folder):
    """How often, and how, the stand-in was started for a folder."""
    lines = (folder / "starts.txt").read_text().splitlines()
    return [json.loads(line) for line in lines]


def options_of(start):
    given = start["argv"][2:]
    return dict(zip(given[::2], given[1::2]))


# Runs


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


# Slurm

# Runs the job at once, as a shell on a machine of the cluster would.
SBATCH = """#!{python}
import json, pathlib, subprocess, sys
given = sys.argv[1:]
with open("jobs.txt", "a") as file:
    file.write(json.dumps(given) + "\\n")
if "full" in given:
    sys.exit("sbatch: error: the partition is full")
[wrap] = [given.removeprefix("--wrap=") for given in given if "--wrap=" in given]
subprocess.run(["sh", "-c", wrap])
print("Submitted batch job 1")
"""


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A command that stands in for Slurm's; what it was called with."""
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(SBATCH.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
    return lambda: [
        json.loads(line) for line in Path("jobs.txt").read_text().splitlines()
    ]


SLURM = "--hparams a.yaml b.yaml --seeds 1 2 --icbhi ICBHI --output out".split()
SLURM += ["--sprsound", "SPRSound", "--slurm", "--gres gpu:1 --comment 'a b'"]


def test_each_run_is_a_job_of_slurm(experiments, sbatch, tmp_path, capsys):
    write_yaml(tmp_path / "b.yaml", "break 2;")
    assert experiments.main(SLURM) == 0
    assert "Submitted 4 of 4 runs. When they" in capsys.readouterr().out
    for run, given in zip(("a/1", "b/1", "a/2", "b/2"), sbatch()):
        folder = tmp_path / "out" / run
        assert given[:2] == ["--dependency=singleton", "--output=/dev/null"]
        assert given[2:6] == ["--gres", "gpu:1", "--comment", "a b"]
        assert given[6] == f"--job-name={folder}"
        assert len(starts(folder)) == 1
        assert (folder / "sprsound" / "metrics.json").exists() == (run != "b/2")
    assert (
        "line 99" in (tmp_path / "out" / "b" / "2" / "console.txt").read_text()
    )
    assert experiments.main(["--collect", "out"]) == 0
    assert (
        "b/2 has no metrics.json" in (tmp_path / "out/results.md").read_text()
    )
    # Only what is left is submitted, and when nothing is, there are tables.
    (tmp_path / "mended").touch()
    assert experiments.main(SLURM) == 0
    assert len(sbatch()) == 5 and len(starts(tmp_path / "out" / "b" / "2")) == 2
    capsys.readouterr()
    assert experiments.main(SLURM) == 0
    assert len(sbatch()) == 5
    assert "Tables: out/results.md" in capsys.readouterr().out
    # What was submitted twice is made once.
    wrap = sbatch()[0][-1].removeprefix("--wrap=")
    subprocess.run(["sh", "-c", wrap], check=True)
    assert len(starts(tmp_path / "out" / "a" / "1")) == 1


def test_what_slurm_refuses_is_told(experiments, sbatch, monkeypatch):
    with pytest.raises(OSError, match="refused a/1: .* the partition is full"):
        experiments.main([*SLURM[:-1], "-p full"])
    with pytest.raises(SystemExit):
        experiments.main([*SLURM, "--jobs", "2"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="--slurm needs the command"):
        experiments.main(SLURM)


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
