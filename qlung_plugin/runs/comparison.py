"""The figures of many runs, and how configurations compare.

Authors
-------
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd

from qlung_plugin.scores.icbhi_score import prediction_metrics
from qlung_plugin.scores.intervals import (
    bootstrap_differences,
    bootstrap_interval,
    patient_confusions,
)
from qlung_plugin.scores.metrics import metrics_in, metrics_of


def results_table(evaluations):
    """One row of figures per evaluation.

    Arguments
    ---------
    evaluations : list of Evaluation
        From :func:`qlung_plugin.runs.experiments.collect_evaluations`.

    Returns
    -------
    pandas.DataFrame
        ``configuration, seed, fold, database, partition, checkpoint, epoch``;
        the metrics that have intervals, in percent, NaN where undefined; ``cycles`` and ``patients``.

    Example
    -------
    >>> from pathlib import Path
    >>> from qlung_plugin.runs.evaluations import Evaluation
    >>> cycles = pd.DataFrame({"id": ["a", "b"], "patient": ["1", "2"]})
    >>> cycles["label"] = cycles["prediction"] = ["normal", "wheeze"]
    >>> labels = ("normal", "crackle", "wheeze", "both")
    >>> about = ("ICBHI 2017", "test side", "last", "15", "last epoch", "")
    >>> run = Evaluation("ce", "1", *about, labels, cycles, Path("ce/1"))
    >>> results_table([run])[["configuration", "score", "cycles"]]
      configuration  score  cycles
    0            ce  100.0       2
    """
    names = "configuration seed fold database partition checkpoint epoch"
    rows = []
    for one in evaluations:
        cycles = one.predictions
        metrics = prediction_metrics(
            cycles["label"], cycles["prediction"], one.labels
        )
        rows.append(
            {
                **{name: getattr(one, name) for name in names.split()},
                **{name: metrics[name] for name in metrics_in("intervals")},
                "cycles": cycles["id"].nunique(),
                "patients": cycles["patient"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def compare_configurations(evaluations, n_resamples=10000):
    """Sets configurations side by side that were judged alike.

    Arguments
    ---------
    evaluations : list of Evaluation
        Of one database, partition and checkpoint. The configuration of the
        first of them is what the others are compared with.
    n_resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    pandas.DataFrame
        A row per ``configuration`` and ``score``, in percent: ``mean``,
        ``std`` (NaN of one seed) and ``seeds``, their number, ``low`` and
        ``high`` of the 95 % interval; ``difference`` to the first
        configuration, its interval ``difference_low`` to ``difference_high``,
        and ``pairs``, the number of seeds that both have: 0 where the two were
        not compared, and ``unpaired`` says why.

    Raises
    ------
    ValueError
        If the runs of a configuration were not judged on the same cycles.
    """
    runs, names = {}, metrics_in("intervals")
    for one in evaluations:
        runs.setdefault(one.configuration, {})[one.seed] = one
    baseline = next(iter(runs))
    rows = []
    for name, by_seed in runs.items():
        confusions = _confusions(by_seed.values())
        scores = metrics_of(confusions.sum(1), "intervals")
        interval = bootstrap_interval(confusions, n_resamples)
        pairs = [seed for seed in by_seed if seed in runs[baseline]]
        pair = [
            [of[seed] for seed in pairs] for of in (by_seed, runs[baseline])
        ]
        unpaired, differences = "", dict.fromkeys(names, (np.nan,) * 3)
        if not pairs:
            unpaired = f"no seed in common with {baseline}"
        elif not _same_cycles(pair[0][0], pair[1][0]):
            unpaired = f"not judged on the same cycles as {baseline}"
        elif name != baseline:
            differences = bootstrap_differences(
                *map(_confusions, pair), n_resamples
            )
        for score in names:
            difference, low, high = differences[score]
            rows.append(
                {
                    "configuration": name,
                    "score": score,
                    "seeds": len(by_seed),
                    "mean": scores[score].mean(),
                    "std": pd.Series(scores[score]).std(),
                    "low": interval[score][0],
                    "high": interval[score][1],
                    "difference": difference,
                    "difference_low": low,
                    "difference_high": high,
                    "pairs": 0 if unpaired else len(pairs),
                    "unpaired": unpaired,
                }
            )
    return pd.DataFrame(rows)


def _confusions(evaluations):
    """Counts ``[run, patient, class, class]``."""
    evaluations = list(evaluations)
    for one in evaluations[1:]:
        if not _same_cycles(evaluations[0], one):
            raise ValueError(
                f"{evaluations[0].folder} and {one.folder} were not judged on"
                " the same cycles, so that they are no seeds of one"
                " configuration: collect them apart"
            )
    return np.stack(
        [patient_confusions(one.predictions, one.labels) for one in evaluations]
    )


def _same_cycles(one, other):
    facts = ["id", "patient", "label"]
    return one.predictions[facts].equals(other.predictions[facts])
