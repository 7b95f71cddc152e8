"""Tests of the quality of every cycle of some manifests.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.quality import cycle_quality
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ClippingScore,
    ConstantQuality,
    FlatnessScore,
    LearnedQualityScore,
    ManifestQuality,
    SNRScore,
    WeightedQuality,
)
from qlung_plugin.processing.cycles import resample

RATE = 4000


def fitted():
    return AudioQualityScore(8000, normalisation="fitted")


def weighted():
    parts = [fitted(), LearnedQualityScore(8000), ManifestQuality("mark")]
    return WeightedQuality(parts, [0.5, 0.25, 0.25])


@pytest.fixture
def manifests(tmp_path):
    """Of two recordings; nothing is held out."""
    manifests = {"train": {}, "valid": {}, "test": {}}
    for side, name in enumerate(("train", "test")):
        path = tmp_path / f"{name}.wav"
        rng = np.random.default_rng(side)
        sound = rng.normal(0, 0.2, 6000) * np.linspace(0.1, 1, 6000)
        soundfile.write(path, sound, RATE)
        for i in range(4):
            wav = {"file": str(path), "start": 1500 * i}
            wav["stop"] = wav["start"] + 900 + 200 * i
            mark = 0.25 * side + 0.1 * i
            entry = {"wav": wav, "sample_rate": RATE, "mark": mark}
            manifests[name][f"{name}_{i}"] = entry
    return manifests


@pytest.fixture
def expected(manifests):
    """What the measures are to give, from their measurements one by one."""
    entries = {**manifests["train"], **manifests["test"]}
    marks = {cycle: entry["mark"] for cycle, entry in entries.items()}

    def heard(measure, fit=False):
        waveforms = [read_cycle(entry["wav"]) for entry in entries.values()]
        measured = torch.cat(
            [
                measure.measure(
                    resample(waveform, RATE, 8000)[None],
                    None,
                    torch.tensor([RATE]),
                )
                for waveform in waveforms
            ]
        )
        if fit:
            measure.fit(measured[:4])
        return dict(zip(entries, measure.score(measured).tolist()))

    of_fitted = heard(fitted(), fit=True)
    learned = heard(LearnedQualityScore(8000))
    return {
        "formula": heard(FlatnessScore(8000)),
        "fitted": of_fitted,
        "weighted": {
            cycle: 0.5 * of_fitted[cycle] + 0.25 * (learned[cycle] + mark)
            for cycle, mark in marks.items()
        },
        "constant": dict.fromkeys(marks, 0.4),
        "column": marks,
    }


@pytest.mark.parametrize(
    "kind, measure",
    [
        ("formula", FlatnessScore(8000)),
        ("fitted", fitted()),
        ("weighted", weighted()),
        ("constant", ConstantQuality(0.4)),
        ("column", ManifestQuality("mark")),
    ],
)
def test_quality_of_every_cycle(kind, measure, manifests, expected, tmp_path):
    quality = cycle_quality(
        measure,
        manifests.values(),
        tmp_path / "cache",
        fit_on=manifests["train"],
    )
    assert list(quality) == list(expected[kind])
    assert quality == pytest.approx(expected[kind], abs=1e-4)
    # Where nothing is heard, no waveform is read.
    assert (tmp_path / "cache").exists() == (kind not in ("constant", "column"))


def test_what_was_fitted_is_kept(manifests, tmp_path):
    """Quality of a training that goes on, or an error without what it learned."""
    before, after = weighted(), weighted()
    arguments = manifests.values(), tmp_path / "cache"
    quality = cycle_quality(before, *arguments, fit_on=manifests["train"])
    with pytest.raises(RuntimeError, match="not fitted"):
        cycle_quality(after, *arguments)
    after.load_state_dict(before.state_dict())
    assert cycle_quality(after, *arguments) == quality


def test_each_measure_is_stored_once(manifests, tmp_path):
    cache = tmp_path / "cache"

    def score(*measures):
        measure = WeightedQuality(list(measures), [1] * len(measures))
        cycle_quality(measure, manifests.values(), cache)
        return {path.name for path in cache.glob("CycleMeasurements-*")}

    first = score(SNRScore(8000), ClippingScore(8000))
    assert len(first) == 2
    assert len(score(ClippingScore(8000), FlatnessScore(8000)) - first) == 1


def test_two_cycles_of_one_name(manifests, tmp_path):
    entry, measure = manifests["train"]["train_0"], ManifestQuality("mark")
    manifests["test"]["train_0"] = entry
    assert len(cycle_quality(measure, manifests.values(), tmp_path)) == 8
    manifests["test"]["train_0"] = {**entry, "mark": 0.75}
    with pytest.raises(ValueError, match="two cycles train_0"):
        cycle_quality(measure, manifests.values(), tmp_path)
