"""Tests of quality that is made of others, of a constant, or of the manifest.

Authors
 * qlung_plugin contributors
"""

import json
import math

import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)

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

# No deadline: the machine may be busy.
WIDE = settings(max_examples=30, deadline=None)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cycles():
    """Noises, louder and more tonal from one to the next; the last clips."""
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * math.pi * 300 * time)
    shares = torch.linspace(0.1, 0.9, 6).unsqueeze(1)
    waveforms = shares * (0.1 * (1 - shares) * noise(6, RATE) + shares * tone)
    waveforms[5] = (3 * waveforms[5]).clamp(-0.9, 0.9)
    return waveforms


def of_everything():
    """A score that ranges, one learned, one formula, and a constant."""
    return WeightedQuality(
        [
            AudioQualityScore(RATE, normalisation="fitted"),
            LearnedQualityScore(RATE, normalisation="fitted"),
            SNRScore(RATE),
            ConstantQuality(0.25),
        ],
        [0.4, 0.3, 0.2, 0.1],
    )


class TestWeightedQuality:
    def test_by_hand(self):
        quality = WeightedQuality(
            [SNRScore(RATE, snr_range=(0.0, 20.0)), ClippingScore(RATE)],
            [3, 1],
        )
        # Ratio in dB, share of clipped samples.
        measured = torch.tensor([[10.0, 0.2], [30.0, 0.0], [-5.0, 1.0]])
        expected = [0.75 * 0.5 + 0.25 * 0.8, 1.0, 0.0]
        assert quality.score(measured).tolist() == pytest.approx(expected)

    def test_waveforms_are_scored_as_by_each_measure(self):
        quality = WeightedQuality(
            [AudioQualityScore(RATE), FlatnessScore(RATE)], [0.2, 0.6]
        )
        assert isinstance(quality, QualityMeasure)
        lengths = torch.tensor([1.0, 0.5, 0.9, 0.7, 1.0, 0.6])
        rates = torch.tensor([8000, 4000, 2000, 8000, 44100, 3000])
        heard = cycles(), lengths, rates
        expected = 0.25 * AudioQualityScore(RATE)(*heard)
        expected += 0.75 * FlatnessScore(RATE)(*heard)
        torch.testing.assert_close(quality(*heard), expected)
        parts = [m.measure(*heard) for m in quality.measures]
        assert torch.equal(quality.measure(*heard), torch.cat(parts, dim=1))

    @WIDE
    @given(
        st.lists(
            st.tuples(st.floats(0, 1), st.floats(0, 1e3)),
            min_size=1,
            max_size=5,
        ).filter(lambda pairs: any(weight > 1e-3 for _, weight in pairs))
    )
    def test_mean_lies_between_its_parts(self, pairs):
        values, weights = zip(*pairs)
        quality = WeightedQuality(list(map(ConstantQuality, values)), weights)
        score = quality(torch.zeros(1, 10)).item()
        counted = [value for value, weight in pairs if weight > 0]
        assert 0 <= score <= 1
        assert min(counted) - 1e-6 <= score <= max(counted) + 1e-6
        mean = sum(v * w for v, w in pairs) / sum(weights)
        assert score == pytest.approx(mean, abs=1e-6)

    @pytest.mark.parametrize("count", [3, 6, 7, 10, 13])
    def test_many_ones_are_one(self, count):
        parts = [ConstantQuality(1.0) for _ in range(count)]
        quality = WeightedQuality(parts, [0.1] * count)
        assert quality(torch.zeros(1, 10)).item() <= 1
        assert quality(torch.zeros(1, 10)).item() == pytest.approx(1)

    def test_each_measure_is_fitted_to_its_own(self):
        quality, heard = of_everything(), cycles()
        quality.fit(quality.measure(heard))
        expected = torch.full((6,), 0.1 * 0.25)
        for weight, alone in zip((0.4, 0.3, 0.2), of_everything().measures):
            alone.fit(alone.measure(heard))
            expected += weight * alone(heard)
        torch.testing.assert_close(quality(heard), expected)

    def test_is_measured_part_by_part(self):
        """A mean of means, too: the parts' measurements are its own."""
        inner = WeightedQuality([SNRScore(RATE), ConstantQuality(0.2)], [1, 1])
        outer = WeightedQuality([ClippingScore(RATE), inner], [1, 1])
        kinds = [type(part) for part in outer.parts]
        assert kinds == [ClippingScore, SNRScore, ConstantQuality]
        parts = [part.measure(cycles()) for part in outer.parts]
        assert torch.equal(torch.cat(parts, dim=-1), outer.measure(cycles()))
        assert SNRScore(RATE).measure_entries({"a": {}}) is None

    def test_the_rate_is_that_of_those_that_measure_waveforms(self):
        parts = [ConstantQuality(1), ManifestQuality("m"), SNRScore(4000)]
        assert WeightedQuality(parts, [1, 1, 1]).sample_rate == 4000
        nested = WeightedQuality(parts, [1, 1, 1])
        with pytest.raises(ValueError, match="one sample_rate, not 4000, 8000"):
            WeightedQuality([nested, SNRScore(8000)], [1, 1])

    @pytest.mark.parametrize(
        "weights, message",
        [
            ([1.0], "2 measures cannot have 1 weights"),
            ([1.0, -0.1], "not negative"),
            ([0.0, 0.0], "nor all 0"),
            ([1.0, math.inf], "finite"),
        ],
    )
    def test_weights_that_cannot_be(self, weights, message):
        parts = [ConstantQuality(0.1), ConstantQuality(0.2)]
        with pytest.raises(ValueError, match=message):
            WeightedQuality(parts, weights)


