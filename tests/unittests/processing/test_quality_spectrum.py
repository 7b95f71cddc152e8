"""Tests of the measurements of spectra against loops and known values.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from scipy.stats import entropy as scipy_entropy

from qlung_plugin.processing.quality import (
    blind_snr,
    entropy_of_frames,
    spectral_entropy,
    spectral_flatness,
)
from tests.unittests.processing.signals import (
    LENGTHS,
    RATE,
    WINDOW,
    coloured,
    frames_by_loop,
    noise,
    spectrum,
)


def entropy_by_loop(power):
    total = sum(power)
    terms = [p / total * math.log(p / total) for p in power if p > 0]
    return -math.fsum(terms) / math.log(len(power))


class TestEntropy:
    @pytest.mark.parametrize("average", ["frames", "spectrum"])
    def test_against_a_loop(self, average):
        batch = coloured()
        power, frames, bins = spectrum(batch, lengths=LENGTHS)
        values = spectral_entropy(power, frames, bins, average)
        for i, length in enumerate(LENGTHS.tolist()):
            rows = frames_by_loop(batch[i, :length])[:, 1:-1]
            if not len(rows):
                assert values[i].isnan()
                continue
            if average == "spectrum":
                rows = rows.mean(axis=0, keepdims=True)
            expected = np.mean([entropy_by_loop(row) for row in rows])
            assert values[i].item() == pytest.approx(expected, abs=1e-5)

    def test_impulse_is_flat(self):
        waveforms = torch.zeros(1, WINDOW)
        waveforms[0, 90] = 1
        power, frames, bins = spectrum(waveforms)
        for value in (
            spectral_entropy(power, frames, bins),
            spectral_entropy(power, frames, bins, "spectrum"),
            spectral_flatness(power, frames, bins),
        ):
            assert value.item() == pytest.approx(1, abs=1e-5)

    def test_white_noise(self):
        # The powers of K bins are independent and exponentially distributed,
        # their shares uniform on the simplex, whose mean entropy is known.
        power, frames, bins = spectrum(
            noise(1, 40 * RATE), "boxcar", n_fft=160, hop=160
        )
        count = 79
        expected = (digamma(count + 1) - digamma(2)) / math.log(count)
        value = spectral_entropy(power, frames, bins)
        assert value.item() == pytest.approx(expected, abs=0.005)
        mean = spectral_entropy(power, frames, bins, "spectrum")
        assert mean.item() == pytest.approx(1, abs=0.005)

    def test_unknown_average_is_named(self):
        with pytest.raises(ValueError, match="'mean'"):
            spectral_entropy(*spectrum(noise(1, 500)), average="mean")


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

    def test_of_a_frame_without_energy_is_nan(self):
        power = torch.ones(1, 3, 8)
        power[0, 1] = 0
        power[0, 2, :4] = 0  # but beyond the band
        bins = torch.arange(8).unsqueeze(0) < 4
        values = entropy_of_frames(power, bins)[0]
        assert values.isnan().tolist() == [False, True, True]

    def test_only_the_band_counts(self):
        power = noise(2, 6, 12).square()
        bins = torch.arange(12).expand(2, 12) < 9
        expected = entropy_of_frames(power, bins)
        power[..., 9:] = math.nan
        torch.testing.assert_close(entropy_of_frames(power, bins), expected)


class TestFlatness:
    def test_against_a_loop(self):
        batch = coloured()
        values = spectral_flatness(*spectrum(batch, lengths=LENGTHS))
        for i, length in enumerate(LENGTHS.tolist()):
            rows = frames_by_loop(batch[i, :length])[:, 1:-1]
            if not len(rows):
                assert values[i].isnan()
                continue
            mean = rows.mean(axis=0)
            expected = np.exp(np.mean(np.log(mean))) / np.mean(mean)
            assert values[i].item() == pytest.approx(expected, rel=1e-3)

    def test_of_one_noise_frame_is_known(self):
        # exp(E[log x]) / E[x] of exponentially distributed powers.
        frames = noise(400, 2048)
        values = spectral_flatness(*spectrum(frames, "boxcar", n_fft=2048))
        expected = math.exp(digamma(1))
        assert values.mean().item() == pytest.approx(expected, abs=0.01)


class TestSNR:
    @pytest.mark.parametrize("decibels", [0, 10, 30])
    @pytest.mark.parametrize("share, low", [(0.1, -1.5), (0.5, -6.0)])
    def test_finds_what_was_mixed(self, decibels, share, low):
        # Breaths of white noise on a stationary background. The more of the
        # time they take, the higher the quantile lies in what is left.
        background, breaths = noise(2, 20 * RATE)
        breaths = breaths * (torch.arange(20 * RATE) / RATE % 2 < 2 * share)
        level = breaths.square().mean().sqrt()
        background = background * level * 10 ** (-decibels / 20)
        mixed = (background + breaths).unsqueeze(0)
        error = blind_snr(*spectrum(mixed)).item() - decibels
        assert low < error < 1.5

    def test_stays_within_its_bounds(self):
        waveforms = noise(3, 2000) * torch.tensor([[1e-3], [1.0], [1.0]])
        waveforms[1, 1000:] = 1e-5 * waveforms[1, 1000:]
        values = blind_snr(*spectrum(waveforms), floor=-3.0, ceiling=7.0)
        assert values[0] == -3 and values[1] == 7
        assert -3 <= values[2] <= 7
