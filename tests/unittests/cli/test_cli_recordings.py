"""The commands that go over recordings: what they print, and how they fail.

Authors
 * qlung_plugin contributors
"""

import csv
import json
import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qlung_plugin.cli import classify
from qlung_plugin.cli.main import main
from qlung_plugin.inference.quality import (
    COLUMNS,
    make_measures,
    measure_recording,
)
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.utils.text import printable
from tests.unittests.recording_checks import make_model

RATE = 4000
FOLDER = Path(__file__).parents[3]


@pytest.fixture
def recordings(tmp_path):
    """Two recordings, the first annotated, and a bad one between them."""
    folder = tmp_path / "recordings"
    (folder / "b").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a", "c"):
        samples = 0.1 * generator.standard_normal(6 * RATE)
        soundfile.write(folder / f"{name}.wav", samples, RATE)
    (folder / "a.csv").write_text("start,end\n0,2\n2,5\n")
    (folder / "b" / "bad.wav").write_text("no audio")
    return folder


@pytest.fixture
def tiny_model(monkeypatch):
    """The model that is loaded whatever --model says."""
    model = make_model(LABELS)
    monkeypatch.setattr(classify, "load", lambda source, **options: model)
    return model


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def table(text):
    return list(csv.DictReader(StringIO(text, newline="")))


@pytest.mark.parametrize(
    "options, name",
    [([], "transfer"), (["--model", "icbhi"], "icbhi"), (["--model", "m"], "")],
)
def test_model_that_ships_is_told_on_stderr(
    options, name, recordings, monkeypatch, capsys
):
    opened = []

    def load(arguments):
        opened.append(arguments.model)
        return make_model(LABELS)

    monkeypatch.setattr(classify, "load", load)
    path = recordings / "a.wav"
    code, out, err = run(capsys, "classify", path, "--format", "csv", *options)
    assert code == 0 and opened == [name or "m"]
    assert [row["start"] for row in table(out)] == ["0.000000", "2.000000"]
    if not name:
        assert err == ""
        return
    assert err.count("\n") == 1 and f"qlung: the model {name}, which" in err
    assert "no medical device" in err


def test_csv_of_cycles(recordings, tiny_model, capsys):
    code, out, err = run(
        capsys, "classify", recordings, "--model", "m", "--format", "csv"
    )
    assert code == 1
    bad = recordings / "b" / "bad.wav"
    assert err.startswith(f"qlung: {bad} is not readable as audio")
    assert err.endswith("qlung: 1 of 3 recordings failed\n")
    assert err.count("\n") == 2
    rows = table(out)
    assert list(rows[0]) == ["recording", *tiny_model.columns, "truncated"]
    names = [Path(row["recording"]).name for row in rows]
    assert names[:3] == ["a.wav", "a.wav", "c.wav"]
    expected = tiny_model.classify_file(recordings / "a.wav").cycles
    for row, (_, cycle) in zip(rows, expected.iterrows()):
        assert row["prediction"] == cycle["prediction"]
        for name in ("end", "p_normal", "quality"):
            assert float(row[name]) == pytest.approx(cycle[name], abs=1e-6)


def test_csv_on_a_terminal_is_printable(
    tmp_path, tiny_model, capsys, monkeypatch
):
    odd = tmp_path / "\x1b[2J\u202e.wav"
    soundfile.write(odd, [0.0, 0.1] * 4000, 4000)
    odd.with_suffix(".csv").write_text("start,end\n0,1\n")
    call = "classify", odd, "--model", "m", "--format", "csv"
    assert run(capsys, *call)[1].count(f"\n{odd},") == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, _ = run(capsys, *call)
    assert code == 0 and f"\n{printable(odd)}," in out
    assert all(line.isprintable() for line in out.splitlines())


def test_json_is_a_line_per_recording(recordings, tiny_model, capsys):
    paths = recordings / "a.wav", recordings / "c.wav"
    code, out, err = run(
        capsys, "classify", *paths, "--model", "m", "--format", "json"
    )
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["recording"] for line in lines] == [str(p) for p in paths]
    expected = tiny_model.classify_file(paths[0])
    cycles = lines[0].pop("cycles")
    assert lines[0] == pytest.approx(expected.summary)
    assert len(cycles) == lines[0]["cycle_count"] == 2
    assert cycles[1]["end"] == 5
    assert lines[1]["cycle_source"] == "segmentation"


