"""Inputs of several lengths, in batches of one length each.

Authors
 * qlung_plugin contributors
"""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler


def equal_lengths(
    options: dict[str, Any],
    dataset: DynamicItemDataset,
    lengths: Mapping[str, int],
) -> dict[str, Any]:
    """Options of a loader whose batches hold inputs of one length each.

    They are as they were if all inputs are equally long. Else the batches are of
    SpeechBrain's DynamicBatchSampler, with one bucket per length; they are shuffled
    if the options say ``shuffle``, by the seed of the run and the epoch's number.

    Arguments
    ---------
    options : dict
        With ``batch_size``, the most inputs in a batch.
    dataset : DynamicItemDataset
        What is loaded.
    lengths : dict of int
        The length of each input, by its id.

    Raises
    ------
    ValueError
        If lengths differ, but the options have a ``sampler``.

    Example
    -------
    >>> dataset = DynamicItemDataset({"a": {}, "b": {}, "c": {}})
    >>> options = equal_lengths(
    ...     {"batch_size": 8}, dataset, {"a": 1, "b": 2, "c": 1}
    ... )
    >>> list(options["batch_sampler"])
    [[0, 2], [1]]
    """
    of_inputs = [lengths[cycle] for cycle in dataset.data_ids]
    distinct = sorted(set(of_inputs))
    if len(distinct) == 1:
        return options
    if options.get("sampler") is not None:
        raise ValueError(
            "train_dataloader_options: a sampler draws cycles one by one, but of"
            f" inputs of {len(distinct)} lengths (fix_length) a batch must"
            " be of one: take FixedLength, or shuffle: True in its place"
        )
    others = {
        key: value
        for key, value in options.items()
        if key not in ("batch_size", "shuffle", "drop_last", "sampler")
    }
    shuffle, size = options.get("shuffle", False), options["batch_size"]
    sampler = DynamicBatchSampler(
        dataset,
        max_batch_length=size * distinct[-1],
        bucket_boundaries=distinct,
        lengths_list=of_inputs,
        max_batch_ex=size,
        shuffle=shuffle,
        batch_ordering="random" if shuffle else "ascending",
        drop_last=options.get("drop_last", False),
        seed=int(os.environ.get("SB_GLOBAL_SEED", 563375142)),
    )
    return {**others, "batch_sampler": sampler}


def apply_by_shape(
    function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]],
    inputs: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """Applies a function to inputs, in batches of one shape each, as float32.

    What it returns is a tuple of tensors ``[batch, ...]``; they are given back in
    the order of the inputs.

    Example
    -------
    >>> inputs = [torch.ones(2, 1), torch.ones(5, 1), 3 * torch.ones(2, 1)]
    >>> (sums,) = apply_by_shape(lambda batch: (batch.sum(dim=1),), inputs)
    >>> sums.flatten()
    tensor([2., 5., 6.])
    """
    places = defaultdict(list)
    for place, tensor in enumerate(inputs):
        places[tensor.shape].append(place)
    rows: dict[int, tuple[torch.Tensor, ...]] = {}
    for same in places.values():
        batch = torch.stack([inputs[place] for place in same]).float()
        rows.update(zip(same, zip(*function(batch))))
    columns = zip(*(rows[place] for place in range(len(inputs))))
    return tuple(map(torch.stack, columns))
