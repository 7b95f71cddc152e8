"""Tests of what a training draws.

Authors
 * qlung_plugin contributors
"""

from collections import Counter

import pytest
from hypothesis import (
    given,
    strategies as st,
)

from qlung_plugin.dataio.sampling import balanced_sampler, balanced_weights

LABELS, DEVICES = ["normal", "crackle", "wheeze"], ["A", "B", "C"]
GROUPS = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(DEVICES)), min_size=1
)


def manifest_of(groups):
    return {
        f"cycle_{index}": {"label": label, "device": device}
        for index, (label, device) in enumerate(groups)
    }


def totals(groups, weights):
    sums = Counter()
    for group, weight in zip(groups, weights):
        sums[group] += weight
    return sums


@given(GROUPS)
def test_classes_are_alike_and_in_them_the_devices(groups):
    weights = balanced_weights(manifest_of(groups), smallest=1)
    classes = {label for label, _ in groups}
    for (label, device), total in totals(groups, weights).items():
        devices = {d for other, d in groups if other == label}
        assert total == pytest.approx(1 / len(classes) / len(devices))


@given(GROUPS, st.integers(1, 50))
def test_classes_are_alike_whatever_a_small_group_counts(groups, smallest):
    weights = balanced_weights(manifest_of(groups), smallest=smallest)
    by_class = totals([label for label, _ in groups], weights)
    for total in by_class.values():
        assert total == pytest.approx(1 / len(by_class))
    # No cycle is drawn more often than one of a group of the smallest size.
    for label in by_class:
        own = {w for w, (other, _) in zip(weights, groups) if other == label}
        assert max(own) / min(own) <= max(1, len(groups) / smallest) + 1e-9


def test_a_small_group_by_hand():
    groups = [("wheeze", "A")] * 60 + [("wheeze", "B")] * 3
    weights = balanced_weights(manifest_of(groups), smallest=30)
    # A counts 1, B 3 / 30
    assert weights[0] == pytest.approx(1 / 60 / 1.1)
    assert weights[-1] == pytest.approx(1 / 30 / 1.1)


def test_draws_as_the_weights_say_and_by_the_epoch():
    groups = [("normal", "A")] * 700 + [("crackle", "A")] * 250
    groups += [("crackle", "B")] * 50
    sampler = balanced_sampler(manifest_of(groups), seed=3)
    drawn = list(sampler)
    assert len(drawn) == 1000
    counts = Counter(groups[index] for index in drawn)
    assert counts["normal", "A"] == pytest.approx(500, abs=60)
    assert counts["crackle", "A"] == pytest.approx(250, abs=60)
    assert counts["crackle", "B"] == pytest.approx(250, abs=60)
    sampler.set_epoch(5)
    fifth = list(sampler)
    assert fifth != drawn
    again = balanced_sampler(manifest_of(groups), seed=3)
    again.set_epoch(5)
    assert list(again) == fifth


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no 'side' .*cycle_0"):
        balanced_weights(manifest_of([("normal", "A")]), by="side")
    with pytest.raises(ValueError, match="smallest must be 1 or more, not 0"):
        balanced_weights(manifest_of([("normal", "A")]), smallest=0)
