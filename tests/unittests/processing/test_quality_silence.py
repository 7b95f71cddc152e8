"""Tests of digital silence: which samples hold no signal, and are left out.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from hypothesis import (
    given,
    strategies as st,
)

from qlung_plugin.processing.cycles import resample
from qlung_plugin.processing.quality import (
    clipping_ratio,
    constant_runs,
    crest_factor,
    log_kurtosis,
    power_frames,
    remove_dc,
    resample_mask,
    rms_level,
)
from tests.unittests.processing.signals import WIDE, breath


class TestConstantRuns:
    @WIDE
    @given(
        st.lists(
            st.lists(st.integers(0, 1), min_size=12, max_size=12),
            min_size=1,
            max_size=3,
        ),
        st.integers(2, 14),
        st.data(),
    )
    def test_against_a_loop(self, rows, shortest, data):
        lengths = [data.draw(st.integers(0, 12)) for _ in rows]
        expected = []
        for row, length in zip(rows, lengths):
            marks, start = [False] * 12, 0
            for end in range(1, length + 1):
                if end == length or row[end] != row[start]:
                    if end - start >= shortest:
                        marks[start:end] = [True] * (end - start)
                    start = end
            expected.append(marks)
        waveforms = torch.tensor(rows).float()
        found = constant_runs(waveforms, torch.tensor(lengths), shortest)
        assert found.tolist() == expected

    @pytest.mark.parametrize("samples", [0, 1, 3])
    def test_of_what_is_too_short(self, samples):
        waveforms = torch.zeros(2, samples)
        found = constant_runs(waveforms, torch.full((2,), samples), 4)
        assert found.shape == (2, samples) and not found.any()

    @pytest.mark.parametrize(
        "native_rate", [800, 4000, 4001, 8000, 11025, 44100]
    )
    @pytest.mark.parametrize("sample_rate", [8000, 16000])
    def test_mask_lies_where_the_samples_do(self, native_rate, sample_rate):
        waveform = torch.zeros(native_rate + 37)
        waveform[native_rate // 4 : native_rate // 2] = 1.0
        resampled = resample(waveform, native_rate, sample_rate)
        mask = resample_mask(waveform > 0, native_rate, sample_rate)
        assert mask.shape == resampled.shape
        # But for the resampler's ripples, at either edge.
        different = ((resampled > 0.5) != mask).sum()
        assert different <= 2 * max(1, sample_rate / native_rate)


class TestFunctions:
    SIGNAL = torch.tensor([[3.0, 1.0, 5.0, 5.0, 5.0, -1.0]])
    SILENT = torch.tensor([[0, 0, 1, 1, 1, 0]]).bool()
    LENGTH = torch.tensor([6])

    def test_mean_is_that_of_the_signal(self):
        centred = remove_dc(self.SIGNAL, self.LENGTH, self.SILENT)
        assert centred.tolist() == [[2, 0, 0, 0, 0, -2]]

    def test_level_and_impulses_are_those_of_the_signal(self):
        centred = remove_dc(self.SIGNAL, self.LENGTH, self.SILENT)
        alone, three = torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([3])
        for measure in (rms_level, crest_factor, log_kurtosis):
            found = measure(centred, self.LENGTH, self.SILENT)
            torch.testing.assert_close(found, measure(alone, three))

    def test_frames_at_the_edges_do_not_count(self):
        silent = torch.zeros(1, 100).bool()
        silent[0, 40:50] = True
        waveforms = torch.randn(1, 100).masked_fill(silent, 0.0)
        _, frames = power_frames(
            waveforms, torch.tensor([100]), torch.ones(20), 5, 32, silent
        )
        starts = 5 * torch.arange(17)
        clear = (starts + 20 <= 40) | (starts >= 50)
        assert frames[0].tolist() == clear.tolist()

    def test_what_is_held_at_an_extreme_is_clipped(self):
        waveform = breath().clamp(-0.2, 0.2)
        waveform[4000:8000] = 0.2
        length = torch.tensor([len(waveform)])
        expected = clipping_ratio(waveform[None], length)
        silent = constant_runs(waveform[None], length, 80)
        assert 3990 < silent.sum() < 4010
        found = clipping_ratio(waveform[None], length, silent)
        assert found.item() == expected.item() > 4000 / len(waveform)

    @pytest.mark.parametrize("held", [0.0, 0.45])
    def test_share_of_clipped_samples_is_of_the_signal(self, held):
        """Beside a constant offset, 0 is no extreme."""
        waveform = 0.5 + breath().clamp(-0.2, 0.2)[None]
        length = torch.tensor([waveform.shape[1]])
        expected = clipping_ratio(waveform, length)
        gap = torch.cat([waveform, torch.full((1, 8000), held)], dim=1)
        silent = constant_runs(gap, length + 8000, 80)
        found = clipping_ratio(gap, length + 8000, silent)
        torch.testing.assert_close(found, expected)
