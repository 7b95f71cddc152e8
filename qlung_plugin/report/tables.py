"""The tables of a page, from the figures of runs.

Authors
 * qlung_plugin contributors
"""

import math
from typing import NamedTuple

from qlung_plugin.runs.experiment_report import comparison_rows, group_alike
from qlung_plugin.runs.supervision import set_supervised_apart
from qlung_plugin.scores.metrics import metrics_in
from qlung_plugin.training.selection import CHECKPOINTS


def percent(value):
    """A number with two decimals; what is undefined is not available.

    Example
    -------
    >>> percent(62.437), percent(None)
    ('62.44', 'n/a')
    """
    if value is None or math.isnan(value):
        return "n/a"
    return f"{value:.2f}"


def score_tables(runs):
    """The scores of runs on every database that they were judged on.

    Arguments
    ---------
    runs : list of Run
        The runs.

    Returns
    -------
    list of dict
        ``title``, and ``rows`` with ``run``, ``checkpoint``, ``epoch`` and
        ``scores``: per score its ``key``, ``name``, ``value``, ``low`` and
        ``high``. The first table is of what is shown.
    """
    tables = {}
    for run in runs:
        shown = run.evaluation
        for one in sorted(run.others, key=lambda e: e.folder != shown.folder):
            figures = one.figures
            tables.setdefault(f"{one.database}: {one.partition}", []).append(
                {
                    "run": run.name,
                    "checkpoint": CHECKPOINTS[one.checkpoint].heading,
                    "epoch": one.epoch,
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

    def place(self, value):
        """Where a value is, in percent of the axis' length.

        Example
        -------
        >>> Axis(40, 60).place(45)
        25.0
        """
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def score_axis(score_tables):
    """The axis that holds all Scores with their intervals, and 50.

    Arguments
    ---------
    score_tables : list of dict
        From :func:`score_tables`.

    Returns
    -------
    Axis
    """
    score = list(metrics_in("tables")).index("score")
    values = [50.0]
    for table in score_tables:
        for row in table["rows"]:
            found = row["scores"][score]
            values += [found[name] for name in ("low", "value", "high")]
    values = [value for value in values if value is not None]
    low = 10 * math.floor(min(values) / 10)
    return Axis(low, max(low + 10, 10 * math.ceil(max(values) / 10)))


def comparison_tables(evaluations):
    """How configurations compare over seeds, as ``results.md`` has it.

    Arguments
    ---------
    evaluations : list of Evaluation
        The first configuration is what the others are compared with.

    Returns
    -------
    list of dict
        Per database and partition ``title``, ``baseline``, and ``rows``, see
        :func:`qlung_plugin.runs.experiment_report.comparison_rows`. Empty if
        there is only one run, which is in :func:`score_tables`, unless its
        folds were pooled.
    """
    runs = {(one.configuration, one.seed) for one in evaluations}
    if len(runs) < 2 and not any(one.fold for one in evaluations):
        return []
    tables = []
    for key, ones in group_alike(set_supervised_apart(evaluations)).items():
        database, partition, _ = key
        rows = comparison_rows(ones)
        for row in rows:
            row["checkpoint"] = CHECKPOINTS[row["checkpoint"]].heading
        baseline = ones[0].configuration
        compared = len({one.configuration for one in ones}) > 1
        tables.append(
            {
                "title": f"{database}: {partition}",
                "baseline": baseline if compared else None,
                "rows": rows,
            }
        )
    return tables


def confusion_table(figures):
    """A confusion matrix with shares.

    Arguments
    ---------
    figures : dict
        Of an evaluation.

    Returns
    -------
    list of dict
        Per true class ``label``, ``count``, and ``cells`` with ``count`` and
        ``share`` in [0, 1], None for a class without a cycle.
    """
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


def strata_tables(runs):
    """Scores of runs in parts of the cycles, side by side.

    Arguments
    ---------
    runs : list of Run
        Judged on the same cycles.

    Returns
    -------
    list of dict
        Per kind of part its ``kind``, and ``rows`` with ``name``, ``cycles``,
        ``patients`` and ``scores``, per run a dict of the metrics
        of strata.
    """
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
