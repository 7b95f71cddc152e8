"""Which cycles a training draws, and how often.

Authors
 * qlung_plugin contributors
"""

from collections import Counter, defaultdict

from qlung_plugin.dataio.manifests import Entries
from speechbrain.dataio.sampler import ReproducibleWeightedRandomSampler


def balanced_weights(
    manifest: Entries, by: str = "device", smallest: int = 30
) -> list[float]:
    """How often to draw each cycle: classes alike, and in each class the groups.

    Four of five crackles of ICBHI's training side were recorded by one device, so
    that the device tells the class to whatever is trained on it. With each class
    drawn as often from each device it does not. A group of few cycles gets less, or
    it would be the same few again and again. Source: group balancing, Idrissi et
    al., "Simple Data Balancing Achieves Competitive Worst-Group-Accuracy", CLeaR
    2022.

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
