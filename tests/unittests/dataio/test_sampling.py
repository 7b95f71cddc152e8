"""Tests of what a training draws.

Authors
 * qlung_plugin contributors
"""

from collections import Counter

import pytest
import torch
from hypothesis import (
    given,
    strategies as st,
)

from qlung_plugin.dataio.sampling import (
    apply_by_shape,
    balanced_sampler,
    balanced_weights,
    equal_lengths,
)
from speechbrain.dataio.dataset import DynamicItemDataset

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


def dataset_of(lengths):
    return DynamicItemDataset({cycle: {} for cycle in lengths})


@given(
    st.lists(st.integers(1, 4), min_size=1).filter(lambda n: len({*n}) > 1),
    st.integers(1, 5),
    st.booleans(),
)
def test_batches_of_one_length_hold_every_cycle_once(
    lengths, batch_size, shuffle
):
    lengths = {f"cycle_{place}": n for place, n in enumerate(lengths)}
    options = {"batch_size": batch_size, "shuffle": shuffle, "num_workers": 0}
    options = equal_lengths(options, dataset_of(lengths), lengths)
    sampler = options.pop("batch_sampler")
    assert options == {"num_workers": 0}
    batches, values = list(sampler), list(lengths.values())
    assert sorted(sum(batches, [])) == list(range(len(values)))
    for batch in batches:
        assert len({values[place] for place in batch}) == 1
        assert len(batch) <= batch_size
    # None is left small that could have been full.
    small = Counter(values[b[0]] for b in batches if len(b) < batch_size)
    assert max(small.values(), default=1) == 1


def test_batches_of_one_length_are_drawn_by_seed_and_epoch(monkeypatch):
    lengths = {f"cycle_{place}": 1 + place % 2 for place in range(40)}

    def batches(epoch, seed):
        monkeypatch.setenv("SB_GLOBAL_SEED", seed)
        options = {"batch_size": 4, "shuffle": True}
        options = equal_lengths(options, dataset_of(lengths), lengths)
        options["batch_sampler"].set_epoch(epoch)
        return list(options["batch_sampler"])

    assert batches(1, "7") == batches(1, "7")
    assert batches(1, "7") != batches(2, "7")
    assert batches(1, "7") != batches(1, "8")


def test_equally_long_inputs_leave_a_loader_as_it_was():
    lengths = {"a": 3, "b": 3}
    options = {"batch_size": 4, "shuffle": True, "sampler": object()}
    assert equal_lengths(options, dataset_of(lengths), lengths) is options


def test_a_sampler_of_cycles_makes_no_batches_of_one_length():
    options, lengths = {"batch_size": 4, "sampler": []}, {"a": 3, "b": 4}
    with pytest.raises(ValueError, match="sampler draws cycles one by one"):
        equal_lengths(options, dataset_of(lengths), lengths)


@given(st.lists(st.integers(1, 4), min_size=1))
def test_apply_by_shape_is_one_by_one(lengths):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(n, 3, generator=generator).half() for n in lengths]
    outputs = apply_by_shape(
        lambda batch: (batch.sum(dim=1), batch.amax(dim=(1, 2))), inputs
    )
    for tensor, total, largest in zip(inputs, *outputs, strict=True):
        torch.testing.assert_close(total, tensor.float().sum(dim=0))
        assert largest == tensor.max()
