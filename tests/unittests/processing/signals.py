"""Noises, tones and frames, for the tests of quality.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import torch
from hypothesis import settings
from scipy.signal import get_window

from qlung_plugin.processing.quality import power_frames

RATE = 8000
WINDOW, HOP, N_FFT = 200, 80, 256
FRAME_RATE = 62.5

# No deadline: the machine may be busy.
WIDE = settings(max_examples=30, deadline=None)

# As long as a window, shorter, much longer, one sample, and nothing at all.
LENGTHS = torch.tensor([3000, 2999, 200, 199, 57, 1, 0])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency, samples=RATE, amplitude=1.0, rate=RATE):
    time = torch.arange(samples, dtype=torch.float64) / rate
    return (amplitude * torch.sin(2 * math.pi * frequency * time)).float()


def full(waveforms):
    """All of every waveform is valid."""
    return torch.full((len(waveforms),), waveforms.shape[1])


def single(measure, waveform, *arguments):
    """Of one waveform, as a number."""
    waveforms = waveform.unsqueeze(0)
    return measure(waveforms, full(waveforms), *arguments).item()


def coloured():
    """Noises of growing colour, for all the lengths."""
    waveforms = 0.1 * noise(len(LENGTHS), 3000)
    for i, waveform in enumerate(waveforms):
        waveforms[i] = waveform + i * waveform.roll(1)
    return waveforms


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


def some_frames(count=90):
    """All frames, a beginning, some with gaps, and a single one."""
    frames = torch.ones(4, count).bool()
    frames[1, count // 2 :] = False
    frames[2] = noise(count, seed=5) > -0.8
    frames[3, 1:] = False
    return frames


def some_levels(batch=4, count=90, bands=3):
    """Levels that wander, in dB, [batch, frame, band]."""
    return 2 * noise(batch, count, bands).cumsum(dim=1)


def sine(frequency, seconds=60.0, depth=1.0, phase=0.0):
    """The course of one level, ``[1, frame, 1]``."""
    time = torch.arange(round(seconds * FRAME_RATE)) / FRAME_RATE
    course = depth * torch.sin(2 * math.pi * frequency * time + phase)
    return course.view(1, -1, 1)


def all_of(levels):
    return torch.ones(levels.shape[:2]).bool()


def rows(levels, frames):
    """The frames that count of every waveform, in double precision."""
    return [row[counts].double().numpy() for row, counts in zip(levels, frames)]


def breath(seconds=6.0, rate=4000, seed=0):
    """Coloured noise that swells and fades every two seconds."""
    time = torch.arange(round(seconds * rate)) / rate
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(time), generator=generator)
    swell = torch.sin(math.pi * 0.5 * time).square()
    return (0.02 + 0.2 * swell) * (noise + noise.roll(1)) / 2
