"""Quality from the levels of a recording, over frames and bands.

Levels are relative to the recording itself: a gain moves no measurement.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Sequence

import torch

from qlung_plugin.processing.quality.frames import (
    mean_over_frames,
    quantile_over_frames,
)

# Levels end this far below the mean level of the recording, in dB.
FLOOR = 80.0


def band_matrix(
    edges: Sequence[tuple[float, float]], n_fft: int, sample_rate: int
) -> torch.Tensor:
    """Which FFT bins belong to which band, zeros and ones, ``[bin, band]``.

    The ``edges`` are the lowest (inclusive) and highest frequency (exclusive)
    of each band, in Hz.

    Example
    -------
    >>> band_matrix([(0, 1000), (1000, 4000)], 8, 8000).T
    tensor([[1., 0., 0., 0., 0.],
            [0., 1., 1., 1., 0.]])
    """
    frequencies = torch.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    low, high = torch.tensor(list(edges), dtype=torch.float32).unbind(dim=-1)
    frequencies = frequencies.unsqueeze(-1)
    return ((frequencies >= low) & (frequencies < high)).float()


def band_levels(
    power: torch.Tensor, frames: torch.Tensor, bands: torch.Tensor
) -> torch.Tensor:
    """Level per frame and band of a :func:`band_matrix`, ``[batch, frame, band]``.

    In dB relative to the mean power of all bins; nothing is below minus 80 dB.
    Frames that do not count have any value.

    Example
    -------
    >>> power = torch.tensor([[[1.0, 1.0], [2.0, 0.0]]])
    >>> bands = torch.eye(2)
    >>> band_levels(power, torch.ones(1, 2).bool(), bands)[0].round()
    tensor([[ -3.,  -3.],
            [  0., -80.]])
    """
    mean = mean_over_frames(power, frames).sum(dim=-1)
    tiny = torch.finfo(power.dtype).tiny
    relative = power @ bands / mean.clamp(min=tiny).view(-1, 1, 1)
    return 10 * (relative + 10 ** (-FLOOR / 10)).log10()


def band_shares(
    power: torch.Tensor, frames: torch.Tensor, bands: torch.Tensor
) -> torch.Tensor:
    """Energy of each band relative to the total, ``[batch, band]`` in dB.

    Nothing is below minus 80.

    Example
    -------
    >>> power = torch.tensor([[[9.0, 1.0]]])
    >>> band_shares(power, torch.ones(1, 1).bool(), torch.eye(2)).round(
    ...     decimals=2
    ... )
    tensor([[ -0.4600, -10.0000]])
    """
    spectrum = mean_over_frames(power, frames)
    tiny = torch.finfo(power.dtype).tiny
    share = spectrum @ bands / spectrum.sum(-1, keepdim=True).clamp(min=tiny)
    return 10 * (share + 10 ** (-FLOOR / 10)).log10()


def spread_over_frames(
    values: torch.Tensor, frames: torch.Tensor
) -> torch.Tensor:
    """Standard deviation over the frames that count, biased, ``[batch, ...]``.

    Example
    -------
    >>> spread_over_frames(torch.tensor([[1.0, 3.0]]), torch.ones(1, 2).bool())
    tensor([1.])
    """
    mean = mean_over_frames(values, frames).unsqueeze(1)
    return mean_over_frames((values - mean).square(), frames).sqrt()


def spectral_flux(levels: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """How much the bands' levels change from one frame to the next.

    The mean absolute change of neighbouring frames in dB. Source of the idea: E.
    Scheirer and M. Slaney, "Construction and evaluation of a robust
    multifeature speech/music discriminator", ICASSP 1997.

    Example
    -------
    >>> levels = torch.tensor([[[0.0, 10.0], [2.0, 10.0], [2.0, 16.0]]])
    >>> spectral_flux(levels, torch.ones(1, 3).bool())
    tensor([2.])
    """
    change = levels.diff(dim=1).abs().mean(dim=-1)
    return mean_over_frames(change, frames[:, 1:] & frames[:, :-1])


def level_correlation(
    first: torch.Tensor, second: torch.Tensor, frames: torch.Tensor
) -> torch.Tensor:
    """Pearson's correlation of the courses of two bands' levels.

    0 where a level does not change.

    Example
    -------
    >>> level = torch.tensor([[0.0, 1.0, 5.0]])
    >>> level_correlation(level, -2 * level, torch.ones(1, 3).bool())
    tensor([-1.])
    """
    first = first - mean_over_frames(first, frames).unsqueeze(1)
    second = second - mean_over_frames(second, frames).unsqueeze(1)
    product = mean_over_frames(first * second, frames)
    spread = spread_over_frames(first, frames) * spread_over_frames(
        second, frames
    )
    return product / spread.clamp(min=1e-6)


def faint_share(
    levels: torch.Tensor, frames: torch.Tensor, below: float = 30.0
) -> torch.Tensor:
    """Share of the time in which next to nothing is heard.

    Where the stethoscope has lost contact, or a transmission has dropped out: a
    level ``below`` dB under the one that a twentieth of the frames exceed, as
    what was recorded may be the smaller part. NaN where levels are missing, too.

    Example
    -------
    >>> levels = torch.tensor([[0.0, -3.0, -50.0, -2.0]])
    >>> faint_share(levels, torch.ones(1, 4).bool())
    tensor([0.2500])
    """
    loud = quantile_over_frames(levels, frames, 0.95).unsqueeze(1)
    faint = (levels < loud - below).float().where(~loud.isnan(), math.nan)
    return mean_over_frames(faint, frames)


def burst_share(
    levels: torch.Tensor, frames: torch.Tensor, above: float = 12.0
) -> torch.Tensor:
    """Share of the time that is far louder than the rest.

    By more than ``above`` dB than the median level. NaN where levels are
    missing, too.

    Example
    -------
    >>> levels = torch.tensor([[0.0, 1.0, 2.0, 30.0]])
    >>> burst_share(levels, torch.ones(1, 4).bool())
    tensor([0.2500])
    """
    median = quantile_over_frames(levels, frames, 0.5).unsqueeze(1)
    burst = (levels > median + above).float().where(~median.isnan(), math.nan)
    return mean_over_frames(burst, frames)
