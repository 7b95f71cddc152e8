"""What a run leaves in its folder, read back and checked.

Authors
 * qlung_plugin contributors
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from qlung_plugin.utils.metric_stats import prediction_metrics
from qlung_plugin.utils.results import read_predictions
from qlung_plugin.utils.run_folder import SELECTIONS

METRICS = "metrics.json"
SCORES = ("sp", "se", "score", "se_two_class", "score_two_class")
COLUMNS = ("id", "patient", "label", "prediction")


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
        ``id``, ``patient``, ``label`` and ``prediction`` of every cycle,
        sorted.
    folder : Path
        Where it was found; of pooled folds, the folder of the first.
    fold : str
        Empty, or which folds were pooled.
    supervision : dict, optional
        ``database`` and ``patients`` that the run's quality measure was
        learned from.
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


def read_evaluations(folder, configuration, seed):
    """Reads the evaluations of a folder, one per checkpoint.

    Arguments
    ---------
    folder : Path
        Holds ``metrics.json`` and ``predictions*.csv``.
    configuration : str
        Name of the configuration.
    seed : str
        Of the run.

    Returns
    -------
    list of Evaluation

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If one is damaged, or predictions and metrics do not fit together.
    """
    metrics = read_json(folder / METRICS)
    try:
        about = {
            "configuration": configuration,
            "seed": seed,
            "folder": folder,
            **_describe(metrics["data"]),
        }
        checkpoints = [name for name in SELECTIONS if name in metrics]
        if not checkpoints:
            raise KeyError(f"any of {', '.join(SELECTIONS)}")
        return [
            Evaluation(
                **about,
                checkpoint=name,
                epoch=str(metrics[name]["epoch"]),
                selection=metrics[name]["selection"],
                labels=tuple(metrics[name]["counts"]),
                predictions=_read_cycles(folder, name, metrics[name]),
            )
            for name in checkpoints
        ]
    except KeyError as error:
        raise ValueError(
            f"{folder / METRICS} is not what a run writes: it lacks"
            f" {error.args[0]}"
        ) from error


def read_json(path):
    """Reads a JSON object; anything else is a ValueError with the file's name.

    Arguments
    ---------
    path : Path
        The file.

    Returns
    -------
    dict
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def _describe(data):
    """What was evaluated, in words."""
    protocol, trained_with = data["protocol"], data
    if (data.get("training") or {}).get("data"):  # of another database
        trained_with = data["training"]["data"]
        protocol += f"; trained on {_database(trained_with)}"
    return {
        "database": _database(data),
        "partition": data.get("partition", data["protocol"]),
        "protocol": protocol,
        "supervision": trained_with.get("quality_supervision"),
    }


def _database(data):
    """The name of a database, and which part of it was there."""
    subset = f", subset ({data['subset']})" if data["subset"] else ""
    return data["database"] + subset


def _read_cycles(place, checkpoint, metrics):
    """The predictions of a checkpoint, checked against its metrics."""
    suffix = "" if checkpoint == "selected" else f"_{checkpoint}"
    path = place / f"predictions{suffix}.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, though {METRICS} has {checkpoint}"
        )
    try:
        table = read_predictions(path)
        missing = set(COLUMNS) - set(table)
        if missing:
            raise ValueError(f"it lacks the columns {sorted(missing)}")
        found = prediction_metrics(
            table["label"], table["prediction"], tuple(metrics["counts"])
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name in SCORES:
        value = np.nan if metrics[name] is None else metrics[name]
        if not np.isclose(found[name], value, atol=0.01, equal_nan=True):
            raise ValueError(
                f"{path} gives {name} {found[name]:.2f}, but {METRICS} beside"
                f" it says {value:.2f}: they are not of the same run"
            )
    return table[list(COLUMNS)].sort_values("id", ignore_index=True)
