"""Degradations do what their degree says, and nothing to other waveforms."""

import math

import numpy as np
import pytest
import torch

from qlung_plugin.lobes.quality import ClippingScore, FlatnessScore
from qlung_plugin.processing.degradations import (
    DEGRADATIONS,
    add_white_noise,
    clip,
    degrade,
    gain,
    low_pass,
    quantise,
)

RATE = 8000
DEGREES = {
    "white_noise": 0,
    "low_pass": 500,
    "clipping": 0.1,
    "gain": 20,
    "bit_depth": 4,
}


def tone(frequency, seconds=1.0, amplitude=0.5):
    time = torch.arange(round(seconds * RATE)) / RATE
    return amplitude * torch.sin(2 * math.pi * frequency * time)


def decibels(power):
    return 10 * math.log10(power)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# White noise


@pytest.mark.parametrize("snr", [20, 0, -5])
def test_noise_has_the_ratio_exactly_whatever_the_dc(snr):
    waveform = tone(200, seconds=0.03)
    noise = add_white_noise(waveform + 0.3, snr, generator()) - waveform - 0.3
    ratio = decibels(waveform.var() / noise.var())
    assert ratio == pytest.approx(snr, abs=1e-3)


def test_noise_is_white():
    noise = add_white_noise(tone(200), 0, generator()) - tone(200)
    power = np.abs(np.fft.rfft(noise.numpy())) ** 2
    low, high = power[: len(power) // 2].mean(), power[len(power) // 2 :].mean()
    assert low / high == pytest.approx(1, abs=0.1)


def test_noise_of_a_seed_differs_between_levels_by_its_scale():
    waveform = tone(200)
    loud, soft = (
        add_white_noise(waveform, snr, generator(3)) - waveform
        for snr in (0, 20)
    )
    torch.testing.assert_close(loud, 10 * soft, atol=1e-5, rtol=0)
    other = add_white_noise(waveform, 0, generator(4)) - waveform
    assert abs(np.corrcoef(loud, other)[0, 1]) < 0.1


def test_noise_of_each_waveform_is_by_its_own_level():
    waveforms = torch.stack([tone(200), 0.01 * tone(300)])
    noise = add_white_noise(waveforms, 10, generator()) - waveforms
    for waveform, added in zip(waveforms, noise):
        ratio = decibels(waveform.var() / added.var())
        assert ratio == pytest.approx(10, abs=1e-2)


@pytest.mark.parametrize("length", [0, 1, 100])
def test_silence_and_single_samples_stay_as_they_are(length):
    silence = torch.full((length,), 0.25)
    assert add_white_noise(silence, 0, generator()).equal(silence)


# Low-pass


def level_after(frequency, cutoff, **options):
    filtered = low_pass(tone(frequency), cutoff, RATE, **options)
    middle = slice(RATE // 2, None)  # after the filter has settled
    return decibels(filtered[middle].var() / tone(frequency)[middle].var())


def test_low_pass_is_3_db_down_at_the_cutoff():
    assert level_after(1000, 1000) == pytest.approx(-3.01, abs=0.02)


def test_low_pass_keeps_what_is_below_and_falls_by_its_order():
    assert level_after(500, 1000) == pytest.approx(0, abs=0.01)
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


def test_low_pass_of_a_batch_is_that_of_each():
    waveforms = torch.stack([tone(200), tone(1500)])
    each = torch.stack([low_pass(w, 500, RATE) for w in waveforms])
    assert low_pass(waveforms, 500, RATE).equal(each)
    assert low_pass(waveforms[:, :3], 500, RATE).shape == (2, 3)


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


@pytest.mark.parametrize("bits", [1, 4, 8, 12])
def test_quantised_samples_are_the_integers_of_so_many_bits(bits):
    ramp = torch.linspace(-1, 1, 20001)
    steps = (quantise(ramp, bits) * 2 ** (bits - 1)).double()
    assert steps.equal(steps.round())
    assert steps.min() == -(2 ** (bits - 1))
    assert steps.max() == 2 ** (bits - 1) - 1
    inside = ramp < 1 - 2.0 ** (1 - bits)
    error = (quantise(ramp, bits) - ramp)[inside].abs().max()
    assert error <= 2.0**-bits + 1e-6


def test_16_bit_samples_survive_16_bits():
    samples = torch.arange(-(2**15), 2**15) / 2**15
    assert quantise(samples, 16).equal(samples)


# By name


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_each_kind_changes_the_waveform_reproducibly(kind):
    waveform = tone(200) + 0.2 * tone(1000)
    degraded = degrade(waveform, RATE, kind, DEGREES[kind], seed=5)
    assert degraded.shape == waveform.shape
    assert degraded.dtype == waveform.dtype
    assert not torch.allclose(degraded, waveform)
    again = degrade(waveform, RATE, kind, DEGREES[kind], seed=5)
    assert degraded.equal(again)


@pytest.mark.parametrize(
    "kind", [k for k, known in DEGRADATIONS.items() if known.harmless < 2]
)
def test_harmless_degree_changes_nothing(kind):
    harmless = DEGRADATIONS[kind].harmless
    assert degrade(tone(200), RATE, kind, harmless).equal(tone(200))


def test_noise_lowers_the_flatness_score_degree_by_degree():
    waveform = tone(200)[None]
    scores = [
        FlatnessScore(RATE)(degrade(waveform, RATE, "white_noise", snr)).item()
        for snr in (40, 20, 0, -20)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.5


@pytest.mark.parametrize(
    ("kind", "degree", "message"),
    [
        ("reverberation", 1, "none of white_noise, low_pass"),
        ("low_pass", 0, "cutoff must be above 0 Hz, got 0"),
        ("clipping", 0, r"share must be in \(0, 1\], got 0"),
        ("clipping", 1.5, r"share must be in \(0, 1\], got 1.5"),
        ("bit_depth", 0, "bits must be a whole number above 0, got 0"),
        ("bit_depth", 7.5, "bits must be a whole number above 0, got 7.5"),
    ],
)
def test_impossible_degradations(kind, degree, message):
    with pytest.raises(ValueError, match=message):
        degrade(tone(200), RATE, kind, degree)
