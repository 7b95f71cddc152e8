"""Tests of the runner of Ray: the same rows as here, whoever is lost meanwhile.

Authors
 * qlung_plugin contributors
"""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import soundfile

from qlung_plugin.cli import quality, ray_runner
from qlung_plugin.cli.main import _parser, main
from qlung_plugin.inference.quality import make_measures, measure_recording

pytest.importorskip("pyarrow")

from qlung_plugin.cli.ray_work import (  # noqa: E402
    LOST,
    Item,
    Work,
    Worker,
    find_columns,
)
from qlung_plugin.dataio.objects import find_objects  # noqa: E402
from qlung_plugin.utils.partitions import Partitions  # noqa: E402

FOLDER = Path(__file__).parents[3]
RATE = 4000


def write_noise(path, seed, seconds=2):
    generator = np.random.default_rng(seed)
    samples = 0.1 * generator.standard_normal(seconds * RATE)
    soundfile.write(path, samples, RATE)


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Five recordings by relative names, and one that is none."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number, name in enumerate("abdef"):
        write_noise(folder / f"{name}.wav", number)
    (folder / "a.csv").write_text("start,end\n0,1\n1,2\n")
    (folder / "c.wav").write_text("no audio")
    monkeypatch.chdir(tmp_path)
    return Path("recordings")


def read_rows(folder):
    """As the local command writes them, and the errors by recording."""
    table = pd.read_parquet(folder)
    table = table.sort_values(["recording", "start"], ignore_index=True)
    failed = table["error"].notna()
    errors = table[failed].set_index("recording")["error"].to_dict()
    assert (
        table[failed].drop(columns=["recording", "error"]).isna().all(axis=None)
    )
    rows = table[~failed].drop(columns="error")
    counts = [n for n in ("sample_rate", "channels", "truncated") if n in rows]
    return rows.astype(dict.fromkeys(counts, int)), errors


def as_csv(rows, float_format="%.6f"):
    return rows.to_csv(index=False, float_format=float_format)


# Without Ray.


def test_what_is_missing_or_for_the_local_runner_is_one_line(
    recordings, capsys, monkeypatch
):
    pytest.importorskip("ray")
    ray_quality = ["quality", str(recordings), "--runner", "ray"]
    (recordings / "q.csv").touch()
    for options, message in (
        ([], "--runner ray needs an --output: a folder"),
        (["-o", "q", "--normalisation", "fitted"], "--normalisation needs --r"),
        (["-o", "q", "--histogram", "h.png"], "--histogram needs --runner loc"),
        (["-o", str(recordings)], "holds a.csv, which is no partition: name"),
        (["-o", str(recordings / "q.csv")], "q.csv is a file: partitions go"),
        (
            ["-o", "nil://q"],
            "nil://q cannot be opened: Protocol not known: nil",
        ),
    ):
        assert main([*ray_quality, *options]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and message in captured.err
    assert main(["quality", "s3://x"]) == 2
    assert "s3://x is in a store: --runner ray reads" in capsys.readouterr().err
    assert main(["quality", "nil://x", "--runner", "ray", "-o", "q"]) == 2
    assert "nil://x cannot be opened" in capsys.readouterr().err
    assert not Path("q").exists()
    find_spec = ray_runner.importlib.util.find_spec
    monkeypatch.setattr(
        ray_runner.importlib.util,
        "find_spec",
        lambda name: None if name == "ray" else find_spec(name),
    )
    assert main([*ray_quality, "-o", "q"]) == 2
    assert capsys.readouterr().err == (
        'qlung: --runner ray needs ray: pip install "qlung_plugin[ray]"\n'
    )


@pytest.fixture
def make_worker():
    """A worker that writes to a store, and what it wrote."""
    store = fsspec.filesystem("memory")
    partitions = Partitions("memory://out", {"a": 1})

    def make(function=partial(measure_recording, unit="recording")):
        work = Work(make_measures, function, quality.rows_of, len, partitions)
        return Worker(work, find_columns(work, channel=None))

    def read():
        tables = []
        for path in store.glob("/out/part-*.parquet"):
            with store.open(path) as file:
                tables.append(pd.read_parquet(file))
        return pd.concat(tables)

    yield make, read
    store.store.clear()


def test_recordings_of_a_store_have_the_rows_of_those_on_a_disk(
    recordings, make_worker
):
    make, read = make_worker
    fsspec.filesystem("memory").put(f"{recordings}/", "/ward/", recursive=True)
    stored = find_objects("memory://ward")
    function = partial(measure_recording, unit="cycle")
    outcomes = make(function).write([Item(s.url, s, "auto") for s in stored])
    assert [outcome.rows > 0 for outcome in outcomes] == [1, 1, 0, 1, 1, 1]
    assert outcomes[0].rows == 2  # as annotated
    assert outcomes[2].error == (
        "memory:///ward/c.wav is not readable as audio (Format not recognised.)"
    )
    table = read().set_index("recording")
    assert table["error"]["memory:///ward/c.wav"] == outcomes[2].error
    expected = [
        row
        for name in "abdef"
        for row in function(make_measures(), recordings / f"{name}.wav")
    ]
    for name in ("start", "learned_quality", "rms"):
        values = table[name].dropna().tolist()
        assert values == [row[name] for row in expected]


def test_a_recording_that_costs_its_workers_fails_alone(
    recordings, make_worker
):
    """Each loss is a new worker, as with Ray, that is given the same again."""
    make, read = make_worker
    tried = []

    def lose_some(measures, path, cycles):
        tried.append(path.stem)
        if path.stem == "b":
            raise SystemError("the process ends here")
        return measure_recording(measures, path)

    items = [
        Item(str(path), path.absolute(), "auto")
        for path in sorted(recordings.glob("[abde].wav"))
    ]
    worker = make(partial(lose_some))
    tried.clear()
    for _ in range(3):
        with pytest.raises(SystemError):
            worker.write(items)
    # Nobody knows whom the first was lost at; then two were lost at the same.
    assert tried == ["a", "b"] * 3
    outcomes = worker.write(items)
    assert [o.error for o in outcomes] == [
        *(None, f"recordings/b.wav: {LOST}", None, None)
    ]
    assert sorted(read()["recording"]) == [item.name for item in items]


# With Ray.


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=ray_runner.OBJECT_STORE,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_classify_and_embed_have_the_rows_of_the_local_runner(
    cluster, recordings, originals, capsys
):
    model = ["--model", str(originals / "exported")]
    classify = ["classify", str(recordings), *model]
    assert main([*classify, "--format", "csv"]) == 1
    expected = capsys.readouterr().out
    on_ray = [*classify, "--runner", "ray", "--output", "out"]
    assert main(on_ray) == 1
    captured = capsys.readouterr()
    failure = "c.wav is not readable as audio (Format not recognised.)"
    assert captured.out == "" and captured.err == (
        f"qlung: recordings/{failure}\nqlung: 1 of 6 recordings failed\n"
    )
    rows, errors = read_rows("out")
    assert as_csv(rows) == expected
    assert errors == {"recordings/c.wav": f"recordings/{failure}"}

    # What was finished stays, what failed or changed is made again.
    before = {
        path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()
    }
    write_noise(recordings / "c.wav", 7)
    (recordings / "a.csv").write_text("start,end\n0,2\n")
    assert main([*on_ray, "--resume"]) == 0
    assert "4 of 6 were finished before" in capsys.readouterr().err
    after = {
        path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()
    }
    assert len(before.items() & after.items()) >= 4
    main([*classify, "--format", "csv"])
    rows, errors = read_rows("out")
    assert (as_csv(rows), errors) == (capsys.readouterr().out, {})
    assert main([*on_ray, "--resume", "--shortest", "1"]) == 2
    assert "--shortest 0.1, not 1.0" in capsys.readouterr().err

    embed = ["embed", str(recordings), *model, "--output"]
    assert main([*embed, "e.csv"]) == 0
    assert main([*embed, "embedded", "--runner", "ray"]) == 0
    rows, _ = read_rows("embedded")
    expected = pd.read_csv("e.csv")
    assert list(rows) == list(expected) and rows["e_0"].dtype == np.float32
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False, rtol=1e-6)


