"""The quality of every cycle of some manifests.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from qlung_plugin.dataio.cycles import CycleMeasurements, QualityMeasure
from qlung_plugin.dataio.manifests import Entries
from qlung_plugin.dataio.store import store_cycles
from speechbrain.utils.distributed import run_on_main


def cycle_quality(
    measure: QualityMeasure,
    manifests: Iterable[Entries],
    cache_folder: Path | str,
    fit_on: Iterable[str] | None = None,
) -> dict[str, float]:
    """Scores every cycle as it is recorded: unpadded, unfaded, unaugmented.

    Arguments
    ---------
    measure : qlung_plugin.lobes.quality.QualityMeasure
        The score.
    manifests : list of dict
        Entries by id, with ``wav`` and ``sample_rate``.
    cache_folder : str or Path
        Where measurements are kept, see
        :func:`qlung_plugin.dataio.store.store_cycles`.
    fit_on : iterable of str, optional
        Ids of the training cycles, to which the measure is fitted first.
        Without them it is used as it is.

    Returns
    -------
    dict
        Quality in [0, 1] by id.

    Raises
    ------
    ValueError
        If two entries of one id differ, or the measure needs of an entry what
        it does not have.
    RuntimeError
        If the measure has to be fitted, and is not.

    Example
    -------
    >>> import numpy, soundfile
    >>> from qlung_plugin.lobes.quality import ClippingScore
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", numpy.sin(numpy.arange(4000)), 4000)
    >>> wav = {"file": str(folder / "a.wav"), "start": 0, "stop": 4000}
    >>> manifest = {"a_0": {"wav": wav, "sample_rate": 4000}}
    >>> cycle_quality(ClippingScore(4000), [manifest], folder / "cache")
    {'a_0': 1.0}
    """
    entries: Entries = {}
    for manifest in manifests:
        for cycle, entry in manifest.items():
            if entries.setdefault(cycle, entry) != entry:
                raise ValueError(f"the manifests have two cycles {cycle}")

    parts = [_measure(part, entries, cache_folder) for part in measure.parts]
    measurements = torch.cat(parts, dim=-1)
    if fit_on is not None:
        rows = {cycle: row for row, cycle in enumerate(entries)}
        measure.fit(measurements[[rows[cycle] for cycle in fit_on]])
    return dict(zip(entries, measure.score(measurements).tolist()))


def quality_tensor(quality: Mapping[str, float], cycle: str) -> torch.Tensor:
    """The quality of one cycle, ``[1]``, as a batch is made of it."""
    return torch.tensor([quality[cycle]])


def _measure(
    measure: QualityMeasure, entries: Entries, cache_folder: Path | str
) -> torch.Tensor:
    """Measurements of all entries, ``[cycle, measurement]``."""
    stated = measure.measure_entries(entries)
    if stated is not None:
        return stated
    store = run_on_main(
        store_cycles, args=[[entries], CycleMeasurements(measure), cache_folder]
    )
    return torch.stack([store[cycle] for cycle in entries])
