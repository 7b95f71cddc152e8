"""Tests of the losses against loops, SpeechBrain's and cosine softmax.

Authors
 * qlung_plugin contributors
"""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import (
    assume,
    given,
    settings,
    strategies as st,
)

from qlung_plugin.nnet.losses import (
    AngularMarginLoss,
    MarginRegularizedLoss,
    angular_margin_cross_entropy,
)
from qlung_plugin.nnet.margins import (
    ClassImbalanceMargin,
    QualityMargin,
    WeightedMargin,
)
from speechbrain.nnet.losses import (
    AdditiveAngularMargin,
    AngularMargin,
    LogSoftmaxWrapper,
)

ICBHI = (2063, 1215, 501, 363)  # training cycles of the official split
# 0 is among them, and pi itself.
MARGINS = [math.pi * step / 20 for step in range(-20, 21)]

# No deadline: the machine may be busy.
WIDE = settings(max_examples=100, deadline=None)


def uniform(*shape, low=-1.0, high=1.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return (low + (high - low) * values).to(dtype)


def labels(batch, classes=4):
    return torch.arange(batch) % classes


def qlung_margin(counts=ICBHI):
    margins = [QualityMargin(0.5), ClassImbalanceMargin(counts)]
    return WeightedMargin(margins, [0.5, 0.5])


def qlung_loss(counts=ICBHI):
    """The paper's objective with its numbers."""
    return MarginRegularizedLoss(
        AngularMarginLoss(qlung_margin(counts), scale=15.0), weight=0.4
    )


def shifted_by_loop(cosine, margin):
    """The target's cosine under a margin, from the angle itself."""
    angle = math.acos(cosine) + margin
    if angle > math.pi:
        return cosine - max(margin * math.sin(margin), 1 - math.cos(margin))
    if angle < 0:
        return cosine + 1 - math.cos(margin)
    return math.cos(angle)


def losses_by_loop(cosines, targets, margins, scale, cosine_margins=None):
    """The loss of every sample, term by term."""
    losses = []
    for i, (row, target) in enumerate(zip(cosines, targets)):
        logits = [scale * cosine for cosine in row]
        value = shifted_by_loop(row[target], margins[i])
        if cosine_margins is not None:
            value -= cosine_margins[i]
        logits[target] = scale * value
        peak = max(logits)
        total = math.fsum(math.exp(logit - peak) for logit in logits)
        losses.append(peak + math.log(total) - logits[target])
    return losses


def speechbrain_loss(cosines, targets, margin, scale):
    loss = LogSoftmaxWrapper(AdditiveAngularMargin(margin, scale))
    return loss(cosines.unsqueeze(1), targets.unsqueeze(1))


def gradient(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


@st.composite
def batches(draw):
    size, classes = draw(st.integers(1, 4)), draw(st.integers(2, 5))

    def numbers(low, high, count=size):
        element = st.floats(low, high)
        return draw(st.lists(element, min_size=count, max_size=count))

    cosines = [numbers(-1, 1, classes) for _ in range(size)]
    targets = [draw(st.integers(0, classes - 1)) for _ in range(size)]
    margins = numbers(-math.pi, math.pi)
    # On the edge itself, rounding decides on which side a sample is.
    for row, target, margin in zip(cosines, targets, margins):
        edge = math.acos(row[target]) + margin - math.pi
        assume(margin <= 0 or abs(edge) > 1e-6)
    return cosines, targets, margins, numbers(-1, 1), draw(st.floats(0.1, 40))


@WIDE
@given(batches())
def test_against_a_loop_over_angles(batch):
    cosines, targets, margins, cosine_margins, scale = batch
    for extra in (None, cosine_margins):
        losses = angular_margin_cross_entropy(
            torch.tensor(cosines, dtype=torch.float64),
            torch.tensor(targets),
            torch.tensor(margins, dtype=torch.float64),
            scale,
            reduction="none",
            cosine_margins=None if extra is None else torch.tensor(extra),
        )
        expected = losses_by_loop(cosines, targets, margins, scale, extra)
        # A sine of less than 2e-8 is taken as that, a cosine margin rounded.
        assert losses.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.2, 0.5, 1.2, math.pi / 2, 2.0])
