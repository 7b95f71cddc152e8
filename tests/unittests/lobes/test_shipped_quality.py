"""Tests of the learned quality score as it is shipped, on generated sounds.

They hold for coefficients that were learned from recordings, not for any: what
is expected of them is an order.

Authors
 * qlung_plugin contributors
"""

import math

import pytest
import torch
from scipy.signal import butter, sosfilt

from qlung_plugin.lobes.quality import LearnedQualityScore

RATE, SECONDS = 8000, 10


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def band_noise(low, high, seed):
    """White noise of unit variance in a band, else nothing."""
    sos = butter(4, (low, high), "bandpass", fs=RATE, output="sos")
    white = noise(SECONDS * RATE, seed=seed).double().numpy()
    sound = torch.from_numpy(sosfilt(sos, white)).float()
    return sound / sound.std()


def pulses(interval, frequency, decay, start=0.2):
    """Decaying tones at intervals, all in seconds and Hz: beats, or knocks."""
    time = torch.arange(SECONDS * RATE) / RATE
    since = (time - start) % interval
    return torch.exp(-since / decay) * torch.sin(
        2 * math.pi * frequency * since
    )


def background(seed):
    return 0.002 * band_noise(20, 3500, seed)


def heart():
    beats = pulses(0.83, 45, 0.03) + 0.6 * pulses(0.83, 55, 0.02, start=0.5)
    return 0.08 * beats


def breaths(seed):
    """Breaths in and fainter ones out, 24 a minute."""
    time = torch.arange(SECONDS * RATE) / RATE
    phase = time * 0.4 % 1
    swell = torch.sin(math.pi * phase / 0.4) * (phase < 0.4)
    out = torch.sin(math.pi * (phase - 0.45) / 0.45)
    swell = swell + 0.3 * out * ((phase >= 0.45) & (phase < 0.9))
    # Lung sounds fall with the frequency.
    sound = band_noise(200, 600, seed) + band_noise(80, 300, seed + 100)
    return 0.05 * swell * sound + heart() + background(seed + 200)


def steady_noise(seed):
    """Louder than any breath."""
    return breaths(seed) + 0.5 * band_noise(50, 3500, seed + 300)


def crying(seed):
    """A voice of many harmonics, gliding, in bouts of a second."""
    time = torch.arange(SECONDS * RATE) / RATE
    pitch = 450 + 60 * torch.sin(2 * math.pi * 0.9 * time)
    phase = 2 * math.pi * pitch.cumsum(dim=0) / RATE
    voice = sum(torch.sin(k * phase) / k for k in range(1, 8))
    bouts = (time % 1.4 < 1.0).float()
    return breaths(seed) + 0.5 * bouts * voice


def silence_with_knocks(seed):
    """A stethoscope that touches nothing but what knocks against it."""
    knocks = pulses(2.3, 120, 0.01) + 0.7 * pulses(1.9, 300, 0.005, start=0.9)
    return 0.2 * background(seed) + 0.8 * knocks


POOR = (steady_noise, crying, silence_with_knocks)


@pytest.mark.parametrize("poor", POOR)
@pytest.mark.parametrize("rate", [4000, 8000])
def test_shipped_coefficients_tell_breathing_from(poor, rate):
    good = torch.stack([breaths(seed) for seed in range(3)])
    bad = torch.stack([poor(seed) for seed in range(3)])
    rates = torch.full((3,), rate)
    score = LearnedQualityScore(RATE)
    of_good = score(good, native_rates=rates)
    of_bad = score(bad, native_rates=rates)
    assert of_good.min() > of_bad.max()
