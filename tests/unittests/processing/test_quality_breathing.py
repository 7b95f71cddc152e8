"""Tests of the course of breathing against loops, SciPy, known responses.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from qlung_plugin.processing.quality import (
    breathing_course,
    breathing_periodicity,
    breathing_share,
    smooth,
)
from tests.unittests.processing.signals import (
    FRAME_RATE,
    all_of,
    noise,
    rows,
    sine,
    some_frames,
    some_levels,
)


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

    def test_of_nothing(self):
        for shape in ((0, 9, 3), (2, 0, 3)):
            values = torch.zeros(shape)
            assert smooth(values, all_of(values), 2.0).shape == shape


class TestBreathingCourse:
    """Away from the ends, where a sine is not averaged as a sine."""

    def gains(self, frequency):
        levels = sine(frequency, 100.0)
        courses = breathing_course(levels, all_of(levels), FRAME_RATE)
        inner = slice(round(5 * FRAME_RATE), -round(5 * FRAME_RATE))
        return [
            (course[:, inner].std() / levels[:, inner].std()).item()
            for course in courses
        ]

    @pytest.mark.parametrize("frequency", [0.05, 0.25, 0.6, 1.7, 5.0])
    def test_has_the_response_of_gaussians(self, frequency):
        # exp(-(2 pi f s)^2 / 2), a half at one frequency, is 0.5 ** (f / f0)^2.
        fast, slow = (0.5 ** ((frequency / end) ** 2) for end in (1.7, 0.25))
        breathing, faster = self.gains(frequency)
        assert breathing == pytest.approx(fast - slow, abs=0.01)
        assert faster == pytest.approx(1 - fast, abs=0.01)


class TestBreathingShare:
    @pytest.mark.parametrize(
        "breathing, faster, expected",
        [
            ([3, -3], [1, -1], 0.9),
            ([2, -2], [0, 0], 1),
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

    def test_against_numpy(self):
        breathing, faster = some_levels(), noise(4, 90, 3)
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
    def test_against_a_loop(self, seconds):
        count = round(seconds * FRAME_RATE)
        course = noise(1, count, 4).cumsum(dim=1)
        values = breathing_periodicity(course, all_of(course), FRAME_RATE)
        expected = [
            periodicity_by_loop(row, FRAME_RATE)
            for row in course[0].double().numpy().T
        ]
        assert values[0].tolist() == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize("period", [0.7, 3.9])
    def test_of_a_sine_is_2(self, period):
        # It repeats itself after a period and is turned over after half a one.
        course = sine(1 / period, depth=20.0)
        value = breathing_periodicity(course, all_of(course), FRAME_RATE)
        assert value.item() == pytest.approx(2, abs=0.02)

    def test_falls_with_irregularity(self):
        regular, irregular = sine(0.5, 30.0), noise(1, 1875, 1)
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
        course = noise(1, 300, 1)
        frames = torch.arange(300).unsqueeze(0) < count
        value = breathing_periodicity(course, frames, FRAME_RATE)
        assert value.isnan().item() is missing

    def test_of_nothing(self):
        for shape in ((0, 100, 3), (2, 0, 3)):
            course = torch.zeros(shape)
            value = breathing_periodicity(course, all_of(course), FRAME_RATE)
            assert value.shape == (shape[0], 3) and value.isnan().all()
