"""The operating point against every offset that makes a difference.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.scores.metrics import metrics_of
from qlung_plugin.scores.operating_point import (
    AT_POINT,
    choose_offset,
    choose_operating_point,
    decide,
    with_operating_point,
)


def score(shares, truth, offset):
    """By the confusion matrix of what a loop calls the cycles."""
    confusion = np.zeros((shares.shape[1],) * 2)
    for row, label in zip(shares, truth):
        with np.errstate(divide="ignore"):
            logs = np.log(row)
        logs[0] += offset
        confusion[label, logs.argmax()] += 1
    return float(metrics_of(confusion)["score"])


def corpus(seed, classes, cycles):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, cycles)
    truth[:2] = 0, 1
    shares = rng.dirichlet(np.ones(classes), cycles)
    shares = (shares + 0.5 * np.eye(classes)[truth]) / 1.5
    return shares.round(2), truth  # some are 0, many equal


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([2, 4]), st.integers(2, 25))
def test_no_offset_does_better_and_none_as_good_is_closer_to_0(
    seed, classes, cycles
):
    shares, truth = corpus(seed, classes, cycles)
    found = choose_offset(shares, truth)
    with np.errstate(divide="ignore"):
        needed = np.log(shares[:, 1:].max(1)) - np.log(shares[:, 0])
    edges = np.unique(needed[np.isfinite(needed)].round(9))
    # On, and on either side of, every cycle that an offset turns.
    tried = np.concatenate([[0], edges, edges - 1e-6, edges + 1e-6])
    scores = {offset: score(shares, truth, offset) for offset in tried}
    best = max(scores.values())
    assert score(shares, truth, found) == pytest.approx(best, abs=1e-9)
    if scores[0] >= best - 1e-9:
        assert found == 0
    elif found:
        # Nothing as good lies between it and 0, but in its own gap of cycles.
        low, high = sorted((found, 0))
        between = [e for e in edges if low < e < high]
        for offset in tried:
            if low < offset < high and scores[offset] >= best - 1e-9:
                gap = [e for e in between if min(offset, found) < e]
                gap = [e for e in gap if e <= max(offset, found)]
                assert not [e for e in gap if abs(e - offset) > 2e-6]


def test_a_shifted_model_is_put_right():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 500)
    log_odds = 2 * (2 * truth - 1) + rng.normal(size=500)  # of abnormal
    p = 1 / (1 + np.exp(-(log_odds - 3)))  # calls nearly all normal
    shares = np.stack([1 - p, p], 1)
    offset = choose_offset(shares, truth)
    assert offset == pytest.approx(-3, abs=0.7)
    assert score(shares, truth, offset) > score(shares, truth, 0) + 20


@pytest.mark.parametrize("truth", [[0, 0], [1, 2]])
def test_one_kind_of_cycles_chooses_no_point(truth):
    assert choose_offset(np.full((2, 3), 1 / 3), truth) is None
    labels = ["normal", "a", "b"]
    table = pd.DataFrame(
        np.full((2, 3), 1 / 3), columns=[f"p_{k}" for k in labels]
    )
    table["label"] = np.array(labels)[truth]
    assert choose_operating_point(table, labels) is None
    assert with_operating_point(table, None, labels) is table


def test_a_point_moves_what_is_called_and_nothing_else():
    labels = ["normal", "crackle", "wheeze"]
    table = pd.DataFrame(
        {
            "label": ["normal", "normal", "wheeze", "crackle"],
            "p_normal": [0.8, 0.7, 0.5, 0.6],
            "p_crackle": [0.1, 0.1, 0.2, 0.3],
            "p_wheeze": [0.1, 0.2, 0.3, 0.1],
        }
    )
    point = choose_operating_point(table, labels)
    assert list(point) == labels and point["crackle"] == point["wheeze"] == 0
    # Between the last abnormal cycle and the first normal one.
    first, last = np.log(0.2 / 0.7), np.log(0.3 / 0.6)
    assert point["normal"] == pytest.approx((first + last) / 2)
    at = with_operating_point(table, point, labels)
    assert at[AT_POINT].tolist() == table["label"].tolist()
    pd.testing.assert_frame_equal(at.drop(columns=AT_POINT), table)
    shares = table.filter(like="p_")
    assert decide(shares).tolist() == [0] * 4
