"""From the folders of many runs to one list of evaluations.

Authors
 * qlung_plugin contributors
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from qlung_plugin.runs.evaluations import Damage, Evaluation, read_evaluations
from qlung_plugin.runs.folder import METRICS, VALIDATION, find_run_folders
from qlung_plugin.training.selection import CHECKPOINTS

# Configuration, seed, which folder of the run, and of which folds it is one.
RunKey: TypeAlias = tuple[str, str, str, str]
FOLDS = range(5)
# Of ICBHI's training side, each held out once. Litt3200, with two patients
# there, is never a fold of its own.
DEVICES = ("AKGC417L", "LittC2SE", "Meditron")
FOLDS_OF: dict[str, Sequence[int | str]] = {"folds": FOLDS, "devices": DEVICES}
BY_DEVICE = f"{len(DEVICES)} devices pooled"  # of an evaluation
OPTIMISTIC = "here the scored ones, so that it is optimistic"


def collect_evaluations(
    folder: Path | str,
) -> tuple[list[Evaluation], list[str]]:
    """Reads every evaluation in a folder, and notes on what is missing.

    Folds are pooled: of folds of all patients (``split: patient_folds``) what the
    test sides got, of others (of patients or devices of the training side) what
    the validation patients got, out of fold.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of results")
    notes: list[str] = []
    evaluations: list[Evaluation] = []
    runs = _read_runs(folder, notes)
    for key in sorted(runs, key=lambda key: tuple(map(natural, key))):
        configuration, seed, part, kind = key
        folds = runs[key]
        if not kind:
            evaluations += folds[None]
        elif set(folds) == set(FOLDS_OF[kind]):
            try:
                evaluations += _pool(part, kind, folds)
            except ValueError as error:
                notes.append(
                    Damage(f"{configuration}, seed {seed} is left out: {error}")
                )
        else:
            finished = [fold for fold in FOLDS_OF[kind] if fold in folds]
            notes.append(
                f"{configuration}, seed {seed}: of {len(FOLDS_OF[kind])} {kind} only"
                f" {', '.join(map(str, finished))} finished, so that the"
                " seed is left out"
            )
    evaluations = merge(evaluations)
    if not evaluations and not notes:
        raise FileNotFoundError(
            f"{folder} holds no result: no folder in it has a {METRICS}"
        )
    return evaluations, notes


def in_order(
    evaluations: Iterable[Evaluation], configurations: Iterable[str]
) -> list[Evaluation]:
    """Those of the configurations in their order; others follow."""
    rank = {name: place for place, name in enumerate(configurations)}
    return sorted(
        evaluations, key=lambda e: rank.get(e.configuration, len(rank))
    )


def natural(text: object) -> list[tuple[bool, int, str]]:
    """A key that sorts numbers in texts by their size.

    Example
    -------
    >>> sorted(["10", "9", "b", "a 2"], key=natural)
    ['9', '10', 'a 2', 'b']
    """
    parts = re.split("([0-9]+)", str(text))
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def _read_runs(
    folder: Path, notes: list[str]
) -> dict[RunKey, dict[int | str | None, list[Evaluation]]]:
    """Evaluations by configuration, seed, part and fold; None is no fold."""
    runs: dict[RunKey, dict[int | str | None, list[Evaluation]]] = {}
    for run, places in find_run_folders(folder):
        name = run.path.relative_to(folder)
        if not run.has_results:
            notes.append(f"{name} has no {METRICS}: unfinished or broken")
            continue
        try:
            configuration, seed, fold = run.identify(folder)
            kind = _kind_of_fold(fold)
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
            key = (configuration, seed, part, kind)
            folds = runs.setdefault(key, {})
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
    return {key: folds for key, folds in runs.items() if folds}


def _kind_of_fold(fold: int | str | None) -> str:
    """Of which :data:`FOLDS_OF` a fold is one; "" if it is none."""
    if fold is None:
        return ""
    for kind, folds in FOLDS_OF.items():
        if fold in folds:
            return kind
    raise ValueError(f"fold {fold} is none of {[*FOLDS, *DEVICES]}")


def merge(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Each evaluation once; two folders with the same one are refused."""
    merged: dict[tuple[str, ...], Evaluation] = {}
    for e in evaluations:
        key = (e.configuration, e.seed, e.database, e.partition)
        other = merged.setdefault((*key, e.checkpoint), e)
        if other.folder.resolve() != e.folder.resolve():
            raise ValueError(
                f"{other.folder} and {e.folder} are both of {', '.join(key)}:"
                " rename one, or collect them apart"
            )
    return list(merged.values())


def _pool(
    part: str, kind: str, folds: dict[int | str | None, list[Evaluation]]
) -> list[Evaluation]:
    """The evaluations of all folds as one, per checkpoint."""
    pooled = []
    for name in CHECKPOINTS:
        alike = [
            evaluation
            for fold in FOLDS_OF[kind]
            for evaluation in folds[fold]
            if evaluation.checkpoint == name
        ]
        if len(alike) < len(folds):
            continue
        first = alike[0]
        cycles = pd.concat([e.predictions for e in alike])
        # Either each cycle was judged in one fold, or each in every fold.
        judged = cycles["id"].value_counts()
        if judged.nunique() > 1 or len({e.database for e in alike}) > 1:
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
            if kind == "devices":
                partition = "devices of the training side, each held out"
            if name == "selected":
                selection += f" - {OPTIMISTIC}"
        count = len(folds)
        pooled.append(
            replace(
                first,
                fold=BY_DEVICE if kind == "devices" else f"{count} pooled",
                selection=selection,
                epoch="/".join(e.epoch for e in alike),
                partition=f"{partition} ({count} folds pooled)",
                protocol=f"{first.protocol} (the first fold; others alike)",
                predictions=cycles.sort_values(["id"], ignore_index=True),
            )
        )
    return pooled
