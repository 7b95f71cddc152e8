"""Tests of the levels over frames and bands, against NumPy.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch

from qlung_plugin.processing.quality import (
    band_levels,
    band_matrix,
    band_shares,
    burst_share,
    faint_share,
    level_correlation,
    spectral_flux,
    spread_over_frames,
)
from qlung_plugin.processing.quality.levels import FLOOR
from tests.unittests.processing.signals import (
    all_of,
    noise,
    rows,
    some_frames,
    some_levels,
)

BANDS = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 1]])


class TestBands:
    @pytest.mark.parametrize("n_fft, rate", [(8, 8000), (512, 8000), (64, 100)])
    def test_bins_against_a_loop(self, n_fft, rate):
        edges = [(0, rate / 8), (rate / 8, rate / 4), (1, rate)]
        matrix = band_matrix(edges, n_fft, rate)
        assert matrix.shape == (n_fft // 2 + 1, 3)
        for k, row in enumerate(np.fft.rfftfreq(n_fft, 1 / rate)):
            expected = [float(low <= row < high) for low, high in edges]
            assert matrix[k].tolist() == expected

    def test_levels_and_shares_against_a_loop(self):
        power, frames = 0.01 + noise(4, 90, 4).square(), some_frames()
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

    def test_with_a_level_that_stays_is_0(self):
        level = some_levels()[..., 0]
        stays = torch.full_like(level, -80.0)
        for pair in ((level, stays), (stays, level), (stays, stays)):
            values = level_correlation(*pair, torch.ones(4, 90).bool())
            assert values.abs().max() < 1e-3


class TestShareOfTheTime:
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
        levels, frames = 15 * noise(4, 90), some_frames()
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
