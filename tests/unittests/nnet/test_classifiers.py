"""Tests of the classifiers, with loops over vectors, and of the schedule.

Authors
 * qlung_plugin contributors
"""

import math

import pytest
import torch

from qlung_plugin.nnet.classifiers import (
    AngularClassifier,
    ClassifierOutput,
    LinearClassifier,
    cosine_similarity,
    logits_and_cosines,
)
from qlung_plugin.nnet.losses import AngularMarginLoss
from qlung_plugin.nnet.margins import FixedMargin
from qlung_plugin.nnet.schedulers import CosineScheduler
from speechbrain.nnet.schedulers import LinearScheduler

CLASSIFIERS = [
    lambda: LinearClassifier(16, 4),
    lambda: AngularClassifier(16, 4, scale=37.0),
]


@pytest.fixture(params=CLASSIFIERS, ids=["linear", "angular"])
def build(request):
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def embeddings():
    return torch.randn(6, 16, generator=torch.Generator().manual_seed(1))


def class_weights(classifier):
    """The one matrix among the parameters, ``[class, dim]``."""
    (weights,) = [p for p in classifier.parameters() if p.dim() == 2]
    return weights.detach()


def cosines_by_loop(embeddings, weights):
    """Dot product over norms, vector by vector."""
    rows = []
    for embedding in embeddings.tolist():
        row = []
        for weight in weights.tolist():
            dot = math.fsum(x * w for x, w in zip(embedding, weight))
            row.append(dot / (math.hypot(*embedding) * math.hypot(*weight)))
        rows.append(row)
    return torch.tensor(rows)


def test_cosines_against_a_loop(build, embeddings):
    classifier = build()
    output = classifier(embeddings)
    assert output.logits.shape == output.cosines.shape == (6, 4)
    torch.testing.assert_close(
        output.cosines.detach(),
        cosines_by_loop(embeddings, class_weights(classifier)),
    )


def test_gradients_against_finite_differences(embeddings):
    weights = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    inputs = embeddings.double().requires_grad_()
    assert torch.autograd.gradcheck(cosine_similarity, (inputs, weights))


def test_an_embedding_of_zero_does_no_harm(build):
    embeddings = torch.zeros(2, 16, requires_grad=True)
    output = build()(embeddings)
    assert torch.equal(output.cosines, torch.zeros(2, 4))
    loss = AngularMarginLoss(FixedMargin(0.2))
    total = loss(
        output.logits, output.cosines, embeddings, torch.tensor([0, 3])
    )
    (total + output.logits.square().sum()).backward()
    assert embeddings.grad.isfinite().all()


def test_an_embedding_on_its_class_does_no_harm(build):
    classifier = build()
    embeddings = class_weights(classifier).clone().requires_grad_()
    output = classifier(embeddings)
    loss = AngularMarginLoss(FixedMargin(0.2), scale=30.0)
    loss(output.logits, output.cosines, embeddings, torch.arange(4)).backward()
    for parameter in (embeddings, *classifier.parameters()):
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_logits_and_cosines_are_what_fits():
    pair = torch.zeros(2, 4), torch.ones(2, 4)
    assert logits_and_cosines(pair) == pair
    assert isinstance(logits_and_cosines(pair), ClassifierOutput)


def test_a_plain_tensor_is_logits_and_may_be_cosines():
    rows = torch.arange(8.0).reshape(2, 4)  # would unpack to two rows
    for output in (rows, rows.unsqueeze(1), (rows.unsqueeze(1), rows)):
        logits, cosines = logits_and_cosines(output)
        assert torch.equal(logits, rows) and torch.equal(cosines, rows)


@pytest.mark.parametrize(
    "output, told",
    [
        (torch.zeros(2, 3, 4), r"a tensor \[2, 3, 4\]$"),
        ((torch.zeros(2, 4),), r"a tensor \[2, 4\]$"),
        ((torch.zeros(2, 4), None), r"a tensor \[2, 4\] and a NoneType$"),
        ((), "nothing$"),
    ],
)
def test_what_does_not_fit_is_refused(output, told):
    with pytest.raises(ValueError, match="^classifier: .*" + told):
        logits_and_cosines(output)


def test_cosines_are_float32_inside_autocast(build, embeddings):
    classifier = build()
    with torch.autocast("cpu", torch.bfloat16):
        output = classifier(embeddings)
    assert output.cosines.dtype == torch.float32
    assert torch.equal(output.cosines, classifier(embeddings).cosines)


@pytest.mark.parametrize(
    "dtype, expected",
    [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_type_of_the_cosines(embeddings, dtype, expected):
    weights = torch.eye(4, 16, dtype=dtype)
    cosines = cosine_similarity(embeddings.to(dtype), weights)
    assert cosines.dtype == expected
    by_loop = cosines_by_loop(embeddings.to(dtype), weights)
    torch.testing.assert_close(cosines.float(), by_loop)


@pytest.mark.parametrize("epochs", [1, 5])
def test_the_scheduler_is_half_a_cosine_called_as_speechbrains(epochs):
    initial, final = 0.1, 0.02
    scheduler = CosineScheduler(initial, final, epochs)
    for epoch in range(1, epochs + 1):
        expected = [
            0.06 + 0.04 * math.cos(math.pi * passed / epochs)
            for passed in (epoch - 1, epoch)
        ]
        assert scheduler(epoch) == pytest.approx(expected)
    assert scheduler(epochs + 3) == pytest.approx((final, final))
    theirs = LinearScheduler(initial, final, epochs)
    assert len(scheduler(1)) == len(theirs(1))


def test_layer_norm_comes_before_logits_and_cosines(embeddings):
    classifier = LinearClassifier(16, 4, layer_norm=True)
    torch.nn.init.normal_(classifier.norm.weight)
    centred = embeddings - embeddings.mean(dim=1, keepdim=True)
    deviation = (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    normed = centred / deviation * classifier.norm.weight
    logits, cosines = classifier(embeddings)
    weights = class_weights(classifier)
    torch.testing.assert_close(
        logits, normed @ weights.T + classifier.linear.bias
    )
    torch.testing.assert_close(
        cosines, cosines_by_loop(normed.detach(), weights), atol=1e-5, rtol=0
    )
