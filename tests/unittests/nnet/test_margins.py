"""Tests of the margins against the paper's numbers and formulas in loops.

Authors
 * qlung_plugin contributors
"""

import math

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


@pytest.mark.parametrize("wrong", [-0.125, 1.5, math.nan])
def test_quality_outside_its_range_is_named(wrong):
    quality = QUALITY.clone()
    quality[2] = wrong
    with pytest.raises(ValueError, match=r"quality .*\[0, 1\].*" + f"{wrong}"):
        QualityMargin()(TARGETS, quality)


@pytest.mark.parametrize("quality", [torch.ones(5, 1), None])
def test_a_quality_per_sample_is_needed(quality):
    with pytest.raises(ValueError, match="quality"):
        QualityMargin()(TARGETS, quality)


@pytest.mark.parametrize(
    "counts, published",
    [
        (ICBHI, [0.1006, 0.1769, 0.3047, 0.3512]),
        (ICBHI_SC, [0.0503, 0.2835, 0.3128, 0.4642]),
    ],
)
@pytest.mark.parametrize("kind", [list, torch.tensor])
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


@pytest.mark.parametrize(
    "counts",
    [
        (10, 0, 5, 5),
        (10, math.nan, 5, 5),
        (10, 5, 5),
        ((10, 5), (5, 5)),
    ],
)
def test_counts_that_cannot_be_are_named(counts):
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
        composite()(TARGETS, QUALITY)


def test_weights_and_margins_must_match():
    with pytest.raises(ValueError, match="2 margins.* 1 weights"):
        WeightedMargin([FixedMargin(0.1), FixedMargin(0.2)], [1.0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bad_values_are_nan_on_a_gpu():
    quality = torch.tensor([0.5, 1.5, math.nan], device="cuda")
    targets = torch.zeros(3, dtype=torch.long, device="cuda")
    margins = QualityMargin()(targets, quality)
    assert margins.isnan().tolist() == [False, True, True]
    assert ClassImbalanceMargin().cuda()(targets).isnan().all()


def test_controls_have_the_same_qualities_elsewhere():
    quality = torch.linspace(0, 1, 101, dtype=torch.float64)
    targets = torch.zeros(101, dtype=torch.long)
    margin = QualityMargin(0.5, control="shuffled")
    first, second = margin(targets, quality), margin(targets, quality)
    assert first.sort().values.tolist() == (0.5 * quality).tolist()
    assert not first.equal(0.5 * quality)
    assert not first.equal(second)
    turned = QualityMargin(0.5, control="reversed")(targets, quality)
    assert turned.tolist() == pytest.approx(
        [0.5 * (1 - q) for q in quality.tolist()]
    )


def test_shuffled_quality_follows_the_seed():
    quality, margin = torch.rand(32), QualityMargin(control="shuffled")
    targets = torch.zeros(32, dtype=torch.long)
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(margin(targets, quality))
    assert results[0].equal(results[1])


def test_an_unknown_control_is_refused():
    with pytest.raises(ValueError, match="'shuffel'"):
        QualityMargin(control="shuffel")
