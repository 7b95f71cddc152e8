"""Every benchmark runs, and takes turns as it says.

How fast anything is, no test says: that is in benchmarks/README.md.

Authors
 * qlung_plugin contributors
"""

import json
import re
import runpy
import sys

import pytest

from qlung_plugin.inference.engines import missing_packages
from tests.recipes.conftest import ROOT, TINY, arguments, leave_out_figures

pytestmark = pytest.mark.slow

FOLDER = ROOT / "benchmarks"
MODULES = {"turns"}  # which the benchmarks share
ELSEWHERE = {"adaptation_curve"}  # has tests of its own
RATIO = r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)"

SMALL = {k: TINY[k] for k in ("batch_size", "width_mult", "fix_length")}
FEW = {"patients": "4", "recordings": "1", "epochs": "1"}
BACKBONE = {
    "backbones": "mn04",
    "batch_size": "1",
    "seconds": "1",
    "repetitions": "2",
}


@pytest.fixture(name="benchmark")
def fixture_benchmark(monkeypatch, capsys):
    """Runs one as the command line would, in this process; what it prints.

    That it was too slow is no failure: the machine may have been busy.
    """

    leave_out_figures(monkeypatch)

    def run(name, *given, **options):
        texts = [*map(str, given), *arguments(options)]
        monkeypatch.setattr(sys, "argv", [f"{FOLDER / name}.py", *texts])
        monkeypatch.syspath_prepend(FOLDER)
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            if not str(end).startswith("Target"):
                raise
        return capsys.readouterr().out

    return run


def test_every_benchmark_has_a_test():
    """Here, by its name, or in a file of its own."""
    calls = re.findall(
        r'benchmark\(\s*"(\w+)"', (ROOT / __file__).read_text("utf-8")
    )
    there = {path.stem for path in FOLDER.glob("*.py")}
    assert there == {*calls, *MODULES, *ELSEWHERE}


def test_epochs_of_cycles_of_many_lengths(benchmark):
    """The cycles of the waveforms are as long as they were recorded."""
    text = benchmark("epoch_speed", **SMALL, **FEW)
    lines = re.findall(
        rf"^(features|waveforms), 1 threads.*ratio {RATIO} ", text, re.M
    )
    assert lines == ["features", "waveforms"]


def test_epochs_against_those_with_other_arguments(benchmark):
    longer = {**SMALL, "fix_length": "{duration: 2.0}"}
    text = benchmark(
        "epoch_speed",
        **{**SMALL, **FEW},
        against=" ".join(f"--{key} '{v}'" for key, v in longer.items()),
    )
    (line,) = [x for x in text.splitlines() if x.startswith("epochs, ")]
    assert "duration: 1.0" in line and "duration: 2.0" in line
    assert re.search(f"ratio {RATIO}", line)


def test_losses(benchmark):
    pytest.importorskip("pytorch_metric_learning")
    text = benchmark("loss_speed", "--threads", "1", share=0.01)
    found = re.findall(
        rf"to (SpeechBrain|pytorch-metric-learning): {RATIO}", text
    )
    assert found == ["SpeechBrain", "pytorch-metric-learning"] * 3


