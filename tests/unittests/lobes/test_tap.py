"""Tests of the quality that is measured where a recipe computes features.

Authors
 * qlung_plugin contributors
"""

import copy
import pickle

import pytest
import torch
from torch import nn

from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ClippingScore,
    ConstantQuality,
    ManifestQuality,
    QualityTap,
    WeightedQuality,
)
from qlung_plugin.nnet.losses import MarginCost
from qlung_plugin.nnet.margins import QualityMargin
from speechbrain.lobes.features import Fbank

RATE = 8000
SHARES = torch.tensor([1.0, 0.6, 0.3])


class Means(nn.Module):
    """Features that can be told at a glance."""

    def forward(self, waveforms):
        return waveforms.mean(dim=1, keepdim=True)


class LengthMeans(nn.Module):
    """Features that need the lengths."""

    def forward(self, waveforms, wav_lens):
        return waveforms.sum(dim=1) / wav_lens


def tap_of(quality=None, features=None):
    return QualityTap(quality or AudioQualityScore(RATE), features or Means())


def batch_of(shares=SHARES, seed=0):
    """Noises of falling level, padded with zeros behind their share."""
    generator = torch.Generator().manual_seed(seed)
    waveforms = 0.2 * torch.randn(len(shares), RATE, generator=generator)
    waveforms /= torch.arange(1, len(shares) + 1).unsqueeze(1)
    for waveform, share in zip(waveforms, shares):
        waveform[int(share * RATE) :] = 0
    return waveforms


def alone(waveforms, shares=SHARES):
    """The quality of each waveform by itself, without its padding."""
    score = AudioQualityScore(RATE)
    return torch.cat(
        [
            score(waveform[None, : int(share * RATE)])
            for waveform, share in zip(waveforms, shares)
        ]
    )


# --- what is measured -------------------------------------------------------


def test_features_are_those_of_the_module_and_have_its_gradient():
    waveforms = batch_of().requires_grad_()
    features = tap_of()(waveforms)
    assert torch.equal(features, Means()(waveforms))
    features.sum().backward()
    assert waveforms.grad.abs().sum() > 0


@pytest.mark.parametrize("who", ["tap", "cost", "nobody"])
def test_padding_is_not_measured(who, caplog):
    waveforms, tap = batch_of(), tap_of()
    tap(waveforms, SHARES if who == "tap" else None)
    quality = tap.take(3, SHARES if who == "cost" else None)
    torch.testing.assert_close(quality, alone(waveforms), atol=1e-4, rtol=0)
    assert not quality.requires_grad and quality.dtype == torch.float32
    measured_as_signal = AudioQualityScore(RATE)(waveforms)
    assert (measured_as_signal - alone(waveforms)).abs().max() > 0.01
    assert ("knows no lengths" in caplog.text) == (who == "nobody")


def test_lengths_of_the_tap_come_before_those_of_the_cost():
    # Signal that ends in zeros keeps them.
    waveforms, tap = batch_of(), tap_of()
    tap(waveforms, torch.ones(3))
    quality = tap.take(3, SHARES)
    assert torch.equal(quality, AudioQualityScore(RATE)(waveforms))


def test_lengths_of_something_else_are_not_taken(caplog):
    waveforms, tap = batch_of(), tap_of()
    for _ in range(2):  # which is told once
        tap(waveforms)
        quality = tap.take(3, torch.ones(2))
        torch.testing.assert_close(quality, alone(waveforms), atol=1e-4, rtol=0)
    assert caplog.text.count("knows no lengths") == 1


def test_lengths_go_on_to_features_that_take_them():
    tap = tap_of(features=LengthMeans())
    expected = LengthMeans()(batch_of(), SHARES)
    assert torch.equal(tap(batch_of(), SHARES), expected)


# --- one batch, one cost ----------------------------------------------------


def test_quality_is_taken_once():
    tap = tap_of()
    tap(batch_of())
    tap.take(3)
    with pytest.raises(RuntimeError, match="no batch has passed"):
        tap.take(3)


def test_another_number_of_samples_is_an_error_once():
    tap = tap_of()
    tap(batch_of())
    with pytest.raises(RuntimeError, match="3 waveforms .* of 6 pred"):
        tap.take(6)
    tap(batch_of())
    assert len(tap.take(3)) == 3


