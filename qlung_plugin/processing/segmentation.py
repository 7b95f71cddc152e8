"""Breath cycles of a recording that nobody annotated.

A cycle is an inspiration and the expiration after it. Its sound has a loud
bump, a weaker one, and a quiet end, and what an annotator marks is the rise
from the quiet end of one cycle to the loud bump of the next. So:

1. The envelope is the level between 200 and 800 Hz, where breath is heard and
   the heart little, in frames of 40 ms.
2. It is smoothed, and normalised by its mean and deviation over some 15 s.
3. The period is the highest peak of its autocorrelation between 1 and 7 s, with
   a bonus for common ones, in every half minute.
4. Dynamic programming cuts all of it into cycles of 0.6 to 8 s such that each
   starts with a rise, has the course :data:`COURSE` of a cycle, and has about
   that period. Both bumps look alike to the autocorrelation and to the rises;
   the course tells them apart, and so a cycle from half of one or two.

Where expiration is the louder one, the cycles that are found start with it, and
nothing in the envelope tells: their number is right, their boundaries are not.

The course, the weights and the map to a confidence come from the training side
of the single-channel recordings of ICBHI 2017. The search is the beat tracking
of Ellis, Journal of New Music Research 36(1), 2007, over cycles instead of
beats.

Authors
 * qlung_plugin contributors
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from qlung_plugin.processing.quality.frames import SILENCE

FRAME_RATE = 25  # Hz
BAND = (200.0, 800.0)  # Hz
LOWEST_RATE = 800  # Hz, which leaves 200 to 400 Hz

SMOOTHING = 0.12  # s, of a Gaussian
SURROUNDINGS = 7.5  # s, of the Gaussian that the level is normalised over
LEAST_DEVIATION = 0.3  # dB that are added, so that rounding is no breath
LARGEST = 2.5  # deviations: a knock is no louder than a breath

SHORTEST, LONGEST = 0.6, 8.0  # s, of a cycle
PERIODS = (1.0, 7.0)  # s, that are looked for
TYPICAL = 2.6  # s
STRETCH = 30.0  # s, that have a period

# Mean normalised envelope of a cycle, over its phase.
COURSE = (
    *(0.00, 0.51, 0.79, 0.86, 0.76, 0.58, 0.33, 0.09),
    *(-0.08, -0.19, -0.20, -0.13, -0.06, -0.02, -0.01, -0.06),
    *(-0.13, -0.20, -0.29, -0.39, -0.50, -0.57, -0.59, -0.42),
)
BEFORE, AFTER = 0.35, 0.45  # s, of the levels between which the rise is
COURSE_WEIGHT = 0.1  # per frame
RISE_WEIGHT = 2.0
CYCLE_COST = 2.25  # which a cycle is to be worth
SPREAD = 0.7  # of the logarithm of a cycle's length over the period
CHUNK = 4096  # frames of which all possible cycles are in memory


class Segmentation(NamedTuple):
    """The breath cycles of a recording, each of which starts where one ends.

    The confidence, in [0, 1], is how well the cycles are heard: 1 -
    exp(-worth), from what a second of them is worth to the search. It is no
    share of right boundaries. Its scale is that of their F1 at 0.25 s on the
    recordings that it was made with; on others it goes with the F1 only weakly
    and is higher on average, most of all where expiration is the louder one.
    White noise has 0.2; where nothing varies it is 0.
    """

    starts: list  # s
    ends: list  # s
    confidence: float


def breath_envelope(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """The level of breath sounds, in dB relative to full scale, 25 per second.

    Mean power between 200 and 800 Hz (or the Nyquist frequency, if that is
    lower), in windows of 40 ms one after the other; the last ends with the
    waveform ``[time]``. Silence has minus infinity. Blocks of whole seconds
    give the same as the whole recording, but for the window that ends a
    recording. A rate below 800 Hz is a ValueError.

    Example
    -------
    >>> time = torch.arange(4000) / 4000
    >>> tone = torch.where(time < 0.5, (2 * math.pi * 500 * time).sin(), 0.0)
    >>> envelope = breath_envelope(tone, 4000)
    >>> envelope.isfinite().sum().item(), len(envelope)
    (13, 25)
    """
    if sample_rate < LOWEST_RATE:
        raise ValueError(
            f"breath sounds cannot be heard at {sample_rate} Hz: cycles are"
            f" found in recordings of {LOWEST_RATE} Hz or more"
        )
    hop = sample_rate / FRAME_RATE
    length = int(hop)
    missing = max(length - len(waveform), 0)
    waveform = torch.nn.functional.pad(waveform, (0, missing))
    # The small number is the rounding of the division.
    count = max(math.ceil(len(waveform) / hop - 1e-6), 1)
    starts = (torch.arange(count).double() * hop).round().long()
    starts = starts.clamp(max=len(waveform) - length)
    window = torch.hann_window(length)
    window = window / window.square().sum().sqrt()
    frames = waveform.unfold(0, length, 1)[starts] * window
    frequencies = torch.fft.rfftfreq(length, 1 / sample_rate)
    band = (frequencies >= BAND[0]) & (frequencies <= BAND[1])
    power = torch.fft.rfft(frames)[:, band].abs().square().mean(dim=1)
    return 10 * torch.where(power > SILENCE**2, power, 0.0).log10()


def segment_envelope(envelope: torch.Tensor) -> Segmentation:
    """Cuts a recording, by its :func:`breath_envelope`, into breath cycles.

    Silence at either end is left out, and so is less than 0.6 s before the
    first boundary or after the last; all else belongs to a cycle of 0.6 to 8 s,
    also silence in between and what is no breath. Of a recording without
    anything to go by, the cycles have some length and confidence 0: it can be
    classified, and its cycles mean nothing. One shorter than 0.6 s is one cycle
    of confidence 0. An envelope that is empty, or NaN or plus infinity
    somewhere, is a ValueError.

    Example
    -------
    >>> time = torch.arange(500) / 25
    >>> breaths = 10 * (2 * math.pi * (time / 2.5 - 0.15)).cos()
    >>> found = segment_envelope(breaths)
    >>> [round(start, 1) for start in found.starts][1:4]
    [2.3, 4.8, 7.3]
    """
    levels = envelope.double().numpy()
    if len(levels) == 0 or np.isnan(levels).any() or levels.max() == np.inf:
        raise ValueError("an envelope needs levels, none NaN or infinite")
    heard = np.flatnonzero(np.isfinite(levels))
    first, stop = (heard[0], heard[-1] + 1) if len(heard) else (0, len(levels))
    course = _normalise(levels[first:stop])
    if len(course) < SHORTEST * FRAME_RATE:
        bounds, gain = [0, len(course)], 0.0
    else:
        bounds, gain = _cut(course, _periods(course))
    times = [(bound + int(first)) / FRAME_RATE for bound in bounds]
    # Of the scale of the F1 on the recordings that all else comes from.
    confidence = 1 - math.exp(-max(gain, 0.0))
    return Segmentation(times[:-1], times[1:], confidence)


def _normalise(levels: np.ndarray) -> np.ndarray:
    """Levels, smoothed, in deviations from their surroundings."""
    from scipy.ndimage import gaussian_filter1d

    heard = levels[np.isfinite(levels)]
    lowest = np.quantile(heard, 0.02) if len(heard) else 0.0
    levels = np.maximum(levels, lowest)
    levels = gaussian_filter1d(levels, SMOOTHING * FRAME_RATE)
    width = SURROUNDINGS * FRAME_RATE
    levels = levels - gaussian_filter1d(levels, width)
    deviation = np.sqrt(gaussian_filter1d(levels**2, width))
    return np.clip(levels / (deviation + LEAST_DEVIATION), -LARGEST, LARGEST)


def _periods(course: np.ndarray) -> np.ndarray:
    """The period in frames, at every frame."""
    from scipy.ndimage import median_filter

    count = max(round(len(course) / FRAME_RATE / STRETCH), 1)
    stretches = np.array_split(course, count)
    periods = [_period(stretch) for stretch in stretches]
    # A stretch of coughs does not change the pace.
    smooth = median_filter(periods, size=3, mode="nearest")
    return np.repeat(smooth, [len(stretch) for stretch in stretches])


def _period(course: np.ndarray) -> float:
    """The period of a stretch, in frames."""
    size = len(course)
    spectrum = np.abs(np.fft.rfft(course - course.mean(), 2 * size)) ** 2
    correlation = np.fft.irfft(spectrum)[:size]
    lags = np.arange(
        round(PERIODS[0] * FRAME_RATE),
        min(round(PERIODS[1] * FRAME_RATE) + 1, size - FRAME_RATE),
    )
    if len(lags) == 0 or correlation[0] < 1e-9:
        return TYPICAL * FRAME_RATE
    heights = correlation[lags] / (size - lags) * size / correlation[0]
    rarity = np.log(lags / FRAME_RATE / TYPICAL) / 0.6
    return float(lags[(heights - 0.2 * rarity**2).argmax()])


def _rises(course: np.ndarray) -> np.ndarray:
    """How far the level rises at each frame, from before to after."""
    size, gap = len(course), 1  # frame, amid the rise
    total = np.concatenate([[0.0], course.cumsum()])
    before, after = (round(t * FRAME_RATE) for t in (BEFORE, AFTER))
    frames = np.arange(size + 1)

    def mean(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        start, stop = np.clip(start, 0, size), np.clip(stop, 0, size)
        return (total[stop] - total[start]) / np.maximum(stop - start, 1)

    later = mean(frames + gap, frames + gap + after)
    return later - mean(frames - gap - before, frames - gap)


def _cut(course: np.ndarray, periods: np.ndarray) -> tuple[list[int], float]:
    """The best boundaries in frames, and what a second of them is worth."""
    size = len(course)
    shortest, longest = (round(t * FRAME_RATE) for t in (SHORTEST, LONGEST))
    lengths = np.arange(shortest, longest + 1)
    starting = RISE_WEIGHT * _rises(course) - CYCLE_COST
    # What the best cycles are worth that end at a frame, and the start of the
    # last of them. A recording may start amid a cycle, at no cost.
    worth = np.full(size + longest + 1, -np.inf)
    worth[: longest + 1] = 0.0
    origin = np.zeros(len(worth), dtype=np.int64)
    for chunk in range(0, size - shortest + 1, CHUNK):
        starts = np.arange(chunk, min(chunk + CHUNK, size - shortest + 1))
        gains = _fits(course, starts, lengths)
        rarity = np.log(lengths / periods[starts, None]) / SPREAD
        gains += starting[starts, None] - rarity**2 / 2
        for start, gain in zip(starts, gains):
            reach = slice(start + shortest, start + longest + 1)
            better = worth[start] + gain > worth[reach]
            worth[reach][better] = worth[start] + gain[better]
            origin[reach][better] = start
    # It may also end amid a cycle, of which the start is heard.
    last = np.arange(max(size - longest, 0), size + 1)
    ending = worth[last] + np.where(last < size, starting[last], 0.0)
    best = int(ending.argmax())
    bounds = [int(last[best])]
    while bounds[-1] > 0:
        bounds.append(int(origin[bounds[-1]]))
    bounds = [*reversed(bounds), size]
    # Fragments of cycles at the ends are too short to tell anything.
    if bounds[1] - bounds[0] < shortest:
        bounds = bounds[1:]
    if len(bounds) > 1 and bounds[-1] - bounds[-2] < shortest:
        bounds = bounds[:-1]
    if len(bounds) == 1:  # two fragments and no cycle
        bounds = [0, size]
    return bounds, float(ending[best]) / size * FRAME_RATE


def _fits(
    course: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """How well stretches have the course of a cycle, ``[start, length]``."""
    fits = np.full((len(starts), len(lengths)), -np.inf)
    phases = (np.arange(len(COURSE)) + 0.5) / len(COURSE)
    for column, length in enumerate(lengths):
        possible = min(len(starts), len(course) - length + 1 - starts[0])
        if possible > 0:
            phase = (np.arange(length) + 0.5) / length
            expected = np.interp(phase, phases, COURSE)
            stretch = course[starts[0] : starts[0] + possible - 1 + length]
            fits[:possible, column] = COURSE_WEIGHT * np.correlate(
                stretch, expected - expected.mean(), "valid"
            )
    return fits
