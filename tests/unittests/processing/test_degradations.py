"""Degradations do what their degree says, and nothing to other waveforms."""

import math

import pytest
import torch

from qlung_plugin.lobes.quality import ClippingScore
from qlung_plugin.processing.degradations import (
    DEGRADATIONS,
    clip,
    degrade,
    dropouts,
    gain,
    lost_contact,
    low_pass,
    quantise,
)
from qlung_plugin.processing.interference import handling
from tests.unittests.processing.tones import RATE, decibels, generator, tone

DEGREES = {
    "white_noise": 0,
    "babble": 0,
    "crying": 0,
    "handling": 2,
    "low_pass": 500,
    "clipping": 0.1,
    "gain": 20,
    "bit_depth": 4,
    "dropouts": 0.3,
    "lost_contact": 0.3,
}


# Low-pass


def level_after(frequency, cutoff, **options):
    filtered = low_pass(tone(frequency), cutoff, RATE, **options)
    middle = slice(RATE // 2, None)  # after the filter has settled
    return decibels(filtered[middle].var() / tone(frequency)[middle].var())


def test_low_pass_keeps_what_is_below_and_falls_by_its_order():
    assert level_after(500, 1000) == pytest.approx(0, abs=0.01)
    assert level_after(1000, 1000) == pytest.approx(-3.01, abs=0.02)
    for order in (4, 8):
        # The analogue prototype at the frequencies that the bilinear
        # transformation maps these two to.
        ratio = math.tan(math.pi * 1600 / RATE) / math.tan(math.pi * 800 / RATE)
        expected = -decibels(1 + ratio ** (2 * order))
        found = level_after(1600, 800, order=order)
        assert found == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("cutoff", [4000, 5000])
def test_low_pass_from_the_nyquist_frequency_on_changes_nothing(cutoff):
    assert low_pass(tone(200), cutoff, RATE).equal(tone(200))


# Clipping, gain, bit depth


def test_clipping_cuts_at_the_share_of_each_peak():
    waveforms = torch.stack([tone(50), 0.1 * tone(50)])
    clipped = clip(waveforms, 0.2)
    torch.testing.assert_close(
        clipped.abs().amax(-1), 0.2 * waveforms.abs().amax(-1)
    )
    below = waveforms[0].abs() < 0.2 * waveforms[0].abs().max()
    assert clipped[0][below].equal(waveforms[0][below])
    assert clip(waveforms, 1.0).equal(waveforms)
    # A sine is beyond 0.2 of its peak for 1 - 2 / pi * asin(0.2) of the time.
    share = 1 - ClippingScore(RATE)(clipped[:1]).item()
    assert share == pytest.approx(1 - 2 / math.pi * math.asin(0.2), abs=0.02)


def test_gain_scales_and_saturates():
    waveform = torch.tensor([0.01, -0.05, 0.3, -0.3])
    expected = torch.tensor([0.1, -0.5, 1.0, -1.0])
    torch.testing.assert_close(gain(waveform, 20), expected)
    torch.testing.assert_close(gain(waveform, -40), waveform / 100)
    assert gain(waveform, 0).equal(waveform)


@pytest.mark.parametrize("bits", [1, 12])
def test_quantised_samples_are_the_integers_of_so_many_bits(bits):
    ramp = torch.linspace(-1, 1, 20001)
    steps = (quantise(ramp, bits) * 2 ** (bits - 1)).double()
    assert steps.equal(steps.round())
    assert steps.min() == -(2 ** (bits - 1))
    assert steps.max() == 2 ** (bits - 1) - 1
    inside = ramp < 1 - 2.0 ** (1 - bits)
    error = (quantise(ramp, bits) - ramp)[inside].abs().max()
    assert error <= 2.0**-bits + 1e-6


# Dropouts, lost contact


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_dropouts_have_the_share_of_the_time(share):
    """At the same places of all waveforms, in stretches of 20 to 200 ms."""
    waveforms = torch.stack([tone(200, 20) + 1, tone(300, 20) + 1])
    left = dropouts(waveforms, RATE, share, generator())
    lost = left == 0
    assert lost[0].equal(lost[1])
    assert left[~lost].equal(waveforms[~lost])
    assert share - 1e-6 <= lost[0].double().mean() < share + 0.2 / 20
    edges = torch.nn.functional.pad(lost[0], (1, 1)).int().diff().nonzero()
    lengths = edges[1::2] - edges[::2]
    assert lengths.min() >= 0.02 * RATE
    assert share > 0.01 or lengths.max() <= 2 * 0.2 * RATE  # two can meet


def test_dropouts_of_a_larger_share_hold_those_of_a_smaller_one():
    lost = [
        dropouts(torch.ones(5 * RATE), RATE, share, generator(1)) == 0
        for share in (0, 0.05, 0.2, 0.6, 1)
    ]
    assert not lost[0].any() and lost[-1].all()
    for fewer, more in zip(lost, lost[1:]):
        assert not (fewer & ~more).any()
        assert more.sum() > fewer.sum()


def test_lost_contact_leaves_the_sensors_noise_at_the_end():
    waveforms = torch.stack([tone(200, 2), 0.01 * tone(300, 2)]) + 0.1
    left = lost_contact(waveforms, 0.25, generator())
    contact = round(1.5 * RATE)
    assert left[:, :contact].equal(waveforms[:, :contact])
    for noise, waveform in zip(left[:, contact:], waveforms):
        ratio = decibels(waveform.var() / noise.var())
        assert ratio == pytest.approx(40, abs=0.3)
        # The offset stays, so that there is no step.
        assert noise.mean() == pytest.approx(0.1, abs=1e-3)


# By name


@pytest.mark.parametrize("kind", ["white_noise", "babble", "crying"])
@pytest.mark.parametrize("snr", [20, -5])
def test_interference_has_the_ratio_exactly(kind, snr):
    """Of each waveform by its own level."""
    waveforms = torch.stack([tone(200, 3) + 0.2, 0.1 * tone(300, 3)])
    sounds = degrade(waveforms, RATE, kind, snr, seed=1) - waveforms
    for waveform, sound in zip(waveforms, sounds):
        ratio = decibels(waveform.var() / sound.var())
        assert ratio == pytest.approx(snr, abs=1e-2)


def test_noise_is_scaled_and_that_of_silence_is_silence():
    """Noises of one seed differ by their level alone."""
    waveform = tone(200)
    loud, soft = (
        degrade(waveform, RATE, "white_noise", snr, 3) - waveform
        for snr in (0, 20)
    )
    torch.testing.assert_close(loud, 10 * soft, atol=1e-5, rtol=0)
    for length in (0, 1, 100):
        silence = torch.full((length,), 0.25)
        assert degrade(silence, RATE, "white_noise", 0).equal(silence)


def test_handling_is_as_loud_as_the_peak_of_each_recording():
    waveforms = torch.stack([tone(200, 4), 0.1 * tone(300, 4)])
    bursts = degrade(waveforms, RATE, "handling", 2, seed=3) - waveforms
    expected = handling(4 * RATE, RATE, 2, generator(3)).float()
    torch.testing.assert_close(bursts[0], 0.5 * expected)
    torch.testing.assert_close(bursts[1], 0.05 * expected)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_each_kind_changes_the_waveform_reproducibly(kind):
    waveform = tone(200) + 0.2 * tone(1000)
    degraded = degrade(waveform, RATE, kind, DEGREES[kind], seed=5)
    assert degraded.shape == waveform.shape
    assert degraded.dtype == waveform.dtype
    assert not torch.allclose(degraded, waveform)
    again = degrade(waveform, RATE, kind, DEGREES[kind], seed=5)
    assert degraded.equal(again)
    known = DEGRADATIONS[kind]
    worse = -20 if kind == "gain" else DEGREES[kind]
    assert known.severity(known.harmless) < known.severity(worse)


@pytest.mark.parametrize(
    "kind", [k for k, known in DEGRADATIONS.items() if known.harmless < 2]
)
def test_harmless_degree_changes_nothing(kind):
    harmless = DEGRADATIONS[kind].harmless
    assert degrade(tone(200), RATE, kind, harmless).equal(tone(200))


@pytest.mark.parametrize(
    ("kind", "degree", "message"),
    [
        ("reverberation", 1, "none of white_noise, babble"),
        ("low_pass", 0, "cutoff must be above 0 Hz, got 0"),
        ("clipping", 1.5, r"share must be in \(0, 1\], got 1.5"),
        ("bit_depth", 7.5, "bits must be a whole number above 0, got 7.5"),
        ("handling", -1, "rate must be at least 0 per second, got -1"),
        ("dropouts", 1.1, r"share must be in \[0, 1\], got 1.1"),
        ("lost_contact", -0.1, r"share must be in \[0, 1\], got -0.1"),
    ],
)
def test_impossible_degradations(kind, degree, message):
    with pytest.raises(ValueError, match=message):
        degrade(tone(200), RATE, kind, degree)
