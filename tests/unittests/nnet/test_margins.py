"""Tests of the margins against the paper's numbers and formulas in loops.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.nnet.margins import (
    ClassImbalanceMargin,
    FixedMargin,
    Margin,
    QualityMargin,
    WeightedMargin,
)

ICBHI = (2063, 1215, 501, 363)  # training cycles of the official split
ICBHI_SC = (740, 147, 120, 42)  # of which single-channel recordings
TARGETS = torch.tensor([0, 1, 2, 3, 3])
QUALITY = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])

# No deadline: the machine may be busy.
WIDE = settings(max_examples=50, deadline=None)


def composite(counts=None):
    """QLung's margin as its recipe builds it."""
    margins = [QualityMargin(0.5), ClassImbalanceMargin(counts)]
    return WeightedMargin(margins, [0.5, 0.5])


def margin_by_loop(counts, target_margin=0.2):
    """The class-imbalance margin as the paper writes it."""
    scale = target_margin / math.log(len(counts))
    return [scale * -math.log(count / sum(counts)) for count in counts]


@pytest.mark.parametrize("value", [0.0, 0.2, -0.4, math.pi, 1])
def test_fixed_margin_is_its_value(value):
    margins = FixedMargin(value)(TARGETS)
    assert margins.dtype == torch.float32
    assert margins.tolist() == pytest.approx([value] * 5, abs=1e-6)


@WIDE
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9),
    st.floats(0, 3),
)
def test_quality_margin_is_kappa_times_the_quality(quality, kappa):
    targets = torch.zeros(len(quality), dtype=torch.long)
    margins = QualityMargin(kappa)(targets, torch.tensor(quality))
    assert margins.tolist() == pytest.approx(
        [kappa * q for q in quality], abs=1e-6
    )


@pytest.mark.parametrize("wrong", [-0.125, 1.5, math.nan, math.inf])
def test_quality_outside_its_range_is_named(wrong):
    quality = QUALITY.clone()
    quality[2] = wrong
    with pytest.raises(ValueError, match=r"quality .*\[0, 1\].*" + f"{wrong}"):
        QualityMargin()(TARGETS, quality)


@pytest.mark.parametrize("shape", [(4,), (5, 1), (1, 5), ()])
def test_quality_of_another_shape_is_named(shape):
    with pytest.raises(ValueError, match="quality must be"):
        QualityMargin()(TARGETS, torch.ones(shape))


def test_missing_quality_is_named():
    with pytest.raises(ValueError, match="quality"):
        composite(ICBHI)(TARGETS)


@pytest.mark.parametrize(
    "counts, published",
    [
        (ICBHI, [0.1006, 0.1769, 0.3047, 0.3512]),
        (ICBHI_SC, [0.0503, 0.2835, 0.3128, 0.4642]),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [list, tuple, np.array, torch.tensor, lambda c: torch.tensor(c).float()],
    ids=["list", "tuple", "array", "integers", "floats"],
)
def test_class_imbalance_margins_of_icbhi(counts, published, kind):
    margins = ClassImbalanceMargin(kind(counts))(torch.arange(4))
    assert margins.tolist() == pytest.approx(published, abs=5e-5)


@WIDE
@given(
    st.lists(st.integers(1, 10**7), min_size=2, max_size=12),
    st.floats(0.01, 1),
)
def test_class_imbalance_margin_against_a_loop(counts, target_margin):
    margin = ClassImbalanceMargin(counts, target_margin, len(counts))
    expected = margin_by_loop(counts, target_margin)
    margins = margin(torch.arange(len(counts)))
    assert margins.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4, 9])
def test_uniform_classes_get_the_target_margin(classes):
    margin = ClassImbalanceMargin([70] * classes, 0.3, classes)
    margins = margin(torch.arange(classes))
    assert margins.tolist() == pytest.approx([0.3] * classes)


def test_rarer_by_a_factor_costs_its_logarithm():
    margins = ClassImbalanceMargin([800, 100], num_classes=2)(torch.arange(2))
    difference = (margins[1] - margins[0]).item()
    assert difference == pytest.approx(0.2 / math.log(2) * math.log(8))


