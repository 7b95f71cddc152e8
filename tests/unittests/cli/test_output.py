"""The commands over recordings write a file, and go on with it.

Authors
 * qlung_plugin contributors
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qlung_plugin.cli.main import main
from qlung_plugin.inference.classifier import RespiratorySoundClassifier

RATE = 4000
FOLDER = Path(__file__).parents[3]


@pytest.fixture
def recordings(tmp_path):
    """Three recordings, and a bad one between them."""
    folder = tmp_path / "recordings"
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(("a", "c", "d")):
        write_noise(folder / f"{name}.wav", number)
    (folder / "a.csv").write_text("start,end\n0,2\n2,5\n")
    (folder / "b" / "bad.wav").write_text("no audio")
    return folder


def write_noise(path, seed, seconds=6):
    generator = np.random.default_rng(seed)
    samples = 0.1 * generator.standard_normal(seconds * RATE)
    soundfile.write(path, samples, RATE)


@pytest.fixture
def classify(originals, recordings, tmp_path, capsys):
    """Calls qlung classify, and says what it classified and printed."""
    command = "classify", recordings, "--output"

    def run(*options, model=originals / "exported", output="cycles.csv"):
        with pytest.MonkeyPatch.context() as patch:
            done, real = [], RespiratorySoundClassifier.classify_file

            def classify_file(self, path, **given):
                done.append(Path(path).stem)
                return real(self, path, **given)

            patch.setattr(
                RespiratorySoundClassifier, "classify_file", classify_file
            )
            call = *command, tmp_path / output, "--model", model, *options
            code = main([str(argument) for argument in call])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, done, captured.err

    return run


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_the_file_is_what_stdout_would_be(
    classify, recordings, originals, tmp_path, capsys, form
):
    model = originals / "exported"
    call = "classify", recordings, "--model", model, "--format", form
    assert main([str(argument) for argument in call]) == 1
    expected = capsys.readouterr().out
    assert classify("--format", form)[0] == 1
    assert (tmp_path / "cycles.csv").read_text() == expected
    code, done, err = classify("--format", form)
    assert (code, done) == (2, []) and "--resume" in err
    assert classify("--format", form, "--resume")[:2] == (1, ["bad"])
    assert (tmp_path / "cycles.csv").read_text() == expected


def test_what_failed_is_tried_again_and_comes_in_its_place(
    classify, recordings, tmp_path
):
    assert classify()[1] == ["a", "bad", "c", "d"]
    write_noise(recordings / "b" / "bad.wav", 3)
    code, done, err = classify("--resume")
    assert (code, done) == (0, ["bad"])
    assert "qlung: 3 of 4 were finished before" in err
    assert classify(output="whole.csv")[0] == 0
    whole = (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "cycles.csv").read_bytes() == whole


@pytest.mark.slow
def test_content_counts_not_the_name(classify, recordings, tmp_path):
    """Of the recording and of its annotation; also of one that is new."""
    (recordings / "b" / "bad.wav").unlink()
    classify()
    changes = [
        (lambda: write_noise(recordings / "c.wav", 9), ["c"]),
        (lambda: (recordings / "a.csv").write_text("start,end\n1,2\n"), ["a"]),
        (lambda: (recordings / "d.txt").write_text("0\t2\t0\t0\n"), ["d"]),
        (lambda: write_noise(recordings / "b.wav", 4), ["b"]),
        (lambda: (recordings / "a.wav").touch(), []),
        ((recordings / "c.wav").unlink, []),
    ]
    for number, (change, expected) in enumerate(changes):
        change()
        code, done, err = classify("--resume")
        assert (code, done) == (0, expected)
        classify(output=f"{number}.csv")
        whole = (tmp_path / f"{number}.csv").read_bytes()
        assert (tmp_path / "cycles.csv").read_bytes() == whole
    assert "1 recordings are left out, which are no longer there" in err


def test_rows_of_a_table_of_cycles_count_for_their_recording(
    classify, recordings, tmp_path
):
    (recordings / "b" / "bad.wav").unlink()
    cycles = tmp_path / "given.csv"
    text = "recording,start,end\na.wav,0,1\nc.wav,0,2\nd.wav,1,2\n"
    cycles.write_text(text)
    classify("--cycles", cycles)
    cycles.write_text(text.replace("c.wav,0", "c.wav,1"))
    assert classify("--cycles", cycles, "--resume")[1] == ["c"]


def test_other_settings_are_refused(classify, run, tmp_path, originals):
    classify()
    path = tmp_path / "cycles.csv"
    before = path.read_bytes()
    for options, named in (
        (["--cycles", "windows"], "--cycles auto, not windows"),
        (["--shortest", "1"], "--shortest 0.1, not 1.0"),
        (["--format", "json"], "--format csv, not json"),
    ):
        code, done, err = classify("--resume", *options)
        assert (code, done) == (2, []) and err.count("\n") == 1
        assert f"{path} was written with {named}" in err
    # The same model at another place is the same, and so are more processes.
    copy = shutil.copytree(originals / "exported", tmp_path / "copy")
    assert classify("--resume", "--jobs", "1", model=copy)[1] == ["bad"]
    other = json.loads((copy / "model.json").read_text())
    other["labels"][0] = "healthy"
    (copy / "model.json").write_text(json.dumps(other))
    code, done, err = classify("--resume", model=copy)
    assert (code, done) == (2, []) and "with --model of digest" in err
    assert path.read_bytes() == before


def test_recordings_that_are_not_given_are_not_lost(
    classify, recordings, tmp_path, originals, capsys
):
    classify()
    path = tmp_path / "cycles.csv"
    before = path.read_bytes()
    call = "classify", recordings / "a.wav", "--model", originals / "exported"
    call = *call, "--output", path, "--resume"
    assert main([str(argument) for argument in call]) == 2
    err = capsys.readouterr().err
    assert "holds 2 recordings that are not given" in err
    assert str(recordings / "c.wav") in err and path.read_bytes() == before


def test_a_slip_leaves_nothing_behind(tmp_path, capsys):
    output = tmp_path / "quality.csv"
    call = "quality", tmp_path / "none", "--output", output
    assert main([str(argument) for argument in call]) == 2
    assert list(tmp_path.iterdir()) == []
    assert main(["quality", str(tmp_path), "--resume"]) == 2
    assert "--resume needs the --output" in capsys.readouterr().err


def test_quality_has_its_histogram_and_its_fitted_scores(
    recordings, tmp_path, capsys
):
    (recordings / "b" / "bad.wav").unlink()

    def quality(*options):
        code = main(list(map(str, ["quality", recordings, *options])))
        return code, capsys.readouterr().out

    path, figure = tmp_path / "q.csv", tmp_path / "q.svg"
    assert quality("--output", path) == (0, "")
    assert quality("--output", path, "--resume", "--histogram", figure)[0] == 0
    assert "Quality of 3 recordings" in figure.read_text()
    fitted = "--normalisation", "fitted"
    out = quality(*fitted)[1]
    assert quality(*fitted, "--output", tmp_path / "f.csv") == (0, "")
    assert (tmp_path / "f.csv").read_text() == out != path.read_text()
    assert quality(*fitted, "--output", path, "--resume")[0] == 2


def test_killed_and_continued_it_is_the_same(tmp_path, capsys):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(12):
        write_noise(folder / f"{number:02}.wav", number, seconds=10)
    command = "quality", str(folder), "--jobs", "1", "--output"
    path = tmp_path / "killed.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "qlung_plugin.cli.main", *command, str(path)],
        cwd=FOLDER,
    )
    while not path.exists() or path.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # As if the kill had come in the middle of a row.
    path.write_bytes(path.read_bytes()[:-7])
    assert main([*command, str(path), "--resume"]) == 0
    err = capsys.readouterr().err
    finished = int(err.split(" of 12 were finished before")[0].split()[-1])
    assert 3 <= finished < 12
    assert main([*command, str(tmp_path / "whole.csv")]) == 0
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
