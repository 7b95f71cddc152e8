"""The margins and losses to compare with, against loops over their formulas.

Authors
 * qlung_plugin contributors
"""

import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from sklearn.utils.class_weight import compute_class_weight

from qlung_plugin.nnet.losses import (
    AdaFaceLoss,
    AngularMarginLoss,
    CosineMarginLoss,
    FocalLoss,
    MagFaceLoss,
    MarginRegularizedLoss,
    WeightedCrossEntropyLoss,
)
from qlung_plugin.nnet.margins import (
    ClassImbalanceMargin,
    FixedMargin,
    LDAMMargin,
    MagFaceMargin,
    MarginSchedule,
    WeightedMargin,
)

ICBHI = (2063, 1215, 501, 363)  # training cycles of the official split
# No deadline: the machine may be busy.
WIDE = settings(max_examples=50, deadline=None)


def batch_of(size=12, dim=6, seed=0, norm=30.0, dtype=torch.float64):
    """Cosines of random embeddings, of different norms, to four classes."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, dim, generator=generator, dtype=dtype)
    spread = torch.rand(size, 1, generator=generator, dtype=dtype) + 0.5
    embeddings = norm * spread * embeddings
    weights = torch.randn(4, dim, generator=generator, dtype=dtype)
    cosines = F.normalize(embeddings, dim=1) @ F.normalize(weights, dim=1).T
    return cosines, embeddings, torch.arange(size) % 4


def loss_by_loop(cosines, targets, scale, target_cosine):
    """Mean of ``-log softmax`` with ``target_cosine(i, cosine)`` for the label."""
    losses = []
    for i, (row, target) in enumerate(zip(cosines.tolist(), targets.tolist())):
        row[target] = target_cosine(i, row[target])
        total = sum(math.exp(scale * cosine) for cosine in row)
        losses.append(-math.log(math.exp(scale * row[target]) / total))
    return sum(losses) / len(losses)


# --- CosFace and LDAM -------------------------------------------------------


def test_ldam_against_a_loop():
    cosines, embeddings, targets = batch_of()
    rarest = min(ICBHI)
    margins = [0.5 * (rarest / count) ** 0.25 for count in ICBHI]
    assert max(margins) == 0.5
    loss = CosineMarginLoss(LDAMMargin(ICBHI, max_margin=0.5), scale=30.0)
    expected = loss_by_loop(
        cosines, targets, 30.0, lambda i, c: c - margins[targets[i]]
    )
    measured = loss(None, cosines, embeddings, targets)
    assert measured.item() == pytest.approx(expected, rel=1e-6)


@WIDE
@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=8),
    st.floats(0.01, 1.0),
)
def test_ldam_margins_fall_with_the_fourth_root(counts, max_margin):
    margin = LDAMMargin(None, max_margin, num_classes=len(counts))
    margin.fit(counts)
    values = margin(torch.arange(len(counts))).double().numpy()
    constant = values * np.array(counts, dtype=float) ** 0.25
    np.testing.assert_allclose(constant, constant[0], rtol=1e-5)
    assert values.max() == pytest.approx(max_margin, rel=1e-6)


# --- weighted and focal cross entropy ---------------------------------------


def test_class_weights_are_scikit_learns_balanced_ones():
    targets = np.repeat(np.arange(4), ICBHI)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=targets)
    loss = WeightedCrossEntropyLoss(num_classes=4)
    loss.fit(ICBHI)
    np.testing.assert_allclose(loss.values.numpy(), expected, rtol=1e-6)


def test_weighted_cross_entropy_against_a_loop():
    logits, _, targets = batch_of()
    targets[0] = 3  # else the classes are as many, and weights cancel less
    weights = [sum(ICBHI) / (4 * count) for count in ICBHI]
    total = weight = 0.0
    for row, target in zip(logits, targets.tolist()):
        probability = row.exp()[target] / row.exp().sum()
        total -= weights[target] * math.log(probability)
        weight += weights[target]
    loss = WeightedCrossEntropyLoss(ICBHI)
    measured = loss(logits, None, None, targets).item()
    assert measured == pytest.approx(total / weight, rel=1e-6)
    assert measured != pytest.approx(F.cross_entropy(logits, targets).item())


def test_class_weights_have_to_be_known():
    with pytest.raises(RuntimeError, match="WeightedCrossEntropyLoss needs"):
        WeightedCrossEntropyLoss()(
            torch.zeros(1, 4), None, None, torch.tensor([0])
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_against_a_loop(gamma):
    logits, _, targets = batch_of()
    losses = []
    for row, target in zip(logits, targets.tolist()):
        probability = (row.exp()[target] / row.exp().sum()).item()
        losses.append(-((1 - probability) ** gamma) * math.log(probability))
    measured = FocalLoss(gamma)(logits, None, None, targets)
    assert measured.item() == pytest.approx(sum(losses) / len(losses))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_focal_loss_is_finite_at_certainty(gamma, dtype):
    logits = torch.tensor([[500.0, 0.0], [0.0, 500.0]], dtype=dtype)
    logits.requires_grad_()
    loss = FocalLoss(gamma)(logits, None, None, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="gamma must not be negative"):
        FocalLoss(-1.0)


# --- AdaFace ----------------------------------------------------------------


def adaface_by_loop(batches, m, h, momentum, scale):
    """Losses of consecutive batches, with statistics kept by hand."""
    losses, mean, std = [], None, None
    for cosines, embeddings, targets in batches:
        norms = [min(max(e.norm().item(), 1e-3), 100.0) for e in embeddings]
        batch_mean, batch_std = np.mean(norms), np.std(norms, ddof=1)
        mean = batch_mean if mean is None else mean
        std = batch_std if std is None else std
        mean = (1 - momentum) * mean + momentum * batch_mean
        std = (1 - momentum) * std + momentum * batch_std

        def target_cosine(i, cosine):
            z = (norms[i] - mean) / (std + 1e-3) * h
            z = min(max(z, -1.0), 1.0)
            return math.cos(math.acos(cosine) - m * z) - (m * z + m)

        losses.append(loss_by_loop(cosines, targets, scale, target_cosine))
    return losses, mean, std


def test_adaface_against_a_loop_over_batches():
    batches = [batch_of(seed=seed, norm=10.0 + seed) for seed in range(4)]
    loss = AdaFaceLoss(
        FixedMargin(0.4), scale=10.0, concentration=0.5, momentum=0.3
    )
    expected, mean, std = adaface_by_loop(batches, 0.4, 0.5, 0.3, 10.0)
    measured = [
        loss(None, cosines, embeddings, targets).item()
        for cosines, embeddings, targets in batches
    ]
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    assert loss.norm_mean.item() == pytest.approx(mean, rel=1e-6)
    assert loss.norm_std.item() == pytest.approx(std, rel=1e-6)


def test_adaface_statistics_stay_in_evaluation():
    cosines, embeddings, targets = batch_of()
    loss = AdaFaceLoss(FixedMargin(0.4))
    loss(None, cosines, embeddings, targets)
    kept = loss.norm_mean.item(), loss.norm_std.item()
    loss.eval()
    loss(None, cosines, 2 * embeddings, targets)
    assert (loss.norm_mean.item(), loss.norm_std.item()) == kept


def test_adaface_begins_with_a_batch_of_one():
    cosines, embeddings, targets = batch_of(size=1)
    loss = AdaFaceLoss(FixedMargin(0.4), scale=10.0)
    measured = loss(None, cosines, embeddings, targets)
    # Nothing to compare with: the margin is all on the cosine.
    expected = CosineMarginLoss(FixedMargin(0.4), scale=10.0)
    assert measured == expected(None, cosines, embeddings, targets)
    assert loss.norm_mean.isnan()


def _share_statistics(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    cosines, embeddings, targets = batch_of(size=12)
    half = slice(0, 5) if rank == 0 else slice(5, 12)
    loss = AdaFaceLoss(FixedMargin(0.4))
    loss(None, cosines[half], embeddings[half], targets[half])
    torch.save(loss.state_dict(), os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_adaface_statistics_are_those_of_all_processes(tmp_path):
    # They import PyTorch once for both.
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    processes = [
        context.Process(target=_share_statistics, args=(rank, str(tmp_path)))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    cosines, embeddings, targets = batch_of(size=12)
    whole = AdaFaceLoss(FixedMargin(0.4))
    whole(None, cosines, embeddings, targets)
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(state, dict(whole.state_dict()))


# --- MagFace ----------------------------------------------------------------


def test_magface_against_a_loop():
    cosines, embeddings, targets = batch_of(norm=25.0)
    norms = [min(max(e.norm().item(), 10.0), 110.0) for e in embeddings]
    assert min(norms) < 30 and max(norms) > 80

    def target_cosine(i, cosine):
        margin = (0.8 - 0.45) / (110 - 10) * (norms[i] - 10) + 0.45
        assert math.acos(cosine) + margin < math.pi
        return math.cos(math.acos(cosine) + margin)

    expected = loss_by_loop(cosines, targets, 10.0, target_cosine)
    expected += 35.0 * np.mean([1 / a + a / 110.0**2 for a in norms])
    loss = MagFaceLoss(MagFaceMargin(), scale=10.0)
    measured = loss(None, cosines, embeddings, targets).item()
    assert measured == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("norms", [(0.0, 1.0), (3.0, 3.0)])
def test_magface_bounds_that_cannot_be(norms):
    with pytest.raises(ValueError, match="lower_norm < upper_norm"):
        MagFaceMargin(lower_norm=norms[0], upper_norm=norms[1])


@pytest.mark.parametrize(
    "loss",
    [AdaFaceLoss(FixedMargin(0.4)), AngularMarginLoss(MagFaceMargin())],
    ids=lambda loss: type(loss).__name__,
)
def test_embeddings_have_to_be_given(loss):
    with pytest.raises(ValueError, match="embeddings must be .batch, dim."):
        loss(None, torch.zeros(1, 4), None, torch.tensor([0]))


# --- what all of them share -------------------------------------------------

FAMILY = {
    "arcface": lambda: AngularMarginLoss(FixedMargin(0.3), scale=5.0),
    "cosface": lambda: CosineMarginLoss(FixedMargin(0.3), scale=5.0),
    "ldam": lambda: CosineMarginLoss(LDAMMargin(ICBHI), scale=5.0),
    "adaface": lambda: AdaFaceLoss(FixedMargin(0.3), scale=5.0).eval(),
    "magface": lambda: MagFaceLoss(MagFaceMargin(), scale=5.0),
    "focal": lambda: FocalLoss(2.0),
    "weighted": lambda: WeightedCrossEntropyLoss(ICBHI),
}


@pytest.mark.parametrize("name", FAMILY)
def test_gradients_against_finite_differences(name):
    _, embeddings, targets = batch_of(size=5, norm=20.0)
    weights = torch.randn(4, 6, dtype=torch.float64)
    loss = FAMILY[name]().double()
    if name == "adaface":
        # The standardised norm is held: its dependence has no gradient.
        loss.norm_mean.fill_(20.0)
        loss.norm_std.fill_(1e9)

    def cost(embeddings, weights):
        cosines = F.normalize(embeddings, dim=1) @ F.normalize(weights, dim=1).T
        return loss(5 * cosines, cosines, embeddings, targets)

    embeddings.requires_grad_()
    weights.requires_grad_()
    assert torch.autograd.gradcheck(cost, (embeddings, weights))


# --- schedules --------------------------------------------------------------


@pytest.mark.parametrize(
    "start, initial, epoch, share",
    [
        (0, 0.0, 1, 0.0),
        (0, 0.0, 3, 0.5),
        (2, 0.2, 1, 0.2),
        (2, 0.2, 4, 0.4),
        (2, 0.2, 50, 1.0),
    ],
)
def test_share_by_epoch(start, initial, epoch, share):
    schedule = MarginSchedule(FixedMargin(0.3), 4, start, initial)
    schedule.set_progress(epoch, step=999)
    margins = schedule(torch.tensor([0, 1]))
    assert margins.tolist() == pytest.approx([0.3 * share] * 2, abs=1e-7)


def shares_of(schedule, calls):
    return [schedule(torch.tensor([0])).item() for _ in range(calls)]


def test_a_schedule_that_nobody_drives_counts_its_steps():
    schedule = MarginSchedule(FixedMargin(1.0), 4, start=1, unit="step")
    assert shares_of(schedule, 3) == [0, 0, 0.25]
    with torch.no_grad():  # a validation
        assert shares_of(schedule, 2) == [0.25, 0.25]
    assert shares_of(schedule.eval(), 2) == [0.25, 0.25]
    assert shares_of(schedule.train(), 4) == [0.5, 0.75, 1, 1]


def test_a_schedule_goes_on_counting_from_its_state():
    schedule = MarginSchedule(FixedMargin(1.0), 4, unit="step")
    shares_of(schedule, 3)
    fresh = MarginSchedule(FixedMargin(1.0), 4, unit="step")
    fresh.load_state_dict(schedule.state_dict())
    assert shares_of(fresh, 2) == [0.75, 1]


def test_a_schedule_that_is_told_does_not_count():
    schedule = MarginSchedule(FixedMargin(1.0), 4, unit="step")
    shares_of(schedule, 3)
    schedule.set_progress(epoch=1, step=1)
    assert shares_of(schedule, 2) == [0.25, 0.25]


def test_a_schedule_by_epochs_that_nobody_drives_is_an_error():
    schedule = MarginSchedule(FixedMargin(1.0), 4)
    with pytest.raises(RuntimeError, match="unit: step.*set_progress"):
        shares_of(schedule, 1)
    with torch.no_grad():  # a validation before
        assert shares_of(schedule, 1) == [0]


def test_a_schedule_that_counts_can_be_called_twice_before_the_gradient():
    # The share of the first call must not change with the second.
    embeddings = torch.full((1, 4), 30.0, requires_grad=True)
    schedule = MarginSchedule(MagFaceMargin(), 4, unit="step")
    margins = [
        schedule(torch.tensor([0]), embeddings=embeddings) for _ in range(3)
    ]
    sum(margins).sum().backward()
    margin = WeightedMargin([MagFaceMargin()], [1.0])
    (slope,) = torch.autograd.grad(
        margin(torch.tensor([0]), embeddings=embeddings), embeddings
    )
    torch.testing.assert_close(embeddings.grad, (0 + 0.25 + 0.5) * slope)


def test_progress_and_counts_reach_a_schedule_inside():
    schedule = MarginSchedule(ClassImbalanceMargin(), duration=2)
    margin = WeightedMargin([FixedMargin(0.2), schedule], [0.5, 0.5])
    loss = MarginRegularizedLoss(AngularMarginLoss(margin))
    loss.fit(ICBHI)
    loss.set_progress(epoch=2, step=0)
    targets = torch.arange(4)
    expected = 0.1 + 0.25 * ClassImbalanceMargin(ICBHI)(targets)
    torch.testing.assert_close(margin(targets), expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"unit": "batch"}, "unit must be epoch or step"),
        ({"duration": 0}, "duration must be positive"),
    ],
)
def test_schedules_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        MarginSchedule(FixedMargin(0.3), **{"duration": 4, **options})