def test_fit_and_the_argument_agree():
    fitted = ClassImbalanceMargin()
    fitted.fit(ICBHI)
    assert torch.equal(fitted(TARGETS), ClassImbalanceMargin(ICBHI)(TARGETS))


@pytest.mark.parametrize(
    "counts",
    [
        (10, 0, 5, 5),
        (10, -1, 5, 5),
        (10, math.nan, 5, 5),
        (10, 5, 5),
        (10, 5, 5, 5, 5),
        (),
        ((10, 5), (5, 5)),
    ],
)
def test_counts_that_cannot_be_are_named(counts):
    with pytest.raises(ValueError, match="class_counts"):
        ClassImbalanceMargin(counts)
    margin = ClassImbalanceMargin(ICBHI)
    with pytest.raises(ValueError, match="class_counts"):
        margin.fit(counts)
    assert margin(torch.arange(4)).tolist() == pytest.approx(
        margin_by_loop(ICBHI)
    ), "a refused fit must not leave a trace"


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="num_classes"):
        ClassImbalanceMargin(num_classes=1)


def test_unfitted_use_is_an_error():
    with pytest.raises(RuntimeError, match="fit"):
        ClassImbalanceMargin()(TARGETS)
    with pytest.raises(RuntimeError, match="fit"):
        composite()(TARGETS, QUALITY)


def test_composite_against_the_formula():
    margins = composite(ICBHI)(TARGETS, QUALITY)
    by_class = margin_by_loop(ICBHI)
    expected = [
        0.5 * 0.5 * quality + 0.5 * by_class[target]
        for target, quality in zip(TARGETS.tolist(), QUALITY.tolist())
    ]
    assert margins.tolist() == pytest.approx(expected)
    # What the paper says it spans.
    assert margins.min().item() == pytest.approx(0.05, abs=5e-3)
    assert margins.max().item() == pytest.approx(0.43, abs=5e-3)


def test_weights_and_margins_must_match():
    with pytest.raises(ValueError, match="2 margins.* 1 weights"):
        WeightedMargin([FixedMargin(0.1), FixedMargin(0.2)], [1.0])


def test_containers_pass_the_class_counts_on():
    nested = WeightedMargin([composite(), FixedMargin(0.1)], [1.0, 0.0])
    nested.fit(torch.tensor(ICBHI))
    torch.testing.assert_close(
        nested(TARGETS, QUALITY), composite(ICBHI)(TARGETS, QUALITY)
    )


def test_unfitted_state_is_saved_as_nan():
    assert ClassImbalanceMargin().state_dict()["values"].isnan().all()
    fitted = ClassImbalanceMargin(ICBHI)
    fitted.load_state_dict(ClassImbalanceMargin().state_dict())
    with pytest.raises(RuntimeError, match="fit"):
        fitted(TARGETS)


@pytest.mark.parametrize("margin", [Margin(), FixedMargin(0.1)])
def test_counts_do_nothing_where_nobody_needs_them(margin):
    margin.fit((0, 0, -1))
    assert not margin.state_dict()


def test_a_margin_of_ones_own_has_the_embeddings():
    class NormMargin(Margin):
        def forward(self, targets, quality=None, embeddings=None):
            return embeddings.norm(dim=-1)

    embeddings = torch.arange(5.0).unsqueeze(1)
    margin = WeightedMargin([NormMargin(), FixedMargin(1.0)], [0.1, 0.2])
    margins = margin(TARGETS, embeddings=embeddings)
    assert margins.tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bad_values_are_nan_on_a_gpu():
    quality = torch.tensor([0.5, 1.5, math.nan], device="cuda")
    targets = torch.zeros(3, dtype=torch.long, device="cuda")
    margins = QualityMargin()(targets, quality)
    assert margins.isnan().tolist() == [False, True, True]
    assert ClassImbalanceMargin().cuda()(targets).isnan().all()