@pytest.mark.parametrize("scale", [1.0, 15.0, 30.0])
def test_one_constant_margin_is_speechbrains(margin, scale):
    cosines = uniform(403, 4, low=-0.999, high=0.999)
    cosines.requires_grad_()
    targets = labels(403)
    margins = torch.full((403,), margin)
    ours = angular_margin_cross_entropy(cosines, targets, margins, scale)
    theirs = speechbrain_loss(cosines, targets, margin, scale)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        gradient(ours, cosines), gradient(theirs, cosines)
    )


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.35])
def test_cosine_margin_is_speechbrains(margin):
    cosines, targets = uniform(40, 5), labels(40, 5)
    ours = angular_margin_cross_entropy(
        cosines, targets, 0.0, 20.0, cosine_margins=torch.full((40,), margin)
    )
    theirs = LogSoftmaxWrapper(AngularMargin(margin, 20.0))
    theirs = theirs(cosines.unsqueeze(1), targets.unsqueeze(1))
    torch.testing.assert_close(ours, theirs)
    number = angular_margin_cross_entropy(
        cosines, targets, 0.0, 20.0, cosine_margins=margin
    )
    assert torch.equal(number, ours)


@pytest.mark.parametrize("low, high", [(-3.1, -0.1), (-0.4, 0.4), (0.1, 3.1)])
def test_gradients_against_finite_differences(low, high):
    cosines = uniform(24, 3, low=-0.95, high=0.95, dtype=torch.float64)
    margins = uniform(24, low=low, high=high, seed=1, dtype=torch.float64)
    cosine_margins = uniform(24, seed=2, dtype=torch.float64)
    targets = labels(24, 3)
    angles = cosines[range(24), targets].acos() + margins
    for edge in (0, math.pi):  # where there may be a step
        assert (angles - edge).abs().min() > 1e-4
    outside = ((angles < 0) | (angles > math.pi)).sum()
    assert outside > 4 or high < 1

    def loss(cosines, margins, cosine_margins):
        return angular_margin_cross_entropy(
            cosines, targets, margins, 4.0, "none", cosine_margins
        )

    inputs = cosines, margins, cosine_margins
    assert torch.autograd.gradcheck(
        loss, [tensor.requires_grad_() for tensor in inputs]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [15.0, 1.0])
def test_a_larger_angle_never_costs_less(dtype, scale):
    angles = torch.cat(
        [
            torch.linspace(0, math.pi, 1001, dtype=torch.float64),
            torch.logspace(-12, -2, 101, dtype=torch.float64),
            math.pi - torch.logspace(-12, -2, 101, dtype=torch.float64),
        ]
    )
    cosines = torch.zeros(len(angles), 2, dtype=dtype)
    cosines[:, 0] = angles.sort()[0].cos()
    cosines.requires_grad_()
    targets = torch.zeros(len(angles), dtype=torch.long)
    rounding = 8 * scale * torch.finfo(dtype).eps
    for margin in MARGINS:
        losses = angular_margin_cross_entropy(
            cosines, targets, margin, scale, reduction="none"
        )
        assert losses.isfinite().all()
        assert losses.diff().min() >= -rounding, margin
        (slopes,) = gradient(losses.sum(), cosines)
        assert slopes.isfinite().all()
        assert slopes[:, 0].max() <= rounding, margin


@pytest.mark.parametrize("margin", [-2.5, -1.0, -0.2, 2.5, 3.0])
def test_continuous_where_the_angle_leaves_its_range(margin):
    edge = -margin if margin < 0 else math.pi - margin
    angles = torch.tensor([edge - 1e-7, edge + 1e-7], dtype=torch.float64)
    cosines = torch.stack([angles.cos(), torch.zeros(2)], dim=1)
    targets = torch.zeros(2, dtype=torch.long)
    before, after = angular_margin_cross_entropy(
        cosines, targets, margin, 15.0, reduction="none"
    )
    assert before.item() == pytest.approx(after.item(), abs=1e-4)


@WIDE
@given(
    st.floats(0, math.pi), st.floats(0, math.pi / 2), st.floats(0, math.pi / 2)
)
def test_a_larger_margin_never_costs_less(angle, margin, other):
    smaller, larger = sorted([margin, other])
    cosines = torch.tensor([[math.cos(angle), 0.0]] * 2, dtype=torch.float64)
    low, high = angular_margin_cross_entropy(
        cosines,
        torch.zeros(2, dtype=torch.long),
        torch.tensor([smaller, larger], dtype=torch.float64),
        10.0,
        reduction="none",
    )
    assert high >= low - 1e-6


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16]
)
@pytest.mark.parametrize("margin", [-math.pi, -0.3, 0.0, 0.2, 2.0, math.pi])
@pytest.mark.parametrize("autocast", [False, True])
def test_finite_at_the_ends(dtype, margin, autocast):
    # The last two rows round to more than 1 where the type allows for it.
    above = 1 + torch.finfo(dtype).eps
    ends = torch.tensor([-1.0, 0.0, 1.0, above, -above], dtype=dtype)
    cosines = ends.repeat(3, 1).t().contiguous().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = angular_margin_cross_entropy(
            cosines, torch.tensor([0, 1, 2, 0, 1]), margin, 30.0
        )
    assert loss.isfinite()
    (slopes,) = gradient(loss, cosines)
    assert slopes.isfinite().all()
    assert slopes.dtype == dtype


