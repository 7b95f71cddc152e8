"""Which cycles make a batch, and how often each is drawn.

Authors
 * qlung_plugin contributors
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from qlung_plugin.dataio.manifests import Entries
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import (
    DynamicBatchSampler,
    ReproducibleWeightedRandomSampler,
)


def balanced_weights(
    manifest: Entries, by: str = "device", smallest: int = 30
) -> list[float]:
    """How often to draw each cycle: classes alike, and in each class the groups.

    Four of five crackles of ICBHI's training side were recorded by one device, so
    that the device tells the class to whatever is trained on it. With each class
    drawn as often from each device it does not. A group of few cycles gets less, or it would be
    the same few again and again. Source: group balancing, Idrissi et al., "Simple
    Data Balancing Achieves Competitive Worst-Group-Accuracy", CLeaR 2022.

    Arguments
    ---------
    manifest : dict
        Entries by id, with ``label`` and what they are grouped by.
    by : str
        Column of the manifest, such as ``device``.
    smallest : int
        A group of fewer cycles counts as one of so many.

    Returns
    -------
    list of float
        One weight per cycle, in the manifest's order; their sum is 1, and that of
        each class the same.

    Raises
    ------
    ValueError
        If the manifest has no such column; if ``smallest`` is less than 1.

    Example
    -------
    >>> labels, devices = ["normal"] * 3 + ["wheeze"], ["A", "A", "B", "A"]
    >>> manifest = {
    ...     str(i): {"label": label, "device": device}
    ...     for i, (label, device) in enumerate(zip(labels, devices))
    ... }
    >>> balanced_weights(manifest, smallest=1)
    [0.125, 0.125, 0.25, 0.5]
    """
    if smallest < 1:
        raise ValueError(f"smallest must be 1 or more, not {smallest}")
    for cycle, entry in manifest.items():
        if by not in entry:
            raise ValueError(f"the manifest has no {by!r} (cycle {cycle})")
    groups = [(entry["label"], entry[by]) for entry in manifest.values()]
    counts = Counter(groups)
    shares: dict[str, float] = defaultdict(float)
    for (label, _), count in counts.items():
        shares[label] += count / max(count, smallest)
    return [
        1 / max(counts[label, group], smallest) / shares[label] / len(shares)
        for label, group in groups
    ]


def balanced_sampler(
    manifest: Entries, seed: int, by: str = "device", smallest: int = 30
) -> ReproducibleWeightedRandomSampler:
    """Draws cycles with :func:`balanced_weights`, as many as there are an epoch.

    In a YAML, ``sampler`` of ``train_dataloader_options`` in the place of
    ``shuffle``, with ``!name:`` and the seed; the script gives the manifest.

    Arguments
    ---------
    manifest, by, smallest
        See :func:`balanced_weights`.
    seed : int
        With the epoch's number it says what is drawn, so that a training that
        goes on draws what it would have drawn.

    Returns
    -------
    speechbrain.dataio.sampler.ReproducibleWeightedRandomSampler
        It draws with replacement.

    Example
    -------
    >>> entry = {"label": "normal", "device": "A"}
    >>> len(list(balanced_sampler({"a": entry, "b": entry}, seed=1)))
    2
    """
    return ReproducibleWeightedRandomSampler(
        balanced_weights(manifest, by, smallest),
        num_samples=len(manifest),
        replacement=True,
        seed=seed,
    )


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
