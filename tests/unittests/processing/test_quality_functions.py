"""Tests of the quality measurements against NumPy loops and known values.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import get_window
from scipy.special import digamma

from qlung_plugin.processing.quality import (
    band_bins,
    blind_snr,
    clipping_ratio,
    power_frames,
    remove_dc,
    rms_level,
    sample_mask,
    spectral_entropy,
    spectral_flatness,
)

RATE = 8000
WINDOW, HOP, N_FFT = 200, 80, 256

# No deadline: the machine may be busy.
WIDE = settings(max_examples=30, deadline=None)

# As long as a window, shorter, much longer, one sample, and nothing at all.
LENGTHS = torch.tensor([3000, 2999, 200, 199, 57, 1, 0])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency, samples=RATE, amplitude=1.0):
    time = torch.arange(samples, dtype=torch.float64) / RATE
    return (amplitude * torch.sin(2 * math.pi * frequency * time)).float()


def full(waveforms):
    """All of every waveform is valid."""
    return torch.full((len(waveforms),), waveforms.shape[1])


def spectrum(waveforms, window="hann", n_fft=N_FFT, hop=HOP, lengths=None):
    """Power, frames, and all bins but those at 0 and at the Nyquist rate."""
    window = get_window(window, WINDOW if n_fft == N_FFT else n_fft)
    power, frames = power_frames(
        waveforms,
        full(waveforms) if lengths is None else lengths,
        torch.from_numpy(window).float(),
        hop,
        n_fft,
    )
    bins = torch.ones(len(waveforms), n_fft // 2 + 1, dtype=torch.bool)
    bins[:, [0, -1]] = False
    return power, frames, bins


def frames_by_loop(waveform):
    """Power of every whole frame, one after the other, [frame, bin]."""
    window = get_window("hann", WINDOW)
    waveform = np.asarray(waveform, dtype=np.float64)
    waveform = np.pad(waveform, (0, max(WINDOW - len(waveform), 0)))
    rows = []
    for start in range(0, len(waveform) - WINDOW + 1, HOP):
        segment = waveform[start : start + WINDOW] * window
        values = [
            abs(
                np.sum(
                    segment
                    * np.exp(-2j * np.pi * k * np.arange(WINDOW) / N_FFT)
                )
            )
            for k in range(N_FFT // 2 + 1)
        ]
        if any(segment):  # Hann's window begins with a zero
            rows.append(np.square(values) / np.sum(window**2))
    return np.array(rows).reshape(-1, N_FFT // 2 + 1)


def entropy_by_loop(power):
    total = sum(power)
    terms = [p / total * math.log(p / total) for p in power if p > 0]
    return -math.fsum(terms) / math.log(len(power))


def garbage(waveforms, lengths, value):
    """The waveforms with something else in their padding."""
    waveforms = waveforms.clone()
    waveforms[~sample_mask(waveforms, lengths)] = value
    return waveforms


@pytest.fixture(scope="module")
def batch():
    """Noises of growing colour, of all lengths."""
    waveforms = 0.1 * noise(len(LENGTHS), 3000)
    for i, waveform in enumerate(waveforms):
        waveforms[i] = waveform + i * waveform.roll(1)
    return waveforms


class TestLevels:
    def test_square_wave(self):
        waveforms = 0.3 * tone(100).sign().unsqueeze(0)
        waveforms[waveforms == 0] = 0.3
        level = rms_level(waveforms, full(waveforms))
        assert level.item() == pytest.approx(0.3, rel=1e-5)

    @pytest.mark.parametrize("frequency", [50, 440, 1999])
    def test_sine(self, frequency):
        waveforms = tone(frequency, amplitude=0.8).unsqueeze(0)
        level = rms_level(waveforms, full(waveforms))
        assert level.item() == pytest.approx(0.8 / math.sqrt(2), rel=1e-5)

    def test_against_a_loop(self, batch):
        levels = rms_level(batch, LENGTHS)
        centred = remove_dc(batch + 0.7, LENGTHS)
        for i, length in enumerate(LENGTHS.tolist()):
            valid = batch[i, :length].double().numpy()
            expected = np.sqrt(np.mean(valid**2)) if length else 0
            assert levels[i].item() == pytest.approx(expected, rel=1e-5)
            expected = valid - (np.mean(valid) if length else 0)
            np.testing.assert_allclose(centred[i, :length], expected, atol=1e-6)
            assert not centred[i, length:].any()


class TestFrames:
    def test_against_a_loop(self, batch):
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
            (0, 4000, range(0, 129)),
            (50, 2000, range(2, 65)),
            (62.5, 93.75, range(2, 4)),
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


class TestEntropy:
    @pytest.mark.parametrize("average", ["frames", "spectrum"])
    def test_against_a_loop(self, batch, average):
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

    @pytest.mark.parametrize("average", ["frames", "spectrum"])
    def test_tone(self, average):
        # On a bin, an unweighted window leaks nothing, and Hann's lets two
        # neighbours have a quarter of its amplitude squared: 1/6, 2/3, 1/6.
        waveforms = tone(1000).unsqueeze(0)
        flat = spectral_entropy(
            *spectrum(waveforms, "boxcar", n_fft=160), average
        )
        assert flat.item() == pytest.approx(0, abs=1e-4)
        hann = spectral_entropy(
            *spectrum(waveforms, "hann", n_fft=160), average
        )
        shares = np.array([1, 4, 1]) / 6
        expected = -np.sum(shares * np.log(shares)) / math.log(79)
        assert hann.item() == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("tones", [2, 4, 8])
    def test_tones_of_equal_strength(self, tones):
        waveforms = sum(tone(400 * (i + 1)) for i in range(tones))
        value = spectral_entropy(
            *spectrum(waveforms.unsqueeze(0), "boxcar", n_fft=160)
        )
        expected = math.log(tones) / math.log(79)
        assert value.item() == pytest.approx(expected, abs=1e-4)

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

    @pytest.mark.parametrize("n_fft", [64, 160, 512])
    def test_white_noise(self, n_fft):
        # The powers of K bins are independent and exponentially distributed,
        # their shares uniform on the simplex, whose mean entropy is known.
        power, frames, bins = spectrum(
            noise(1, 40 * RATE), "boxcar", n_fft, hop=n_fft
        )
        count = n_fft // 2 - 1
        expected = (digamma(count + 1) - digamma(2)) / math.log(count)
        value = spectral_entropy(power, frames, bins)
        assert value.item() == pytest.approx(expected, abs=0.005)
        mean = spectral_entropy(power, frames, bins, "spectrum")
        assert mean.item() == pytest.approx(1, abs=0.005)

    def test_does_not_depend_on_the_level(self, batch):
        quiet, loud = (
            spectral_entropy(*spectrum(factor * batch[:3]))
            for factor in (1e-3, 1.0)
        )
        torch.testing.assert_close(quiet, loud)

    def test_only_the_band_counts(self):
        low, high = tone(500), noise(RATE)
        power, frames, bins = spectrum(torch.stack([low, low + tone(3000)]))
        bins[:, 64:] = False
        values = spectral_entropy(power, frames, bins)
        assert values[0].item() == pytest.approx(values[1].item(), abs=0.02)
        power, frames, _ = spectrum(torch.stack([low, low + high]))
        values = spectral_entropy(power, frames, bins)
        assert values[1] > values[0] + 0.1

    def test_unknown_average_is_named(self):
        with pytest.raises(ValueError, match="'mean'"):
            spectral_entropy(*spectrum(noise(1, 500)), average="mean")


class TestFlatness:
    def test_against_a_loop(self, batch):
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

    def test_of_a_tone_is_near_zero(self):
        value = spectral_flatness(*spectrum(tone(1000).unsqueeze(0)))
        assert 0 <= value.item() < 0.01


class TestSNR:
    @pytest.mark.parametrize("decibels", [0, 5, 10, 20, 30])
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

    def test_stationary_noise_has_none(self):
        assert blind_snr(*spectrum(noise(1, 20 * RATE))).item() < -5

    def test_stays_within_its_bounds(self):
        waveforms = noise(3, 2000) * torch.tensor([[1e-3], [1.0], [1.0]])
        waveforms[1, 1000:] = 1e-5 * waveforms[1, 1000:]
        values = blind_snr(*spectrum(waveforms), floor=-3.0, ceiling=7.0)
        assert values[0] == -3 and values[1] == 7
        assert -3 <= values[2] <= 7

    def test_without_a_frame_is_nan(self):
        lengths = torch.tensor([0, 400])
        values = blind_snr(*spectrum(noise(2, 400), lengths=lengths))
        assert values.isnan().tolist() == [True, False]


class TestClipping:
    @pytest.mark.parametrize("frequency", [40, 110, 333])
    @pytest.mark.parametrize("level", [0.2, 0.5, 0.9])
    def test_clipped_sine(self, frequency, level):
        waveforms = tone(frequency).clamp(-level, level).unsqueeze(0)
        value = clipping_ratio(waveforms, full(waveforms))
        expected = 1 - 2 / math.pi * math.asin(level)
        # Towards the shoulder the last sample can be alone.
        assert value.item() == pytest.approx(expected, abs=0.03)

    @pytest.mark.parametrize("offset", [-0.4, 0.0, 0.3])
    @pytest.mark.parametrize("low, high", [(-1.0, 0.5), (-0.3, 1.0)])
    def test_clipped_on_one_side(self, low, high, offset):
        waveforms = offset + tone(110).clamp(low, high).unsqueeze(0)
        value = clipping_ratio(waveforms, full(waveforms))
        expected = 0.5 - math.asin(min(-low, high)) / math.pi
        assert value.item() == pytest.approx(expected, abs=0.03)

    @pytest.mark.parametrize("frequency", [40, 110, 333, 1999])
    def test_unclipped_sine(self, frequency):
        waveforms = tone(frequency).unsqueeze(0)
        assert clipping_ratio(waveforms, full(waveforms)).item() < 0.02

    def test_noise_silence_and_nothing(self):
        waveforms = torch.stack([noise(1000), torch.zeros(1000), noise(1000)])
        lengths = torch.tensor([1000, 1000, 0])
        assert clipping_ratio(waveforms, lengths).tolist() == [0, 0, 0]
        assert clipping_ratio(waveforms[:, :0], 0 * lengths).tolist() == [0] * 3

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


MEASURES = {
    "level": rms_level,
    "entropy": lambda w, n: spectral_entropy(*spectrum(w, lengths=n)),
    "mean entropy": lambda w, n: spectral_entropy(
        *spectrum(w, lengths=n), "spectrum"
    ),
    "flatness": lambda w, n: spectral_flatness(*spectrum(w, lengths=n)),
    "snr": lambda w, n: blind_snr(*spectrum(w, lengths=n)),
    "clipping": clipping_ratio,
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
class TestEveryMeasure:
    @pytest.mark.parametrize("value", [1.0, -1e30, math.nan, math.inf])
    def test_padding_does_not_count(self, measure, value, batch):
        expected = measure(batch, LENGTHS)
        padded = torch.nn.functional.pad(batch, (0, 333))
        for waveforms in (batch, padded):
            values = measure(garbage(waveforms, LENGTHS, value), LENGTHS)
            torch.testing.assert_close(values, expected, equal_nan=True)

    @WIDE
    @given(st.integers(1, 700), st.integers(0, 700), st.integers(0, 1000))
    def test_is_that_of_the_cut_waveform(self, measure, length, padding, seed):
        waveforms = noise(1, length + padding, seed=seed).clamp(-1.5, 1.5)
        lengths = torch.tensor([length])
        torch.testing.assert_close(
            measure(waveforms, lengths),
            measure(waveforms[:, :length], lengths),
            equal_nan=True,
        )

    def test_of_no_waveform_is_nothing(self, measure):
        for samples in (0, 50, 500):
            none = torch.zeros(0, samples)
            assert measure(none, full(none)).shape == (0,)
