"""Quality from how the level breathes.

Breathing comes and goes slowly, about once in two seconds, and with it the
level in the bands of lung sounds. What interferes does not: noise stays,
rubbing and talking change faster, a lost contact ends it all.

Levels are in dB per frame and band, see
:func:`qlung_plugin.processing.quality.band_levels`.

Authors
 * qlung_plugin contributors
"""

import math

import torch

from qlung_plugin.processing.quality.frames import mean_over_frames
from qlung_plugin.processing.quality.levels import spread_over_frames


def smooth(
    values: torch.Tensor, frames: torch.Tensor, width: float
) -> torch.Tensor:
    """Gaussian moving average over the frames that count.

    Of values ``[batch, frame, band]``, with a standard deviation of ``width``
    frames. Frames that do not count have no weight, and any value afterwards:
    at the ends, and around a gap, the average is over what there is.

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


def breathing_course(
    levels: torch.Tensor, frames: torch.Tensor, frame_rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of a level's course that has the pace of breathing.

    Between a fast and a slow Gaussian average, whose responses fall to a half
    at 1.7 Hz and at 0.25 Hz: 15 to 100 breaths a minute, those of infants
    included. ``frame_rate`` is in frames per second. Returned are that part and
    what is faster than breathing, both ``[batch, frame, band]`` in dB around 0.

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


def breathing_share(
    breathing: torch.Tensor, faster: torch.Tensor, frames: torch.Tensor
) -> torch.Tensor:
    """Share of a level's changes that has the pace of breathing.

    A ratio of variances of what :func:`breathing_course` returns, ``[batch,
    band]`` in [0, 1]: 1 where the level only breathes, 0 where it does not
    change.

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


def breathing_periodicity(
    breathing: torch.Tensor, frames: torch.Tensor, frame_rate: float
) -> torch.Tensor:
    """How well the course of the level repeats itself breath by breath.

    The height of the highest peak of the normalised autocorrelation between
    lags of 0.6 and 4 s over the lowest valley before it. The autocorrelation at
    a lag is a correlation coefficient of the pairs of frames at that distance;
    a lag needs pairs from two fifths of the duration.

    ``breathing`` is from :func:`breathing_course`. The result is ``[batch,
    band]``, about 0 (no rhythm) to 2 (a sine); NaN below a duration of a
    second, where no breath could repeat itself.

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

    def correlate(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
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