def test_two_batches_for_one_cost_are_an_error_in_training():
    tap = tap_of()
    tap(batch_of())
    tap(batch_of(seed=1))
    with pytest.raises(RuntimeError, match="2 batches have passed"):
        tap.take(3)
    tap(batch_of())
    assert len(tap.take(3)) == 3


@pytest.mark.parametrize("evaluation", [True, False])
def test_the_last_of_an_evaluation_counts(evaluation):
    tap = tap_of().train(not evaluation)
    with torch.set_grad_enabled(evaluation):
        tap(batch_of())
        tap(batch_of(SHARES[:2], seed=1))
        quality = tap.take(2, SHARES[:2])
    expected = alone(batch_of(SHARES[:2], seed=1), SHARES[:2])
    torch.testing.assert_close(quality, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", [True, False])
def test_nothing_is_left_when_a_stage_begins(mode):
    tap = tap_of()
    tap(batch_of())
    nn.ModuleDict({"compute_features": tap}).train(mode)
    with pytest.raises(RuntimeError, match="no batch has passed"):
        tap.take(3)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda tap: pickle.loads(pickle.dumps(tap))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_has_no_batch_and_works(copied):
    tap = tap_of()
    tap(batch_of(), SHARES)
    again = copied(tap)
    with pytest.raises(RuntimeError, match="no batch has passed"):
        again.take(3)
    again(batch_of(seed=1), SHARES)
    expected = alone(batch_of(seed=1))
    torch.testing.assert_close(again.take(3), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        tap.take(3), alone(batch_of()), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("measure", [AudioQualityScore, ClippingScore])
def test_features_that_are_trained_on_several_processes(measure, tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        tap = tap_of(measure(RATE), nn.Linear(RATE, 2))
        wrapped = nn.parallel.DistributedDataParallel(tap)
        wrapped(batch_of(), SHARES).sum().backward()
        assert tap.take(3).shape == (3,)
        assert tap.compute_features.weight.grad.any()
    finally:
        torch.distributed.destroy_process_group()


def test_a_copy_of_tap_and_cost_belong_together():
    tap = tap_of()
    cost = MarginCost(QualityMargin(), tap, scale=30.0)
    recipe = copy.deepcopy({"compute_features": tap, "compute_cost": cost})
    recipe["compute_features"](batch_of(), SHARES)
    recipe["compute_cost"](torch.zeros(3, 1, 4), torch.zeros(3, 1).long())
    with pytest.raises(RuntimeError, match="no batch has passed"):
        cost(torch.zeros(3, 1, 4), torch.zeros(3, 1).long())


def test_a_fitted_quality_is_saved_with_the_tap():
    def fitted():
        return AudioQualityScore(RATE, normalisation="fitted")

    tap, fresh = tap_of(fitted()), tap_of(fitted())
    with pytest.raises(ValueError, match="needs no fit"):
        fresh(batch_of())
    tap.quality.fit(tap.quality.measure(batch_of(), SHARES))
    fresh.load_state_dict(tap.state_dict())
    for each in (tap, fresh):
        each(batch_of(), SHARES)
    assert torch.equal(fresh.take(3), tap.take(3))


# --- what cannot work -------------------------------------------------------


@pytest.mark.parametrize(
    "quality, features, message",
    [
        (ManifestQuality("marks"), Means(), "ManifestQuality does not measure"),
        (Means(), Means(), "quality of QualityTap must be .* not a Means"),
        (ClippingScore(RATE), len, "compute_features of QualityTap"),
        (ClippingScore(RATE), Fbank(), "of 8000 Hz, but Fbank of 16000 Hz"),
        (
            WeightedQuality([ClippingScore(RATE), ConstantQuality(1)], [1, 1]),
            Fbank(),
            "of 8000 Hz",
        ),
    ],
)
def test_what_does_not_fit_says_so(quality, features, message):
    with pytest.raises(ValueError, match=message):
        QualityTap(quality, features)


def test_a_constant_has_no_rate():
    tap = QualityTap(ConstantQuality(0.25), Fbank(sample_rate=RATE))
    tap(batch_of())
    assert tap.take(3).tolist() == [0.25] * 3
