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
from qlung_plugin.scores.metrics import metrics_in
from qlung_plugin.training.selection import CHECKPOINTS


def score_tables(runs: list[Run]) -> list[dict[str, Any]]:
    """The scores of runs on every database; the first table is what is shown."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        shown = run.evaluation
        others = sorted(run.others, key=lambda e: e.folder != shown.folder)
        for evaluation in others:
            figures = evaluation.figures
            title = f"{evaluation.database}: {evaluation.partition}"
            tables.setdefault(title, []).append(
                {
                    "run": run.name,
                    "checkpoint": CHECKPOINTS[evaluation.checkpoint].heading,
                    "epoch": evaluation.epoch,
                    "scores": [
                        {
                            "key": name,
                            "name": metric.heading,
                            "value": figures[name],
                            **dict(
                                zip(("low", "high"), figures["interval"][name])
                            ),
                        }
                        for name, metric in metrics_in("tables").items()
                    ],
                }
            )
    return [{"title": title, "rows": rows} for title, rows in tables.items()]


class Axis(NamedTuple):
    """A part of the scale of a score, in percent."""

    low: int
    high: int

    def place(self, value: float) -> float:
        """Where a value is, in percent of the axis' length."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def score_axis(score_tables: list[dict[str, Any]]) -> Axis:
    """The axis that holds all Scores with their intervals, and 50."""
    scores = [
        score
        for table in score_tables
        for row in table["rows"]
        for score in row["scores"]
        if score["key"] == "score"
    ]
    ends = [
        score[name] for score in scores for name in ("low", "value", "high")
    ]
    values = [50.0, *(end for end in ends if end is not None)]
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
            row["checkpoint"] = CHECKPOINTS[row["checkpoint"]].heading
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


def confusion_table(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The confusion matrix of an evaluation, with shares, None of no cycle."""
    return [
        {
            "label": label,
            "count": count,
            "cells": [
                {"count": cell, "share": cell / count if count else None}
                for cell in row
            ],
        }
        for (label, count), row in zip(
            figures["counts"].items(), figures["confusion"]
        )
    ]


def strata_tables(runs: list[Run]) -> list[dict[str, Any]]:
    """Scores of runs in parts of the cycles, side by side."""
    tables = []
    for kind, groups in runs[0].figures["strata"].items():
        others = [run.figures["strata"].get(kind, {}) for run in runs]
        nothing = dict.fromkeys(metrics_in("strata"))
        rows = [
            {
                "name": name,
                "cycles": group["cycles"],
                "patients": group["patients"],
                "scores": [other.get(name, nothing) for other in others],
            }
            for name, group in groups.items()
        ]
        tables.append({"kind": kind.replace("_", " "), "rows": rows})
    return tables
