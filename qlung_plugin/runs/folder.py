"""The results that an evaluation leaves in its folder.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

from speechbrain.utils.logger import get_logger

from qlung_plugin.figures.results import (
    confusion_matrix_figure,
    quality_histogram_figure,
    training_curves_figure,
)
from qlung_plugin.runs.configuration import digest_file
from qlung_plugin.runs.quality_report import write_quality_analysis
from qlung_plugin.runs.results import (
    DECIMALS,
    evaluate_predictions,
    format_references,
    format_report,
    write_predictions,
)
from qlung_plugin.utils.files import write_figure, write_json, write_text
from qlung_plugin.utils.text import printable_lines

logger = get_logger(__name__)

SELECTIONS = {
    "selected": "best validation score, on patients held out from training",
    "last": "last epoch",
    "test_selected": (
        "best score on the test set of the training's database:"
        " test-selected (as published results mostly are)"
    ),
}


def write_run_results(
    folder,
    tables,
    epochs,
    data,
    labels,
    partition,
    validated=True,
    history=None,
    published=None,
):
    """Writes metrics, predictions, report and figures.

    ``metrics.json`` holds an object per checkpoint and ``data``;
    ``predictions.csv`` is that of the selected checkpoint, those of the others
    carry their names. How the quality goes with the errors is told of the
    first checkpoint. The report is logged too.

    Arguments
    ---------
    folder : str or Path
        The run folder.
    tables : dict
        Per checkpoint (``selected``, ``last``, ``test_selected``) what
        :func:`qlung_plugin.runs.results.predictions_table` made.
    epochs : dict
        Per checkpoint its epoch.
    data : dict
        What was evaluated: ``database``, ``subset`` (None if complete) and
        ``protocol`` at least.
    labels : list of str
        All classes, in order, normal first.
    partition : str
        The evaluated partition, in words.
    validated : bool
        Whether there was a validation set to select a checkpoint by.
    history : pandas.DataFrame, optional
        A row of statistics per epoch.
    published : str, optional
        A benchmark of :mod:`qlung_plugin.scores.published` whose results are
        set beside those of the run.

    Returns
    -------
    dict
        What was written to ``metrics.json``.
    """
    folder = Path(folder)
    database = data["database"]
    if data["subset"]:
        database += f", subset ({data['subset']})"
    metrics, reports, abouts = {}, [], {}
    # What is computed of a table is what the file gives again.
    tables = {name: table.round(DECIMALS) for name, table in tables.items()}
    for name, table in tables.items():
        selection = SELECTIONS[name]
        if name == "selected" and not validated:
            selection = "last epoch, since there was no validation set"
        metrics[name] = {
            "epoch": epochs[name],
            "selection": selection,
            **evaluate_predictions(table, labels),
        }
        abouts[name] = {
            "data": database,
            "partition": partition,
            "protocol": data["protocol"],
            "selection": f"{selection} (epoch {epochs[name]})",
        }
        reports.append(format_report(name, metrics[name], abouts[name]))
        suffix = "" if name == "selected" else f"_{name}"
        write_predictions(table, folder / f"predictions{suffix}.csv")
        figure = confusion_matrix_figure(
            metrics[name]["confusion"],
            labels,
            f"{database}, {partition}, {name} checkpoint",
        )
        write_figure(figure, folder / "figures" / f"confusion_{name}.png")
    first, table = next(iter(tables.items()))
    write_quality_analysis(table, folder, abouts[first], labels)
    figure = quality_histogram_figure(
        table["quality"],
        table["label"],
        labels,
        f"Quality of the cycles of {database}, {partition}",
    )
    write_figure(figure, folder / "figures" / "quality.png")
    if history is not None:
        write_figure(
            training_curves_figure(history, f"Training on {database}"),
            folder / "figures" / "training.png",
        )
    reports.append(format_references(metrics, published))
    report = printable_lines("\n\n".join(reports))
    write_text(report, folder / "report.txt")
    logger.info("Results in %s:\n%s", folder, report)
    metrics["data"] = {**data, "partition": partition}
    write_json(metrics, folder / "metrics.json")
    return metrics


def file_checksums(paths):
    """SHA-256 of files, so that a result tells what it was computed from.

    Arguments
    ---------
    paths : list of str or Path
        The files.

    Returns
    -------
    dict
        Hexadecimal digests by file name.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test.json"
    >>> _ = path.write_text("{}")
    >>> file_checksums([path])["test.json"][:8]
    '44136fa3'
    """
    return {Path(path).name: digest_file(path) for path in paths}
