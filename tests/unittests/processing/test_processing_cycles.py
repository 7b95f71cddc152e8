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
    resample_within,
    resampling_margin,
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
    end = [1, 1, 1, *expected[3:]]
    assert fade(torch.ones(7), samples, fade_in=False).tolist() == end


def test_fade_scales_each_sample():
    waveforms = torch.tensor([[2.0, -4.0, 6.0, 8.0, -2.0, 4.0]] * 2)
    expected = torch.tensor([[0.0, -2.0, 6.0, 8.0, -1.0, 0.0]] * 2)
    assert torch.equal(fade(waveforms, 3), expected)
    assert waveforms[0, 0] == 2  # it is not changed
    assert torch.equal(fade(torch.ones(1), 5), torch.ones(1))


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
    "longer, after": ([2, 4, 6, 8, 2, 4, 9], 6, 3, False, [0, 2, 6, 8, 1, 0]),
    "longer, first": ([2, 4, 6, 8, 2, 4, 9], 6, 3, True, [0, 2, 6, 8, 1, 0]),
    "one sample, after": ([3], 5, 2, False, [0, 3, 3, 3, 0]),
    "one sample, first": ([3], 5, 2, True, [3, 3, 3, 3, 3]),
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


def test_nothing_to_repeat():
    with pytest.raises(ValueError, match="empty waveform"):
        fix_length(torch.zeros(0), 10, 2)


# --- resampling -------------------------------------------------------------


@pytest.mark.parametrize(
    "native, rate", [(4000, 32000), (10000, 16000), (44100, 32000)]
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


@pytest.mark.parametrize("samples", [0, 1, 441, 44099])
@pytest.mark.parametrize("native", [44100, 4000, 32000, 64000, 32001])
def test_length_is_rounded_up(samples, native):
    for batch in (0, 2):
        resampled = resample(torch.ones(batch, samples), native, 32000)
        length = -(-samples * 32000 // native)
        assert resampled.shape == (batch, length)
    if native == 32000:
        assert (resampled == 1).all()


@pytest.mark.parametrize("native_rate", [44101, 8001])
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


RATES = [4000, 8000, 10000, 44100, 48000, 96000, 16000, 32001]


@given(
    st.sampled_from(RATES),
    st.sampled_from([16000, 32000]),
    st.integers(0, 5000),
    st.integers(1, 3000),
)
@settings(deadline=None, max_examples=40)
def test_a_cycle_is_cut_from_its_resampled_recording(native, rate, first, time):
    generator = torch.Generator().manual_seed(first)
    recording = torch.randn(2, 8000, generator=generator)
    stop = min(first + time, 8000)
    margin = resampling_margin(native, rate)
    start, end = max(first - margin, 0), min(stop + margin, 8000)
    cycle = resample_within(
        recording[:, start:end], first - start, end - stop, native, rate
    )
    # From where on both rates have a sample at the beginning of the cycle.
    origin = first % (native // math.gcd(native, rate))
    whole = resample(
        torch.nn.functional.pad(recording, (10 * native - origin, 0)),
        native,
        rate,
    )
    begin = (10 * native - origin + first) * rate // native
    length = -(-(stop - first) * rate // native)
    expected = whole[:, begin : begin + length]
    assert cycle.shape == expected.shape == (2, length)
    torch.testing.assert_close(cycle, expected, atol=1e-5, rtol=0)


def test_a_step_at_the_edge_is_the_recordings():
    """Of a constant tone of 0 Hz, a cycle is as constant."""
    recording = torch.ones(4000)
    alone = resample(recording[1000:2000], 4000, 32000)
    within = resample_within(recording[900:2100], 100, 100, 4000, 32000)
    assert (alone - 1).abs().max() > 0.1
    assert (within - 1).abs().max() < 0.01
