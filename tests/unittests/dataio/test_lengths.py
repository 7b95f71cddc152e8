"""Tests of batches of one length.

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

from qlung_plugin.dataio.lengths import apply_by_shape, equal_lengths
from speechbrain.dataio.dataset import DynamicItemDataset


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
