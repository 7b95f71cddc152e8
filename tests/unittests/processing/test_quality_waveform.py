"""Tests of quality from samples and frames against NumPy, SciPy, known values.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import periodogram
from scipy.stats import entropy as scipy_entropy
from scipy.stats import kurtosis

from qlung_plugin.processing.quality import (
    crest_factor,
    entropy_of_frames,
    log_kurtosis,
    mains_hum,
    mean_over_frames,
    quantile_over_frames,
    remove_dc,
    sample_mask,
)

RATE = 8000

# No deadline: the machine may be busy.
WIDE = settings(max_examples=30, deadline=None)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency, samples=RATE, amplitude=1.0, rate=RATE):
    time = torch.arange(samples, dtype=torch.float64) / rate
    return (amplitude * torch.sin(2 * math.pi * frequency * time)).float()


def full(waveforms):
    """All of every waveform is valid."""
    return torch.full((len(waveforms),), waveforms.shape[1])


def single(measure, waveform, *arguments):
    """Of one waveform, as a number."""
    waveforms = waveform.unsqueeze(0)
    return measure(waveforms, full(waveforms), *arguments).item()


class TestCrestFactor:
    @pytest.mark.parametrize("amplitude", [1e-4, 0.3, 1.0])
    @pytest.mark.parametrize("frequency", [50, 400, 1000])
    def test_of_a_sine(self, frequency, amplitude):
        value = single(crest_factor, tone(frequency, amplitude=amplitude))
        assert value == pytest.approx(10 * math.log10(2), abs=0.01)

    def test_of_a_square_wave_is_0(self):
        assert single(crest_factor, torch.tensor([0.4, -0.4] * 50)) == 0

    @pytest.mark.parametrize("samples", [10, 100, 10000])
    def test_of_an_impulse(self, samples):
        impulse = torch.zeros(samples)
        impulse[samples // 3] = -0.7
        value = single(crest_factor, impulse)
        assert value == pytest.approx(10 * math.log10(samples), rel=1e-5)

    def test_against_numpy(self):
        waveforms = noise(3, 700)
        lengths = torch.tensor([700, 300, 1])
        values = crest_factor(waveforms, lengths)
        for value, row, length in zip(values, waveforms.numpy(), lengths):
            valid = row[:length].astype(float)
            expected = np.abs(valid).max() / np.sqrt(np.mean(valid**2))
            assert value.item() == pytest.approx(
                20 * np.log10(expected), abs=1e-4
            )


class TestLogKurtosis:
    @pytest.mark.parametrize(
        "waveform, expected",
        [
            (tone(50), math.log(1.5)),
            (tone(50, amplitude=1e-4), math.log(1.5)),
            (torch.tensor([0.4, -0.4] * 50), 0.0),
            (torch.linspace(-1, 1, 8001), math.log(9 / 5)),  # uniform
            (noise(40 * RATE), math.log(3)),
            (
                torch.distributions.Laplace(0, 1).icdf(
                    (torch.arange(80000) + 0.5) / 80000
                ),
                math.log(6),
            ),
        ],
        ids=["sine", "faint sine", "square", "uniform", "noise", "Laplace"],
    )
    def test_known_values(self, waveform, expected):
        assert single(log_kurtosis, waveform) == pytest.approx(
            expected, abs=0.02
        )

    @pytest.mark.parametrize("samples", [10, 1000])
    def test_of_an_impulse(self, samples):
        impulse = torch.zeros(samples)
        impulse[3] = 0.2
        value = single(log_kurtosis, impulse)
        assert value == pytest.approx(math.log(samples), rel=1e-5)

    @WIDE
    @given(st.integers(20, 900), st.floats(0.5, 4.0), st.integers(0, 1000))
    def test_against_scipy(self, samples, power, seed):
        # From flatter than Gaussian to long-tailed.
        waveform = noise(samples, seed=seed)
        waveform = waveform.sign() * waveform.abs() ** power
        waveform = remove_dc(waveform.unsqueeze(0), torch.tensor([samples]))[0]
        expected = kurtosis(waveform.double().numpy(), fisher=False)
        value = single(log_kurtosis, waveform)
        assert value == pytest.approx(math.log(expected), abs=1e-3)


def hum_by_periodogram(waveform, rate=RATE, mains=(50, 60)):
    """For whole seconds: then every frequency asked for is on a bin."""
    _, power = periodogram(waveform, rate, "hann", detrend=False)
    seconds = len(waveform) // rate
    return max(
        10
        * math.log10(
            power[line * seconds]
            / np.mean(
                [
                    power[(line + offset) * seconds]
                    for offset in (-8, -6, -4, 4, 6, 8)
                ]
            )
        )
        for line in mains
    )


class TestMainsHum:
    @pytest.mark.parametrize("line", [50, 60])
    @pytest.mark.parametrize("decibels", [0, 10, 30])
    def test_of_known_lines(self, line, decibels):
        # The surroundings hold lines, too: what stands out is their ratio.
        waveform = tone(line, 4 * RATE, 0.01 * 10 ** (decibels / 20))
        for offset in (-8, -6, -4, 4, 6, 8):
            waveform = waveform + tone(line + offset, 4 * RATE, 0.01)
        value = single(mains_hum, waveform, RATE, [line])
        assert value == pytest.approx(decibels, abs=0.05)

    @pytest.mark.parametrize("seconds", [1, 2, 7])
    @pytest.mark.parametrize("rate", [4000, 8000, 44100])
    def test_against_scipy(self, seconds, rate):
        samples = seconds * rate
        waveform = noise(samples) + tone(60, samples, 0.3, rate)
        value = single(mains_hum, waveform, rate)
        expected = hum_by_periodogram(waveform.double().numpy(), rate)
        assert value == pytest.approx(expected, abs=0.05)

    def test_of_noise_is_about_0(self):
        waveforms = noise(400, RATE)
        values = mains_hum(waveforms, full(waveforms), RATE, [50.0])
        # The mean logarithm of an exponentially distributed power is that of
        # its mean less Euler's constant; six surroundings are less so.
        expected = 10 * (-np.euler_gamma + 1 / 12) / math.log(10)
        assert values.mean().item() == pytest.approx(expected, abs=0.9)

    def test_rises_with_the_hum(self):
        levels = (0.0, 0.05, 0.2, 1.0)
        values = [
            single(mains_hum, noise(4 * RATE) + tone(50, 4 * RATE, v), RATE)
            for v in levels
        ]
        assert values == sorted(values) and values[-1] > 30

    @pytest.mark.parametrize("rate_of_beats", [60, 75, 120])
    def test_a_heartbeat_is_no_hum(self, rate_of_beats):
        # Decaying pulses of 50 Hz at intervals that vary as a heart's do: by a
        # twentieth. At equal ones, their harmonics would be lines.
        intervals = RATE * 60 / rate_of_beats * (1 + 0.05 * noise(12))
        heart = torch.zeros(12 * RATE)
        for start in intervals.cumsum(dim=0).long().tolist():
            room = len(heart[start : start + 2000])
            decay = torch.exp(-torch.arange(room) / 250)
            heart[start : start + 2000] += decay * tone(50, room)
        quiet = 0.01 * noise(12 * RATE)
        of_heart = single(mains_hum, heart + quiet, RATE)
        of_hum = single(mains_hum, tone(50, 12 * RATE, 0.1) + quiet, RATE)
        assert of_heart < 12 < 30 < of_hum

    def test_takes_the_larger(self):
        waveform = noise(2 * RATE) + tone(60, 2 * RATE)
        at_50, at_60, both = (
            single(mains_hum, waveform, RATE, mains)
            for mains in ([50], [60], [50, 60])
        )
        assert both == at_60 > at_50

    def test_is_missing_below_a_second(self):
        waveforms = noise(3, 2 * RATE)
        lengths = torch.tensor([RATE - 1, RATE, 0])
        values = mains_hum(waveforms, lengths, RATE)
        assert values.isnan().tolist() == [True, False, True]


def some_frames(count):
    """All frames, a beginning, one with gaps, a single one, and none."""
    frames = torch.ones(5, count).bool()
    frames[1, count // 2 :] = False
    frames[2, ::3] = False
    frames[3, 1:] = False
    frames[4] = False
    return frames


class TestOverFrames:
    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
    @pytest.mark.parametrize("garbage", [7.0, math.nan, -math.inf])
    def test_mean_against_numpy(self, shape, garbage):
        values, frames = noise(5, 40, *shape), some_frames(40)
        values[~frames] = garbage
        means = mean_over_frames(values, frames)
        assert means.shape == (5, *shape) and means[4].isnan().all()
        for mean, row, counts in zip(means[:4], values, frames):
            expected = row[counts].double().numpy().mean(axis=0)
            np.testing.assert_allclose(mean, expected, atol=1e-6)

    @pytest.mark.parametrize("share", [0.0, 0.05, 0.25, 0.5, 0.99, 1.0])
    @pytest.mark.parametrize("count", [3, 4, 41])
    @pytest.mark.parametrize("garbage", [7.0, math.nan, -math.inf])
    def test_quantile_against_numpy(self, share, count, garbage):
        values, frames = noise(5, count), some_frames(count)
        values[~frames] = garbage
        quantiles = quantile_over_frames(values, frames, share)
        assert quantiles[4].isnan()
        for i in range(4):
            valid = values[i][frames[i]].double().numpy()
            expected = np.quantile(valid, share)
            assert quantiles[i].item() == pytest.approx(expected, abs=1e-5)

    @WIDE
    @given(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30),
        st.floats(0, 1),
        st.integers(0, 9),
    )
    def test_quantile_of_anything(self, levels, share, padding):
        values = torch.tensor([levels + [math.nan] * padding])
        frames = torch.arange(values.shape[1]).unsqueeze(0) < len(levels)
        value = quantile_over_frames(values, frames, share).item()
        expected = np.quantile(levels, share)
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-2)
        assert min(levels) - 1e-3 <= value <= max(levels) + 1e-3

    def test_of_no_waveform(self):
        for reduce in (
            mean_over_frames,
            lambda values, frames: quantile_over_frames(values, frames, 0.3),
        ):
            none = torch.zeros(0, 9)
            assert reduce(none, none.bool()).shape == (0,)


class TestEntropyOfFrames:
    def test_against_scipy(self):
        power = noise(3, 20, 65).square()
        bins = torch.zeros(3, 65).bool()
        bins[0, 5:40], bins[1, ::2], bins[2] = True, True, True
        values = entropy_of_frames(power, bins)
        for i, row in enumerate(power.double().numpy()):
            inside = row[:, bins[i].numpy()]
            expected = scipy_entropy(inside, axis=1, base=inside.shape[1])
            np.testing.assert_allclose(values[i], expected, atol=1e-5)

    @pytest.mark.parametrize("lines", [1, 2, 4, 16])
    def test_of_lines_of_equal_power(self, lines):
        power = torch.zeros(1, 3, 16)
        power[..., :lines] = 5.0
        values = entropy_of_frames(power, torch.ones(1, 16).bool())
        expected = math.log(lines) / math.log(16)
        assert values.tolist() == [pytest.approx([expected] * 3, abs=1e-6)]

    def test_of_a_frame_without_energy_is_nan(self):
        power = torch.ones(1, 3, 8)
        power[0, 1] = 0
        power[0, 2, :4] = 0  # but beyond the band
        bins = torch.arange(8).unsqueeze(0) < 4
        values = entropy_of_frames(power, bins)[0]
        assert values.isnan().tolist() == [False, True, True]

    @pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
    def test_only_the_band_counts(self, value):
        power = noise(2, 6, 12).square()
        bins = torch.arange(12).expand(2, 12) < 9
        expected = entropy_of_frames(power, bins)
        power[..., 9:] = value
        torch.testing.assert_close(entropy_of_frames(power, bins), expected)


MEASURES = {
    "crest factor": crest_factor,
    "kurtosis": log_kurtosis,
    "hum": lambda w, n: mains_hum(w, n, 500),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
class TestEveryMeasure:
    @WIDE
    @given(
        st.integers(1, 900),
        st.integers(0, 300),
        st.sampled_from([0.0, 1.0, -1e30, math.nan, math.inf]),
        st.integers(0, 1000),
    )
    def test_padding_does_not_count(
        self, measure, samples, padding, value, seed
    ):
        waveforms, lengths = (
            noise(1, samples, seed=seed),
            torch.tensor([samples]),
        )
        padded = torch.nn.functional.pad(waveforms, (0, padding), value=value)
        torch.testing.assert_close(
            measure(padded, lengths),
            measure(waveforms, lengths),
            rtol=1e-3,
            atol=1e-3,
            equal_nan=True,
        )

    @pytest.mark.parametrize("gain", [-1.0, 1e-5, 30.0, 1e5])
    def test_a_gain_changes_nothing(self, measure, gain):
        waveforms = noise(4, 900)
        torch.testing.assert_close(
            measure(gain * waveforms, full(waveforms)),
            measure(waveforms, full(waveforms)),
            rtol=1e-4,
            atol=1e-4,
        )

    def test_of_a_batch_is_that_of_its_rows(self, measure):
        waveforms = noise(4, 900)
        lengths = torch.tensor([900, 700, 500, 3])
        waveforms[~sample_mask(waveforms, lengths)] = math.nan
        alone = [
            measure(waveforms[i : i + 1], lengths[i : i + 1]) for i in range(4)
        ]
        torch.testing.assert_close(
            measure(waveforms, lengths),
            torch.cat(alone),
            rtol=1e-4,
            atol=1e-4,
            equal_nan=True,
        )

    def test_of_silence_and_nothing_is_nan(self, measure):
        waveforms = torch.stack([torch.zeros(900), noise(900), noise(900)])
        values = measure(waveforms, torch.tensor([900, 0, 900]))
        assert values.isnan().tolist() == [True, True, False]
        values = measure(torch.zeros(2, 0), torch.tensor([0, 0]))
        assert values.shape == (2,) and values.isnan().all()

    def test_of_no_waveform_is_nothing(self, measure):
        for samples in (0, 50, 900):
            none = torch.zeros(0, samples)
            assert measure(none, full(none)).shape == (0,)
