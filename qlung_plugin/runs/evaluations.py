"""What a run leaves in its folder, read back and checked.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from qlung_plugin.runs.databases import name_database, patients_on_both_sides
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.predictions import METADATA, read_predictions
from qlung_plugin.runs.results import evaluate_predictions, point_metrics
from qlung_plugin.runs.schema import check_figures
from qlung_plugin.scores.duration import duration_alone
from qlung_plugin.scores.icbhi_score import table_metrics
from qlung_plugin.scores.metrics import OF_DECISIONS
from qlung_plugin.scores.operating_point import AT_POINT, with_operating_point
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.files import plain


class Damage(str):
    """A note on what is left out because a file of it is damaged."""


@dataclass
class Evaluation:
    """What one checkpoint of one run made of one set of cycles."""

    configuration: str
    seed: str  # or whatever tells the runs of a configuration apart
    database: str  # with its subset, if it is one
    partition: str  # the evaluated part of it, in words
    checkpoint: str  # selected, last or test_selected
    epoch: str  # of the checkpoint; of pooled folds, the epochs of all
    selection: str  # how the checkpoint was selected, in words
    # Split and validation, and the training's database if that is another one.
    protocol: str
    labels: tuple[str, ...]  # all classes, in order, normal first
    # A row per cycle, sorted by id, as runs.predictions reads it; with the class
    # at the operating point, if there is one.
    predictions: pd.DataFrame = field(repr=False)
    folder: Path  # where it was found; of pooled folds, the first one's
    fold: str = ""  # or which folds were pooled
    left_out: str = ""  # which of its patients, in words
    # The database and patients that its quality measure was learned from.
    supervision: dict[str, Any] | None = None
    # What was evaluated, as metrics.json has it.
    data: dict[str, Any] = field(default_factory=dict, repr=False)

    def at_operating_point(self) -> "Evaluation | None":
        """The same with the classes at the operating point, if there is one."""
        table = self.predictions
        if AT_POINT not in table or table[AT_POINT].isna().any():
            return None
        # What the probabilities are worth does not change.
        shares = [f"p_{label}" for label in self.labels]
        moved = table.assign(prediction=table[AT_POINT])
        moved = moved.drop(columns=[AT_POINT, *shares])
        return replace(self, predictions=moved)

    @property
    def counts(self) -> dict[str, int]:
        """Number of cycles of each class, in order."""
        counts = self.predictions["label"].value_counts()
        return {label: int(counts.get(label, 0)) for label in self.labels}

    @cached_property
    def figures(self) -> dict[str, Any]:
        """All figures, from the predictions; those undefined are None."""
        return plain(
            evaluate_predictions(
                self.predictions,
                self.labels,
                both_sides=patients_on_both_sides(self.data),
            )
        )

    def without(self, patients: Collection[str], who: str) -> "Evaluation":
        """The same without what is of some patients, and who they are."""
        names = self.predictions["patient"].astype(str)
        left_out = names.isin(patients)
        text = f"without the {names[left_out].nunique()} patients {who}"
        return replace(
            self,
            partition=f"{self.partition}, {text}",
            left_out=text,
            predictions=self.predictions[~left_out].reset_index(drop=True),
        )


def read_evaluations(
    folder: RunFolder, configuration: str, seed: str
) -> list[Evaluation]:
    """Reads, and checks, the evaluations of a folder, one per checkpoint."""
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
    cycles = [evaluation.predictions[facts] for evaluation in evaluations]
    first = folder.predictions(evaluations[0].checkpoint).name
    for evaluation, table in zip(evaluations, cycles):
        if not table.equals(cycles[0]):
            path = folder.predictions(evaluation.checkpoint)
            raise ValueError(
                f"{path} says other things of the cycles, or of other cycles,"
                f" than {first}: one of them is altered, or of another run"
            )
    return evaluations


def _describe(data: dict[str, Any]) -> dict[str, Any]:
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


def _read_cycles(
    folder: RunFolder, checkpoint: str, metrics: dict[str, Any]
) -> pd.DataFrame:
    """The predictions of a checkpoint, checked against its metrics."""
    path = folder.predictions(checkpoint)
    labels = tuple(metrics["counts"])
    table = read_predictions(path, labels)
    try:
        computed = table_metrics(table, labels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # An older version wrote none of the probabilities.
    computed = {
        key: value
        for key, value in computed.items()
        if key in metrics or key in {*OF_DECISIONS, "counts", "confusion"}
    }
    computed["patients"] = int(table["patient"].nunique())
    if "duration_alone" in metrics:  # which an older version did not write
        computed["duration_alone"] = duration_alone(table, labels)
    where = f"{folder.metrics}: {checkpoint}"
    check_figures(metrics, computed, where, path.name)
    point = metrics.get("operating_point")
    if point is not None:
        if set(point["offsets"]) != set(labels):
            raise ValueError(
                f"{where}: operating_point.offsets is of"
                f" {', '.join(point['offsets'])}, not of {', '.join(labels)}"
            )
        table = with_operating_point(table, point["offsets"], labels)
        computed = point_metrics(table, labels)
        check_figures(point, computed, f"{where}: operating_point", path.name)
    return table.sort_values("id", ignore_index=True)
