"""The quality of every cycle of some manifests.

Authors
 * qlung_plugin contributors
"""

import torch
from speechbrain.utils.distributed import run_on_main

from qlung_plugin.dataio.cycles import CycleMeasurements
from qlung_plugin.dataio.store import store_cycles


def cycle_quality(measure, manifests, cache_folder, fit_on=None):
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
    measurements = run_on_main(
        store_cycles,
        args=[list(manifests), CycleMeasurements(measure), cache_folder],
    )
    if fit_on is not None:
        measure.fit(torch.stack([measurements[cycle] for cycle in fit_on]))
    ids = [cycle for manifest in manifests for cycle in manifest]
    scores = measure.score(torch.stack([measurements[cycle] for cycle in ids]))
    return dict(zip(ids, scores.tolist()))
