"""What a page is made of: runs and their results.

Authors
 * qlung_plugin contributors
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from qlung_plugin.utils.evaluations import (
    METRICS,
    Evaluation,
    read_evaluations,
    read_json,
)
from qlung_plugin.utils.experiments import (
    FOLDS,
    VALIDATION,
    collect_evaluations,
    identify_run,
)
from qlung_plugin.utils.results import METADATA, read_predictions


@dataclass
class Run:
    """A run that is shown in detail.

    Arguments
    ---------
    evaluation : Evaluation
        Of the checkpoint that is shown.
    metrics : dict
        Its ``metrics.json``, all checkpoints.
    predictions : pandas.DataFrame
        Of the checkpoint that is shown: ``id``, the metadata, ``label``,
        ``prediction``, ``p_<label>`` per class, and columns of quality.
    others : list of Evaluation
        All evaluations of the run: of all its checkpoints, and on other
        databases.
    """

    evaluation: Evaluation
    metrics: dict
    predictions: pd.DataFrame = field(repr=False)
    others: list = field(default_factory=list, repr=False)

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
        """The metrics of the checkpoint that is shown."""
        return self.metrics[self.evaluation.checkpoint]


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
        What the reader has to know besides, in sentences.

    Raises
    ------
    FileNotFoundError
        If a folder holds no result.
    ValueError
        If a file is damaged, a run is there twice, or the runs were not judged
        on the same cycles.
    """
    evaluations, notes, runs, seeds = [], [], [], []
    for folder in map(Path, folders):
        found, remarks = _collect(folder)
        if not found:
            raise ValueError(
                f"{folder} holds no finished run: {'; '.join(remarks)}"
            )
        found = _ordered(found, folder)
        for one in found:
            other = next((e for e in evaluations if _same(one, e)), None)
            if other is None:
                evaluations.append(one)
            elif other.folder.resolve() != one.folder.resolve():
                raise ValueError(
                    f"{other.folder} and {one.folder} are both"
                    f" {one.configuration}, seed {one.seed}: rename one"
                )
        notes += remarks
        if (folder / METRICS).is_file():
            runs.append(_read_run(found, folder, checkpoint))
            continue
        for name in dict.fromkeys(one.configuration for one in found):
            # The first is that of the training itself, of the first seed.
            first = next(e for e in found if e.configuration == name)
            run = _read_run(_unpooled(found, first), first.folder, checkpoint)
            runs.append(run)
            seeds.append(run.name)
    if seeds:
        notes.append(
            "Of each configuration the first seed is shown in detail:"
            f" {'; '.join(seeds)}."
        )
    _check_alike(runs)
    return runs, evaluations, notes


def _collect(folder):
    """Evaluations and notes; of validation or a single fold if asked for."""
    if not (folder / METRICS).is_file():
        return collect_evaluations(folder)
    validation = folder.name == VALIDATION
    run = folder.parent if validation else folder
    configuration, seed, fold = identify_run(run, run)
    if fold is None and not validation:
        return collect_evaluations(folder)
    places = [folder]
    if fold is not None:
        seed = _name_fold(seed, fold)
        others = (path.parent for path in folder.glob(f"*/{METRICS}"))
        places += sorted(p for p in others if p.name != VALIDATION)
    return [
        one
        for place in places
        for one in read_evaluations(place, configuration, seed)
    ], []


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
        for one in read_evaluations(folder, first.configuration, seed)
    ]


def _ordered(evaluations, folder):
    """In the order of the tables that lie in the folder, if any."""
    order = []
    if (folder / "results.csv").is_file():
        table = pd.read_csv(folder / "results.csv", dtype=str)
        order = list(table.get("configuration", pd.Series(dtype=str)).unique())
    rank = {name: place for place, name in enumerate(order)}
    return sorted(
        evaluations, key=lambda one: rank.get(one.configuration, len(rank))
    )


def _same(one, other):
    names = "configuration seed database partition checkpoint".split()
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _read_run(evaluations, folder, checkpoint):
    """The run whose results are in the folder, one of those collected."""
    here = [one for one in evaluations if one.folder == folder]
    evaluation = next((e for e in here if e.checkpoint == checkpoint), None)
    if evaluation is None:
        known = ", ".join(one.checkpoint for one in here)
        raise ValueError(
            f"{folder} has no result of the checkpoint {checkpoint}"
            + (f", only of {known}" if known else "")
        )
    suffix = "" if checkpoint == "selected" else f"_{checkpoint}"
    path = folder / f"predictions{suffix}.csv"
    table = read_predictions(path)
    needed = [*METADATA, *(f"p_{k}" for k in evaluation.labels), "quality"]
    lacking = [name for name in needed if name not in table]
    if lacking:
        raise ValueError(f"{path} lacks the columns {', '.join(lacking)}")
    _check_values(path, table, needed[len(METADATA) :])
    table = table.sort_values("id", ignore_index=True)
    metrics = read_json(folder / METRICS)
    for name in ("interval", "strata", "confusion", "macro_f1", "patients"):
        if name not in metrics[checkpoint]:
            raise ValueError(f"{folder / METRICS} lacks {name}")
    others = [
        one
        for one in evaluations
        if one.configuration == evaluation.configuration
        and one.seed == evaluation.seed
        and one.fold == evaluation.fold
    ]
    return Run(evaluation, metrics, table, others)


def _check_values(path, table, columns):
    """Refuses what is no share; the quality may be missing."""
    if not table["id"].is_unique:
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise ValueError(f"{path} has the cycle {twice} twice")
    for name in columns:
        fine = table[name].between(0, 1)
        if name == "quality":
            fine |= table[name].isna()
        if not fine.all():
            row = table[~fine].iloc[0]
            raise ValueError(
                f"{path}: {name} of {row['id']} is {row[name]}, not in [0, 1]"
            )


def _check_alike(runs):
    first = runs[0]
    for run in runs[1:]:
        facts = ["id", "label"]
        if run.evaluation.labels != first.evaluation.labels or not (
            run.predictions[facts].equals(first.predictions[facts])
        ):
            raise ValueError(
                f"{run.folder} and {first.folder} were not judged on the same"
                " cycles and classes: make a page of each"
            )
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"a run is given twice: {', '.join(names)}")