def learned_from(path, database, *patients):
    """A learned score of another file."""
    number = {"mean": -2.0, "scale": 0.5, "coefficient": -1.0}
    content = {
        "measurements": {"flatness": number},
        "intercept": 0.75,
        "limit": 3.0,
        "provenance": {"database": database, "patients": patients},
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return LearnedQualityScore(RATE, path)


class TestSupervision:
    def test_is_none_of_what_does_not_count(self):
        parts = [ClippingScore(RATE), LearnedQualityScore(RATE)]
        assert parts[0].supervision is None
        assert WeightedQuality(parts, [1, 0]).supervision is None

    def test_patients_of_all_are_joined(self, tmp_path):
        parts = [
            learned_from(tmp_path / "a.json", "made up", "1", "2"),
            learned_from(tmp_path / "b.json", "made up", "2", "3"),
        ]
        quality = WeightedQuality(parts, [0.5, 0.5])
        expected = {"database": "made up", "patients": ["1", "2", "3"]}
        assert quality.supervision == expected

    def test_of_two_databases_is_an_error(self, tmp_path):
        parts = [
            learned_from(tmp_path / "a.json", "one", "1"),
            learned_from(tmp_path / "b.json", "another", "1"),
        ]
        with pytest.raises(ValueError, match="different .*: another, one"):
            WeightedQuality(parts, [0.5, 0.5])


class TestConstantQuality:
    @pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
    def test_value_that_is_no_quality(self, value):
        with pytest.raises(ValueError, match=r"lies in \[0, 1\]"):
            ConstantQuality(value)


class TestManifestQuality:
    @WIDE
    @given(st.lists(st.floats(0, 1) | st.integers(0, 1), max_size=5))
    def test_is_the_column(self, values):
        entries = {str(i): {"mark": value} for i, value in enumerate(values)}
        quality = ManifestQuality("mark")
        scores = quality.score(quality.measure_entries(entries))
        assert scores.tolist() == pytest.approx(values)

    @pytest.mark.parametrize(
        "value",
        [
            -0.1,
            1.1,
            math.nan,
            None,
            True,
            "0.5",
        ],
    )
    def test_what_is_no_quality_is_named(self, value):
        entries = {
            "101_0": {"mark": 0.5},
            "101_1": {"mark": value},
            "101_2": {"marks": 0.5},
        }
        message = r"2 of 3 .* as 'mark': 101_1 has "
        with pytest.raises(ValueError, match=message) as error:
            ManifestQuality("mark").measure_entries(entries)
        assert repr(value) in str(error.value)

    def test_name_of_the_result_is_refused(self):
        with pytest.raises(ValueError, match="rename it"):
            ManifestQuality("quality")


# --- what measurements are called -------------------------------------------


class Loudness(QualityMeasure):
    """A user's own measure, which does not say what it measures."""

    def measure_valid(self, signal):
        return torch.stack([signal.waveforms.abs().mean(-1)] * 2, dim=-1)

    def score(self, measurements):
        return measurements[:, 0].clamp(0, 1)


def test_names_of_a_mean_are_told_apart():
    bands = [AudioQualityScore(RATE, f_max=f_max) for f_max in (500, 2000)]
    weighted = WeightedQuality(
        [*bands, SNRScore(RATE), Loudness(RATE)], [1] * 4
    )
    assert weighted.names == (
        *("spectral_entropy_0", "rms_1", "spectral_entropy_2", "rms_3"),
        *("snr_db", "Loudness_5", "Loudness_6"),
    )
    assert len(weighted.names) == weighted.measure(cycles()).shape[1]


def test_what_a_manifest_states_is_no_measure_of_waveforms():
    stated = ManifestQuality("snr")
    assert stated.names == ("snr",) and not stated.of_waveforms
    mean = WeightedQuality([stated, ConstantQuality(0.5)], [1, 1])
    assert not mean.of_waveforms
