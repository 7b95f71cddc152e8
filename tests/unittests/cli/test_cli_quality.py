"""Tests of what `qlung quality` says beside its table.

Authors
 * qlung_plugin contributors
"""

import csv
from io import StringIO

import numpy as np
import pytest
import soundfile

from qlung_plugin.cli.main import main
from qlung_plugin.cli.quality import note_outside
from qlung_plugin.inference.quality import count_outside
from qlung_plugin.lobes.quality import LearnedQualityScore

RATE = 4000


@pytest.fixture
def recordings(tmp_path):
    """Noises of several colours: unlike any recording of a chest."""
    generator = np.random.default_rng(0)
    for i in range(4):
        samples = 0.02 * (i + 1) * generator.standard_normal(6 * RATE)
        samples = np.convolve(samples, np.ones(i + 1), "same")
        soundfile.write(tmp_path / f"{i}.wav", samples, RATE)
    return tmp_path


def run(capsys, *arguments):
    code = main(["quality", *map(str, arguments), "--jobs", "1"])
    captured = capsys.readouterr()
    return code, list(csv.DictReader(StringIO(captured.out))), captured.err


def test_recordings_unlike_those_learned_from_are_counted(recordings, capsys):
    code, rows, err = run(capsys, recordings)
    assert code == 0 and len(rows) == 4
    assert err.startswith("qlung: 4 of 4 recordings are unlike")
    assert "SPRSound 2022" in err and "--normalisation fitted" in err
    assert err.count("\n") == 1


def test_a_tenth_of_them_is_not_told(capsys):
    usual = LearnedQualityScore(8000).values[:, 0].tolist()
    row = {"measured": {"learned_quality": [[*usual, 0.0]]}}
    far = [1e6] * (len(usual) + 1)
    other = {"measured": {"learned_quality": [far]}}
    note_outside(count_outside([row] * 9 + [other]), 10, "cycle")
    assert capsys.readouterr().err == ""
    note_outside(count_outside([row] * 8 + [other] * 2), 10, "cycle")
    assert "2 of 10 cycles are unlike" in capsys.readouterr().err


def test_fitted_scores_are_relative_to_each_other(recordings, capsys):
    code, fitted, err = run(capsys, recordings, "--normalisation", "fitted")
    assert (code, err) == (0, "")
    learned = [float(row["learned_quality"]) for row in fitted]
    assert max(learned) - min(learned) > 0.1


def test_too_few_to_fit_to(recordings, capsys):
    code, rows, err = run(
        capsys, recordings / "0.wav", "--normalisation", "fitted"
    )
    assert (code, rows) == (2, [])
    assert "--normalisation fitted needs more recordings" in err
