"""The figures of many runs, and how configurations compare.

Authors
-------
 * qlung_plugin contributors
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.scores.icbhi_score import prediction_metrics
from qlung_plugin.scores.intervals import (
    bootstrap_differences,
    bootstrap_interval,
    patient_confusions,
)
from qlung_plugin.scores.metrics import metrics_in, metrics_of


def results_table(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """One row of figures per evaluation.

    Columns ``configuration, seed, fold, database, partition, checkpoint,
    epoch``; the metrics that have intervals, in percent, NaN where undefined;
    ``cycles`` and ``patients``.
    """
    names = "configuration seed fold database partition checkpoint epoch"
    rows = []
    for evaluation in evaluations:
        cycles = evaluation.predictions
        metrics = prediction_metrics(
            cycles["label"], cycles["prediction"], evaluation.labels
        )
        rows.append(
            {
                **{name: getattr(evaluation, name) for name in names.split()},
                **{name: metrics[name] for name in metrics_in("intervals")},
                "cycles": cycles["id"].nunique(),
                "patients": cycles["patient"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def compare_configurations(
    evaluations: Sequence[Evaluation], n_resamples: int = 10000
) -> pd.DataFrame:
    """Sets configurations side by side that were judged alike.

    The evaluations are of one database, partition and checkpoint; the
    configuration of the first is what the others are compared with. If the runs
    of one were not judged on the same cycles, it is a ValueError.

    Returns
    -------
    pandas.DataFrame
        A row per ``configuration`` and ``score``, in percent: ``mean``,
        ``std`` (NaN of one seed) and ``seeds``, their number, ``low`` and
        ``high`` of the 95 % interval; ``difference`` to the first
        configuration, its interval ``difference_low`` to ``difference_high``,
        and ``pairs``, the number of seeds that both have: 0 where the two were
        not compared, and ``unpaired`` says why.
    """
    names = metrics_in("intervals")
    runs: dict[str, dict[str, Evaluation]] = {}
    for evaluation in evaluations:
        runs.setdefault(evaluation.configuration, {})[evaluation.seed] = (
            evaluation
        )
    baseline = next(iter(runs))
    rows: list[dict[str, Any]] = []
    for name, by_seed in runs.items():
        confusions = _confusions(list(by_seed.values()))
        scores = metrics_of(confusions.sum(1), "intervals")
        interval = bootstrap_interval(confusions, n_resamples)
        pairs = [seed for seed in by_seed if seed in runs[baseline]]
        ours = [by_seed[seed] for seed in pairs]
        theirs = [runs[baseline][seed] for seed in pairs]
        undefined = (np.nan, np.nan, np.nan)
        unpaired, differences = "", dict.fromkeys(names, undefined)
        if not pairs:
            unpaired = f"no seed in common with {baseline}"
        elif not _same_cycles(ours[0], theirs[0]):
            unpaired = f"not judged on the same cycles as {baseline}"
        elif name != baseline:
            differences = bootstrap_differences(
                _confusions(ours), _confusions(theirs), n_resamples
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


def _confusions(evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Counts ``[run, patient, class, class]``."""
    for evaluation in evaluations[1:]:
        if not _same_cycles(evaluations[0], evaluation):
            raise ValueError(
                f"{evaluations[0].folder} and {evaluation.folder} were not"
                " judged on the same cycles, so that they are no seeds of one"
                " configuration: collect them apart"
            )
    return np.stack(
        [patient_confusions(e.predictions, e.labels) for e in evaluations]
    )


def _same_cycles(evaluation: Evaluation, other: Evaluation) -> bool:
    facts = ["id", "patient", "label"]
    return evaluation.predictions[facts].equals(other.predictions[facts])
