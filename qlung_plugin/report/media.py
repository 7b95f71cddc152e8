"""A cycle to hear and to see, small enough for a page of hundreds.

Authors
 * qlung_plugin contributors
"""

import io

import matplotlib
import numpy as np
import soundfile
import torch
from PIL import Image

from qlung_plugin.figures.spectrograms import mel, mel_levels
from qlung_plugin.processing.cycles import resample

# All browsers play MP3 of this rate; breath sounds lie far below its half.
SOUND_RATE = 16000  # Hz
PEAK = 0.9  # of full scale

HOP = 80  # samples: a frame of the picture every 10 ms
F_MIN, F_MAX = 50.0, 4000.0  # Hz
RANGE = 60.0  # dB below the loudest point of the cycle
TICKS = (100, 500, 1000, 2000, 4000)  # Hz


def encode_sound(
    waveform: torch.Tensor, sample_rate: int
) -> tuple[bytes, float]:
    """A cycle ``[time]`` as MP3 of 16 kHz, as loud as it gets without clipping.

    Beside it, by how much it was made louder, in dB; 0 for silence.
    """
    if not waveform.isfinite().all():
        raise ValueError("it holds NaN or infinite samples")
    if "MP3" not in soundfile.available_formats():
        raise ValueError(
            f"libsndfile {soundfile.__libsndfile_version__} writes no MP3:"
            " version 1.1 does (pip install --upgrade soundfile)"
        )
    waveform = resample(waveform, sample_rate, SOUND_RATE)
    peak = float(waveform.abs().max())
    factor = PEAK / peak if peak > 0 else 1.0
    file = io.BytesIO()
    soundfile.write(file, (factor * waveform).numpy(), SOUND_RATE, format="MP3")
    return file.getvalue(), 20 * float(np.log10(factor))


def log_mel(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """The log-mel spectrogram ``[mel, frame]``, in dB below the loudest point."""
    level = mel_levels(waveform, sample_rate, HOP, F_MIN, F_MAX)
    return (level - level.max()).clamp(min=-RANGE)


def encode_picture(waveform: torch.Tensor, sample_rate: int) -> bytes:
    """What :func:`log_mel` gives as WebP without axes, low sounds below."""
    level = (log_mel(waveform, sample_rate).flip(0) + RANGE) / RANGE
    if float(level.min()) == 1:  # the same everywhere: silence
        level = torch.zeros_like(level)
    colors = matplotlib.colormaps["viridis"](level.numpy(), bytes=True)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colors[..., :3])).save(
        file, "WEBP", quality=80
    )
    return file.getvalue()


def frequency_ticks() -> list[tuple[int, float]]:
    """Frequencies to label, in Hz, and how high they are in the picture."""
    low, high = mel(F_MIN), mel(F_MAX)
    return [(f, float((mel(f) - low) / (high - low))) for f in TICKS]
