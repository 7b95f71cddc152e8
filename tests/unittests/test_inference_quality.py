"""Tests of measuring the quality of recordings without a model.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.cycles import CycleMeasurements
from qlung_plugin.inference import quality
from qlung_plugin.inference.quality import (
    COLUMNS,
    MEASURES,
    make_measures,
    measure_recording,
)

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
    assert set(row) == set(COLUMNS)
    waveform = torch.from_numpy(samples).float()
    for name, measure in measures.items():
        found = CycleMeasurements(measure)(waveform, RATE)[None]
        assert row[name] == pytest.approx(measure.score(found).item(), abs=1e-6)
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


def test_unknown_unit(measures, tmp_path):
    with pytest.raises(ValueError, match="recording, cycle"):
        measure_recording(measures, tmp_path / "a.wav", "file")
