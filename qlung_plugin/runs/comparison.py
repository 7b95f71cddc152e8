"""The figures of many runs, and how configurations compare.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.scores.icbhi_score import table_metrics
from qlung_plugin.scores.intervals import (
    Outcomes,
    bootstrap_differences,
    bootstrap_interval,
    patient_outcomes,
    run_scores,
)
from qlung_plugin.scores.metrics import UNDEFINED, format_number, metrics_in
from qlung_plugin.training.selection import CHECKPOINTS

AT_THE_POINT = ", at the operating point"
# Database, partition and classes.
JudgedOn: TypeAlias = tuple[str, str, tuple[str, ...]]


def results_table(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """One row of figures per evaluation, in percent, NaN where undefined."""
    names = "configuration seed fold database partition checkpoint epoch"
    rows = []
    for evaluation in evaluations:
        cycles = evaluation.predictions
        metrics = table_metrics(cycles, evaluation.labels)
        at_point = evaluation.at_operating_point()
        moved = {}
        if at_point is not None:
            moved = table_metrics(at_point.predictions, evaluation.labels)
        rows.append(
            {
                **{name: getattr(evaluation, name) for name in names.split()},
                **{
                    name: metrics.get(name, np.nan)
                    for name in metrics_in("intervals", evaluation.labels)
                },
                **{
                    f"{name}_at_operating_point": moved.get(name, np.nan)
                    for name in ("sp", "se", "score")
                },
                "cycles": cycles["id"].nunique(),
                "patients": cycles["patient"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def compare_configurations(
    evaluations: Sequence[Evaluation], n_resamples: int = 10000
) -> list[dict[str, Any]]:
    """Sets configurations side by side that were judged alike.

    Each is compared with the first, over the seeds that both have (``pairs``);
    where that cannot be, ``unpaired`` says why, and differences are NaN. Scores
    are in percent. Seeds of one that were judged on other cycles than its first
    are a ValueError.
    """
    runs: dict[str, dict[str, Evaluation]] = {}
    for evaluation in evaluations:
        seeds = runs.setdefault(evaluation.configuration, {})
        seeds[evaluation.seed] = evaluation
    baseline = next(iter(runs))
    rows: list[dict[str, Any]] = []
    for name, by_seed in runs.items():
        outcomes = _outcomes(list(by_seed.values()))
        scores = pd.DataFrame(run_scores(outcomes, "tables"))
        pairs = [seed for seed in by_seed if seed in runs[baseline]]
        ours = [by_seed[seed] for seed in pairs]
        theirs = [runs[baseline][seed] for seed in pairs]
        unpaired = ""
        differences = dict.fromkeys(scores, (np.nan, np.nan, np.nan))
        if not pairs:
            unpaired = f"no seed in common with {baseline}"
        elif not _same_cycles(ours[0], theirs[0]):
            unpaired = f"not judged on the same cycles as {baseline}"
        elif name != baseline:
            differences = bootstrap_differences(
                _outcomes(ours), _outcomes(theirs), n_resamples, place="tables"
            )
        rows.append(
            {
                "configuration": name,
                "seeds": len(by_seed),
                "mean": scores.mean(skipna=False).to_dict(),
                "std": scores.std().to_dict(),
                "interval": bootstrap_interval(
                    outcomes, n_resamples, place="tables"
                ),
                "difference": differences,
                "pairs": 0 if unpaired else len(pairs),
                "unpaired": unpaired,
            }
        )
    return rows


def group_alike(
    evaluations: Iterable[Evaluation],
) -> dict[JudgedOn, list[Evaluation]]:
    """Evaluations by what they were judged on: database, partition, classes."""
    groups: dict[JudgedOn, list[Evaluation]] = {}
    for evaluation in evaluations:
        key = (evaluation.database, evaluation.partition, evaluation.labels)
        groups.setdefault(key, []).append(evaluation)
    return groups


def comparison_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """What :func:`compare_configurations` gives per checkpoint, as texts.

    Those at the operating points, of the configurations of which all seeds have
    one, have the ``decision`` :data:`AT_THE_POINT`; others an empty one.
    """
    rows = []
    for checkpoint in CHECKPOINTS:
        group = [e for e in evaluations if e.checkpoint == checkpoint]
        moved = [e.at_operating_point() for e in group]
        lacking = {e.configuration for e, m in zip(group, moved) if m is None}
        at_points = [
            m for m in moved if m is not None and m.configuration not in lacking
        ]
        rows += _texts(group, checkpoint, "")
        rows += _texts(at_points, checkpoint, AT_THE_POINT)
    return rows


def _texts(
    group: Sequence[Evaluation], checkpoint: str, decision: str
) -> list[dict[str, Any]]:
    """The rows of one checkpoint and one way to decide."""
    rows = []
    shown = metrics_in("tables", group[0].labels) if group else {}
    for row in compare_configurations(group) if group else []:
        mean, std = row["mean"], row["std"]
        differences = row["difference"]
        compared = row["configuration"] != group[0].configuration
        rows.append(
            {
                **row,
                "checkpoint": checkpoint,
                "decision": decision,
                "scores": [
                    format_mean(mean[k], std[k]) if k in mean else ""
                    for k in shown
                ],
                "interval": format_interval(*row["interval"]["score"]),
                "differences": [
                    format_difference(*differences[k])
                    if k in differences
                    else ""
                    for k in shown
                    if compared
                ],
            }
        )
    return rows


def format_mean(mean: float, std: float = np.nan) -> str:
    """A mean, with its standard deviation where there is one.

    Example
    -------
    >>> format_mean(62.437, 1.2), format_mean(62.437), format_mean(np.nan)
    ('62.44 ± 1.20', '62.44', 'n/a')
    """
    deviation = "" if np.isnan(std) else f" ± {std:.2f}"
    return format_number(mean) + deviation


def format_interval(low: float, high: float, sign: str = "") -> str:
    """An interval; ``sign`` is ``+`` where positive numbers are to have one.

    Example
    -------
    >>> format_interval(51.5, 62), format_interval(-1, 2, "+")
    ('51.50 to 62.00', '-1.00 to +2.00')
    """
    if np.isnan(low):
        return UNDEFINED
    return f"{low:{sign}.2f} to {high:{sign}.2f}"


def format_difference(difference: float, low: float, high: float) -> str:
    """A difference with its interval.

    Example
    -------
    >>> format_difference(1.5, -0.001, 3)
    '+1.50 (+0.00 to +3.00)'
    """
    if np.isnan(difference):
        return UNDEFINED
    # No negative zeros.
    difference, low, high = np.round([difference, low, high], 2) + 0.0
    return f"{difference:+.2f} ({format_interval(low, high, '+')})"


def _outcomes(evaluations: Sequence[Evaluation]) -> Outcomes:
    """What the seeds of a configuration made of the same cycles."""
    for evaluation in evaluations[1:]:
        if not _same_cycles(evaluations[0], evaluation):
            raise ValueError(
                f"{evaluations[0].folder} and {evaluation.folder} were not"
                " judged on the same cycles, so that they are no seeds of one"
                " configuration: collect them apart"
            )
    tables = [evaluation.predictions for evaluation in evaluations]
    return patient_outcomes(tables, evaluations[0].labels)


def _same_cycles(evaluation: Evaluation, other: Evaluation) -> bool:
    facts = ["id", "patient", "label"]
    return evaluation.predictions[facts].equals(other.predictions[facts])
