"""Tests of the losses as the cost of a recipe, against SpeechBrain's.

Authors
 * qlung_plugin contributors
"""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from qlung_plugin.nnet.losses import (
    AdaFaceLoss,
    AngularMarginLoss,
    CosineMarginLoss,
    CrossEntropyLoss,
    MarginCost,
    MarginRegularizedLoss,
    WeightedCrossEntropyLoss,
)
from qlung_plugin.nnet.margins import (
    ClassImbalanceMargin,
    FixedMargin,
    MagFaceMargin,
    Margin,
    MarginSchedule,
    QualityMargin,
    WeightedMargin,
)
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

COUNTS = [6, 3, 1]
SCALE = 30.0


class Quality:
    """A tap: what it is asked for, it has."""

    def __init__(self, *values):
        self.values = torch.tensor(values)
        self.asked = []

    def take(self, batch, lengths=None):
        self.asked.append((batch, lengths))
        return self.values[:batch]


def batch_of(size=8, classes=3, seed=0, dtype=torch.float32):
    """Cosines ``[batch, 1, class]`` and targets ``[batch, 1]``."""
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(size, 1, classes, generator=generator, dtype=dtype)
    return 1.9 * cosines - 0.95, (torch.arange(size) % classes).unsqueeze(1)


def fixed(margin=0.2):
    return MarginCost(FixedMargin(margin), scale=SCALE)


def speechbrains(margin=0.2):
    return LogSoftmaxWrapper(AdditiveAngularMargin(margin, SCALE))


def imbalance():
    return ClassImbalanceMargin(num_classes=3)


# --- the calling convention -------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
def test_value_and_gradient_are_speechbrains(inside, margin):
    predictions, targets = batch_of()
    predictions.requires_grad_()
    cost = LogSoftmaxWrapper(fixed(margin)) if inside else fixed(margin)
    ours = cost(predictions, targets, torch.ones(8))
    theirs = speechbrains(margin)(predictions, targets, torch.ones(8))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(ours, predictions),
        torch.autograd.grad(theirs, predictions),
    )


@pytest.mark.parametrize("cut_predictions", [False, True])
@pytest.mark.parametrize("cut_targets", [False, True])
def test_shapes_of_recipes(cut_predictions, cut_targets):
    predictions, targets = batch_of()
    expected = fixed()(predictions, targets)
    if cut_predictions:
        predictions = predictions.squeeze(1)
    if cut_targets:
        targets = targets.squeeze(1)
    assert torch.equal(fixed()(predictions, targets), expected)


def test_half_precision_is_computed_in_float32():
    predictions, targets = batch_of()
    predictions = predictions.bfloat16()
    expected = fixed()(predictions.float(), targets)
    for cost in (fixed(), LogSoftmaxWrapper(fixed())):
        with torch.autocast("cpu", torch.bfloat16):
            value = cost(predictions, targets)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    "cost",
    [
        LogSoftmaxWrapper(MarginCost(FixedMargin(0.3), scale=8.0)),
        MarginCost(
            MarginRegularizedLoss(AngularMarginLoss(FixedMargin(0.3))), scale=8
        ),
    ],
    ids=["margin", "regularized"],
)
def test_gradient_against_finite_differences(cost):
    predictions, targets = batch_of(dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda predictions: cost(predictions, targets),
        predictions.requires_grad_(),
    )


@pytest.mark.parametrize(
    "predictions, targets",
    [((4, 2, 3), (4, 1)), ((4, 3), (8, 1))],
)
def test_other_shapes_are_named(predictions, targets):
    with pytest.raises(ValueError, match="replicate_labels"):
        fixed()(torch.zeros(predictions), torch.zeros(targets).long())


@pytest.mark.parametrize(
    "targets", [torch.full((2, 3), 1 / 3), torch.zeros(2, 1)]
)
def test_floats_that_are_not_the_wrappers_are_named(targets):
    with pytest.raises(ValueError, match="targets must be class indices, or"):
        fixed()(torch.zeros(2, 3), targets)


@pytest.mark.parametrize("kind", ["logits", "two log-probabilities"])
def test_predictions_that_are_no_cosines_are_named(kind):
    logits, targets = -9 * batch_of()[0].abs(), batch_of()[1]
    if kind != "logits":
        logits, targets = batch_of(classes=2)
        logits = (0.3 * logits).log_softmax(dim=-1)
        assert logits.min() > -1
    for cost in (
        fixed(),
        MarginCost(
            MarginRegularizedLoss(AngularMarginLoss(FixedMargin(0.1))), scale=1
        ),
    ):
        with pytest.raises(ValueError, match="needs cosines, but .*ECAPA_TDNN"):
            cost(logits, targets)
    # Those of a loss that wants none are fine.
    MarginCost(CrossEntropyLoss(), scale=1)(logits, targets)


