"""What a page is made of: runs and their results.

Authors
 * qlung_plugin contributors
"""

import os
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pandas as pd

from qlung_plugin.report.trainings import read_training
from qlung_plugin.runs.evaluations import (
    Damage,
    Evaluation,
    read_evaluations,
)
from qlung_plugin.runs.experiments import FOLDS, collect_evaluations
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.utils.ordinary_files import read_ordinary


@dataclass(eq=False)
class Run:
    """A run that is shown in detail.

    Arguments
    ---------
    evaluation : Evaluation
        Of the checkpoint that is shown.
    others : list of Evaluation
        All evaluations of the run: of all its checkpoints, and on other
        databases.
    history : pandas.DataFrame, optional
        A row per epoch of its training, where that is known.
    """

    evaluation: Evaluation
    others: list = field(default_factory=list, repr=False)
    history: pd.DataFrame | None = field(default=None, repr=False)

    @property
    def name(self):
        """Configuration and seed."""
        return f"{self.evaluation.configuration}/{self.evaluation.seed}"

    @property
    def folder(self):
        """Where the evaluation is."""
        return self.evaluation.folder

    @property
    def figures(self):
        """The figures of the checkpoint that is shown."""
        return self.evaluation.figures

    @property
    def predictions(self):
        """Those of the checkpoint that is shown."""
        return self.evaluation.predictions


def find_runs(folders, checkpoint="selected"):
    """Finds what is to be shown.

    Arguments
    ---------
    folders : list of str or Path
        Each the output folder of a training or of an evaluation (also
        ``validation`` of a training), which is shown; or a folder that holds
        several, of which the first seed of each configuration is shown. Where
        that was trained in folds, their pooled results are compared and the
        first fold is shown.
    checkpoint : str
        Whose predictions are shown: ``selected``, ``last`` or
        ``test_selected``.

    Returns
    -------
    runs : list of Run
        All judged on the same cycles.
    evaluations : list of Evaluation
        All that were found, the first configuration being what the others are
        compared with.
    notes : list of str
        What the reader has to know besides, in sentences: of what is left out
        because it is damaged, or was not judged on the same cycles as most,
        :class:`qlung_plugin.runs.evaluations.Damage`.

    Raises
    ------
    FileNotFoundError
        If a folder is none.
    ValueError
        If no run is left to be shown, or a run is there twice.
    """
    evaluations, notes, runs, collected = [], [], [], []
    for folder in map(Path, folders):
        found, remarks = _collect(folder)
        if not found and not any(isinstance(r, Damage) for r in remarks):
            text = f"{folder} holds no finished run: {'; '.join(remarks)}"
            remarks = [Damage(text)]
        notes += remarks
        found = _ordered(found, folder, notes)
        for one in found:
            other = next((e for e in evaluations if _same(one, e)), None)
            if other is None:
                evaluations.append(one)
            elif other.folder.resolve() != one.folder.resolve():
                raise ValueError(
                    f"{other.folder} and {one.folder} are both"
                    f" {one.configuration}, seed {one.seed}: rename one"
                )
        if RunFolder(folder).has_results:
            runs += _find_run(found, folder, checkpoint, notes)
            continue
        # The first is that of the training itself, of the first seed.
        firsts = {}
        for one in found:
            if not _is_within(one.folder, folder):
                firsts.setdefault(one.configuration, one)
        for first in firsts.values():
            ones = _unpooled(found, first)
            run = _find_run(ones, first.folder, checkpoint, notes)
            runs += run
            collected += run
    if not runs:
        raise ValueError("; ".join(notes))
    runs = _alike(runs, notes)
    for run in runs:
        try:
            run.history = read_training(run)
        except (OSError, ValueError) as error:
            notes.append(f"No curves of the training of {run.name}: {error}.")
    seeds = [run.name for run in runs if run in collected]
    if seeds:
        notes.append(
            "Of each configuration the first seed is shown in detail:"
            f" {'; '.join(seeds)}."
        )
    return runs, evaluations, notes


def _collect(folder):
    """Evaluations and notes; of validation or a single fold if asked for."""
    place = RunFolder(folder)
    if not place.has_results:
        try:
            return collect_evaluations(folder)
        except FileNotFoundError as error:
            if not folder.is_dir():
                raise
            return [], [Damage(error)]  # such as of a run that was stopped
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
    found, notes = [], []
    for place in places:
        try:
            found += read_evaluations(place, configuration, seed)
        except (OSError, ValueError) as error:
            notes.append(Damage(f"{place.path} is left out: {error}"))
    return found, notes


def _name_fold(seed, fold):
    """What tells a fold from the other folds and seeds."""
    return f"{seed}/fold_{fold}"


def _unpooled(evaluations, first):
    """Of pooled folds, the evaluations of the first; else all as they are."""
    if not first.fold:
        return evaluations
    which = (first.configuration, first.seed, first.fold)
    folders = dict.fromkeys(
        one.folder
        for one in evaluations
        if (one.configuration, one.seed, one.fold) == which
    )
    seed = _name_fold(first.seed, FOLDS[0])
    return [
        one
        for folder in folders
        for one in read_evaluations(
            RunFolder(folder), first.configuration, seed
        )
    ]


def _ordered(evaluations, folder, notes):
    """In the order of the tables that lie in the folder, if any."""
    order, path = [], folder / "results.csv"
    if os.path.lexists(path):
        try:
            table = pd.read_csv(StringIO(read_ordinary(path)), dtype=str)
            order = list(table["configuration"].unique())
        except (KeyError, OSError, ValueError) as error:
            notes.append(f"The order is that of the names: {path}: {error}.")
    rank = {name: place for place, name in enumerate(order)}
    return sorted(
        evaluations, key=lambda one: rank.get(one.configuration, len(rank))
    )


def _same(one, other):
    names = "configuration seed database partition checkpoint".split()
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _find_run(evaluations, folder, checkpoint, notes):
    """The run whose results are in the folder, in a list; or a note."""
    here = [one for one in evaluations if one.folder == folder]
    evaluation = next((e for e in here if e.checkpoint == checkpoint), None)
    if evaluation is None:
        if here:  # else there is a note on its damage
            known = ", ".join(one.checkpoint for one in here)
            notes.append(
                Damage(
                    f"{folder} is left out: it has no result of the checkpoint"
                    f" {checkpoint}, only of {known}"
                )
            )
        return []
    others = [
        one
        for one in evaluations
        if one.configuration == evaluation.configuration
        and one.seed == evaluation.seed
        and one.fold == evaluation.fold
    ]
    return [Run(evaluation, others)]


def _is_within(place, folder):
    """Whether a place is of a run whose own results are above it.

    Those may be damaged: others are not shown in their stead.
    """
    top = RunFolder(place).top
    above = (p for p in top.path.parents if p.is_relative_to(folder))
    return top.fold is None and any(RunFolder(p).has_results for p in above)


def _alike(runs, notes):
    """The runs that were judged on the same cycles, which most are."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"a run is given twice: {', '.join(names)}")
    groups = {}
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
