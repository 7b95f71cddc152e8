"""What a run leaves in its folder, read back and checked.

Authors
 * qlung_plugin contributors
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from qlung_plugin.runs.databases import name_database
from qlung_plugin.runs.predictions import METADATA, read_predictions
from qlung_plugin.runs.results import evaluate_predictions
from qlung_plugin.runs.schema import check_figures
from qlung_plugin.scores.icbhi_score import prediction_metrics
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.files import plain


class Damage(str):
    """A note on what is left out because a file of it is damaged."""


@dataclass
class Evaluation:
    """What one checkpoint of one run made of one set of cycles.

    Arguments
    ---------
    configuration : str
        Name of the configuration.
    seed : str
        Of the run, or whatever tells the runs of a configuration apart.
    database : str
        With its subset, if it is one.
    partition : str
        The evaluated part of it, in words.
    checkpoint : str
        ``selected``, ``last`` or ``test_selected``.
    epoch : str
        Of the checkpoint; of pooled folds, the epochs of all.
    selection : str
        How the checkpoint was selected, in words.
    protocol : str
        Split and validation, and the training's database if that is another
        one, in words.
    labels : tuple of str
        All classes, in order, normal first.
    predictions : pandas.DataFrame
        A row per cycle, sorted by ``id``, as
        :func:`qlung_plugin.runs.predictions.read_predictions` returns it.
    folder : Path
        Where it was found; of pooled folds, the folder of the first.
    fold : str
        Empty, or which folds were pooled.
    supervision : dict, optional
        ``database`` and ``patients`` that the run's quality measure was
        learned from.
    data : dict
        What was evaluated, as ``metrics.json`` has it.
    """

    configuration: str
    seed: str
    database: str
    partition: str
    checkpoint: str
    epoch: str
    selection: str
    protocol: str
    labels: tuple
    predictions: pd.DataFrame = field(repr=False)
    folder: Path
    fold: str = ""
    supervision: dict | None = None
    data: dict = field(default_factory=dict, repr=False)

    @cached_property
    def figures(self):
        """All figures, from the predictions; those undefined are None."""
        return plain(evaluate_predictions(self.predictions, self.labels))


def read_evaluations(folder, configuration, seed):
    """Reads the evaluations of a folder, one per checkpoint.

    Arguments
    ---------
    folder : qlung_plugin.runs.folder.RunFolder
        Where they are.
    configuration : str
        Name of the configuration.
    seed : str
        Of the run.

    Returns
    -------
    list of Evaluation

    Raises
    ------
    OSError
        If a file is missing or cannot be read.
    ValueError
        If one is damaged, or the figures in ``metrics.json`` are not those of
        the predictions; the message names file and key.
    """
    metrics = folder.read_metrics()
    evaluations = [
        Evaluation(
            configuration=configuration,
            seed=seed,
            folder=folder.path,
            **_describe(metrics["data"]),
            checkpoint=name,
            epoch=str(metrics[name]["epoch"]),
            selection=metrics[name]["selection"],
            labels=tuple(metrics[name]["counts"]),
            predictions=_read_cycles(folder, name, metrics[name]),
            data=metrics["data"],
        )
        for name in CHECKPOINTS
        if name in metrics
    ]
    facts = ["id", *METADATA, "label"]
    cycles = [one.predictions[facts] for one in evaluations]
    for one, table in zip(evaluations, cycles):
        if not table.equals(cycles[0]):
            raise ValueError(
                f"{folder.predictions(one.checkpoint)} says other things of the"
                " cycles, or of other cycles, than"
                f" {folder.predictions(evaluations[0].checkpoint).name}: one of"
                " them is altered, or of another run"
            )
    return evaluations


def _describe(data):
    """What was evaluated, in words."""
    protocol, trained_with = data["protocol"], data
    if (data.get("training") or {}).get("data"):  # of another database
        trained_with = data["training"]["data"]
        protocol += f"; trained on {name_database(trained_with)}"
    return {
        "database": name_database(data),
        "partition": data.get("partition", data["protocol"]),
        "protocol": protocol,
        "supervision": trained_with.get("quality_supervision"),
    }


def _read_cycles(folder, checkpoint, metrics):
    """The predictions of a checkpoint, checked against its metrics."""
    path = folder.predictions(checkpoint)
    labels = tuple(metrics["counts"])
    table = read_predictions(path, labels)
    try:
        computed = prediction_metrics(
            table["label"], table["prediction"], labels
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    computed["patients"] = int(table["patient"].nunique())
    where = f"{folder.metrics}: {checkpoint}"
    check_figures(metrics, computed, where, path.name)
    return table.sort_values("id", ignore_index=True)