# --- the losses -------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        WeightedCrossEntropyLoss(COUNTS, num_classes=3),
        MarginRegularizedLoss(AngularMarginLoss(FixedMargin(0.2))),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_loss_on_logits_gets_scaled_predictions(loss):
    predictions, targets = batch_of()
    cosines, indices = predictions.squeeze(1), targets.squeeze(1)
    expected = loss(37 * cosines, cosines, None, indices)
    assert torch.equal(
        MarginCost(loss, scale=37)(predictions, targets), expected
    )
    with pytest.raises(ValueError, match="inside|without the wrapper"):
        LogSoftmaxWrapper(MarginCost(loss, scale=37))(predictions, targets)


def test_a_margin_loss_has_its_own_scale():
    predictions, targets = batch_of()
    loss = CosineMarginLoss(FixedMargin(0.35), scale=11.0)
    expected = loss(None, predictions[:, 0], None, targets[:, 0])
    for cost in (MarginCost(loss), LogSoftmaxWrapper(MarginCost(loss))):
        torch.testing.assert_close(cost(predictions, targets), expected)


def test_a_margin_loss_with_more_than_a_margin_does_not_fit_the_wrapper():
    class Penalised(AngularMarginLoss):
        def forward(self, logits, cosines, *rest):
            return super().forward(logits, cosines, *rest) + 1

    predictions, targets = batch_of()
    cost = MarginCost(Penalised(FixedMargin(0.2), scale=SCALE))
    expected = fixed()(predictions, targets) + 1
    torch.testing.assert_close(cost(predictions, targets), expected)
    with pytest.raises(ValueError, match="Penalised is more than a margin"):
        LogSoftmaxWrapper(cost)(predictions, targets)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((FixedMargin(0.2),), "FixedMargin needs a scale"),
        ((CrossEntropyLoss(),), "needs a scale.* 1, if the predictions are"),
        (
            (AngularMarginLoss(FixedMargin(0.2), 7.0), None, None, 30.0),
            "scale of its own, 7",
        ),
        ((AdditiveAngularMargin(0.2, 30),), "not AdditiveAngularMargin"),
        ((AdaFaceLoss(FixedMargin(0.4)),), "AdaFaceLoss needs the embeddings"),
        (
            (WeightedMargin([MagFaceMargin()], [1.0]), None, None, 30.0),
            "MagFaceMargin needs the embeddings",
        ),
        ((QualityMargin(), None, None, 30.0), "QualityTap, and give that"),
        (
            (QualityMargin(), nn.Identity(), None, 30.0),
            "must be a .*QualityTap.*, not Identity",
        ),
        (
            (imbalance(), None, "train.json", 30.0, "label"),
            "label_key and label_encoder of MarginCost go together",
        ),
    ],
)
def test_what_cannot_work_says_so_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        MarginCost(*arguments)


def test_the_wrapper_does_not_go_on_without_the_margin():
    class Broken(Margin):
        def forward(self, targets, quality=None, embeddings=None):
            return len(embeddings)  # a TypeError: there are none

    predictions, targets = batch_of()
    cost = MarginCost(Broken(), scale=SCALE)
    # What the wrapper makes of a TypeError of anybody else:
    assert LogSoftmaxWrapper(lambda x, y=None: x if y is None else len(None))(
        predictions, targets
    )
    for outer in (cost, LogSoftmaxWrapper(cost)):
        with pytest.raises(RuntimeError, match="AngularMarginLoss failed"):
            outer(predictions, targets)


# --- quality ----------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
def test_quality_of_the_tap_reaches_the_margin(inside):
    predictions, targets = batch_of(size=3)
    tap = Quality(0.0, 0.5, 1.0)
    cost = MarginCost(QualityMargin(0.4), tap, scale=SCALE)
    lengths = torch.tensor([0.1, 0.2, 1.0])
    outer = LogSoftmaxWrapper(cost) if inside else cost
    expected = AngularMarginLoss(QualityMargin(0.4), SCALE)(
        None, predictions[:, 0], None, targets[:, 0], tap.values
    )
    torch.testing.assert_close(outer(predictions, targets, lengths), expected)
    (asked,) = tap.asked
    assert asked[0] == 3 and asked[1] is (None if inside else lengths)


def test_the_features_are_not_part_of_the_cost():
    tap = nn.Linear(3, 3)
    tap.take = lambda batch, lengths=None: torch.ones(batch)
    cost = MarginCost(FixedMargin(0.2), tap, scale=SCALE)
    assert cost.quality is tap
    assert not list(cost.parameters())
    assert not any("weight" in key for key in cost.state_dict())


# --- class counts -----------------------------------------------------------


def test_a_list_of_counts():
    predictions, targets = batch_of()
    cost = MarginCost(imbalance(), class_counts=COUNTS, scale=SCALE)
    expected = AngularMarginLoss(
        ClassImbalanceMargin(COUNTS, num_classes=3), SCALE
    )(None, predictions[:, 0], None, targets[:, 0])
    assert torch.equal(cost(predictions, targets), expected)


