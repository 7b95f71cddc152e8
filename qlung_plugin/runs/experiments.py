"""From the folders of many runs to one table.

Which folder is a run is told in :mod:`qlung_plugin.runs.folder`.

Authors
 * qlung_plugin contributors
"""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from qlung_plugin.runs.evaluations import Damage, read_evaluations
from qlung_plugin.runs.folder import METRICS, VALIDATION, find_run_folders
from qlung_plugin.training.selection import CHECKPOINTS

FOLDS = range(5)
OPTIMISTIC = "here the scored ones, so that it is optimistic"


def collect_evaluations(folder):
    """Reads every evaluation that lies in a folder, at any depth.

    The folds of a configuration and seed are pooled: of folds of all patients
    (``split: patient_folds``) what the test sides got, of other folds what the
    validation patients got, who are out of fold. Where there are no folds,
    the results on validation patients are left aside.

    Arguments
    ---------
    folder : str or Path
        Holds run folders, or is one.

    Returns
    -------
    evaluations : list of Evaluation
        By configuration and seed, in their natural order.
    notes : list of str
        What is unfinished or damaged and therefore missing, in sentences: of
        what is damaged, :class:`qlung_plugin.runs.evaluations.Damage`.

    Raises
    ------
    FileNotFoundError
        If the folder is none, or holds no run.
    ValueError
        If two folders are the same run.

    Example
    -------
    >>> evaluations, notes = collect_evaluations("results")  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of results")
    notes, evaluations = [], []
    found = _read_runs(folder, notes)
    for key in sorted(found, key=lambda key: tuple(map(natural, key))):
        configuration, seed, part, is_fold = key
        folds = found[key]
        if not is_fold:
            evaluations += folds[None]
        elif set(folds) == set(FOLDS):
            try:
                evaluations += _pool(part, [folds[fold] for fold in FOLDS])
            except ValueError as error:
                notes.append(
                    Damage(f"{configuration}, seed {seed} is left out: {error}")
                )
        else:
            notes.append(
                f"{configuration}, seed {seed}: of {len(FOLDS)} folds only"
                f" {', '.join(map(str, sorted(folds)))} finished, so that the"
                " seed is left out"
            )
    _check_once(evaluations)
    if not evaluations and not notes:
        raise FileNotFoundError(
            f"{folder} holds no result: no folder in it has a {METRICS}"
        )
    return evaluations, notes


def natural(text):
    """A key that sorts numbers in texts by their size.

    Example
    -------
    >>> sorted(["10", "9", "b", "a 2"], key=natural)
    ['9', '10', 'a 2', 'b']
    """
    parts = re.split("([0-9]+)", str(text))
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def _read_runs(folder, notes):
    """Evaluations by configuration, seed, part and fold; None is no fold."""
    found = {}
    for run, places in find_run_folders(folder):
        name = run.path.relative_to(folder)
        if not run.has_results:
            notes.append(f"{name} has no {METRICS}: unfinished or broken")
            continue
        try:
            configuration, seed, fold = run.identify(folder)
            split = run.read_metrics()["data"].get("split")
        except (OSError, ValueError) as error:
            notes.append(Damage(f"{run.path} is left out: {error}"))
            continue
        out_of_fold = fold is not None and split != "patient_folds"
        if out_of_fold and run.validation not in [p.path for p in places]:
            notes.append(f"{name} has no results of its validation patients")
        for place in places:
            part = place.path.relative_to(run.path).as_posix()
            if (part == VALIDATION) != out_of_fold and part in (
                ".",
                VALIDATION,
            ):
                continue
            if not place.has_results:
                notes.append(
                    f"{name / part} has no {METRICS}: unfinished or broken"
                )
                continue
            key = (configuration, seed, part, fold is not None)
            folds = found.setdefault(key, {})
            if fold in folds:
                raise ValueError(
                    f"{place.path} and {folds[fold][0].folder} are both"
                    f" configuration {configuration}, seed {seed}: rename one,"
                    " or collect them apart"
                )
            try:
                folds[fold] = read_evaluations(place, configuration, seed)
            except (OSError, ValueError) as error:
                notes.append(Damage(f"{place.path} is left out: {error}"))
    return {key: folds for key, folds in found.items() if folds}


def _check_once(evaluations):
    """Refuses two results for the same thing."""
    places = {}
    for one in evaluations:
        key = (one.configuration, one.seed, one.database, one.partition)
        place = places.setdefault((*key, one.checkpoint), one.folder)
        if place != one.folder:
            raise ValueError(
                f"{place} and {one.folder} are both of {', '.join(key)}:"
                " collect them apart"
            )


def _pool(part, folds):
    """The evaluations of all folds as one, per checkpoint."""
    pooled = []
    for name in CHECKPOINTS:
        ones = [e for fold in folds for e in fold if e.checkpoint == name]
        if len(ones) < len(folds):
            continue
        first = ones[0]
        cycles = pd.concat([one.predictions for one in ones])
        # Either each cycle was judged in one fold, or each in every fold.
        judged = cycles["id"].value_counts()
        if judged.nunique() > 1 or len({one.database for one in ones}) > 1:
            raise ValueError(
                f"the folds of {first.folder} and its neighbours do not"
                " complete each other: some cycles are in more of them than"
                " others, or they are of different data"
            )
        selection = first.selection
        partition = f"{first.partition}, judged by the models of all folds"
        if part == ".":
            partition = "all patients, each tested out of fold"
        elif part == VALIDATION:
            partition = "patients of the training side, each out of fold"
            if name == "selected":
                selection += f" - {OPTIMISTIC}"
        count = len(FOLDS)
        pooled.append(
            replace(
                first,
                fold=f"{count} pooled",
                selection=selection,
                epoch="/".join(one.epoch for one in ones),
                partition=f"{partition} ({count} folds pooled)",
                protocol=f"{first.protocol} (the first fold; others alike)",
                predictions=cycles.sort_values(["id"], ignore_index=True),
            )
        )
    return pooled
