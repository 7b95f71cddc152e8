"""Tests of levels in a band, and of what is left of a recording without silence.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import torch
from scipy.signal import welch

from qlung_plugin.processing.band_level import (
    band_power,
    sounding_frames,
    sounding_pieces,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 44100])
def test_power_is_what_scipy_integrates(rate):
    waveforms = noise(2, 2 * rate) + 0.5
    size = round(0.128 * rate)
    frequencies, density = welch(
        waveforms.double().numpy(),
        rate,
        nperseg=size,
        noverlap=size - size // 2,
        detrend=False,
    )
    inside = (frequencies >= 150) & (frequencies <= 2000) & (frequencies > 0)
    expected = density[:, inside].sum(axis=1) * rate / size
    power = band_power(waveforms, rate, 150.0, 2000.0)
    np.testing.assert_allclose(power.numpy(), expected, rtol=1e-5)


def test_power_of_white_noise_is_spread_evenly():
    waveforms = 0.3 * noise(1, 80000)
    for low, high, share in ((0, 4000, 1.0), (1000, 3000, 0.5)):
        power = band_power(waveforms, 8000, low, high)
        assert power.item() == pytest.approx(0.09 * share, rel=0.02)


def test_power_of_less_than_a_window_and_of_nothing():
    assert band_power(torch.zeros(1, 8000), 8000, 0.0, 4000.0) == 0
    short = torch.sin(2 * torch.pi * 1000 * torch.arange(400) / 8000)
    assert band_power(short[None], 8000, 500, 1500).item() == pytest.approx(0.5)


def with_gaps(rate):
    """25 s of noise; and with digital silence, of 0 and not, between."""
    sound = noise(25 * rate)
    held = torch.full((rate // 2,), 0.25)
    gapped = torch.cat(
        [
            torch.zeros(3 * rate),
            sound[: 7 * rate],
            held,
            sound[7 * rate :],
            torch.zeros(rate),
        ]
    )
    return sound, gapped


@pytest.mark.parametrize("block", [1, 7, 50, 399, 1000, 10**6])
def test_pieces_are_those_of_the_sound_however_it_comes(block):
    sound, gapped = with_gaps(100)
    pieces = [*sounding_pieces(gapped.split(block), 100)]
    assert [count for _, count in pieces] == [1000, 1000, 500]
    assert torch.equal(torch.cat([piece for piece, _ in pieces]), sound)


def test_a_short_rest_is_repeated_and_counts_as_long_as_it_is():
    sound = noise(1030)
    (_, _), (rest, count) = sounding_pieces([sound], 100)
    assert count == 30
    assert torch.equal(rest, sound[1000:].repeat(4)[:100])
    assert not [*sounding_pieces([torch.zeros(500)], 100)]
    assert not [*sounding_pieces([], 100)]


def test_short_runs_are_sound():
    sound = noise(300)
    sound[100:101] = sound[99]  # two samples are 20 ms
    assert sum(count for _, count in sounding_pieces([sound], 100)) == 298
    sound = noise(3000)
    sound[100:119] = sound[99]  # 20 samples are
    assert sum(count for _, count in sounding_pieces([sound], 1100)) == 3000


def test_frames_with_sound_by_a_loop():
    waveforms = noise(3, 1000)
    waveforms[0, 100:630] = 0
    waveforms[1] = 0
    for frames in (1, 7, 10, 300):
        expected = [
            [
                bool(row[i * 1000 // frames : (i + 1) * 1000 // frames].any())
                for i in range(frames)
            ]
            for row in waveforms
        ]
        assert sounding_frames(waveforms, frames).tolist() == expected
