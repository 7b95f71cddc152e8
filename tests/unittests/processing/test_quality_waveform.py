"""Tests of the measurements of samples against NumPy, SciPy, known values.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    strategies as st,
)
from scipy.signal import periodogram
from scipy.stats import kurtosis

from qlung_plugin.processing.quality import (
    clipping_ratio,
    crest_factor,
    log_kurtosis,
    mains_hum,
    remove_dc,
    rms_level,
)
from tests.unittests.processing.signals import (
    LENGTHS,
    RATE,
    WIDE,
    coloured,
    full,
    noise,
    single,
    tone,
)


class TestLevel:
    def test_against_a_loop(self):
        waveforms = coloured()
        levels = rms_level(waveforms, LENGTHS).tolist()
        for level, row, length in zip(levels, waveforms, LENGTHS.tolist()):
            valid = row[:length].double().numpy()
            expected = np.sqrt(np.mean(valid**2)) if length else 0
            assert level == pytest.approx(expected, rel=1e-5)


class TestClipping:
    @pytest.mark.parametrize("offset", [0.0, 0.3])
    @pytest.mark.parametrize("low, high", [(-0.2, 0.2), (-1, 0.5), (-0.3, 1)])
    def test_clipped_sine(self, low, high, offset):
        """On both sides, or on one."""
        waveforms = offset + tone(110).clamp(low, high).unsqueeze(0)
        value = clipping_ratio(waveforms, full(waveforms))
        expected = 1 - (math.asin(-low) + math.asin(high)) / math.pi
        # Towards the shoulder the last sample can be alone.
        assert value.item() == pytest.approx(expected, abs=0.03)

    @pytest.mark.parametrize("frequency", [40, 1999])
    def test_unclipped_sine(self, frequency):
        waveforms = tone(frequency).unsqueeze(0)
        assert clipping_ratio(waveforms, full(waveforms)).item() < 0.02

    def test_of_nothing(self):
        nothing = torch.zeros(3, 0)
        assert clipping_ratio(nothing, full(nothing)).tolist() == [0] * 3

    def test_against_a_loop(self):
        waveforms = (1.5 * noise(1, 500)).clamp(-1, 1).round(decimals=1)
        wave = waveforms[0].tolist()
        peak, count = max(map(abs, wave)), 0
        for i, sample in enumerate(wave):
            around = wave[max(i - 1, 0) : i] + wave[i + 1 : i + 2]
            held = any(abs(sample - other) < 1e-4 * peak for other in around)
            count += abs(sample) >= 0.98 * peak and held
        assert 0 < count < 500
        value = clipping_ratio(waveforms, full(waveforms))
        assert value.item() == pytest.approx(count / 500)


class TestCrestFactor:
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
    @pytest.mark.parametrize("decibels", [0, 30])
    def test_of_known_lines(self, line, decibels):
        # The surroundings hold lines, too: what stands out is their ratio.
        waveform = tone(line, 4 * RATE, 0.01 * 10 ** (decibels / 20))
        for offset in (-8, -6, -4, 4, 6, 8):
            waveform = waveform + tone(line + offset, 4 * RATE, 0.01)
        value = single(mains_hum, waveform, RATE, [line])
        assert value == pytest.approx(decibels, abs=0.05)

    @pytest.mark.parametrize("seconds, rate", [(1, 44100), (7, 4000)])
    def test_against_scipy(self, seconds, rate):
        samples = seconds * rate
        waveform = noise(samples) + tone(60, samples, 0.3, rate)
        value = single(mains_hum, waveform, rate)
        expected = hum_by_periodogram(waveform.double().numpy(), rate)
        assert value == pytest.approx(expected, abs=0.05)

    def test_a_heartbeat_is_no_hum(self):
        # Decaying pulses of 50 Hz at intervals that vary as a heart's do: by a
        # twentieth. At equal ones, their harmonics would be lines.
        intervals = 0.8 * RATE * (1 + 0.05 * noise(12))
        heart = torch.zeros(12 * RATE)
        for start in intervals.cumsum(dim=0).long().tolist():
            room = len(heart[start : start + 2000])
            decay = torch.exp(-torch.arange(room) / 250)
            heart[start : start + 2000] += decay * tone(50, room)
        quiet = 0.01 * noise(12 * RATE)
        of_heart = single(mains_hum, heart + quiet, RATE)
        of_hum = single(mains_hum, tone(50, 12 * RATE, 0.1) + quiet, RATE)
        assert of_heart < 12 < 30 < of_hum

    def test_is_missing_below_a_second(self):
        waveforms = noise(3, 2 * RATE)
        lengths = torch.tensor([RATE - 1, RATE, 0])
        values = mains_hum(waveforms, lengths, RATE)
        assert values.isnan().tolist() == [True, False, True]
