"""Quality from the course of the level over time.

Breathing comes and goes slowly, about once in two seconds, and with it the
level in the bands of lung sounds. What interferes does not: noise stays, rubbing
and talking change faster, a lost contact ends it all.

Levels are in dB per frame and band, from :func:`band_levels`. They are relative
to the recording itself: a gain moves no measurement.

Authors
 * qlung_plugin contributors
"""

import math

import torch

from qlung_plugin.processing.quality.frames import (
    mean_over_frames,
    quantile_over_frames,
)

# Levels end this far below the mean level of the recording, in dB.
FLOOR = 80.0


def band_matrix(edges, n_fft, sample_rate):
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


def band_levels(power, frames, bands):
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


def band_shares(power, frames, bands):
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
    >>> band_shares(power, torch.ones(1, 1).bool(), torch.eye(2)).round(decimals=2)
    tensor([[ -0.4600, -10.0000]])
    """
    spectrum = mean_over_frames(power, frames)
    tiny = torch.finfo(power.dtype).tiny
    share = spectrum @ bands / spectrum.sum(-1, keepdim=True).clamp(min=tiny)
    return 10 * (share + 10 ** (-FLOOR / 10)).log10()


def spread_over_frames(values, frames):
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


def smooth(values, frames, width):
    """Gaussian moving average over the frames that count.

    Arguments
    ---------
    values : torch.Tensor
        ``[batch, frame, band]``.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``. The others have no
        weight: at the ends, and around a gap, the average is over what there
        is.
    width : float
        Standard deviation of the Gaussian, in frames.

    Returns
    -------
    torch.Tensor
        ``[batch, frame, band]``; any value in frames that do not count.

    Example
    -------
    >>> values = torch.tensor([5.0, 5.0, 5.0, 9.0]).view(1, 4, 1)
    >>> average = smooth(values, values[..., 0] < 9, 1.0)
    >>> average[0, :3, 0].round(decimals=3)
    tensor([5., 5., 5.])
    """
    if values.numel() == 0:  # which the FFT refuses
        return values
    count = values.shape[1]
    size = 2 ** (count + math.ceil(3 * width)).bit_length()
    # The kernel wraps around, and meets nothing but zeros there.
    positions = torch.arange(size, device=values.device)
    distance = torch.minimum(positions, size - positions)
    kernel = (-0.5 * (distance / width).square()).exp()
    kernel = torch.where(distance <= 3 * width, kernel, 0.0).unsqueeze(-1)
    masked = torch.where(frames.unsqueeze(-1), values, 0.0)
    weights = frames.unsqueeze(-1).to(values.dtype)
    spectrum = torch.fft.rfft(torch.cat([masked, weights], -1), size, dim=1)
    spectrum = spectrum * torch.fft.rfft(kernel.to(values.dtype), dim=0)
    sums = torch.fft.irfft(spectrum, size, dim=1)[:, :count]
    # A frame that counts has at least its own weight, which is 1.
    return sums[..., :-1] / sums[..., -1:].clamp(min=0.5)


def breathing_course(levels, frames, frame_rate):
    """The part of a level's course that has the pace of breathing.

    Between a fast and a slow Gaussian average, whose responses fall to a half
    at 1.7 Hz and at 0.25 Hz: 15 to 100 breaths a minute, those of infants
    included.

    Arguments
    ---------
    levels : torch.Tensor
        ``[batch, frame, band]``, in dB.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    frame_rate : float
        Frames per second.

    Returns
    -------
    breathing : torch.Tensor
        ``[batch, frame, band]``, in dB around 0.
    faster : torch.Tensor
        What is faster than breathing, alike.

    Example
    -------
    >>> time = torch.arange(600) / 60
    >>> slow = 6 * torch.sin(2 * torch.pi * 0.6 * time)
    >>> fast = torch.sin(2 * torch.pi * 8 * time)
    >>> levels, frames = (slow + fast).view(1, -1, 1), torch.ones(1, 600).bool()
    >>> breathing, faster = breathing_course(levels, frames, 60)
    >>> bool(breathing.std() > 3), bool(faster.std() > 0.6)
    (True, True)
    """
    # A Gaussian of deviation s seconds has the response exp(-(2 pi f s)^2 / 2).
    at_half = math.sqrt(2 * math.log(2)) / (2 * math.pi)
    fast = smooth(levels, frames, at_half / 1.7 * frame_rate)
    slow = smooth(levels, frames, at_half / 0.25 * frame_rate)
    return fast - slow, levels - fast


def breathing_share(breathing, faster, frames):
    """Share of a level's changes that has the pace of breathing.

    Arguments
    ---------
    breathing, faster : torch.Tensor
        See :func:`breathing_course`.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.

    Returns
    -------
    torch.Tensor
        ``[batch, band]`` in [0, 1], a ratio of variances: 1 where the level
        only breathes; 0 where it does not change; NaN where no frame counts.

    Example
    -------
    >>> breathing = torch.tensor([3.0, -3.0]).view(1, 2, 1)
    >>> faster = torch.tensor([1.0, -1.0]).view(1, 2, 1)
    >>> breathing_share(breathing, faster, torch.ones(1, 2).bool())
    tensor([[0.9000]])
    """
    slow = spread_over_frames(breathing, frames).square()
    fast = spread_over_frames(faster, frames).square()
    # Changes of a hundredth of a dB are rounding.
    return slow / (slow + fast).clamp(min=1e-4)


def breathing_periodicity(breathing, frames, frame_rate):
    """How well the course of the level repeats itself breath by breath.

    The height of the highest peak of the normalised autocorrelation between
    lags of 0.6 and 4 s over the lowest valley before it. The autocorrelation at
    a lag is a correlation coefficient of the pairs of frames at that distance;
    a lag needs pairs from two fifths of the duration.

    Arguments
    ---------
    breathing : torch.Tensor
        ``[batch, frame, band]``; see :func:`breathing_course`.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    frame_rate : float
        Frames per second.

    Returns
    -------
    torch.Tensor
        ``[batch, band]``, about 0 (no rhythm) to 2 (a sine); NaN below a
        duration of a second, where no breath could repeat itself.

    Example
    -------
    >>> course = torch.sin(2 * torch.pi * torch.arange(600) / 60 / 2)
    >>> frames = torch.ones(1, 600).bool()
    >>> value = breathing_periodicity(course.view(1, -1, 1), frames, 60)
    >>> bool(value > 1.9)
    True
    """
    if breathing.numel() == 0:  # which the FFT refuses
        return breathing.new_full(
            (len(breathing), breathing.shape[2]), math.nan
        )
    weights = frames.to(breathing.dtype).unsqueeze(-1)
    course = torch.where(frames.unsqueeze(-1), breathing, 0.0)
    mean = mean_over_frames(breathing, frames).unsqueeze(1).nan_to_num()
    course = (course - mean) * weights
    count = course.shape[1]
    size = 2 ** (2 * count - 1).bit_length()

    def correlate(first, second):
        spectrum = torch.fft.rfft(first, size, dim=1).conj()
        spectrum = spectrum * torch.fft.rfft(second, size, dim=1)
        return torch.fft.irfft(spectrum, size, dim=1)[:, :count]

    # Of each lag's pairs: their products, and the energy of either side.
    products = correlate(course, course)
    energy = correlate(weights, course.square())
    energy = energy * correlate(course.square(), weights)
    floor = 1e-4 * (energy[:, :1] + 1e-6)
    correlation = products / energy.clamp(min=0).add(floor).sqrt()
    valley = correlation.cummin(dim=1)[0]
    lags = torch.arange(count, device=breathing.device) / frame_rate
    duration = frames.sum(dim=1, keepdim=True) / frame_rate
    wanted = (lags >= 0.6) & (lags <= 4.0) & (lags <= 0.6 * duration)
    height = (correlation - valley).masked_fill(
        ~wanted.unsqueeze(-1), -math.inf
    )
    highest = height.amax(dim=1)
    return torch.where(highest.isinf(), math.nan, highest)


def spectral_flux(levels, frames):
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


def level_correlation(first, second, frames):
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


def faint_share(levels, frames, below=30.0):
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


def burst_share(levels, frames, above=12.0):
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