def test_a_file_is_read_with_the_first_batch(tmp_path):
    path = tmp_path / "counts.json"
    cost = MarginCost(imbalance(), class_counts=str(path), scale=SCALE)
    path.write_text("[6, 3, 1]")
    listed = MarginCost(imbalance(), class_counts=COUNTS, scale=SCALE)
    assert torch.equal(cost(*batch_of()), listed(*batch_of()))
    path.unlink()
    cost(*batch_of())


def test_a_file_of_other_classes_is_named(tmp_path):
    path = tmp_path / "counts.json"
    path.write_text("[6, 3, 1]")
    cost = MarginCost(imbalance(), class_counts=path, scale=SCALE)
    with pytest.raises(ValueError, match="counts.json has 3 classes, .* of 4"):
        cost(*batch_of(classes=4))


@pytest.mark.parametrize("inside", [False, True])
def test_counts_of_the_training_so_far(inside):
    cost = MarginCost(imbalance(), class_counts="running", scale=SCALE)
    outer = LogSoftmaxWrapper(cost) if inside else cost
    with torch.no_grad():
        outer(*batch_of())  # of a validation before
    assert cost.counts.tolist() == [1, 1, 1]
    for _ in range(2):
        value = outer(*batch_of())
    assert cost.counts.tolist() == [1 + 2 * 3, 1 + 2 * 3, 1 + 2 * 2]
    listed = MarginCost(imbalance(), class_counts=[7, 7, 5], scale=SCALE)
    torch.testing.assert_close(value, listed(*batch_of()))
    with torch.no_grad():
        assert torch.equal(outer(*batch_of()), value)
    cost.eval()
    outer(*batch_of())
    assert cost.counts.tolist() == [7, 7, 5]


def test_running_counts_are_those_of_all_processes(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2)
    )
    cost = MarginCost(imbalance(), class_counts="running", scale=SCALE)
    cost(*batch_of())
    assert cost.counts.tolist() == [1 + 2 * 3, 1 + 2 * 3, 1 + 2 * 2]


def test_counts_that_nobody_told_are_asked_for():
    cost = MarginCost(imbalance(), scale=SCALE)
    for outer in (cost, LogSoftmaxWrapper(cost)):
        with pytest.raises(RuntimeError, match="ClassImbalanceMargin needs .*"):
            outer(*batch_of())
    cost.fit(COUNTS)
    listed = MarginCost(imbalance(), class_counts=COUNTS, scale=SCALE)
    assert torch.equal(cost(*batch_of()), listed(*batch_of()))


def test_a_margin_of_other_classes_is_named():
    cost = MarginCost(ClassImbalanceMargin([6, 3, 1, 1]), scale=SCALE)
    with pytest.raises(ValueError, match="are of 3 classes, but .* of 4"):
        cost(*batch_of())


# --- schedules --------------------------------------------------------------


def test_a_schedule_by_epochs_asks_for_them():
    ramp = MarginSchedule(FixedMargin(0.4), duration=4)
    cost = MarginCost(ramp, scale=SCALE)
    for outer in (cost, LogSoftmaxWrapper(cost)):
        with pytest.raises(RuntimeError, match="unit: step.*set_progress"):
            outer(*batch_of())
    cost.set_progress(epoch=3, step=0)
    torch.testing.assert_close(cost(*batch_of()), fixed(0.2)(*batch_of()))


# --- state and device -------------------------------------------------------


def whole_cost():
    ramp = MarginSchedule(imbalance(), duration=10, unit="step")
    margins = WeightedMargin([ramp, QualityMargin()], [0.5, 0.5])
    loss = MarginRegularizedLoss(AngularMarginLoss(margins))
    tap = Quality(*torch.linspace(0, 1, 8))
    return MarginCost(loss, tap, "running", scale=37.0)


def through_a_file(cost):
    file = io.BytesIO()
    torch.save(cost.state_dict(), file)
    file.seek(0)
    fresh = whole_cost()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


@pytest.mark.parametrize(
    "copied",
    [
        through_a_file,
        copy.deepcopy,
        lambda cost: pickle.loads(pickle.dumps(cost)),
    ],
    ids=["state", "deepcopy", "pickle"],
)
def test_a_training_goes_on_where_it_was(copied):
    cost = whole_cost()
    for seed in range(3):
        cost(*batch_of(seed=seed))
    again = copied(cost)
    for seed in range(3, 6):
        batch = batch_of(seed=seed)
        assert torch.equal(again(*batch), cost(*batch))


def test_state_before_the_first_batch_loads():
    fresh = whole_cost()
    fresh.load_state_dict(whole_cost().state_dict())
    assert fresh.counts is None


def test_what_it_holds_follows_the_predictions():
    cost = MarginCost(imbalance(), class_counts=COUNTS, scale=SCALE)
    cost(*batch_of())
    # The meta device has no values: whatever asks for one, raises.
    predictions, targets = (tensor.to("meta") for tensor in batch_of())
    assert cost(predictions, targets).device.type == "meta"
    assert {buffer.device.type for buffer in cost.buffers()} == {"meta"}