def test_table_has_a_summary(recordings, tiny_model, capsys):
    path = recordings / "a.wav"
    code, out, _ = run(capsys, "classify", path, "--model", "m")
    assert code == 0
    cycles, summary = tiny_model.classify_file(path)
    lines = out.splitlines()
    share = 100 * summary["abnormal_fraction"]
    worst = summary["worst_quality"]
    assert lines[:3] == [
        str(path),
        f"2 cycles, {share:.0f} % not normal, worst quality {worst:.2f}",
        f"cycles from {path.with_suffix('.csv')}",
    ]
    labels = [f"p_{label}" for label in LABELS]
    header = ["start", "end", "prediction", *labels, "quality"]
    assert lines[3].split() == header
    assert lines[4].split()[:3] == ["0.00", "2.00", cycles["prediction"][0]]
    assert max(map(len, lines[3:])) <= 80
    command = "classify", path, "--model", "m", "--cycles", "segmentation"
    out = run(capsys, *command)[1]
    assert "\ncycles from segmentation, confidence 0." in out


def test_table_of_no_cycle(recordings, tiny_model, capsys):
    (recordings / "a.csv").write_text("start,end\n")
    code, out, _ = run(capsys, "classify", recordings / "a.wav", "--model", "m")
    assert code == 0
    assert out.splitlines()[1] == "0 cycles"


def test_cycles_without_a_class_in_all_formats(recordings, tiny_model, capsys):
    path = recordings / "a.wav"
    samples, _ = soundfile.read(path)
    samples[: 2 * RATE] = 0
    soundfile.write(path, samples, RATE)
    command = "classify", path, "--model", "m"
    first, second = table(run(capsys, *command, "--format", "csv")[1])
    assert first["prediction"] == "unusable"
    assert first["p_normal"] == first["rms"] == ""
    assert second["prediction"] in LABELS and second["p_normal"]
    told = json.loads(run(capsys, *command, "--format", "json")[1])
    assert told["unusable_count"] == 1 and told["abnormal_fraction"] in (0, 1)
    assert told["cycles"][0]["p_normal"] is told["cycles"][0]["rms"] is None
    lines = run(capsys, *command)[1].splitlines()
    assert lines[1].startswith("2 cycles, 1 unusable, ")
    assert lines[4].split()[2:] == ["unusable", *"----", "0.00"]
    out = run(capsys, *command, "--shortest", "5")[1]
    assert out.splitlines()[1].startswith("2 cycles, 2 unusable, worst")


def test_rows_of_no_recording_are_counted(recordings, capsys):
    (recordings / "b" / "bad.wav").unlink()
    cycles = recordings.parent / "cycles.csv"
    cycles.write_text("recording,start,end\nc.wav,1,2\nother.wav,0,1\n")
    command = "quality", recordings, "--by", "cycle", "--cycles", cycles
    code, out, err = run(capsys, *command)
    assert code == 1
    assert err.startswith(
        f"qlung: {cycles}: 1 of 2 rows name no recording given: other.wav\n"
    )
    assert "cycles.csv has no cycle of a.wav\n" in err
    assert [float(row["end"]) for row in table(out)] == [2]


def test_rows_without_names_are_of_one_recording(recordings, capsys):
    """All had them, whatever they are of."""
    cycles = recordings / "a.csv"
    command = "quality", "--by", "cycle", "--cycles", cycles
    code, out, err = run(capsys, *command, recordings)
    assert (code, out) == (2, "")
    assert err == f"qlung: {cycles} needs a column recording: there are 3\n"


def test_truncated_fails_or_is_marked(recordings, tiny_model, capsys):
    path = recordings / "c.wav"
    path.write_bytes(path.read_bytes()[: 44 + 2 * 3 * RATE])
    classify = "classify", path, "--model", "m", "--cycles", "windows"
    for command in (classify, ("quality", path)):
        code, _, err = run(capsys, *command)
        assert code == 1 and "--allow-truncated" in err
    classify = *classify, "--allow-truncated"
    out = run(capsys, *classify)[1]
    assert out.startswith(f"{path} (truncated: 3.00 s are there)\n")
    (row,) = table(run(capsys, *classify, "--format", "csv")[1])
    assert row["truncated"] == "1"
    (row,) = table(run(capsys, "quality", path, "--allow-truncated")[1])
    assert (row["truncated"], float(row["end"])) == ("1", 3)


