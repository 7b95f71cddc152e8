"""Augmentation of log-mels against loops, and what all of it keeps.

Authors
 * qlung_plugin contributors
"""

import copy
import math

import pytest
import torch
from torch import nn

from qlung_plugin.augment.log_mels import (
    FreqMixStyle,
    RandomFrequencyResponse,
    RandomGain,
    TimeShift,
)

DECIBEL = 0.046
EACH = [
    RandomGain(DECIBEL),
    RandomFrequencyResponse(DECIBEL),
    FreqMixStyle(p=1.0),
    TimeShift(),
]
NONE = [
    RandomGain(DECIBEL, max_db=0),
    RandomFrequencyResponse(DECIBEL, std_db=0),
    FreqMixStyle(p=0),
    TimeShift(share=0),
]
each = pytest.mark.parametrize(
    "augmentation", EACH, ids=lambda part: type(part).__name__
)


def log_mels(batch=5, frames=40, bands=32):
    generator = torch.Generator().manual_seed(0)
    levels = torch.linspace(-1, 2, bands)
    return levels + torch.randn(batch, frames, bands, generator=generator)


def augmented(augmentation, features, seed=0):
    torch.manual_seed(seed)
    return augmentation(features)


@pytest.mark.parametrize("augmentation", NONE)
def test_nothing_drawn_is_nothing_done(augmentation):
    features = log_mels()
    assert torch.equal(augmentation(features), features)


@each
def test_same_seed_same_features_and_others_next(augmentation):
    features = log_mels()
    kept = features.clone()
    first = augmented(augmentation, features)
    following = augmentation(features)
    assert torch.equal(augmented(augmentation, features), first)
    assert not torch.equal(following, first)
    assert first.shape == features.shape
    assert torch.equal(features, kept)
    # What is drawn for a cycle is its own.
    same = augmented(augmentation, features[:1].repeat(6, 1, 1))
    if not isinstance(augmentation, FreqMixStyle):  # of equals, equals
        assert len({row.sum().item() for row in same[:, 0]}) > 3


@each
def test_half_precision_is_the_same_but_for_rounding(augmentation):
    features = log_mels()
    for dtype, bound in ((torch.float16, 4e-3), (torch.bfloat16, 3e-2)):
        rounded = features.to(dtype)
        half = augmented(augmentation, rounded)
        assert half.dtype == dtype
        exact = augmented(augmentation, rounded.float())
        torch.testing.assert_close(half.float(), exact, atol=bound, rtol=bound)


@each
def test_masked_bands_stay_0_and_the_others_do_not_see_them(augmentation):
    features = log_mels()
    features[:, :, 20:] = 0
    features[2, :, 3] = 0  # of this cycle alone
    measured = augmented(augmentation, features)
    assert (measured[:, :, 20:] == 0).all()
    assert (measured[2, :, 3] == 0).all()
    whole = augmented(augmentation, log_mels())
    assert torch.equal(measured[2, :, 4:20], whole[2, :, 4:20])


@each
def test_several_in_turn_keep_their_type_on_any_device(augmentation):
    features = log_mels()
    if torch.cuda.is_available():
        there = augmented(augmentation, features.cuda())
        here = augmented(augmentation, features)
        assert there.is_cuda
        torch.testing.assert_close(there.cpu(), here, atol=1e-5, rtol=1e-5)
    twice = nn.Sequential(augmentation, copy.deepcopy(augmentation))
    assert augmented(twice, features).dtype == torch.float32


def test_gain_is_one_number_of_decibels_per_cycle():
    features = log_mels(batch=2000, frames=3, bands=2)
    difference = augmented(RandomGain(DECIBEL, max_db=8.0), features) - features
    gains = (difference / DECIBEL)[:, 0, 0]
    torch.testing.assert_close(
        difference, (DECIBEL * gains)[:, None, None].expand_as(difference)
    )
    assert -8 <= gains.min() < -7.9 and 7.9 < gains.max() <= 8
    # Uniform: mean 0, variance 16² / 12.
    assert gains.mean().item() == pytest.approx(0, abs=0.3)
    assert gains.var().item() == pytest.approx(16**2 / 12, rel=0.05)


def test_gain_of_features_is_that_of_the_waveform():
    from qlung_plugin.lobes.features import EfficientATFeatures

    front_end = EfficientATFeatures()
    waveform = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    features = front_end(waveform)
    louder = augmented(RandomGain(front_end.decibel, max_db=6.0), features)
    torch.manual_seed(0)
    decibels = 6.0 * (2 * torch.rand(1).item() - 1)
    expected = front_end(waveform * 10 ** (decibels / 20))
    torch.testing.assert_close(louder, expected, atol=1e-3, rtol=0)


