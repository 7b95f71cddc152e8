"""Tests of the segmentation, by breaths of known times.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.processing.segmentation import (
    FRAME_RATE,
    LONGEST,
    SHORTEST,
    breath_envelope,
    segment_envelope,
)

WIDE = settings(max_examples=40, deadline=None)
FRAME = 1 / FRAME_RATE


def noise(seconds, rate, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * rate), generator=generator)


def breathing(periods, rate, second=0.5, seed=0):
    """Noise in two bumps a cycle, and where the cycles start, in seconds.

    The first bump is over 40 % of the cycle, the other over the next 40 %.
    """
    starts = np.concatenate([[0.0], np.cumsum(periods)])
    time = np.arange(round(starts[-1] * rate)) / rate
    cycle = np.searchsorted(starts, time, side="right") - 1
    phase = (time - starts[cycle]) / np.asarray(periods)[cycle]
    bump = np.sin(np.pi * np.minimum(phase / 0.4, 1)) ** 2
    other = np.sin(np.pi * np.clip((phase - 0.4) / 0.4, 0, 1)) ** 2
    loudness = torch.from_numpy(0.02 + bump + second * other).float()
    return loudness * noise(starts[-1], rate, seed)[: len(time)], starts


def found_in(waveform, rate):
    return segment_envelope(breath_envelope(waveform, rate))


def share_found(found, expected, tolerance=0.25):
    """Share of the expected boundaries within the recording."""
    inner = expected[1:-1]
    distance = np.abs(np.subtract.outer(inner, found.starts)).min(axis=1)
    return (distance <= tolerance).mean()


def jittered(mean, count, seed=0, spread=0.1):
    draw = np.random.default_rng(seed)
    return mean * np.exp(spread * draw.standard_normal(count))


@pytest.mark.parametrize("rate", [1000, 11025, 44100])
def test_frames_of_any_rate_last_as_long(rate):
    time = torch.arange(2 * rate) / rate
    tone = torch.where(time < 1.2, (2 * math.pi * 400 * time).sin(), 0.0)
    envelope = breath_envelope(tone, rate)
    assert len(envelope) == 50
    heard = envelope.isfinite().nonzero().flatten()
    assert heard[0] == 0
    assert abs(heard[-1].item() - 29) <= 1


@pytest.mark.parametrize("rate", [1000, 7919, 44100])
def test_blocks_give_the_envelope_of_the_whole(rate):
    waveform = noise(5, rate)
    blocks = waveform.split(2 * rate)
    together = torch.cat([breath_envelope(block, rate) for block in blocks])
    torch.testing.assert_close(together, breath_envelope(waveform, rate))


def test_the_band_is_that_of_breath():
    time = torch.arange(8000) / 8000
    level = {
        hz: breath_envelope(0.5 * (2 * math.pi * hz * time).sin(), 8000).mean()
        for hz in (50, 100, 400, 700, 1500)
    }
    assert min(level[400], level[700]) > max(level[50], level[1500]) + 40
    assert level[400] > level[100] + 40
    assert breath_envelope(torch.full((8000,), 0.3), 4000).max() == -math.inf


@pytest.mark.parametrize("period, rate", [(1.5, 1000), (4, 4000), (5.5, 16000)])
def test_jittered_breaths_are_found(period, rate):
    waveform, starts = breathing(jittered(period, 12), rate)
    found = found_in(waveform, rate)
    assert share_found(found, starts) >= 0.8
    assert abs(len(found.starts) - 12) <= 1
    assert found.confidence > 0.6
    # However loud it is.
    assert found_in(waveform / 50, rate).starts == found.starts


@pytest.mark.parametrize("second", [0.0, 0.3, 0.6])
def test_two_bumps_are_one_cycle(second):
    # Half of the period is within what is looked for, and so is twice.
    waveform, starts = breathing(jittered(3.2, 10, spread=0.03), 4000, second)
    found = found_in(waveform, 4000)
    lengths = np.subtract(found.ends, found.starts)
    assert np.median(lengths) == pytest.approx(3.2, rel=0.1)
    assert share_found(found, starts) == 1


def test_noise_is_no_breath():
    confidences = [
        found_in(noise(30, 4000, seed), 4000).confidence for seed in range(5)
    ]
    breaths, _ = breathing(jittered(2.5, 12), 4000)
    assert max(confidences) < 0.35 < found_in(breaths, 4000).confidence
    added = noise(len(breaths) / 4000, 4000, seed=1)
    buried = found_in(breaths + 5 * added, 4000)
    assert buried.confidence < found_in(breaths, 4000).confidence - 0.2


@pytest.mark.parametrize("level", [0.0, 0.25])
@pytest.mark.parametrize("seconds", [1, 100])
def test_what_does_not_vary_is_cut_without_confidence(level, seconds):
    found = found_in(torch.full((seconds * 4000,), level), 4000)
    assert found.confidence == 0
    assert found.starts[0] < SHORTEST
    assert found.ends[-1] > seconds - SHORTEST
    assert max(np.subtract(found.ends, found.starts)) <= LONGEST + 1e-9


@pytest.mark.parametrize("samples", [1, 100, 2000])
def test_a_very_short_recording_is_one_cycle(samples):
    found = found_in(noise(1, 4000)[:samples], 4000)
    assert found.starts == [0.0]
    assert found.ends[0] == pytest.approx(samples / 4000, abs=FRAME)
    assert found.confidence == 0


@pytest.mark.parametrize("seed", range(0, 20, 2))
def test_a_recording_of_one_breath_is_cut_or_whole(seed):
    # Fragments at both ends, and no cycle between them, are one cycle.
    seconds = 0.6 + 0.04 * seed
    found = found_in(noise(seconds, 4000, seed), 4000)
    lengths = np.subtract(found.ends, found.starts)
    assert lengths.min() > SHORTEST - 1e-9
    assert found.starts[0] < SHORTEST
    assert found.ends[-1] > seconds - SHORTEST


def test_silent_ends_belong_to_no_cycle():
    waveform, starts = breathing(jittered(2.5, 8), 4000)
    silence = torch.zeros(3 * 4000)
    found = found_in(torch.cat([silence, waveform, silence]), 4000)
    assert found.starts[0] >= 3 - FRAME
    assert found.ends[-1] <= 3 + starts[-1] + 2 * FRAME
    alone = found_in(waveform, 4000)
    assert np.subtract(found.starts, 3) == pytest.approx(alone.starts, abs=0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_envelope_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="NaN or infinite"):
        segment_envelope(torch.tensor([1.0, value]))
    with pytest.raises(ValueError, match="needs levels"):
        segment_envelope(torch.tensor([]))
    with pytest.raises(ValueError, match="800 Hz or more"):
        breath_envelope(torch.zeros(500), 500)


@st.composite
def envelopes(draw):
    """Smooth or rough, with and without silence, of up to 40 s."""
    frames = draw(st.integers(1, 1000))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([0.0, 1.0, 20.0])) * generator.normal(
        size=frames
    )
    if draw(st.booleans()):
        levels = levels.cumsum()
    first = draw(st.integers(0, frames))
    levels[first : first + draw(st.integers(0, frames))] = -np.inf
    return torch.from_numpy(levels)


@WIDE
@given(envelopes())
def test_cycles_of_any_envelope_are_in_order(envelope):
    found = segment_envelope(envelope)
    starts, ends = np.array(found.starts), np.array(found.ends)
    assert len(starts) == len(ends) > 0
    assert (starts < ends).all()
    assert (starts[1:] == ends[:-1]).all()
    assert starts[0] >= 0
    assert ends[-1] <= len(envelope) * FRAME + 1e-9
    assert 0 <= found.confidence <= 1
    heard = envelope.isfinite().nonzero().flatten().tolist() or [
        0,
        len(envelope) - 1,
    ]
    first, stop = heard[0] * FRAME, (heard[-1] + 1) * FRAME
    if stop - first >= SHORTEST:
        lengths = ends - starts
        assert lengths.min() > SHORTEST - 1e-9
        assert lengths.max() < LONGEST + 1e-9
        assert starts[0] < first + SHORTEST
        assert ends[-1] > stop - SHORTEST


def test_hours_are_cut_like_minutes():
    # More frames than are looked at together, in linear time.
    waveform, starts = breathing(jittered(3.0, 400), 1000)
    found = found_in(waveform, 1000)
    assert share_found(found, starts) >= 0.95
    assert abs(len(found.starts) - 400) <= 5
