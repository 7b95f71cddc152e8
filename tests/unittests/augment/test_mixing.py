"""Two cycles mixed: features, tokens, labels and margins.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from torch import nn

from qlung_plugin.augment.mixing import Mixture, Mixup, PatchMix, mixed_loss
from qlung_plugin.nnet.losses import AngularMarginLoss, MarginRegularizedLoss
from qlung_plugin.nnet.margins import (
    ClassImbalanceMargin,
    FixedMargin,
    QualityMargin,
    WeightedMargin,
)

COUNTS = (2063, 1215, 501, 363)


class Tokens(nn.Module):
    """A backbone that shows the tokens that it is given."""

    def forward(self, features, lengths=None, *, mix_tokens=None):
        return features if mix_tokens is None else mix_tokens(features)


@pytest.mark.parametrize("alpha", [0.1, 5.0])
def test_mixup_against_a_loop(alpha):
    torch.manual_seed(0)
    features = torch.randn(5, 7, 3)
    mixed, mixture = Mixup(alpha)(nn.Identity(), features)
    assert 0 <= mixture.weight <= 1
    assert sorted(mixture.permutation.tolist()) == list(range(5))
    for i, other in enumerate(mixture.permutation.tolist()):
        expected = (
            mixture.weight * features[i]
            + (1 - mixture.weight) * features[other]
        )
        torch.testing.assert_close(mixed[i], expected)


def test_patch_mix_against_a_loop():
    torch.manual_seed(1)
    batch, count = 4, 50
    # Each token says where it is from.
    features = torch.arange(batch * count, dtype=torch.float32)
    features = features.reshape(batch, count, 1)
    kept = features.clone()
    mixed, mixture = PatchMix()(Tokens(), features)
    permutation = mixture.permutation.tolist()
    replaced = [
        place for place in range(count) if mixed[0, place] != features[0, place]
    ]
    assert len(replaced) == round(count * (1 - mixture.weight)) > 0
    for i in range(batch):
        for place in range(count):
            source = permutation[i] if place in replaced else i
            assert mixed[i, place] == features[source, place]
    assert torch.equal(features, kept)


@pytest.mark.parametrize("mixing", [Mixup(1.0), PatchMix(1.0)])
def test_same_seed_same_mixture_and_another_one_next(mixing):
    features = torch.randn(6, 10, 2)
    drawn = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        drawn.append(mixing(Tokens(), features)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("mixing", [Mixup(1.0), PatchMix(1.0)])
def test_weights_are_spread_as_they_are_drawn(mixing):
    torch.manual_seed(0)
    features = torch.randn(2, 100, 1)
    weights = [mixing(Tokens(), features)[1].weight for _ in range(2000)]
    # Uniform: mean 1/2, variance 1/12.
    assert sum(weights) / 2000 == pytest.approx(0.5, abs=0.02)
    variance = sum((weight - 0.5) ** 2 for weight in weights) / 2000
    assert variance == pytest.approx(1 / 12, abs=0.01)


def test_a_wrapped_backbone_is_asked_for_its_tokens():
    class Wrapper(nn.Module):
        def __init__(self, name, inner):
            super().__init__()
            setattr(self, name, inner)
            self.inner = inner

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    backbone = Wrapper("_orig_mod", Wrapper("module", Tokens()))
    features = torch.randn(4, 10, 2)
    torch.manual_seed(0)
    expected, _ = PatchMix()(Tokens(), features)
    torch.manual_seed(0)
    measured, _ = PatchMix()(backbone, features)
    assert torch.equal(measured, expected)
    with pytest.raises(ValueError, match="Flatten has no mix_tokens"):
        PatchMix()(Wrapper("module", nn.Flatten()), features)


@pytest.mark.parametrize("mixing", [Mixup, PatchMix])
def test_alpha_must_be_positive(mixing):
    with pytest.raises(ValueError, match="alpha must be positive"):
        mixing(0)


# --- the loss ---------------------------------------------------------------


def qlung_loss():
    margin = WeightedMargin(
        [QualityMargin(0.5), ClassImbalanceMargin(COUNTS)], [0.5, 0.5]
    )
    return MarginRegularizedLoss(AngularMarginLoss(margin, scale=15.0))


def outputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    cosines = 1.8 * torch.rand(4, 4, generator=generator) - 0.9
    return 37 * cosines, cosines, torch.randn(4, 8, generator=generator)


TARGETS = torch.tensor([0, 1, 2, 3])
QUALITY = torch.tensor([0.1, 0.4, 0.8, 1.0])


def test_loss_of_each_label_at_the_quality_of_the_mixture():
    permutation, weight = torch.tensor([2, 0, 1, 3]), 0.3
    measured = mixed_loss(
        qlung_loss(), *outputs(), TARGETS, QUALITY, Mixture(permutation, weight)
    )
    logits, cosines, _ = outputs()
    total = 0.0
    for i, other in enumerate(permutation.tolist()):
        quality = 0.3 * QUALITY[i] + 0.7 * QUALITY[other]
        for share, label in ((0.3, TARGETS[i]), (0.7, TARGETS[other])):
            imbalance = ClassImbalanceMargin(COUNTS)(label[None])
            margin = 0.25 * quality + 0.5 * imbalance
            part = AngularMarginLoss(FixedMargin(margin.item()), scale=15.0)
            total += share * (
                nn.functional.cross_entropy(logits[i : i + 1], label[None])
                + 0.4 * part(None, cosines[i : i + 1], None, label[None])
            )
    torch.testing.assert_close(measured, total / 4)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)), st.floats(0, 1), st.integers(0, 100))
def test_the_ends_and_everything_between(permutation, weight, seed):
    loss, permutation = qlung_loss(), torch.tensor(permutation)

    def mixed(weight, quality=QUALITY):
        mixture = Mixture(permutation, weight)
        return mixed_loss(loss, *outputs(seed), TARGETS, quality, mixture)

    own = loss(*outputs(seed), TARGETS, QUALITY)
    others = loss(*outputs(seed), TARGETS[permutation], QUALITY[permutation])
    torch.testing.assert_close(mixed(1.0), own)
    torch.testing.assert_close(mixed(0.0), others)
    # At one quality for all, the loss is linear in the weight.
    same = torch.full((4,), 0.6)
    expected = weight * mixed(1.0, same) + (1 - weight) * mixed(0.0, same)
    torch.testing.assert_close(mixed(weight, same), expected)