# A second process imports all that the first one has.
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_channels_that_differ_are_told_in_their_place(recordings, jobs, capsys):
    generator = np.random.default_rng(0)
    for name in ("c", "d"):
        samples = 0.1 * generator.standard_normal((2 * RATE, 2))
        soundfile.write(recordings / f"{name}.wav", samples, RATE)
    samples[:, 1] = -samples[:, 0]
    soundfile.write(recordings / "e.wav", samples, RATE)
    code, out, err = run(capsys, "quality", recordings, "--jobs", jobs)
    assert code == 1
    lines = err.splitlines()
    for line, name in zip(lines[1:], ("c.wav", "d.wav", "e.wav")):
        assert line.startswith(f"qlung: {recordings / name}: its channels")
        assert "--channel N" in line
    assert lines[4] == "qlung: 2 of 5 recordings failed"
    path = recordings / "e.wav"
    code, _, err = run(capsys, "quality", path, "--channel", "1")
    assert code == 0 and "its channels" not in err


def test_what_cannot_be_reached_is_told_and_counted(recordings, capsys):
    (recordings / "b" / "bad.wav").unlink()
    (recordings / "gone.wav").symlink_to("nothing.wav")
    os.mkfifo(recordings / "pipe.flac")
    os.link(recordings / "a.wav", recordings / "z.wav")
    code, out, err = run(capsys, "quality", recordings)
    assert code == 1 and len(table(out)) == 2
    lines = err.splitlines()
    assert lines[0] == f"qlung: {recordings / 'gone.wav'} is a link to nothing"
    counts = "qlung: 2 could not be reached, 1 left out as second names"
    assert lines[3] == counts


def test_names_are_printed_escaped_and_kept_in_data(
    recordings, tiny_model, capsys, monkeypatch
):
    """So are the labels of a stranger's model."""
    monkeypatch.setattr(
        tiny_model.hparams, "labels", ["normal", "\x1b[2Jx", "w\n", "both"]
    )
    path = recordings / "\x1b]0;title\x07.wav"
    (recordings / "a.wav").rename(path)
    broken = recordings / "\x1b[2J.wav"
    broken.write_text("no audio")
    command = "classify", path, broken, "--model", "m", "--cycles", "windows"
    code, out, err = run(capsys, *command)
    assert code == 1
    assert "\\x1b]0;title\\x07.wav" in out and "p_\\x1b[2Jx" in out
    assert "\\x1b[2J.wav is not readable" in err
    assert (out + err).replace("\n", "").isprintable()
    _, out, _ = run(capsys, *command, "--format", "json")
    assert json.loads(out)["recording"] == str(path)
    _, out, _ = run(capsys, *command, "--format", "csv")
    assert table(out)[0]["recording"] == str(path)


def test_debug_tells_where_a_recording_failed(recordings, tiny_model, capsys):
    bad = recordings / "b" / "bad.wav"
    code, _, err = run(capsys, "classify", bad, "--model", "m", "--debug")
    assert code == 1
    assert "Traceback" in err and "LibsndfileError" in err


def test_what_is_none_is_one_line(recordings, tmp_path, capsys):
    none = tmp_path / "none"
    for command in (
        ("quality", none),
        ("classify", recordings, "--model", none),
    ):
        code, out, err = run(capsys, *command)
        assert (code, out) == (2, "")
        assert "none" in err and err.count("\n") == 1


def test_checkpoint_that_an_export_has_not(recordings, originals, capsys):
    command = "classify", recordings / "a.wav", "--model"
    model = originals / "exported"
    code, out, err = run(capsys, *command, model, "--checkpoint", "last")
    assert (code, out) == (2, "")
    assert f"{model} is the model of the selected checkpoint alone" in err
    assert run(capsys, *command, model)[0] == 0


def test_cycles_that_are_wrong_for_all_are_told_once(recordings, capsys):
    command = "quality", "--by", "cycle"
    code, out, err = run(capsys, *command, recordings, "--cycles", "window")
    assert (code, out) == (2, "")
    assert err.startswith("qlung: window does not exist: --cycles is")
    assert err.count("\n") == 1
    one = recordings / "a.JSON"
    one.write_text("")
    code, out, err = run(capsys, *command, recordings, "--cycles", one)
    assert (code, out) == (2, "")
    assert err.startswith(f"qlung: {one} annotates one recording, not 3")
    code, out, err = run(capsys, "quality", recordings, "--cycles", "windows")
    assert (code, out) == (2, "")
    assert "--by cycle" in err and err.count("\n") == 1


