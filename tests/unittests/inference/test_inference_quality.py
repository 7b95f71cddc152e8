"""Tests of measuring the quality of recordings without a model.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.inference import quality
from qlung_plugin.inference.quality import (
    COLUMNS,
    MEASURES,
    count_outside,
    fit_scores,
    make_measures,
    measure_recording,
)
from qlung_plugin.lobes.quality import LearnedQualityScore

RATE = 4000


@pytest.fixture(scope="module")
def measures():
    return make_measures()


def write(path, samples):
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path


def noise(seconds, seed=0):
    generator = np.random.default_rng(seed)
    return 0.1 * generator.standard_normal(round(seconds * RATE))


def test_row_is_what_each_measure_says(measures, tmp_path):
    samples = noise(5)
    (row,) = measure_recording(measures, write(tmp_path / "a.wav", samples))
    assert set(row) == {*COLUMNS, "measured"}
    waveform = torch.from_numpy(samples).float()
    for name, measure in measures.items():
        values = CycleMeasurements(measure)(waveform, RATE)[None]
        assert row[name] == pytest.approx(
            measure.score(values).item(), abs=1e-6
        )
    assert (row["start"], row["end"], row["sample_rate"]) == (0, 5, RATE)
    assert row["rms"] == pytest.approx(samples.std(), rel=0.05)


def test_rows_of_cycles(measures, tmp_path):
    loud = noise(6)
    loud[: 2 * RATE] *= 0.01
    path = write(tmp_path / "a.wav", loud)
    times = [(0, 2), (2, 6)]
    rows = measure_recording(measures, path, "cycle", times)
    assert [(row["start"], row["end"]) for row in rows] == times
    assert rows[1]["rms"] > 50 * rows[0]["rms"]


def test_long_recording_is_the_mean_of_its_stretches(
    measures, tmp_path, monkeypatch
):
    monkeypatch.setattr(quality, "LONGEST", 3.0)
    parts = [noise(3, seed=1), 0.1 * noise(3, seed=2), np.zeros(3 * RATE)]
    path = write(tmp_path / "a.wav", np.concatenate(parts))
    (whole,) = measure_recording(measures, path)
    alone = [
        measure_recording(measures, write(tmp_path / f"{i}.wav", part))[0]
        for i, part in enumerate(parts)
    ]
    for name in MEASURES:
        assert whole[name] == pytest.approx(np.mean([r[name] for r in alone]))
    assert alone[2]["audio_quality"] == 0 and math.isnan(alone[2]["rms"])
    assert whole["rms"] == pytest.approx(np.mean([r["rms"] for r in alone[:2]]))


def test_fitted_scores_are_those_of_fitted_measures(
    measures, tmp_path, monkeypatch
):
    monkeypatch.setattr(quality, "LONGEST", 3.0)
    sounds = [(0.2 + 0.2 * i) * noise(3 + i, seed=i) for i in range(4)]
    for i, sound in enumerate(sounds):
        sounds[i] = np.convolve(sound, np.ones(i + 1), "same")
    rows = [
        measure_recording(measures, write(tmp_path / f"{i}.wav", sound))[0]
        for i, sound in enumerate(sounds)
    ]
    before = [dict(row) for row in rows]
    fit_scores(rows)
    for name, measure in make_measures(fitted=True).items():
        measured = [torch.tensor(row["measured"][name]) for row in rows]
        assert [len(part) for part in measured] == [1, 2, 2, 2]
        measure.fit(torch.cat(measured))
        for row, old, part in zip(rows, before, measured):
            expected = measure.score(part).mean().item()
            assert row[name] == pytest.approx(expected)
            if name not in quality.FITTED:
                assert row[name] == old[name]
    learned = [row["learned_quality"] for row in rows]
    assert max(learned) - min(learned) > 0.1


def test_one_recording_cannot_be_fitted_to(measures, tmp_path):
    rows = measure_recording(measures, write(tmp_path / "a.wav", noise(5)))
    with pytest.raises(ValueError, match="spread"):
        fit_scores(rows)
    fit_scores([])


def test_count_of_those_outside(measures, tmp_path):
    rows = measure_recording(measures, write(tmp_path / "a.wav", noise(5)))
    usual = LearnedQualityScore(8000).values[:, 0].tolist()
    row = {"measured": {"learned_quality": [[*usual, 0.0]]}}
    assert count_outside([*rows, row, row]) == 1
    assert count_outside([]) == 0
