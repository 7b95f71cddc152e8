"""A run folder: the names of its files, and which folders are one.

A run is a folder that a training left behind; evaluations on other databases lie
in sub-folders of it. Runs are expected as ``<configuration>/<seed>``, those of a
fold in a sub-folder ``fold_<k>``; an ``experiment.json`` in the folder says better.

Authors
 * qlung_plugin contributors
"""

import os
import re
from pathlib import Path
from typing import Any

from qlung_plugin.runs import schema
from qlung_plugin.training.selection import CHECKPOINTS
from speechbrain.utils.checkpoints import CKPT_PREFIX, METAFNAME

METRICS = "metrics.json"
EXPERIMENT = "experiment.json"
HYPERPARAMETERS = "hyperparams.yaml"
INFERENCE_YAML = "inference.yaml"  # of older versions: of what a model is made
MODEL_JSON = "model.json"
WEIGHTS = "model.safetensors"
VALIDATION = "validation"
HISTORY = "history.ckpt"  # of a checkpoint
FOLD = re.compile("fold_(.+)")  # its number, or the device held out


class RunFolder:
    """A folder that a training, or an evaluation, writes to.

    The path is its ``output_folder``, ``save`` where its checkpoints are.

    Example
    -------
    >>> run = RunFolder("ce/1")
    >>> run.predictions("test_selected").as_posix()
    'ce/1/predictions_test_selected.csv'
    >>> RunFolder(run.validation).top.path.as_posix()
    'ce/1'
    """

    def __init__(
        self, path: Path | str, save: Path | str | None = None
    ) -> None:
        self.path = Path(path)
        self.metrics = self.path / METRICS
        self.report = self.path / "report.txt"
        self.markdown = self.path / "report.md"  # of a quality recipe
        self.degradation = self.path / "degradation.md"
        self.quality_analysis = self.path / "quality_analysis.json"
        self.hyperparameters = self.path / HYPERPARAMETERS
        self.configuration = self.path / "configuration.json"
        self.experiment = self.path / EXPERIMENT
        self.log = self.path / "log.txt"
        self.console = self.path / "console.txt"  # of a script among many
        self.validation = self.path / VALIDATION
        self.save = Path(save or self.path / "save")
        self.models = self.path / "model"
        self.exported = self.path / MODEL_JSON  # of what an export wrote
        self.inference_yaml = self.save / INFERENCE_YAML

    def model(self, checkpoint: str) -> Path:
        """The folder of a checkpoint's model, which a training writes last."""
        return self.models / checkpoint

    def predictions(self, checkpoint: str) -> Path:
        """The table of what a checkpoint predicted."""
        suffix = CHECKPOINTS[checkpoint].suffix
        return self.path / f"predictions{suffix}.csv"

    def figure(self, name: str) -> Path:
        """A figure, by name."""
        return self.path / "figures" / f"{name}.png"

    def manifest(self, partition: str) -> Path:
        """The manifest of a partition, by its name."""
        return self.path / f"{partition}.json"

    @property
    def checkpoints(self) -> list[Path]:
        """The folders of its checkpoints, the oldest first."""
        # Their names are dates; two of a second are numbered.
        return sorted(self.save.glob(f"{CKPT_PREFIX}*"))

    @property
    def is_training(self) -> bool:
        """Whether a training writes, or wrote, its model here."""
        return self.save.is_dir() or self.models.is_dir()

    @property
    def has_results(self) -> bool:
        """Whether there are results, of which one may be damaged."""
        return os.path.lexists(self.metrics)  # also a link that leads nowhere

    @property
    def is_validation(self) -> bool:
        """Whether it holds what a training made of its validation patients."""
        return self.path.name == VALIDATION

    @property
    def top(self) -> "RunFolder":
        """The training that this is the validation of; else itself."""
        return RunFolder(self.path.parent) if self.is_validation else self

    @property
    def fold(self) -> int | str | None:
        """Which fold it is, by its name; None if it is none."""
        match = FOLD.fullmatch(self.path.name)
        if match is None:
            return None
        return int(match[1]) if match[1].isdecimal() else match[1]

    def parts(self) -> list["RunFolder"]:
        """Itself and the folders in it, those of them that have results."""
        inside = sorted(path.parent for path in self.path.glob(f"*/{METRICS}"))
        runs = map(RunFolder, [self.path, *inside])
        return [run for run in runs if run.has_results]

    def is_used(self) -> bool:
        """Whether there are results, or a training to go on with."""
        # A script that is through has written one of these at least.
        ends = (self.metrics, self.report, self.markdown, self.degradation)
        return any(path.exists() for path in ends) or any(
            (checkpoint / METAFNAME).exists() for checkpoint in self.checkpoints
        )

    def identify(self, folder: Path) -> tuple[str, str, int | str | None]:
        """Its configuration, its seed, and which fold it is, if it is one.

        The folder is what was asked for: the run's, or one above it.
        """
        if os.path.lexists(self.experiment):
            known = schema.read_checked(self.experiment, schema.EXPERIMENT)
            return known["configuration"], str(known["seed"]), known["fold"]
        inside = self.path.relative_to(folder).parts
        fold = self.fold if inside else None
        if fold is not None:
            inside = inside[:-1]
        outside = folder.resolve()
        names = (outside.parent.name, outside.name, *inside)
        return "/".join(inside[:-1]) or names[-2], names[-1], fold

    def read_metrics(self) -> dict[str, Any]:
        """Reads ``metrics.json``; what it says besides its figures is checked."""
        metrics = schema.read_checked(self.metrics, {"data": schema.DATA})
        names = [name for name in CHECKPOINTS if name in metrics]
        if not names:
            raise ValueError(
                f"{self.metrics} lacks any of {', '.join(CHECKPOINTS)}"
            )
        for name in names:
            schema.check(metrics, {name: schema.CHECKPOINT}, self.metrics)
            labels = list(metrics[name]["counts"])
            if len(labels) < 2 or not all(map(schema.NAME.holds, labels)):
                raise ValueError(
                    f"{self.metrics}: {name}.counts is of"
                    f" {schema.excerpt(labels)}, not of two classes or more,"
                    " each with a name"
                )
        return metrics

    def read_history(self) -> list[dict[str, Any]]:
        """The statistics of the epochs, as the last checkpoint has them."""
        paths = [checkpoint / HISTORY for checkpoint in self.checkpoints]
        histories = [
            schema.read_checked(path, schema.HISTORY)
            for path in paths
            if path.exists()
        ]
        return max(histories, key=len, default=[])

    def read_configuration(self) -> dict[str, Any]:
        """What its results were made with, see ``OutputFolder.claim``."""
        return schema.read_checked(self.configuration, schema.MADE_WITH)


def find_run_folders(folder: Path) -> list[tuple[RunFolder, list[RunFolder]]]:
    """The run folders at any depth of a folder, or the one that it is.

    Beside each are the places in it where there are results or ought to be.
    """
    names = (METRICS, EXPERIMENT)
    places = {path.parent for name in names for path in folder.rglob(name)}
    runs: dict[Path, list[RunFolder]] = {}
    for place in map(RunFolder, sorted(places)):  # those above come first
        top = place.top
        parents = () if top.fold is not None else top.path.parents
        run = next((path for path in parents if path in runs), top.path)
        runs.setdefault(run, []).append(place)
    return [(RunFolder(path), places) for path, places in runs.items()]