def test_a_loss_that_is_missing(benchmark, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(SystemExit, match=r"pip install -e \.\[benchmarks\]$"):
        benchmark("loss_speed")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_backbone_alone(benchmark, precision):
    text = benchmark(
        "backbone_speed", **BACKBONE, precision=precision, alone="mn04"
    )
    figures = json.loads(text)
    assert figures["parameters"] == 516_128
    speeds = [figures[k] for k in ("front_end", "inference", "training")]
    assert min(speeds) > 0 < min(figures["peak"], *figures["share"])


def test_the_table_of_backbones(benchmark):
    text = benchmark("backbone_speed", **BACKBONE, compile_mode="default")
    header, _, row = text.splitlines()[-3:]
    row = dict(zip(header.split(" | "), row.split(" | ")))
    assert row["| backbone"] == "| mn04"
    assert re.fullmatch(RATIO, row["of peak"])
    # The speed, in cycles a second, and the part of the time
    assert re.fullmatch(rf"[\d.e+]+: {RATIO} \|", row["compiled |"])


def test_an_evaluation(benchmark, icbhi_run, sprsound_corpus):
    text = benchmark(
        "evaluation_speed",
        run_folder=icbhi_run,
        data_folder=sprsound_corpus,
        repetitions=1,
        batches_in_memory=1,
    )
    found = re.findall(rf"(empty|filled) cache: .* ratio {RATIO} ", text)
    assert found == ["empty", "filled"]


def test_bootstraps(benchmark):
    text = benchmark("bootstrap_speed", repetitions=1)
    assert len(re.findall(rf"ratio {RATIO}$", text, re.M)) == 3


def test_quality_scores(benchmark):
    text = benchmark("quality_speed", repetitions=2)
    assert len(re.findall(rf"Score: .* ratio {RATIO} ", text)) == 2 * 4


def test_classify(benchmark, icbhi_run, corpus):
    recording = min(corpus.rglob("*.wav"))
    text = benchmark(
        "classify_speed", recording, model=icbhi_run, repetitions=1
    )
    assert re.search(r"^1 recordings: ratio \d+\.\d\d", text, re.M)
    if not missing_packages():
        found = re.findall(
            rf"^network, (\d+) cycles: .* onnx .* ratio {RATIO},", text, re.M
        )
        assert found == ["1", "16"]


def test_segmentation(benchmark, corpus):
    text = benchmark("segmentation_accuracy", data_folder=corpus)
    sides = re.findall(r"^(\w+): \d+ recordings of \d+ patients", text, re.M)
    assert sides == ["test", "train"]
    ours = re.findall(r"^\| segmentation \(\d+\) \| (\d+\.\d)", text, re.M)
    assert len(ours) == 2 and all(0 < float(f1) <= 100 for f1 in ours)


@pytest.fixture(name="turns")
def fixture_turns(monkeypatch):
    """The module, whose clocks stand where a test puts them."""
    monkeypatch.syspath_prepend(FOLDER)
    import turns

    now = {"clock": 0.0, "processor": 0.0}
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now["clock"])
    monkeypatch.setattr(turns.time, "process_time", lambda: now["processor"])
    return turns, now


def test_turns_are_counted_after_the_warm_up(turns):
    turns, now = turns
    calls = []

    def function(name, seconds):
        def call():
            calls.append(name)
            slow = 100.0 if len(calls) <= 2 else 1.0
            # In every round, twice as busy a machine.
            busy = 2.0 ** ((len(calls) - 1) // 2)
            now["clock"] += slow * busy * seconds
            now["processor"] += seconds

        return call

    functions = {"a": function("a", 3.0), "b": function("b", 4.0)}
    times = turns.take_turns(functions, rounds=4, warm_up=1)
    assert [sorted(calls[i : i + 2]) for i in range(0, 10, 2)] == 5 * [
        ["a", "b"]
    ]
    assert times["a"].clock == [6.0, 12.0, 24.0, 48.0]
    assert times["b"].processor == [4.0] * 4
    assert times["a"].typical == 18.0
    for found in (
        times["a"].over(times["b"]),
        times["a"].processor_over(times["b"]),
    ):
        assert found == pytest.approx((0.75, 0.75, 0.75))


def test_ratio_is_of_rounds(turns):
    """Not of medians, which a busy round of either would move."""
    turns, _ = turns
    ours, theirs = [1.0, 10.0, 3.0], [1.0, 5.0, 1.0]
    assert turns.ratio(ours, theirs) == (2.0, 1.5, 2.5)
    assert str(turns.ratio([1.0], [3.0])) == "0.33 (0.33 to 0.33)"
    with pytest.raises(ValueError):
        turns.ratio([1.0], [])


def test_scale(benchmark, tmp_path):
    """A line per command, whose figures are of processes of their own."""
    text = benchmark(
        "scale", "--recordings", "40", "44", output=tmp_path / "out"
    )
    table = text.partition("\n\n")[2].splitlines()
    assert table[0].endswith("| 44 recordings: s (MiB) | ms each, 40 to 44 |")
    steps = ["prepare", "quality", "classify", "embed", "train", "report"]
    assert [row.split()[1] for row in table[2:]] == [*steps, "collect"]
    for row in table[2:]:
        for seconds, peak in re.findall(r"(\d+\.\d) \((\d+)\)", row):
            assert float(seconds) > 0.1 and int(peak) > 50
    out = tmp_path / "out" / "44"
    for name in ("quality", "cycles"):
        rows = (out / f"{name}.csv").read_text().splitlines()
        assert {row.split(",")[0] for row in rows[1:]} == {
            str(path) for path in (out / "data").rglob("*.wav")
        }
    assert json.loads((out / "manifests" / "test.json").read_text())
    assert (out / "report.html").stat().st_size > 1e4
    assert (out / "runs" / "results.md").exists()