def test_autocast_changes_nothing():
    cosines, targets = uniform(16, 4).requires_grad_(), labels(16)
    quality = uniform(16, low=0.0, seed=3)
    loss = qlung_loss()
    plain = loss(37 * cosines, cosines, None, targets, quality)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(37 * cosines, cosines, None, targets, quality)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)
    assert torch.equal(*gradient(plain, cosines), *gradient(inside, cosines))


@pytest.mark.parametrize(
    "name, shapes",
    [
        ("cosines", {"cosines": (3, 1, 4)}),
        ("targets", {"targets": (2,)}),
        ("margins", {"margins": (3, 1)}),
        ("cosine_margins", {"cosine_margins": (4,)}),
    ],
)
def test_shape_mismatch_is_named(name, shapes):
    arguments = {"cosines": (3, 4), "targets": (3,), "margins": (3,)} | shapes
    arguments = {key: torch.zeros(shape) for key, shape in arguments.items()}
    arguments["targets"] = arguments["targets"].long()
    with pytest.raises(ValueError, match=name):
        angular_margin_cross_entropy(scale=15.0, **arguments)


def test_qlung_objective_against_the_formula():
    cosines, targets = uniform(12, 4), labels(12)
    quality = uniform(12, low=0.0, seed=4)
    total = qlung_loss()(37 * cosines, cosines, None, targets, quality)

    rarity = [-math.log(count / sum(ICBHI)) for count in ICBHI]
    margins = [
        0.5 * (0.5 * quality[i].item())
        + 0.5 * (0.2 / math.log(4) * rarity[targets[i]])
        for i in range(12)
    ]
    rows, truth = cosines.tolist(), targets.tolist()
    plain = losses_by_loop(rows, truth, [0.0] * 12, 37.0)
    margined = losses_by_loop(rows, truth, margins, 15.0)
    expected = (sum(plain) + 0.4 * sum(margined)) / 12
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_counts_do_nothing_where_nobody_needs_them():
    loss = MarginRegularizedLoss(AngularMarginLoss(QualityMargin()))
    batch = uniform(8, 4), uniform(8, 4), None, labels(8), torch.ones(8)
    before = loss(*batch)
    loss.fit((0, 0, 1))
    assert torch.equal(loss(*batch), before)


def test_an_empty_batch_adds_up_to_nothing():
    loss = angular_margin_cross_entropy(
        torch.zeros(0, 4), labels(0), torch.zeros(0), 15.0, reduction="sum"
    )
    assert loss.item() == 0


def test_checks_look_at_no_value_away_from_the_cpu():
    # A tensor on the meta device has no values: whatever asks for one, which
    # on a GPU would wait for it, raises.
    cosines = torch.zeros(6, 4, device="meta", requires_grad=True)
    targets, quality = labels(6).to("meta"), torch.ones(6, device="meta")
    with pytest.raises(RuntimeError):
        bool((targets > 3).any())
    loss = qlung_loss().to("meta")
    loss(37 * cosines, cosines, None, targets, quality).backward()
    assert cosines.grad.shape == (6, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_a_gpu_does_not_synchronise():
    cosines = uniform(64, 4).cuda().requires_grad_()
    targets, quality = labels(64).cuda(), torch.ones(64, device="cuda")
    loss = qlung_loss().cuda()
    expected = qlung_loss()(
        37 * cosines.cpu(), cosines.cpu(), None, labels(64), torch.ones(64)
    )
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.float16):
            value = loss(37 * cosines, cosines, None, targets, quality)
        value.backward()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    torch.testing.assert_close(value.cpu(), expected)


def loaded_after(statement):
    """Names of the top-level modules loaded after an import."""
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    listing = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in listing.stdout.split()}


def test_the_package_is_light():
    loaded = loaded_after("import qlung_plugin")
    assert "qlung_plugin" in loaded
    assert not loaded & {"torch", "torchaudio", "speechbrain", "numpy"}


def test_the_mathematics_needs_no_speechbrain():
    loaded = loaded_after(
        "import qlung_plugin.nnet.losses, qlung_plugin.nnet.margins,"
        " qlung_plugin.nnet.classifiers, qlung_plugin.lobes.quality,"
        " qlung_plugin.processing.quality"
    )
    assert "torch" in loaded
    assert not loaded & {"speechbrain", "torchaudio"}