def test_cycles_of_several_recordings(recordings, tiny_model, capsys):
    """In a table, and in a folder of annotations."""
    cycles = recordings / "cycles.csv"
    cycles.write_text("recording,start,end\na,1,2\nc,3,4\n")
    (recordings / "c.txt").write_text("3\t4\t0\t0\n")
    paths = recordings / "a.wav", recordings / "c.wav"
    command = "classify", *paths, "--model", "m", "--format", "csv"
    for source in (cycles, recordings):
        last = table(run(capsys, *command, "--cycles", source)[1])[-1]
        assert last["recording"] == str(paths[1])
        assert (float(last["start"]), float(last["end"])) == (3, 4)


def test_failure_names_the_recording_and_one_is_not_counted(
    recordings, tiny_model, capsys, monkeypatch
):
    def overstrained(path, **options):
        raise RuntimeError("not enough\nmemory")

    monkeypatch.setattr(tiny_model, "classify_file", overstrained)
    path = recordings / "a.wav"
    code, out, err = run(capsys, "classify", path, "--model", "m")
    assert (code, out) == (1, "")
    assert err == f"qlung: {path}: not enough memory\n"


def test_quality_of_recordings(recordings, capsys):
    code, out, err = run(capsys, "quality", recordings)
    assert code == 1 and "bad.wav" in err
    rows = table(out)
    assert [Path(row["recording"]).name for row in rows] == ["a.wav", "c.wav"]
    (expected,) = measure_recording(make_measures(), recordings / "a.wav")
    for name in COLUMNS:
        assert float(rows[0][name]) == pytest.approx(expected[name], abs=1e-6)


def test_table_of_quality_has_columns_if_nothing_else(recordings, capsys):
    code, out, err = run(capsys, "quality", recordings / "b")
    assert (code, out) == (1, ",".join(["recording", *COLUMNS]) + "\n")
    (recordings / "a.csv").write_text("start,end\n")
    code, out, _ = run(capsys, "quality", recordings / "a.wav", "--by", "cycle")
    assert (code, out) == (0, ",".join(["recording", *COLUMNS]) + "\n")


def test_histogram(recordings, tmp_path, capsys):
    path = tmp_path / "figures" / "quality.png"
    run(capsys, "quality", recordings / "a.wav", "--histogram", path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_histogram_that_is_no_figure_is_told_first(
    recordings, tmp_path, capsys
):
    path = tmp_path / "quality.csv"
    code, out, err = run(capsys, "quality", recordings, "--histogram", path)
    assert (code, out) == (2, "")
    assert str(path) in err and ".png" in err


def test_progress_is_shown_on_a_terminal(recordings):
    """Also on one that does not know its size; the table goes elsewhere."""
    terminal, end = pty.openpty()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "qlung_plugin.cli.main"),
            *("quality", str(recordings)),
        ],
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
        cwd=FOLDER,
    )
    os.close(end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert run.returncode == 1
    assert "0/3" in shown and "3/3" in shown and "bad.wav is not" in shown
    # The time so far and left, and the rate.
    assert re.search(r"[23]/3 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+", shown)
    assert len(list(csv.reader(StringIO(run.stdout)))) == 3


@pytest.mark.slow
def test_processes_print_the_same_and_no_bar_into_a_pipe(recordings, capsys):
    """In the order of the recordings, whatever the number of processes."""
    code, out, err = run(capsys, "quality", recordings, "--jobs", 1)
    output = subprocess.run(
        [
            *(sys.executable, "-m", "qlung_plugin.cli.main"),
            *("quality", str(recordings), "--jobs", "2"),
        ],
        capture_output=True,
        text=True,
        cwd=FOLDER,
    )
    assert output.returncode == code == 1
    assert output.stderr == err
    rows, expected = (
        list(csv.reader(StringIO(text))) for text in (output.stdout, out)
    )
    assert len(rows) == len(expected) == 3
    for row, other in zip(rows[1:], expected[1:]):
        assert row[0] == other[0]
        np.testing.assert_allclose(
            np.array(row[1:], float), np.array(other[1:], float), atol=2e-6
        )
