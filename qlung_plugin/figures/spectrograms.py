"""Log-mel spectrograms to look at, whatever a model computes from a sound.

Lung sounds lie below 2 kHz; what is drawn ends at 4 kHz.

Authors
 * qlung_plugin contributors
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from scipy.signal import spectrogram
from torchaudio.functional import melscale_fbanks

from qlung_plugin.figures.style import make_figure
from qlung_plugin.processing.cycles import resample

RATE = 8000  # Hz
WINDOW, FFT = 256, 1024  # samples: 32 ms
MELS = 64

# Of spectrograms side by side.
COLUMNS = 4
F_MAX = 2000.0  # Hz
DYNAMICS = 80.0  # dB


def mel_levels(
    waveform: torch.Tensor,
    sample_rate: int,
    hop: int,
    f_min: float = 0.0,
    f_max: float = RATE / 2,
) -> torch.Tensor:
    """The level ``[mel, frame]`` in dB: 64 bands on HTK's scale.

    A waveform ``[time]`` that is shorter than 128 ms is seen in silence. From
    frame to frame are ``hop`` samples at 8 kHz; the lowest band begins at
    ``f_min`` and the highest ends at ``f_max``, in Hz.

    Example
    -------
    >>> tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 8000)
    >>> levels = mel_levels(tone, 8000, hop=80)
    >>> levels.shape, int(levels.mean(dim=1).argmax())
    (torch.Size([64, 101]), 29)
    """
    waveform = resample(waveform, sample_rate, RATE)
    spectrum = torch.stft(
        torch.nn.functional.pad(waveform, (0, max(0, FFT - len(waveform)))),
        FFT,
        hop,
        WINDOW,
        torch.hann_window(WINDOW),
        pad_mode="constant",
        return_complex=True,
    )
    bank = melscale_fbanks(FFT // 2 + 1, f_min, f_max, MELS, RATE)
    power = bank.T @ spectrum.abs().square()
    return 10 * power.clamp_min(torch.finfo(power.dtype).tiny).log10()


def mel(frequency: npt.ArrayLike) -> np.ndarray:
    """HTK's mel scale, of Hz: S. Young et al., "The HTK Book", 2006.

    Example
    -------
    >>> mel([0, 1000]).round()
    array([   0., 1000.])
    """
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def spectrogram_figure(panels: list[dict[str, Any]], title: str) -> Figure:
    """Draws spectrograms, up to 2 kHz, side by side.

    A panel, of which there is one or more, has ``waveform`` ``[time]``,
    ``sample_rate`` in Hz, and ``title``.
    """
    if not panels:
        raise ValueError("there is no recording to draw")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (3.2 * columns, 1.7 * rows + 0.6)
    figure, *cells = make_figure(size, title, (rows, columns))
    for axes in cells[len(panels) :]:
        axes.remove()
    for axes, panel in zip(cells, panels):
        rate = panel["sample_rate"]
        window = round(WINDOW / RATE * rate)
        waveform = np.asarray(panel["waveform"], dtype=float)
        waveform = np.pad(waveform, (0, max(0, window - len(waveform))))
        frequencies, times, power = spectrogram(
            waveform, rate, nperseg=window, noverlap=window // 2
        )
        shown = frequencies <= F_MAX
        decibels = 10 * np.log10(power[shown] + np.finfo(float).tiny)
        axes.pcolormesh(
            times,
            frequencies[shown] / 1000,
            decibels,
            vmin=decibels.max() - DYNAMICS,
            vmax=decibels.max(),
            cmap="magma",
            rasterized=True,
        )
        axes.set_title(panel["title"], fontsize=7)
        axes.tick_params(labelsize=6)
        axes.set_xlabel("s", fontsize=6)
        axes.set_ylabel("kHz", fontsize=6)
    return figure
