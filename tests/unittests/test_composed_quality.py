"""Weighted, constant and stated quality.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from qlung_plugin.dataio.quality import cycle_quality
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ClippingScore,
    ConstantQuality,
    FlatnessScore,
    LearnedQualityScore,
    ManifestQuality,
    QualityMeasure,
    SNRScore,
    WeightedQuality,
)

RATE = 8000


class Level(QualityMeasure):
    """Two measurements whose score is the first; remembers its fit."""

    def measure_valid(self, waveforms, centred, lengths, native_rates):
        level = waveforms.abs().amax(dim=1)
        return torch.stack([level, 10 * level], dim=1)

    def score(self, measurements):
        return measurements[:, 0].nan_to_num(nan=0.0)

    def fit(self, measurements):
        self.fitted_to = measurements


def waveforms():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([[0.05], [0.2], [0.3]])
    return scales * torch.randn(3, RATE, generator=generator).clamp(-3, 3)


@pytest.fixture
def manifests(tmp_path):
    """Two manifests of cycles at two rates."""
    entries = {}
    for i, (rate, waveform) in enumerate(zip((RATE, 4000, RATE), waveforms())):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, waveform.numpy(), rate, subtype="FLOAT")
        wav = {"file": str(path), "start": 0, "stop": 4000}
        entries[f"cycle_{i}"] = {
            "wav": wav,
            "sample_rate": rate,
            "listeners": i / 2,
        }
    return [
        {key: entries[key] for key in keys}
        for keys in (("cycle_0", "cycle_1"), ("cycle_2",))
    ]


# --- weighted ---------------------------------------------------------------


def test_weighted_mean_against_the_parts():
    flatness, snr = FlatnessScore(RATE), SNRScore(RATE)
    measured = WeightedQuality([flatness, snr], [3.0, 1.0])(waveforms())
    expected = 0.75 * flatness(waveforms()) + 0.25 * snr(waveforms())
    torch.testing.assert_close(measured, expected)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=4).filter(
        lambda weights: sum(weights) > 1e-3
    ),
    st.data(),
)
def test_weighted_mean_stays_in_its_range(weights, data):
    values = data.draw(
        st.lists(st.floats(0, 1), min_size=len(weights), max_size=len(weights))
    )
    parts = [ConstantQuality(value) for value in values]
    measure = WeightedQuality(parts, weights)
    quality = measure(torch.ones(1, 100)).item()
    expected = np.average(values, weights=weights)
    assert quality == pytest.approx(expected, abs=1e-6)
    assert min(values) - 1e-6 <= quality <= max(values) + 1e-6


def test_each_part_is_fitted_to_its_own_measurements():
    level, score = Level(RATE), AudioQualityScore(RATE, normalisation="fitted")
    measure = WeightedQuality([level, score], [1, 1])
    measurements = measure.measure(waveforms())
    measure.fit(measurements)
    assert torch.equal(level.fitted_to, level.measure(waveforms()))
    alone = AudioQualityScore(RATE, normalisation="fitted")
    alone.fit(alone.measure(waveforms()))
    expected = (level(waveforms()) + alone(waveforms())) / 2
    torch.testing.assert_close(measure(waveforms()), expected)
    # What was fitted is saved and comes back.
    fresh = WeightedQuality(
        [Level(RATE), AudioQualityScore(RATE, normalisation="fitted")], [1, 1]
    )
    fresh.load_state_dict(measure.state_dict())
    torch.testing.assert_close(fresh(waveforms()), expected)


def test_unfitted_parts_say_so():
    unfitted = AudioQualityScore(RATE, normalisation="fitted")
    measure = WeightedQuality([unfitted], [1])
    with pytest.raises(RuntimeError, match="not fitted"):
        measure(waveforms())


def test_silence_is_scored_as_each_part_scores_it():
    parts = [FlatnessScore(RATE), ConstantQuality(0.8, RATE)]
    quality = WeightedQuality(parts, [1, 1])(torch.zeros(1, RATE))
    assert quality.item() == pytest.approx(0.4)


def test_supervision_is_that_of_the_parts():
    learned = LearnedQualityScore(RATE)
    assert learned.supervision["patients"]
    measure = WeightedQuality([FlatnessScore(RATE), learned], [1, 1])
    assert measure.supervision == {
        **learned.supervision,
        "patients": sorted(learned.supervision["patients"]),
    }
    assert WeightedQuality([FlatnessScore(RATE)], [1]).supervision is None


def test_supervision_of_two_databases_is_refused():
    parts = [Level(RATE), Level(RATE)]
    parts[0].supervision = {"database": "A", "patients": ["1"]}
    parts[1].supervision = {"database": "A", "patients": ["2", "1"]}
    assert WeightedQuality(parts, [1, 1]).supervision["patients"] == ["1", "2"]
    parts[1].supervision = {"database": "B", "patients": ["2"]}
    with pytest.raises(ValueError, match="several databases"):
        WeightedQuality(parts, [1, 1])


@pytest.mark.parametrize(
    "measures, weights, message",
    [
        ([ClippingScore(8000), ClippingScore(4000)], [1, 1], "one sample rate"),
        ([], [], "one sample rate"),
        ([ClippingScore(8000)], [1, 1], "1 measures cannot have 2 weights"),
        ([ClippingScore(8000)] * 2, [2, -1], "must not be negative"),
        ([ClippingScore(8000)] * 2, [0, 0], "nor all 0"),
    ],
)
def test_what_cannot_be_combined(measures, weights, message):
    with pytest.raises(ValueError, match=message):
        WeightedQuality(measures, weights)


# --- constant and stated ----------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_constants_outside_the_range(value):
    with pytest.raises(ValueError, match="value must be in"):
        ConstantQuality(value)


def test_a_constant_is_measured_nowhere(manifests, tmp_path):
    quality = cycle_quality(
        ConstantQuality(0.25), manifests, tmp_path / "cache", fit_on=["cycle_0"]
    )
    assert quality == {"cycle_0": 0.25, "cycle_1": 0.25, "cycle_2": 0.25}
    assert not (tmp_path / "cache").exists()


def test_stated_quality_is_read(manifests, tmp_path):
    quality = cycle_quality(
        ManifestQuality("listeners"),
        manifests,
        tmp_path / "cache",
        fit_on=["cycle_0"],
    )
    assert quality == {"cycle_0": 0.0, "cycle_1": 0.5, "cycle_2": 1.0}
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("value", [None, 1.5, -1, float("nan"), "0.5", True])
def test_entries_that_state_no_quality_are_counted(manifests, tmp_path, value):
    manifests[1]["cycle_2"]["listeners"] = value
    with pytest.raises(
        ValueError, match="1 of 3 .*'listeners' in .0, 1.*cycle"
    ):
        cycle_quality(ManifestQuality("listeners"), manifests, tmp_path)


def test_a_waveform_states_nothing():
    with pytest.raises(RuntimeError, match="read from manifests"):
        ManifestQuality("listeners")(waveforms())


def test_stated_quality_is_no_part_of_a_mean():
    with pytest.raises(RuntimeError, match="read from manifests"):
        WeightedQuality([ManifestQuality("listeners")], [1])


BLOCKS = {
    "weighted": """
quality: !new:qlung_plugin.lobes.quality.WeightedQuality
    weights: [0.5, 0.5]
    measures:
        - !new:qlung_plugin.lobes.quality.AudioQualityScore
          sample_rate: 8000
        - !new:qlung_plugin.lobes.quality.SNRScore
          sample_rate: 8000
""",
    "constant": """
quality: !new:qlung_plugin.lobes.quality.ConstantQuality
    value: 0.5
""",
    "column": """
quality: !new:qlung_plugin.lobes.quality.ManifestQuality
    column: listeners
""",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_each_is_a_block_of_yaml(name, manifests, tmp_path):
    measure = load_hyperpyyaml(BLOCKS[name])["quality"]
    quality = cycle_quality(
        measure, manifests, tmp_path / "cache", fit_on=["cycle_0", "cycle_1"]
    )
    assert list(quality) == ["cycle_0", "cycle_1", "cycle_2"]
    assert all(0 <= value <= 1 for value in quality.values())
    # It is saved and loaded like weights.
    again = load_hyperpyyaml(BLOCKS[name])["quality"]
    again.load_state_dict(measure.state_dict())
    assert cycle_quality(again, manifests, tmp_path / "cache") == quality
