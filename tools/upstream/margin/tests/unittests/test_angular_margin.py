"""Tests for angular margins that every sample has of its own.

Authors
 * qlung_plugin contributors
"""

import math

import pytest
import torch
import torch.nn.functional as F


@pytest.fixture
def batch():
    torch.manual_seed(0)
    cosines = torch.rand(6, 4) * 1.8 - 0.9
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    return cosines, labels, F.one_hot(labels, 4).float()


@pytest.mark.parametrize("easy_margin", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.2])
def test_equal_margins_are_the_scalar_margin(batch, margin, easy_margin):
    from speechbrain.nnet.losses import AdditiveAngularMargin, AngularMargin

    cosines, _, targets = batch
    margins = torch.full((6,), margin)
    fixed = AdditiveAngularMargin(margin, 30, easy_margin)(cosines, targets)
    each = AdditiveAngularMargin(0.7, 30, easy_margin)
    for shaped in (margins, margins.unsqueeze(1)):
        assert torch.allclose(each(cosines, targets, shaped), fixed, atol=1e-5)
    fixed = AngularMargin(margin, 30)(cosines, targets)
    each = AngularMargin(0.7, 30)(cosines, targets, margins)
    assert torch.allclose(each, fixed, atol=1e-5)


def test_each_sample_has_its_own_margin(batch):
    from speechbrain.nnet.losses import AdditiveAngularMargin

    cosines, labels, targets = batch
    margins = torch.linspace(0.0, 0.5, 6, requires_grad=True)
    predictions = AdditiveAngularMargin(scale=30)(cosines, targets, margins)
    for row, (label, margin) in enumerate(zip(labels, margins.tolist())):
        angle = math.acos(cosines[row, label])
        expected = 30 * cosines[row]
        expected[label] = 30 * math.cos(angle + margin)
        assert angle + margin < math.pi
        assert torch.allclose(predictions[row], expected, atol=1e-4)
    predictions.sum().backward()  # a margin may be learned
    assert (margins.grad != 0).all()


def test_margins_through_log_softmax_wrapper(batch):
    from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

    cosines, labels, targets = batch
    margins = torch.linspace(0.0, 0.5, 6)
    aam = AdditiveAngularMargin(0.2, 30)
    outputs, targets_of_batch = cosines.unsqueeze(1), labels.unsqueeze(1)
    loss = LogSoftmaxWrapper(aam)
    expected = F.cross_entropy(aam(cosines, targets, margins), labels)
    for shaped in (margins, margins.unsqueeze(1)):
        result = loss(outputs, targets_of_batch, margin=shaped)
        assert torch.allclose(result, expected, atol=1e-5)
    # An error is not taken for a loss without margin.
    with pytest.raises(TypeError):
        LogSoftmaxWrapper(torch.nn.Identity())(
            outputs, targets_of_batch, margin=margins
        )
