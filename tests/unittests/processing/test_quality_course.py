"""Tests of the course of the level against loops, SciPy and known responses.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from qlung_plugin.processing.quality import (
    band_levels,
    band_matrix,
    band_shares,
    breathing_course,
    breathing_periodicity,
    breathing_share,
    burst_share,
    faint_share,
    level_correlation,
    smooth,
    spectral_flux,
    spread_over_frames,
)
from qlung_plugin.processing.quality.levels import FLOOR

FRAME_RATE = 62.5
BANDS = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 1]])

# No deadline: the machine may be busy.
WIDE = settings(max_examples=25, deadline=None)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_frames(batch=4, count=90):
    """All frames, a beginning, one with gaps, and a single one."""
    frames = torch.ones(batch, count).bool()
    frames[1, count // 2 :] = False
    frames[2] = randn(count, seed=5) > -0.8
    frames[3, 1:] = False
    return frames


def some_levels(batch=4, count=90, bands=3):
    """Levels that wander, in dB, [batch, frame, band]."""
    return 2 * randn(batch, count, bands).cumsum(dim=1)


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


def periodicity_by_loop(course, frame_rate):
    """Of one course without gaps, ``[frame]``."""
    course = course - course.mean()
    count, energy = len(course), np.sum(course**2)
    correlations = []
    for lag in range(count):
        early, late = course[: count - lag], course[lag:]
        scale = np.sum(early**2) * np.sum(late**2)
        scale += 1e-4 * (energy**2 + 1e-6)
        correlations.append(np.sum(early * late) / math.sqrt(scale))
    heights = [
        correlations[lag] - min(correlations[: lag + 1])
        for lag in range(count)
        if 0.6 <= lag / frame_rate <= min(4, 0.6 * count / frame_rate)
    ]
    return max(heights, default=math.nan)


class TestBands:
    @pytest.mark.parametrize("n_fft, rate", [(8, 8000), (512, 8000), (64, 100)])
    def test_bins_against_a_loop(self, n_fft, rate):
        edges = [(0, rate / 8), (rate / 8, rate / 4), (1, rate)]
        matrix = band_matrix(edges, n_fft, rate)
        assert matrix.shape == (n_fft // 2 + 1, 3)
        for k, row in enumerate(np.fft.rfftfreq(n_fft, 1 / rate)):
            expected = [float(low <= row < high) for low, high in edges]
            assert matrix[k].tolist() == expected

    def test_neighbouring_bands_share_no_bin(self):
        edges = [(0, 500), (500, 1000), (1000, 4001)]
        assert (band_matrix(edges, 512, 8000).sum(dim=1) == 1).all()

    def test_levels_and_shares_against_a_loop(self):
        power, frames = 0.01 + randn(4, 90, 4).square(), some_frames()
        levels = band_levels(power, frames, BANDS)
        shares = band_shares(power, frames, BANDS)
        for i, row in enumerate(rows(power, frames)):
            mean = row.sum(axis=1).mean()
            expected = 10 * np.log10(row @ BANDS.double().numpy() / mean)
            np.testing.assert_allclose(
                levels[i, frames[i]], expected, atol=3e-3
            )
            expected = row.mean(axis=0) @ BANDS.double().numpy() / mean
            np.testing.assert_allclose(
                shares[i], 10 * np.log10(expected), atol=1e-3
            )

    @pytest.mark.parametrize("decibels", [-60, -30, -6.02])
    def test_of_a_known_share(self, decibels):
        part = 10 ** (decibels / 10)
        power = torch.tensor([1 - part, part]).expand(1, 5, 2)
        frames, bands = torch.ones(1, 5).bool(), torch.eye(2)
        share = band_shares(power, frames, bands)[0, 1]
        assert share.item() == pytest.approx(decibels, abs=0.05)
        levels = band_levels(power, frames, bands)[0, :, 1]
        assert levels.tolist() == pytest.approx([decibels] * 5, abs=0.05)

    def test_nothing_is_below_the_floor(self):
        power = torch.tensor([[[1.0, 0.0], [1.0, 1e-30]]])
        frames = torch.ones(1, 2).bool()
        for levels in (
            band_levels(power, frames, torch.eye(2))[..., 1],
            band_shares(power, frames, torch.eye(2))[..., 1],
        ):
            torch.testing.assert_close(levels, torch.full_like(levels, -FLOOR))


class TestSpread:
    def test_against_numpy(self):
        levels, frames = some_levels(), some_frames()
        spreads = spread_over_frames(levels, frames)
        expected = [row.std(axis=0) for row in rows(levels, frames)]
        np.testing.assert_allclose(spreads, expected, atol=1e-4)

    @pytest.mark.parametrize("depth", [0.1, 3.0, 40.0])
    def test_of_a_sine(self, depth):
        spread = spread_over_frames(sine(0.5, depth=depth), all_of(sine(0.5)))
        assert spread.item() == pytest.approx(depth / math.sqrt(2), rel=1e-3)


class TestSmooth:
    @pytest.mark.parametrize("width", [0.7, 2.0, 6.889, 46.8])
    def test_against_scipy(self, width):
        levels, frames = some_levels(), some_frames()
        smoothed = smooth(levels, frames, width)
        truncate = int(3 * width) / width
        for i, counts in enumerate(frames.double().numpy()):
            sums = [
                gaussian_filter1d(
                    values, width, axis=0, mode="constant", truncate=truncate
                )
                for values in (levels[i].numpy() * counts[:, None], counts)
            ]
            expected = sums[0][frames[i]] / sums[1][frames[i]][:, None]
            np.testing.assert_allclose(
                smoothed[i, frames[i]], expected, atol=1e-4
            )

    def test_a_constant_stays(self):
        # At both ends and around gaps.
        frames = some_frames()
        smoothed = smooth(torch.full((4, 90, 2), -17.0), frames, 5.0)
        torch.testing.assert_close(
            smoothed[frames], torch.full_like(smoothed[frames], -17.0)
        )

    def test_of_nothing(self):
        for shape in ((0, 9, 3), (2, 0, 3)):
            values = torch.zeros(shape)
            assert smooth(values, all_of(values), 2.0).shape == shape

    def test_an_impulse_becomes_a_gaussian(self):
        values = torch.zeros(1, 81, 1)
        values[0, 40] = 1
        row = smooth(values, all_of(values), 4.0)[0, :, 0]
        for distance in (2, 4, 12):
            expected = math.exp(-0.5 * (distance / 4) ** 2)
            ratios = row[[40 - distance, 40 + distance]] / row[40]
            assert ratios.tolist() == pytest.approx([expected] * 2, rel=1e-4)
        beyond = torch.cat([row[:28], row[53:]])  # of three deviations
        assert beyond.abs().max() < 1e-6


class TestBreathingCourse:
    """Away from the ends, where a sine is not averaged as a sine."""

    def gains(self, frequency, seconds=60.0):
        levels = sine(frequency, seconds)
        courses = breathing_course(levels, all_of(levels), FRAME_RATE)
        inner = slice(round(5 * FRAME_RATE), -round(5 * FRAME_RATE))
        return [
            (course[:, inner].std() / levels[:, inner].std()).item()
            for course in courses
        ]

    @pytest.mark.parametrize("frequency", [0.25, 1.7])
    def test_falls_to_a_half(self, frequency):
        breathing, _ = self.gains(frequency)
        # At the lower end, what the faster average takes away is known too.
        lost = 1 - 0.5 ** ((0.25 / 1.7) ** 2) if frequency == 0.25 else 0
        assert breathing == pytest.approx(0.5 - lost, abs=0.01)

    def test_what_is_faster_has_the_other_half(self):
        assert self.gains(1.7)[1] == pytest.approx(0.5, abs=0.01)

    @pytest.mark.parametrize(
        "frequency", [0.05, 0.1, 0.25, 0.4, 0.6, 1.0, 1.7, 2.5, 5.0]
    )
    def test_has_the_response_of_gaussians(self, frequency):
        # exp(-(2 pi f s)^2 / 2), a half at one frequency, is 0.5 ** (f / f0)^2.
        fast, slow = (0.5 ** ((frequency / end) ** 2) for end in (1.7, 0.25))
        breathing, faster = self.gains(frequency, 100.0)
        assert breathing == pytest.approx(fast - slow, abs=0.01)
        assert faster == pytest.approx(1 - fast, abs=0.01)

    def test_passes_the_paces_of_breathing_alone(self):
        # Of adults and infants; a drift and a heart of 150 a minute.
        assert all(self.gains(f)[0] > 0.8 for f in (0.45, 0.6, 0.8))
        assert self.gains(0.02)[0] < 0.01 and self.gains(2.5)[0] < 0.25

    def test_a_level_that_stays_has_none(self):
        levels = torch.full((1, 300, 2), -33.3)
        for course in breathing_course(levels, all_of(levels), FRAME_RATE):
            assert course.abs().max() < 1e-4

    def test_is_linear(self):
        slow, fast = sine(0.5, 20.0, 4.0), sine(6.0, 20.0)
        frames = all_of(slow)
        both = breathing_course(slow + fast, frames, FRAME_RATE)
        for whole, *parts in zip(
            both,
            breathing_course(slow, frames, FRAME_RATE),
            breathing_course(fast, frames, FRAME_RATE),
        ):
            torch.testing.assert_close(whole, sum(parts), rtol=0, atol=1e-4)


class TestBreathingShare:
    @pytest.mark.parametrize(
        "breathing, faster, expected",
        [
            ([3, -3], [1, -1], 0.9),
            ([1, -1], [1, -1], 0.5),
            ([2, -2], [0, 0], 1),
            ([0, 0], [5, -5], 0),
            ([7, 7], [1, -1], 0),  # it does not change
            ([4, 4], [9, 9], 0),
        ],
    )
    def test_known_values(self, breathing, faster, expected):
        share = breathing_share(
            *(
                torch.tensor(x).float().view(1, 2, 1)
                for x in (breathing, faster)
            ),
            torch.ones(1, 2).bool(),
        )
        assert share.item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("frequency", [0.4, 0.8, 1.7, 3.0])
    def test_of_a_sine(self, frequency):
        levels = sine(frequency, depth=6.0)
        frames = all_of(levels)
        courses = breathing_course(levels, frames, FRAME_RATE)
        share = breathing_share(*courses, frames).item()
        fast, slow = (0.5 ** ((frequency / end) ** 2) for end in (1.7, 0.25))
        variances = (fast - slow) ** 2, (1 - fast) ** 2
        assert share == pytest.approx(variances[0] / sum(variances), abs=0.02)

    def test_against_numpy(self):
        breathing, faster = some_levels(), randn(4, 90, 3)
        frames = some_frames()
        shares = breathing_share(breathing, faster, frames)
        for share, slow, fast in zip(
            shares[:3], rows(breathing, frames), rows(faster, frames)
        ):
            slow, fast = slow.var(axis=0), fast.var(axis=0)
            np.testing.assert_allclose(share, slow / (slow + fast), atol=1e-4)
        assert not shares[3].any()  # a single frame does not change


class TestPeriodicity:
    @pytest.mark.parametrize("seconds", [1.1, 3.0, 9.7])
    @pytest.mark.parametrize("seed", range(3))
    def test_against_a_loop(self, seconds, seed):
        count = round(seconds * FRAME_RATE)
        course = randn(1, count, 2, seed=seed).cumsum(dim=1)
        values = breathing_periodicity(course, all_of(course), FRAME_RATE)
        expected = [
            periodicity_by_loop(row, FRAME_RATE)
            for row in course[0].double().numpy().T
        ]
        assert values[0].tolist() == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize("period", [0.7, 1.5, 3.0, 3.9])
    @pytest.mark.parametrize("depth", [0.5, 20.0])
    def test_of_a_sine_is_2(self, period, depth):
        # It repeats itself after a period and is turned over after half a one.
        course = sine(1 / period, depth=depth)
        value = breathing_periodicity(course, all_of(course), FRAME_RATE)
        assert value.item() == pytest.approx(2, abs=0.02)

    def test_a_second_breath_alike_is_enough(self):
        # Two breaths of three seconds each, and one and a third.
        for seconds, low, high in ((6.0, 1.9, 2.0), (4.0, 0.0, 1.7)):
            course = sine(1 / 3, seconds)
            value = breathing_periodicity(course, all_of(course), FRAME_RATE)
            assert low < value.item() <= high

    def test_falls_with_irregularity(self):
        regular, irregular = sine(0.5, 30.0), randn(1, 1875, 1)
        frames = all_of(regular)
        values = [
            breathing_periodicity(
                regular + share * irregular, frames, FRAME_RATE
            ).item()
            for share in (0.0, 0.5, 1.0, 3.0)
        ]
        assert values == sorted(values, reverse=True)
        assert values[0] > 1.9 and values[-1] < 0.5

    def test_of_what_stays_is_0(self):
        course = torch.full((1, 500, 1), 0.3)
        value = breathing_periodicity(course, all_of(course), FRAME_RATE)
        assert abs(value.item()) < 0.01

    @pytest.mark.parametrize(
        "count, missing", [(1, True), (62, True), (64, False), (200, False)]
    )
    def test_is_missing_below_a_second(self, count, missing):
        course = randn(1, 300, 1)
        frames = torch.arange(300).unsqueeze(0) < count
        value = breathing_periodicity(course, frames, FRAME_RATE)
        assert value.isnan().item() is missing

    def test_of_nothing(self):
        for shape in ((0, 100, 3), (2, 0, 3)):
            course = torch.zeros(shape)
            value = breathing_periodicity(course, all_of(course), FRAME_RATE)
            assert value.shape == (shape[0], 3) and value.isnan().all()


class TestFlux:
    def test_against_numpy(self):
        levels = some_levels()
        frames = some_frames()[:2]
        values = spectral_flux(levels[:2], frames)
        expected = [
            np.abs(np.diff(row, axis=0)).mean() for row in rows(levels, frames)
        ]
        assert values.tolist() == pytest.approx(expected, rel=1e-5)

    def test_takes_no_step_over_a_gap(self):
        levels = torch.tensor([0.0, 1.0, 50.0, 90.0, 93.0]).view(1, 5, 1)
        frames = torch.tensor([[True, True, False, True, True]])
        assert spectral_flux(levels, frames).item() == pytest.approx(2)

    def test_without_neighbours_is_nan(self):
        frames = torch.tensor([[True, False, True]])
        assert spectral_flux(torch.zeros(1, 3, 2), frames).isnan()

    def test_of_a_ramp_is_its_slope(self):
        levels = 0.25 * torch.arange(100.0).view(1, -1, 1)
        assert spectral_flux(levels, all_of(levels)).item() == 0.25


class TestCorrelation:
    def test_against_numpy(self):
        first, second, _ = some_levels().unbind(dim=-1)
        frames = some_frames()
        values = level_correlation(first, second, frames).tolist()
        expected = [
            np.corrcoef(*pair)[0, 1]
            for pair in zip(rows(first, frames)[:3], rows(second, frames))
        ]
        assert values[:3] == pytest.approx(expected, abs=1e-4)
        assert values[3] == 0  # a single frame

    @pytest.mark.parametrize("degrees", [0, 60, 90, 120, 180])
    def test_of_shifted_sines(self, degrees):
        phase = math.radians(degrees)
        first, second = sine(0.5, depth=7.0), sine(0.5, depth=0.3, phase=phase)
        value = level_correlation(
            first[..., 0], second[..., 0] - 40, all_of(first)
        )
        assert value.item() == pytest.approx(math.cos(phase), abs=1e-4)

    def test_with_a_level_that_stays_is_0(self):
        level = some_levels()[..., 0]
        stays = torch.full_like(level, -80.0)
        for pair in ((level, stays), (stays, level), (stays, stays)):
            values = level_correlation(*pair, torch.ones(4, 90).bool())
            assert values.abs().max() < 1e-3


class TestShareOfTheTime:
    @pytest.mark.parametrize("percent", [0, 5, 20, 60, 90])
    def test_faint(self, percent):
        levels = randn(1, 100).clamp(-3, 3)
        levels[:, :percent] -= 40
        value = faint_share(levels, all_of(levels)).item()
        assert value == pytest.approx(percent / 100)

    @pytest.mark.parametrize("percent", [0, 5, 20, 40])
    def test_burst(self, percent):
        levels = randn(1, 100).clamp(-3, 3)
        levels[:, -percent or 100 :] += 25
        value = burst_share(levels, all_of(levels)).item()
        assert value == pytest.approx(percent / 100)

    def test_bounds_are_the_stated_ones(self):
        # Below the loudest twentieth, and above the median, both 0, in dB.
        levels = torch.zeros(1, 81)
        levels[0, :5] = torch.tensor([-30.5, -29.5, 11.5, 12.5, 21.0])
        frames = all_of(levels)
        assert faint_share(levels, frames).item() == pytest.approx(1 / 81)
        assert burst_share(levels, frames).item() == pytest.approx(2 / 81)
        assert faint_share(levels, frames, 29.0).item() == pytest.approx(2 / 81)
        assert burst_share(levels, frames, 20.0).item() == pytest.approx(1 / 81)

    def test_against_numpy(self):
        levels, frames = 15 * randn(4, 90), some_frames()
        faint, burst = (f(levels, frames) for f in (faint_share, burst_share))
        for i, row in enumerate(rows(levels, frames)):
            expected = np.mean(row < np.quantile(row, 0.95) - 30)
            assert faint[i].item() == pytest.approx(expected)
            expected = np.mean(row > np.median(row) + 12)
            assert burst[i].item() == pytest.approx(expected)

    def test_of_missing_levels_are_missing(self):
        levels = torch.full((1, 8), math.nan)
        for share in (faint_share, burst_share):
            assert share(levels, all_of(levels)).isnan()


def course_of(levels, frames):
    return breathing_course(levels, frames, FRAME_RATE)


# From power spectra, [batch, frame, bin], to one row per waveform.
MEASURES = {
    "shares": lambda p, f: band_shares(p, f, BANDS),
    "spread": lambda p, f: spread_over_frames(band_levels(p, f, BANDS), f),
    "breathing": lambda p, f: breathing_share(
        *course_of(band_levels(p, f, BANDS), f), f
    ),
    "depth": lambda p, f: spread_over_frames(
        course_of(band_levels(p, f, BANDS), f)[0], f
    ),
    "periodicity": lambda p, f: breathing_periodicity(
        course_of(band_levels(p, f, BANDS), f)[0], f, FRAME_RATE
    ),
    "flux": lambda p, f: spectral_flux(band_levels(p, f, BANDS), f),
    "correlation": lambda p, f: level_correlation(
        *band_levels(p, f, BANDS)[..., :2].unbind(dim=-1), f
    ),
    "faint": lambda p, f: faint_share(band_levels(p, f, BANDS)[..., 0], f),
    "burst": lambda p, f: burst_share(band_levels(p, f, BANDS)[..., 0], f),
}


def some_power(batch, count, seed=0):
    """Noise that breathes."""
    time = torch.arange(count).view(1, -1, 1) / FRAME_RATE
    swell = 10 ** torch.sin(2 * math.pi * 0.6 * time)
    return swell * randn(batch, count, 4, seed=seed).square()


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
class TestEveryMeasure:
    @WIDE
    @given(
        st.integers(1, 150),
        st.integers(0, 60),
        st.sampled_from([0.0, 1e30, -1.0, math.nan, math.inf]),
        st.integers(0, 1000),
    )
    def test_padding_does_not_count(self, measure, count, padding, value, seed):
        power = some_power(1, count, seed)
        expected = measure(power, all_of(power))
        padded = torch.nn.functional.pad(power, (0, 0, 0, padding), value=value)
        frames = torch.arange(count + padding).unsqueeze(0) < count
        torch.testing.assert_close(
            measure(padded, frames),
            expected,
            rtol=1e-3,
            atol=1e-3,
            equal_nan=True,
        )

    @pytest.mark.parametrize("gain", [1e-9, 0.1, 1e6])
    def test_a_gain_changes_nothing(self, measure, gain):
        power, frames = some_power(4, 90), some_frames()
        torch.testing.assert_close(
            measure(gain * power, frames),
            measure(power, frames),
            rtol=1e-3,
            atol=1e-3,
            equal_nan=True,
        )

    def test_of_a_batch_is_that_of_its_rows(self, measure):
        power, frames = some_power(4, 90), some_frames()
        alone = [measure(power[i : i + 1], frames[i : i + 1]) for i in range(4)]
        torch.testing.assert_close(
            measure(power, frames),
            torch.cat(alone),
            rtol=1e-4,
            atol=1e-4,
            equal_nan=True,
        )

    def test_without_a_frame_is_nan(self, measure):
        power, frames = some_power(2, 90), torch.zeros(2, 90).bool()
        assert measure(power, frames).isnan().all()
        frames[0] = True
        values = measure(power, frames)
        assert values[0].isfinite().all() and values[1].isnan().all()

    def test_of_no_waveform_is_nothing(self, measure):
        power = torch.zeros(0, 90, 4)
        assert len(measure(power, all_of(power))) == 0
