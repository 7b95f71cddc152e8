"""The figures of a run's results, beside them in its folder.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from qlung_plugin.runs.databases import name_database
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.predictions import DECIMALS
from qlung_plugin.scores.metrics import metrics_of_labels
from qlung_plugin.utils.files import write_figure
from qlung_plugin.utils.ordinary_files import read_json


def write_run_figures(
    folder: Path | str,
    tables: Mapping[str, pd.DataFrame],
    metrics: Mapping[str, Any],
    labels: Sequence[str],
    history: pd.DataFrame | None = None,
) -> None:
    """Draws what :func:`~qlung_plugin.runs.results.write_run_results` wrote.

    That was called before, with the same tables, and returned the metrics: a
    confusion matrix per checkpoint; of the first, the quality of the cycles and
    how it goes with the errors; and the curves of a training, where there is a
    history with a row per epoch.
    """
    # Here, so that a training need not wait for matplotlib to begin.
    from qlung_plugin.figures.quality import quality_and_errors_figure
    from qlung_plugin.figures.results import (
        confusion_matrix_figure,
        quality_histogram_figure,
        training_curves_figure,
    )

    run, data = RunFolder(folder), metrics["data"]
    database, partition = name_database(data), data["partition"]
    tables = {name: table.round(DECIMALS) for name, table in tables.items()}
    figures = {
        f"confusion_{name}": confusion_matrix_figure(
            metrics[name]["confusion"],
            labels,
            f"{database}, {partition}, {name} checkpoint",
        )
        for name in tables
    }
    first, table = next(iter(tables.items()))
    figures["quality"] = quality_histogram_figure(
        table["quality"],
        table["label"],
        labels,
        f"Quality of the cycles of {database}, {partition}",
    )
    figures["quality_and_errors"] = quality_and_errors_figure(
        table,
        read_json(run.quality_analysis),
        f"Quality and errors: {database}, {partition},"
        f" {metrics[first]['selection']} (epoch {metrics[first]['epoch']})",
        metrics_of_labels(labels)["score"].heading,
    )
    if history is not None:
        title = f"Training on {database}"
        figures["training"] = training_curves_figure(history, title)
    for name, figure in figures.items():
        write_figure(figure, run.figure(name))
