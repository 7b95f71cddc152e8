"""The tables of a page, from the figures of runs.

Authors
 * qlung_plugin contributors
"""

import math
from typing import Any, NamedTuple

from qlung_plugin.report.sources import Run
from qlung_plugin.runs.comparison import comparison_rows, group_alike
from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.runs.supervision import set_supervised_apart
from qlung_plugin.training.selection import CHECKPOINTS


def score_tables(runs: list[Run]) -> dict[str, list[tuple[Run, Evaluation]]]:
    """By what they were judged on, evaluations of runs; first what is shown."""
    tables: dict[str, list[tuple[Run, Evaluation]]] = {}
    for run in runs:
        folder = run.folder
        for evaluation in sorted(run.others, key=lambda e: e.folder != folder):
            title = f"{evaluation.database}: {evaluation.partition}"
            tables.setdefault(title, []).append((run, evaluation))
    return tables


class Axis(NamedTuple):
    """A part of the scale of a score, in percent."""

    low: int
    high: int

    def place(self, value: float) -> float:
        """Where a value is, in percent of the axis' length."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def score_axis(
    tables: dict[str, list[tuple[Run, Evaluation]]], floor: float = 50.0
) -> Axis:
    """The axis that holds all Scores with their intervals, and the floor."""
    figures = [e.figures for rows in tables.values() for _, e in rows]
    ends = [e for f in figures for e in (f["score"], *f["interval"]["score"])]
    values = [floor, *(end for end in ends if end is not None)]
    low = 10 * math.floor(min(values) / 10)
    return Axis(low, max(low + 10, 10 * math.ceil(max(values) / 10)))


def comparison_tables(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """How configurations compare over seeds, as ``results.md`` has it.

    There is none of a single run, unless its folds were pooled.
    """
    runs = {(e.configuration, e.seed) for e in evaluations}
    if len(runs) < 2 and not any(e.fold for e in evaluations):
        return []
    tables = []
    for key, alike in group_alike(set_supervised_apart(evaluations)).items():
        database, partition, _ = key
        rows = comparison_rows(alike)
        for row in rows:
            heading = CHECKPOINTS[row["checkpoint"]].heading
            row["checkpoint"] = heading + row["decision"]
        baseline = alike[0].configuration
        compared = len({e.configuration for e in alike}) > 1
        tables.append(
            {
                "title": f"{database}: {partition}",
                "baseline": baseline if compared else None,
                "rows": rows,
            }
        )
    return tables
