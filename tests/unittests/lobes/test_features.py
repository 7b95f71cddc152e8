"""Tests of the log-mel front end, against one written out in NumPy.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch

from qlung_plugin.lobes.features import EfficientATFeatures

RATE = 32000
FLOOR = (math.log(1e-5) + 4.5) / 5  # of digital silence


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator)


def mel(frequency):
    return 1127.0 * math.log(1.0 + frequency / 700.0)


def mel_bank(n_mels, f_min, f_max):
    """Kaldi's triangles, which are straight in mel; [band, bin]."""
    bank = np.zeros((n_mels, 513))
    step = (mel(f_max) - mel(f_min)) / (n_mels + 1)
    for band in range(n_mels):
        left = mel(f_min) + band * step
        centre, right = left + step, left + 2 * step
        for index in range(512):
            position = mel(index * RATE / 1024)
            if left < position <= centre:
                bank[band, index] = (position - left) / (centre - left)
            elif centre < position < right:
                bank[band, index] = (right - position) / (right - centre)
    return bank


def log_mel(waveform, n_mels=128, f_min=0.0, f_max=15000.0):
    """Features of one waveform, [time, mel], in double precision."""
    x = np.asarray(waveform, dtype=np.float64)
    x = np.array([x[i] - 0.97 * x[i - 1] for i in range(1, len(x))])
    window = [0.5 - 0.5 * math.cos(2 * math.pi * i / 799) for i in range(800)]
    window = np.concatenate([np.zeros(112), window, np.zeros(112)])
    padded = np.pad(x, 512, mode="reflect")
    bank = mel_bank(n_mels, f_min, f_max)
    frames = []
    for start in range(0, len(padded) - 1023, 320):
        spectrum = np.fft.rfft(padded[start : start + 1024] * window)
        power = np.abs(spectrum) ** 2
        frames.append((np.log(bank @ power + 1e-5) + 4.5) / 5)
    return np.array(frames)


@pytest.mark.parametrize(
    "settings, samples",
    [
        ({}, 514),
        ({"n_mels": 64}, 4000),
        ({"f_min": 50.0, "f_max": 2000.0, "n_mels": 40}, 9601),
        ({"f_max": 16000.0}, 4000),
    ],
)
def test_against_numpy(settings, samples):
    waveforms = noise(2, samples)
    features = EfficientATFeatures(**settings)(waveforms)
    expected = np.stack([log_mel(row, **settings) for row in waveforms])
    assert expected.std() > 0.05
    assert features.shape == expected.shape
    np.testing.assert_allclose(features.numpy(), expected, atol=1e-4)


def test_silence_is_the_floor():
    features = EfficientATFeatures()(torch.zeros(1, RATE))
    torch.testing.assert_close(features, torch.full((1, 100, 128), FLOOR))