def measure_or_die(measures, path, cycles, once):
    """Kills its process: at ``b`` once, at ``e`` always."""
    first = not once.exists()
    if path.stem == "e" or (path.stem == "b" and first):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return measure_recording(measures, path)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_and_a_deadly_recording_itself(
    cluster, recordings, tmp_path, capsys
):
    assert main(["quality", str(recordings)]) == 1
    expected = capsys.readouterr().out.splitlines(keepends=True)
    arguments = _parser().parse_args(
        ["quality", str(recordings), "--runner", "ray", "--output", "out"]
    )
    arguments.run = quality.run
    function = partial(measure_or_die, once=tmp_path / "killed")
    code, count, _ = ray_runner.run_on_ray(
        arguments, make_measures, function, quality.rows_of
    )
    assert (code, count) == (1, 4)
    rows, errors = read_rows("out")
    survivors = [line for line in expected if "/e.wav" not in line]
    assert as_csv(rows) == "".join(survivors)
    assert errors["recordings/e.wav"] == f"recordings/e.wav: {LOST}"
    assert set(errors) == {"recordings/c.wav", "recordings/e.wav"}
    assert not list(Path("out").glob(".*"))
    # What failed is tried again, by what kills nobody.
    capsys.readouterr()
    ray_runner.run_on_ray(
        _parser().parse_args(
            "quality recordings --runner ray --output out --resume".split()
        ),
        *(make_measures, measure_recording, quality.rows_of),
    )
    assert "4 of 6 were finished before" in capsys.readouterr().err
    assert as_csv(read_rows("out")[0]) == "".join(expected)


@pytest.mark.slow
def test_interrupted_at_half_it_goes_on(recordings, interruptible, capsys):
    """In a process and with a Ray of its own, of which nothing is left."""
    pytest.importorskip("ray")
    (recordings / "c.wav").unlink()
    for number in range(80):
        write_noise(recordings / f"{number}.wav", number, seconds=30)
    command = ["quality", str(recordings), "--output", "out", "--runner", "ray"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "qlung_plugin.cli.main",
            *command,
            "--jobs",
            "2",
        ],
        env={**os.environ, "PYTHONPATH": str(FOLDER), "RAY_ADDRESS": ""},
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list(Path("out").glob("part-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "qlung: out is not complete: --resume goes on with it\n"
    assert (
        main(["quality", str(recordings), "--runner", "ray", "-o", "out"]) == 2
    )
    assert main([*command, "--resume", "--jobs", "2"]) == 0
    err = capsys.readouterr().err
    finished = int(err.split(" of 85 were finished before")[0].split()[-1])
    assert 0 < finished < 85
    assert main(["quality", str(recordings)]) == 0
    rows, errors = read_rows("out")
    assert (as_csv(rows), errors) == (capsys.readouterr().out, {})