def test_response_against_a_loop():
    features = log_mels(batch=3, bands=23)
    response = RandomFrequencyResponse(DECIBEL, std_db=4.0, spacing=5)
    difference = augmented(response, features) - features
    torch.manual_seed(0)
    drawn = torch.randn(3, 6)  # at bands 0, 5, .., 25
    for cycle in range(3):
        for band in range(23):
            left, rest = divmod(band, 5)
            share = math.cos(math.pi / 2 * rest / 5) ** 2
            gain = share * drawn[cycle, left].item()
            gain += (1 - share) * drawn[cycle, left + 1].item()
            gain *= 4.0 / math.hypot(share, 1 - share)
            torch.testing.assert_close(
                difference[cycle, :, band],
                torch.full((40,), DECIBEL * gain),
                atol=1e-5,
                rtol=0,
            )


def test_response_has_its_spread_in_every_band_and_is_smooth():
    features = torch.ones(4000, 2, 64)
    response = RandomFrequencyResponse(1.0, std_db=5.0, spacing=16)
    curves = (augmented(response, features) - 1)[:, 0]
    torch.testing.assert_close(
        curves.std(dim=0), torch.full((64,), 5.0), atol=0.3, rtol=0
    )
    # Neighbours hardly differ; bands two points apart have nothing in common.
    correlation = torch.corrcoef(curves.T)
    assert correlation.diagonal(1).min() > 0.95
    assert correlation[0, 32:].abs().max() < 0.08


def test_freq_mix_style_against_a_loop():
    features = log_mels(batch=4, frames=30, bands=6)
    mixed = augmented(FreqMixStyle(alpha=0.5, p=1.0), features)
    torch.manual_seed(0)
    torch.rand(1)
    weights = torch.distributions.Beta(0.5, 0.5).sample((4, 1, 1)).flatten()
    others = torch.randperm(4).tolist()
    assert others != [0, 1, 2, 3]
    for cycle, (weight, other) in enumerate(zip(weights.tolist(), others)):
        for band in range(6):
            own, from_other = features[cycle, :, band], features[other, :, band]
            mean, std = own.mean(), own.std(correction=0)
            new_mean = weight * mean + (1 - weight) * from_other.mean()
            new_std = weight * std
            new_std += (1 - weight) * from_other.std(correction=0)
            torch.testing.assert_close(
                mixed[cycle, :, band],
                (own - mean) / std * new_std + new_mean,
                atol=1e-4,
                rtol=1e-4,
            )


def test_freq_mix_style_mixes_so_many_batches():
    features = log_mels(batch=2, frames=4, bands=3)
    augmentation = FreqMixStyle(alpha=1.0, p=0.3)
    torch.manual_seed(0)
    same = sum(augmentation(features) is features for _ in range(1000))
    assert same / 1000 == pytest.approx(0.7, abs=0.04)
    alone = augmented(FreqMixStyle(p=1.0), features[:1])
    torch.testing.assert_close(alone, features[:1])  # with itself


def test_shift_is_a_roll():
    features = log_mels(batch=600, frames=10, bands=2)
    shifted = augmented(TimeShift(share=0.4), features)
    torch.manual_seed(0)
    shifts = torch.randint(4, (600, 1)).flatten().tolist()
    for cycle, shift in enumerate(shifts):
        assert torch.equal(shifted[cycle], features[cycle].roll(shift, dims=0))
    assert set(shifts) == {0, 1, 2, 3}
    anywhere = augmented(TimeShift(), torch.eye(10)[None].repeat(5000, 1, 1))
    firsts = anywhere[:, 0].mean(dim=0)  # how often each frame is the first
    torch.testing.assert_close(
        firsts, torch.full((10,), 0.1), atol=0.02, rtol=0
    )


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: RandomGain(None), "decibel: a positive number .* not None"),
        (lambda: RandomGain(0.0), "decibel: a positive number .* not 0"),
        (lambda: RandomGain(1.0, -1), "max_db must be 0 dB or more, not -1"),
        (lambda: RandomFrequencyResponse(1.0, -2.0), "std_db .* not -2"),
        (lambda: RandomFrequencyResponse(1.0, spacing=0), "spacing .* not 0"),
        (lambda: FreqMixStyle(alpha=0), "alpha must be positive, not 0"),
        (lambda: FreqMixStyle(p=1.5), "p must be from 0 to 1, not 1.5"),
        (lambda: TimeShift(1.5), "share must be from 0 to 1, not 1.5"),
        (lambda: FreqMixStyle()(torch.ones(2, 1, 8)), "have 1 frame"),
    ],
)
def test_what_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()
