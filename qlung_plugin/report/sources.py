"""What a page is made of: runs and their results.

Authors
 * qlung_plugin contributors
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from qlung_plugin.report.trainings import read_training
from qlung_plugin.runs.evaluations import Damage, Evaluation, read_evaluations
from qlung_plugin.runs.experiments import (
    BY_DEVICE,
    DEVICES,
    FOLDS,
    collect_evaluations,
    in_order,
    merge,
)
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.utils.ordinary_files import read_ordinary


@dataclass(eq=False)
class Run:
    """A run that is shown in detail."""

    evaluation: Evaluation  # of the checkpoint that is shown
    # All of the run: of all its checkpoints, and on other databases.
    others: list[Evaluation] = field(default_factory=list, repr=False)
    # A row per epoch of its training, where that is known.
    history: pd.DataFrame | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Configuration and seed."""
        return f"{self.evaluation.configuration}/{self.evaluation.seed}"

    @property
    def folder(self) -> Path:
        """Where the evaluation is."""
        return self.evaluation.folder

    @property
    def figures(self) -> dict[str, Any]:
        """The figures of the checkpoint that is shown."""
        return self.evaluation.figures

    @property
    def predictions(self) -> pd.DataFrame:
        """Those of the checkpoint that is shown."""
        return self.evaluation.predictions


def find_runs(
    folders: Iterable[Path | str], checkpoint: str = "selected"
) -> tuple[list[Run], list[Evaluation], list[str]]:
    """The runs to be shown, the evaluations to be compared, and notes.

    A folder is that of a run, which is shown; or it holds several, of which the
    first seed of each configuration is, and of pooled folds the first. The runs
    that are shown were judged on the same cycles, which most were.
    """
    evaluations: list[Evaluation] = []
    notes: list[str] = []
    runs: list[Run] = []
    first_seeds: list[Run] = []
    for folder in map(Path, folders):
        here, remarks = _collect(folder)
        if not here and not any(isinstance(r, Damage) for r in remarks):
            text = f"{folder} holds no finished run: {'; '.join(remarks)}"
            remarks = [Damage(text)]
        notes += remarks
        here = _ordered(here, folder, notes)
        evaluations = merge([*evaluations, *here])
        if RunFolder(folder).has_results:
            runs += _find_run(here, folder, checkpoint, notes)
            continue
        # The first is that of the training itself, of the first seed.
        firsts: dict[str, Evaluation] = {}
        for evaluation in here:
            if not _is_within(evaluation.folder, folder):
                firsts.setdefault(evaluation.configuration, evaluation)
        for first in firsts.values():
            unpooled = _unpooled(here, first)
            first_run = _find_run(unpooled, first.folder, checkpoint, notes)
            runs += first_run
            first_seeds += first_run
    if not runs:
        raise ValueError("; ".join(notes))
    runs = _alike(runs, notes)
    for run in runs:
        try:
            run.history = read_training(run)
        except (OSError, ValueError) as error:
            notes.append(f"No curves of the training of {run.name}: {error}.")
    seeds = [run.name for run in runs if run in first_seeds]
    if seeds:
        notes.append(
            "Of each configuration the first seed is shown in detail:"
            f" {'; '.join(seeds)}."
        )
    return runs, evaluations, notes


def _collect(
    folder: Path,
) -> tuple[list[Evaluation], Sequence[str]]:
    """Evaluations and notes; of validation or a single fold if asked for."""
    place = RunFolder(folder)
    if not place.has_results:
        try:
            return collect_evaluations(folder)
        except FileNotFoundError as error:
            if not folder.is_dir():
                raise
            return [], [Damage(str(error))]  # such as of a run that was stopped
    run = place.top
    try:
        configuration, seed, fold = run.identify(run.path)
    except (OSError, ValueError) as error:
        return [], [Damage(f"{folder} is left out: {error}")]
    if fold is None and not place.is_validation:
        return collect_evaluations(folder)
    places = [place]
    if fold is not None:
        seed = _name_fold(seed, fold)
        places += [p for p in place.parts()[1:] if not p.is_validation]
    evaluations: list[Evaluation] = []
    notes: list[str] = []
    for place in places:
        try:
            evaluations += read_evaluations(place, configuration, seed)
        except (OSError, ValueError) as error:
            notes.append(Damage(f"{place.path} is left out: {error}"))
    return evaluations, notes


def _name_fold(seed: str, fold: int | str) -> str:
    """What tells a fold from the other folds and seeds."""
    return f"{seed}/fold_{fold}"


def _unpooled(
    evaluations: list[Evaluation], first: Evaluation
) -> list[Evaluation]:
    """Of pooled folds, the evaluations of the first; else all as they are."""
    if not first.fold:
        return evaluations
    folders = dict.fromkeys(
        e.folder for e in evaluations if _same_run(e, first)
    )
    fold = DEVICES[0] if first.fold == BY_DEVICE else FOLDS[0]
    seed = _name_fold(first.seed, fold)
    unpooled: list[Evaluation] = []
    for folder in map(RunFolder, folders):
        unpooled += read_evaluations(folder, first.configuration, seed)
    return unpooled


def _same_run(evaluation: Evaluation, other: Evaluation) -> bool:
    names = ("configuration", "seed", "fold")
    return all(getattr(evaluation, k) == getattr(other, k) for k in names)


def _ordered(
    evaluations: list[Evaluation], folder: Path, notes: list[str]
) -> list[Evaluation]:
    """In the order of the tables that lie in the folder, if any."""
    order, path = [], folder / "results.csv"
    if os.path.lexists(path):
        try:
            table = pd.read_csv(StringIO(read_ordinary(path)), dtype=str)
            order = list(table["configuration"].unique())
        except (KeyError, OSError, ValueError) as error:
            notes.append(f"The order is that of the names: {path}: {error}.")
    return in_order(evaluations, order)


def _find_run(
    evaluations: list[Evaluation],
    folder: Path,
    checkpoint: str,
    notes: list[str],
) -> list[Run]:
    """The run whose results are in the folder, in a list; or a note."""
    here = [e for e in evaluations if e.folder == folder]
    evaluation = next((e for e in here if e.checkpoint == checkpoint), None)
    if evaluation is None:
        if here:  # else there is a note on its damage
            known = ", ".join(e.checkpoint for e in here)
            notes.append(
                Damage(
                    f"{folder} is left out: it has no result of the checkpoint"
                    f" {checkpoint}, only of {known}"
                )
            )
        return []
    others = [e for e in evaluations if _same_run(e, evaluation)]
    return [Run(evaluation, others)]


def _is_within(place: Path, folder: Path) -> bool:
    """Whether a place is of a run whose own results, maybe damaged, are above."""
    top = RunFolder(place).top
    above = (p for p in top.path.parents if p.is_relative_to(folder))
    return top.fold is None and any(RunFolder(p).has_results for p in above)


def _alike(runs: list[Run], notes: list[str]) -> list[Run]:
    """The runs that were judged on the same cycles, which most are."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"a run is given twice: {', '.join(names)}")
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        cycles = run.predictions[["id", "label"]].itertuples(index=False)
        judged_on = (run.evaluation.labels, *map(tuple, cycles))
        groups.setdefault(judged_on, []).append(run)
    alike = max(groups.values(), key=len)
    for run in runs:
        if run not in alike:
            notes.append(
                Damage(
                    f"{run.folder} is left out: it was not judged on the same"
                    f" cycles and classes as {alike[0].folder}: make a page of"
                    " each"
                )
            )
    return alike
