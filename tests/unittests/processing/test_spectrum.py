"""Tests of the power of a short-time Fourier transform, against NumPy's FFT.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import torch

from qlung_plugin.processing.spectrum import convolved_power, power_spectrum


def loop(waveforms, n_fft, hop_length, window, center):
    """Frame by frame; the window in the middle of each."""
    waveforms = waveforms.double().numpy()
    if center:
        padding = (0, 0), (n_fft // 2, n_fft // 2)
        waveforms = np.pad(waveforms, padding, mode="reflect")
    before = (n_fft - len(window)) // 2
    weights = np.zeros(n_fft)
    weights[before : before + len(window)] = window.double().numpy()
    power = [
        np.abs(np.fft.rfft(waveforms[:, start : start + n_fft] * weights)) ** 2
        for start in range(0, waveforms.shape[1] - n_fft + 1, hop_length)
    ]
    return torch.from_numpy(np.stack(power, axis=-1)).float()


@pytest.mark.parametrize("function", [power_spectrum, convolved_power])
@pytest.mark.parametrize("bins", [None, 40, 1])
@pytest.mark.parametrize(
    "n_fft, hop_length, length, center",
    [
        (1024, 320, 800, True),  # of EfficientAT
        (4096, 2048, 4096, False),  # of a recording's level
        (96, 7, 55, True),  # nothing in common but 1
        (81, 18, 81, False),  # of odd length
    ],
)
def test_power_is_that_of_each_frame(
    function, n_fft, hop_length, length, center, bins
):
    generator = torch.Generator().manual_seed(0)
    waveforms = torch.randn(2, 3 * n_fft + 5, generator=generator)
    window = torch.hann_window(length, periodic=False)
    power = function(waveforms, n_fft, hop_length, window, center, bins)
    expected = loop(waveforms, n_fft, hop_length, window, center)
    torch.testing.assert_close(
        power,
        expected[:, :bins],
        atol=1e-6 * float(expected.max()),
        rtol=1e-5,
    )
