"""Tests of frames, against loops and NumPy.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch

from qlung_plugin.processing.quality import (
    band_bins,
    mean_over_frames,
    quantile_over_frames,
    remove_dc,
)
from tests.unittests.processing.signals import (
    HOP,
    LENGTHS,
    N_FFT,
    RATE,
    WINDOW,
    coloured,
    frames_by_loop,
    noise,
    some_frames,
    spectrum,
)


def and_none(frames):
    """And a waveform of which no frame counts."""
    return torch.cat([frames, torch.zeros_like(frames[:1])])


def test_the_mean_is_removed_from_what_is_valid():
    waveforms = coloured()
    centred = remove_dc(waveforms + 0.7, LENGTHS)
    for row, of_row, length in zip(centred, waveforms, LENGTHS.tolist()):
        valid = of_row[:length].double().numpy() + 0.7
        expected = valid - (np.mean(valid) if length else 0)
        np.testing.assert_allclose(row[:length], expected, atol=1e-6)
        assert not row[length:].any()


class TestFrames:
    def test_against_a_loop(self):
        batch = coloured()
        power, frames, _ = spectrum(batch, lengths=LENGTHS)
        for i, length in enumerate(LENGTHS.tolist()):
            expected = frames_by_loop(batch[i, :length])
            assert frames[i].sum() == len(expected)
            assert not frames[i, len(expected) :].any()
            np.testing.assert_allclose(
                power[i, : len(expected)], expected, rtol=1e-3, atol=1e-7
            )

    def test_white_noise_has_its_variance_in_every_bin(self):
        power, frames, bins = spectrum(0.3 * noise(1, 40 * RATE))
        mean = power[frames].mean(dim=0)[bins[0]]
        assert mean.min() > 0.85 * 0.09 and mean.max() < 1.15 * 0.09
        assert mean.mean().item() == pytest.approx(0.09, rel=0.01)

    def test_silent_frames_do_not_count(self):
        waveforms = noise(1, 2000)
        waveforms[:, 500:1500] = 0
        _, frames, _ = spectrum(waveforms)
        starts = HOP * torch.arange(frames.shape[1])
        silent = (starts >= 500) & (starts + WINDOW <= 1500)
        assert torch.equal(frames[0], ~silent) and silent.any()


class TestBins:
    @pytest.mark.parametrize(
        "f_min, f_max, expected",
        [
            (50, 2000, range(2, 65)),
            (1000, 9000, range(32, 129)),
        ],
    )
    def test_of_a_band(self, f_min, f_max, expected):
        bins = band_bins(N_FFT, RATE, f_min, f_max)
        assert bins.shape == (1, 129)
        assert bins[0].nonzero().flatten().tolist() == list(expected)

    def test_end_below_the_native_nyquist_frequency(self):
        rates = torch.tensor([8000, 4000, 2000, 44100])
        bins = band_bins(N_FFT, RATE, 50, 4000, rates)
        tops = [row.nonzero().max().item() * RATE / N_FFT for row in bins]
        for top, rate in zip(tops, rates.tolist()):
            limit = min(0.9 * rate / 2, 4000)
            assert limit - RATE / N_FFT < top <= limit

    def test_too_narrow_a_band_is_named(self):
        with pytest.raises(ValueError, match="100 and 110 Hz"):
            band_bins(N_FFT, RATE, 100, 110)
        with pytest.raises(ValueError, match="widen"):
            band_bins(N_FFT, RATE, 50, 4000, torch.tensor([8000, 150]))


class TestOverFrames:
    @pytest.mark.parametrize("shape", [(), (2, 3)])
    def test_mean_against_numpy(self, shape):
        values, frames = noise(5, 40, *shape), and_none(some_frames(40))
        values[~frames] = math.nan
        means = mean_over_frames(values, frames)
        assert means.shape == (5, *shape) and means[4].isnan().all()
        for mean, row, counts in zip(means[:4], values, frames):
            expected = row[counts].double().numpy().mean(axis=0)
            np.testing.assert_allclose(mean, expected, atol=1e-6)

    @pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99, 1.0])
    @pytest.mark.parametrize("count", [3, 4, 41])
    def test_quantile_against_numpy(self, share, count):
        values, frames = noise(5, count), and_none(some_frames(count))
        values[~frames] = math.nan
        quantiles = quantile_over_frames(values, frames, share)
        assert quantiles[4].isnan()
        for i in range(4):
            valid = values[i][frames[i]].double().numpy()
            expected = np.quantile(valid, share)
            assert quantiles[i].item() == pytest.approx(expected, abs=1e-5)
