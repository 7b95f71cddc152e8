"""Tests of the generated sounds, set against the definitions of such sounds.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.signal import hilbert

from qlung_plugin.synthetic import sounds
from tests.unittests.synthetic.spectra import band_powers, decibels

RATE = 44100


def chest(rate=RATE, seed=0):
    return sounds.Chest(rate, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "two_cycle, deflection",
    [(0.005, 0.0007), (0.010, 0.0015)],  # the ATS means, fine and coarse
)
def test_crackle_has_the_documented_durations(two_cycle, deflection):
    burst = sounds.crackle(two_cycle, deflection, RATE)
    crossings = np.flatnonzero(np.diff(np.sign(burst[1:]))) + 1
    # Three crossings inside and the end: four half-waves, thus two cycles.
    assert len(crossings) == 3
    assert crossings[0] / RATE == pytest.approx(deflection, abs=1.5 / RATE)
    assert len(burst) / RATE == pytest.approx(two_cycle, abs=1 / RATE)
    # A crackle widens: each half-wave is longer than the one before it.
    assert (np.diff(crossings, prepend=0, append=len(burst)) > 0).all()
    assert (np.diff(np.diff([0, *crossings, len(burst)])) > 0).all()
    spectrum = np.abs(np.fft.rfft(burst, RATE))
    assert spectrum.argmax() == pytest.approx(2 / two_cycle, rel=0.3)
    # Damped: the last quarter holds little of the energy.
    assert (burst[-len(burst) // 4 :] ** 2).sum() < 0.1 * (burst**2).sum()


@pytest.mark.parametrize(
    "kind, shortest, longest", [("fine", 0, 0.010), ("coarse", 0.010, 0.020)]
)
def test_crackles_of_a_breath_are_fine_or_coarse(kind, shortest, longest):
    # So long a breath that the bursts lie apart.
    breath = chest().crackles(100.0, kind)
    silent = np.flatnonzero(breath == 0)
    lengths = np.diff(silent)
    bursts = lengths[lengths > 20] / RATE
    assert len(bursts) >= 3
    # CORSA draws the line at a two-cycle duration of 10 ms.
    assert (bursts > shortest - 2 / RATE).all()
    assert (bursts < longest + 2 / RATE).all()
    assert not breath[round(0.41 * len(breath)) :].any()  # inspiration only


def test_wheeze_peaks_at_the_fundamental_and_its_harmonics():
    tone = chest().wheeze(1.0, 400.0, drift=0.0)
    spectrum = np.abs(np.fft.rfft(tone))  # bins of 1 Hz
    for partial, height in ((1, 1), (2, 1 / 4), (3, 1 / 9)):
        around = spectrum[400 * partial - 100 : 400 * partial + 100]
        assert around.argmax() == 100
        assert around.max() / spectrum.max() == pytest.approx(height, rel=0.05)
    assert spectrum[1500:].max() < 0.01 * spectrum.max()
    # What the rate cannot hold is left out: 3 * 900 Hz would fold to 1300.
    spectrum = np.abs(np.fft.rfft(chest(4000).wheeze(1.0, 900.0, drift=0.0)))
    assert spectrum[1300] < 1e-2 * spectrum[900]


def test_wheeze_drifts_slowly_and_lasts():
    tone = chest().wheeze(0.5, 400.0, harmonics=1)
    analytic = hilbert(tone)
    loud = np.abs(analytic) > 0.5
    assert loud.sum() / RATE > 0.1  # CORSA: wheezes last longer than 100 ms
    pitch = np.diff(np.unwrap(np.angle(analytic))) * RATE / (2 * np.pi)
    pitch = pitch[loud[1:]]
    assert pitch.min() > 355 and pitch.max() < 445
    assert np.ptp(pitch) > 10
    # In a tenth of a second it moves by less than a tenth.
    moved = pitch[RATE // 10 :] - pitch[: -RATE // 10]
    assert np.abs(moved).max() < 40


def test_breathing_has_the_published_slopes():
    # The middle half of each phase, as in Gavriely et al. 1995.
    breaths = [chest(seed=i).breathing(4.0) for i in range(5)]
    phases = {"in": (0.5, 1.1, 12.7, 15.2), "out": (1.7, 2.6, 13.4, 20.3)}
    power = {}
    for phase, (start, stop, least, most) in phases.items():
        cut = np.concatenate(
            [b[round(start * RATE) : round(stop * RATE)] for b in breaths]
        )
        power[phase] = cut.var()
        low, high = band_powers(cut, RATE, (380, 420), (760, 840))
        assert least - 1 < decibels(low / high) < most + 1
    assert decibels(power["in"] / power["out"]) > 3
    assert all(not b[round(3.65 * RATE) :].any() for b in breaths)  # the pause


def test_heart_beats_are_low_and_regular():
    beats = chest(4000).heart_beats(20.0, rate=80.0)
    low, high = band_powers(beats, 4000, (20, 100), (200, 2000))
    assert low > 1e3 * high
    envelope = np.abs(beats).reshape(-1, 40).mean(1)  # 100 per second
    envelope -= envelope.mean()
    likeness = np.correlate(envelope, envelope, "full")[len(envelope) - 1 :]
    assert 50 + likeness[50:100].argmax() == pytest.approx(75, abs=5)


@pytest.mark.parametrize("snr", [-5, 30])
def test_noise_is_mixed_at_the_ratio_asked_for(snr):
    lungs = chest(4000).breathing(2.0)
    noise = chest(4000, 1).room(2.0)
    added = sounds.mix_at_snr(lungs, noise, snr) - lungs
    ratio = (lungs**2).mean() / (added**2).mean()
    assert decibels(ratio) == pytest.approx(snr, abs=1e-6)
    assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1.0)


def test_band_limit_is_3_db_at_its_edges_and_12_db_per_octave_beyond():
    click = np.zeros(RATE)
    click[0] = 1.0
    gain = 20 * np.log10(
        np.abs(np.fft.rfft(sounds.band_limit(click, RATE, (100, 1000))))
    )
    assert gain[[100, 1000]] == pytest.approx([-3, -3], abs=0.2)
    assert gain[316] == pytest.approx(0, abs=0.1)
    assert gain[2000] - gain[4000] == pytest.approx(12, abs=1)
    assert gain[24] - gain[12] == pytest.approx(12, abs=1)


@settings(max_examples=15, deadline=None)
@given(
    duration=st.floats(0.5, 4.0),
    rate=st.sampled_from([4000, 8000, 16000]),
    kind=st.sampled_from([None, "fine", "coarse"]),
    pitch=st.none() | st.floats(100, 1000),
    seed=st.integers(0, 2**32),
)
def test_any_cycle_is_finite_and_of_its_length(
    duration, rate, kind, pitch, seed
):
    breath = duration, kind, pitch, 1.0, 100.0
    cycle = chest(rate, seed).breath(*breath)
    assert cycle.shape == (round(duration * rate),)
    assert np.isfinite(cycle).all() and cycle.any()
    assert np.array_equal(cycle, chest(rate, seed).breath(*breath))
