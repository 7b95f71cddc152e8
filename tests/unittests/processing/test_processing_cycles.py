"""Tests of fades, cyclic padding and resampling.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.signal import resample_poly

from qlung_plugin.processing.cycles import (
    cyclic_pad,
    fade,
    fix_length,
    resample,
)

# --- fades ------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples, expected",
    [
        (0, [1, 1, 1, 1, 1, 1, 1]),
        (1, [0, 1, 1, 1, 1, 1, 0]),
        (2, [0, 1, 1, 1, 1, 1, 0]),
        (3, [0, 0.5, 1, 1, 1, 0.5, 0]),
        # The two ramps never overlap.
        (4, [0, 0.5, 1, 1, 1, 0.5, 0]),
        (100, [0, 0.5, 1, 1, 1, 0.5, 0]),
    ],
)
def test_fade_by_hand(samples, expected):
    assert fade(torch.ones(7), samples).tolist() == expected


def test_fade_scales_each_sample():
    waveforms = torch.tensor([[2.0, -4.0, 6.0, 8.0, -2.0, 4.0]] * 2)
    expected = torch.tensor([[0.0, -2.0, 6.0, 8.0, -1.0, 0.0]] * 2)
    original = waveforms.clone()
    assert torch.equal(fade(waveforms, 3), expected)
    assert torch.equal(waveforms, original)


@pytest.mark.parametrize("time", [0, 1])
def test_nothing_to_fade(time):
    assert torch.equal(fade(torch.ones(time), 5), torch.ones(time))


# --- length -----------------------------------------------------------------


@settings(deadline=None)
@given(time=st.integers(1, 30), length=st.integers(1, 100))
def test_cyclic_padding_repeats(time, length):
    waveforms = torch.arange(2 * time).reshape(2, time)
    padded = cyclic_pad(waveforms, length)
    expected = [
        [row * time + position % time for position in range(length)]
        for row in range(2)
    ]
    assert padded.tolist() == expected


# Ramps of 2 samples are 0, 1; of 3 samples 0, 1/2, 1.
BY_HAND = {
    "shorter, after": ([1, 2, 3], 8, 2, False, [0, 2, 3, 1, 2, 3, 1, 0]),
    "shorter, first": (
        [2, 4, 6, 8, 2, 4],
        9,
        3,
        True,
        [0, 2, 6, 8, 1, 0, 0, 2, 6],
    ),
    "equal, after": ([1, 2, 3, 4], 4, 2, False, [0, 2, 3, 0]),
    "equal, first": ([1, 2, 3, 4], 4, 2, True, [0, 2, 3, 0]),
    "longer, after": ([2, 4, 6, 8, 2, 4, 9], 6, 3, False, [0, 2, 6, 8, 1, 0]),
    "longer, first": ([2, 4, 6, 8, 2, 4, 9], 6, 3, True, [0, 2, 6, 8, 1, 0]),
    "one sample, after": ([3], 5, 2, False, [0, 3, 3, 3, 0]),
    "one sample, first": ([3], 5, 2, True, [3, 3, 3, 3, 3]),
    "no fade": ([1, 2, 3], 5, 0, True, [1, 2, 3, 1, 2]),
}


@pytest.mark.parametrize(
    "waveform, length, ramp, first, expected", BY_HAND.values(), ids=BY_HAND
)
def test_fix_length_by_hand(waveform, length, ramp, first, expected):
    waveform = torch.tensor(waveform, dtype=torch.float32)
    fixed = fix_length(waveform, length, ramp, fade_first=first)
    assert fixed.tolist() == expected
    batch = fix_length(waveform.expand(2, -1), length, ramp, fade_first=first)
    assert batch.tolist() == [expected] * 2


@pytest.mark.parametrize("fade_first", [False, True])
def test_nothing_to_repeat(fade_first):
    with pytest.raises(ValueError, match="empty waveform"):
        fix_length(torch.zeros(0), 10, 2, fade_first)


# --- resampling -------------------------------------------------------------


@pytest.mark.parametrize(
    "native, rate",
    [
        (4000, 32000),
        (4000, 16000),
        (10000, 16000),
        (44100, 32000),
        (8000, 4000),
    ],
)
def test_resampling_against_scipy(native, rate):
    time = np.arange(native // 2) / native
    sound = sum(np.sin(2 * np.pi * f * time + f) for f in (100, 440, 1200)) / 3
    resampled = resample(torch.tensor(sound, dtype=torch.float32), native, rate)
    divisor = np.gcd(native, rate)
    expected = resample_poly(sound, rate // divisor, native // divisor)
    assert len(resampled) == len(expected) == rate // 2
    inside = slice(rate // 20, -rate // 20)
    difference = resampled.numpy()[inside] - expected[inside]
    assert np.abs(difference).max() < 0.01


def test_same_rate_changes_nothing():
    waveform = torch.randn(100)
    assert torch.equal(resample(waveform, 32000, 32000), waveform)


def test_no_sample_no_resampling():
    assert resample(torch.zeros(0), 4000, 32000).shape == (0,)


@pytest.mark.parametrize("native, time", [(4000, 80), (32001, 10)])
def test_no_waveform_no_resampling(native, time):
    assert resample(torch.zeros(0, 10), native, 32000).shape == (0, time)


@pytest.mark.parametrize("samples", [1, 9, 441, 1000, 44099])
@pytest.mark.parametrize(
    "native, up, down", [(44100, 320, 441), (4000, 8, 1), (64000, 1, 2)]
)
def test_length_is_rounded_up(samples, native, up, down):
    resampled = resample(torch.zeros(samples), native, 32000)
    assert len(resampled) == -(-samples * up // down)


@pytest.mark.parametrize("native_rate", [44101, 11024, 8001])
def test_rates_without_a_common_divisor(native_rate):
    """A tone stays a tone; a kernel for these rates would take gigabytes."""
    time = torch.arange(2 * native_rate, dtype=torch.float64) / native_rate
    tone = torch.sin(2 * math.pi * 300 * time).float()
    resampled = resample(tone, native_rate, 32000)
    assert resampled.dtype == torch.float32
    assert abs(len(resampled) - 64000) <= 1
    expected = torch.sin(2 * math.pi * 300 * torch.arange(64000) / 32000)
    middle = slice(4000, 60000)  # without the edges
    assert (resampled[middle] - expected[middle]).abs().max() < 2e-3


def test_the_end_alone_is_faded_where_asked():
    waveform = torch.ones(5)
    both = fix_length(waveform, 12, 3)
    end = fix_length(waveform, 12, 3, fade_in=False)
    assert end[:3].tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(end[3:], both[3:])
