"""Quality from the levels of a recording, over frames and bands.

Levels are in dB per frame and band, from :func:`band_levels`. They are relative
to the recording itself: a gain moves no measurement.

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
    """Which FFT bins belong to which band.

    Arguments
    ---------
    edges : sequence of tuple
        Lowest (inclusive) and highest frequency (exclusive) of each band, in
        Hz.
    n_fft : int
        FFT size.
    sample_rate : int
        Rate of the waveforms, in Hz.

    Returns
    -------
    torch.Tensor
        Zeros and ones, ``[bin, band]``.

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
    """Level per frame and band, relative to the recording.

    Arguments
    ---------
    power : torch.Tensor
        ``[batch, frame, bin]``; see
        :func:`qlung_plugin.processing.quality.power_frames`.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    bands : torch.Tensor
        ``[bin, band]``; see :func:`band_matrix`.

    Returns
    -------
    torch.Tensor
        ``[batch, frame, band]``, in dB relative to the mean power of all bins;
        nothing is below minus 80 dB. Any value in the frames that do not count.

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
    """Energy of each band relative to the total.

    Arguments
    ---------
    power, frames, bands
        See :func:`band_levels`.

    Returns
    -------
    torch.Tensor
        ``[batch, band]``, in dB, not below minus 80; NaN where no frame counts.

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
    """Standard deviation over the frames that count.

    Arguments
    ---------
    values : torch.Tensor
        ``[batch, frame, ...]``.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.

    Returns
    -------
    torch.Tensor
        ``[batch, ...]`` in the unit of the values, biased (over the number of
        frames); NaN where no frame counts.

    Example
    -------
    >>> spread_over_frames(torch.tensor([[1.0, 3.0]]), torch.ones(1, 2).bool())
    tensor([1.])
    """
    mean = mean_over_frames(values, frames).unsqueeze(1)
    return mean_over_frames((values - mean).square(), frames).sqrt()


def spectral_flux(levels: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """How much the bands' levels change from one frame to the next.

    Source of the idea: E. Scheirer and M. Slaney, "Construction and evaluation
    of a robust multifeature speech/music discriminator", ICASSP 1997.

    Arguments
    ---------
    levels : torch.Tensor
        ``[batch, frame, band]``, in dB.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.

    Returns
    -------
    torch.Tensor
        ``[batch]``, mean absolute change in dB; NaN where no two neighbouring
        frames count.

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
    """Correlation between the courses of two bands' levels.

    Arguments
    ---------
    first, second : torch.Tensor
        ``[batch, frame]``, in dB.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.

    Returns
    -------
    torch.Tensor
        Pearson's coefficient, ``[batch]``; 0 where a level does not change, NaN
        where no frame counts.

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

    Where the stethoscope has lost contact, or a transmission has dropped out.

    Arguments
    ---------
    levels : torch.Tensor
        ``[batch, frame]``, in dB.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    below : float
        How far under the level that a twentieth of the frames exceed, in dB:
        what was recorded may be the smaller part.

    Returns
    -------
    torch.Tensor
        ``[batch]`` in [0, 1]; NaN where no frame counts or levels are missing.

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

    Arguments
    ---------
    levels : torch.Tensor
        ``[batch, frame]``, in dB.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    above : float
        How far over the median level, in dB.

    Returns
    -------
    torch.Tensor
        ``[batch]`` in [0, 1]; NaN where no frame counts or levels are missing.

    Example
    -------
    >>> levels = torch.tensor([[0.0, 1.0, 2.0, 30.0]])
    >>> burst_share(levels, torch.ones(1, 4).bool())
    tensor([0.2500])
    """
    median = quantile_over_frames(levels, frames, 0.5).unsqueeze(1)
    burst = (levels > median + above).float().where(~median.isnan(), math.nan)
    return mean_over_frames(burst, frames)
