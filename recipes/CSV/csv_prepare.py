"""Prepares recordings of one's own, which a table labels.

A table says which label each recording, or stretch of it, has, and of which
patient it is; it becomes one JSON manifest per partition, an entry per row. See
:func:`qlung_plugin.dataio.labelled_table.read_labelled_table` for its columns.

Authors
 * qlung_plugin contributors
"""

import math
import os
from collections import Counter, defaultdict
from pathlib import Path

from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.folders import Warnings, check_folders
from qlung_plugin.dataio.labelled_table import FACTS, read_labelled_table
from qlung_plugin.dataio.labels import NORMAL, has_normal
from qlung_plugin.dataio.locating import locate_cycles, read_headers
from qlung_plugin.dataio.manifests import (
    make_manifest,
    read_summary,
    write_manifests,
)
from qlung_plugin.dataio.partitions import (
    check_fold,
    count_cycles,
    draw_patients,
    hold_out_patients,
)
from qlung_plugin.dataio.store_digest import file_digest

MANIFESTS = ("train.json", "valid.json", "test.json")
PARTS = ("train", "valid", "test")
SUMMARY = "csv.json"
SPLITS = ("patient_folds", "column")


def prepare_csv(
    data_folder,
    output_folder,
    table="table.csv",
    labels=None,
    label_mapping=None,
    normal_label=None,
    name=None,
    split="patient_folds",
    test_fraction=0.2,
    test_fold=0,
    valid_fraction=0.2,
    valid_fold=0,
    split_seed=0,
    strict=False,
    skip_prep=False,
):
    """Writes `train.json`, `valid.json`, `test.json` and `csv.json`.

    No patient is in two partitions.

    Arguments
    ---------
    data_folder : str
        Where the table and the recordings are. A report has no sound of those
        that the table names elsewhere, unless all are below one folder, which
        `qlung report --data_folder` names. Never written to.
    output_folder : str
        Where the manifests go.
    table : str
        The table of labels, in the data folder or elsewhere.
    labels : list of str, optional
        All classes, as :func:`read_labels` tells them: another one is an error.
    label_mapping : dict, optional
        What labels of the table are called; null leaves their rows out.
    normal_label : str, optional
        Which class, after the mapping, is normal: it is called `normal`.
    name : str, optional
        What the data are called in reports; else it is the data folder's name.
    split : str
        "patient_folds": patients are drawn for the test, stratified by label.
        "column": the table's column `split` says train, valid or test.
    test_fraction : float
        Share of the patients to test on, up to 0.5.
    test_fold : int
        Which of the `round(1 / test_fraction)` folds is tested on.
    valid_fraction : float
        Share of the other patients to hold out for validation, up to 0.5, where
        the column `split` says valid of none. 0: all of them are trained on.
    valid_fold : int
        Which of the `round(1 / valid_fraction)` folds is held out.
    split_seed : int
        Seed of the folds, apart from the seed of the training.
    strict : bool
        Whether what is odd, but usable, is an error.
    skip_prep : bool
        Whether to keep the manifests of an earlier call.

    Returns
    -------
    summary : dict
        Protocol, counts and warnings, as written to `csv.json`.

    Raises
    ------
    ValueError
        If a row is malformed, has an unknown label, or contradicts another one;
        if recordings of two patients are the same, or a patient is in two parts;
        if a class is missing from training.
    FileNotFoundError
        If the table, recordings, or manifests to keep are missing.

    Example
    -------
    >>> summary = prepare_csv("recordings", "results")  # doctest: +SKIP
    """
    if skip_prep:
        return read_summary(output_folder, MANIFESTS, SUMMARY)
    if split not in SPLITS:
        raise ValueError(f"split is '{split}', not {' or '.join(SPLITS)}")
    data_folder, output_folder = check_folders(data_folder, output_folder)
    warnings = Warnings(strict)
    table = data_folder / table
    rows = _read_rows(table, label_mapping, normal_label, warnings)
    labels = _check_labels(rows, labels, table, warnings)
    _check_same_audio(rows, table, warnings)
    cycles = _make_cycles(rows, table)
    headers = read_headers([cycle["wav"] for cycle in cycles], warnings)
    for cycle in cycles:
        if math.isnan(cycle["start"]):
            header = headers[cycle["wav"]]
            cycle["start"], cycle["end"] = 0, header.frames / header.sample_rate
    cycles = locate_cycles(cycles, headers, warnings, "rows")
    if not cycles:
        raise ValueError(f"{table}: no row has a usable sound")
    if split == "column":
        protocol = _read_sides(cycles, table)
    else:
        protocol = _draw_sides(cycles, test_fraction, test_fold, split_seed)
    if any(cycle["side"] == "valid" for cycle in cycles):
        validation = f"validation on its patients of {Path(table).name}, too"
        partitions = {
            part: [cycle for cycle in cycles if cycle["side"] == part]
            for part in PARTS
        }
    else:
        partitions, validation = hold_out_patients(
            cycles, valid_fraction, valid_fold, split_seed
        )
    _check_classes(partitions, labels, table, warnings)
    counts = count_cycles(cycles, labels)
    summary = {
        "database": name or data_folder.name,
        "recordings": counts["recordings"],
        "recordings_published": None,
        "subset": None,
        "split": split,
        "protocol": f"{protocol}, {validation}",
        "patients_on_both_sides": [],
        "partitions": {
            part: count_cycles(members, labels)
            for part, members in partitions.items()
        },
        "warnings": warnings,
    }
    manifests = {
        f"{part}.json": make_manifest(
            members, data_folder, ("label", "patient", "recording", *FACTS)
        )
        for part, members in partitions.items()
    }
    write_manifests(output_folder, manifests, SUMMARY, summary)
    return summary


def read_labels(
    data_folder, table="table.csv", label_mapping=None, normal_label=None
):
    """The classes of a table: the normal one first, others by their name.

    Arguments
    ---------
    data_folder : str
        Where the table is.
    table : str
        The table of labels, there or elsewhere.
    label_mapping : dict, optional
        What labels of the table are called; null leaves their rows out.
    normal_label : str, optional
        Which class, after the mapping, is normal: it is called `normal`.

    Returns
    -------
    list of str
        `normal` is the first, if there is one.
    """
    table = Path(os.path.abspath(data_folder), table)
    rows = _read_rows(table, label_mapping, normal_label, notes=[])
    found = set(rows["label"])
    if len(found) < 2:
        raise ValueError(
            f"{table}: all rows have the label {', '.join(found)}, and there is"
            " nothing to tell apart"
        )
    return sorted(found, key=lambda label: (label != NORMAL, label))


def _read_rows(table, label_mapping, normal_label, notes):
    """The table, in which the normal class is called so."""
    rows = read_labelled_table(table, label_mapping, notes=notes)
    if normal_label in (None, NORMAL):
        return rows
    found = set(rows["label"])
    if normal_label not in found:
        raise ValueError(
            f"{table}: normal_label is {normal_label}, which no row has; there"
            f" are {', '.join(sorted(found))}"
        )
    if NORMAL in found:
        raise ValueError(
            f"{table}: normal_label is {normal_label}, but rows are labelled"
            f" {NORMAL}, too: make them one by label_mapping"
        )
    return rows.assign(label=rows["label"].replace(normal_label, NORMAL))


def _check_labels(rows, labels, table, warnings):
    """The labels that are expected; others are an error."""
    counts = Counter(rows["label"])
    if labels is None:
        labels = sorted(counts, key=lambda label: (label != NORMAL, label))
    strangers = rows[~rows["label"].isin(labels)]
    if len(strangers):
        places = [f"row {n} ({x})" for n, x in strangers["label"].items()]
        raise ValueError(
            f"{table}: {len(places)} rows have none of the labels"
            f" {', '.join(labels)}: {some(places)}; rename them by label_mapping"
        )
    if NORMAL in labels and not has_normal(labels):
        raise ValueError(f"of the labels {labels}, {NORMAL} is to be the first")
    if not has_normal(labels):
        warnings.append(
            f"no class is called {NORMAL}, of {', '.join(labels)}: results are"
            " macro recall, not Sp, Se and Score; normal_label says which one is"
        )
    return labels


def _check_same_audio(rows, table, warnings):
    """Refuses the same file under two patients; under one, it is a warning.

    Only files of the same size are read as a whole.
    """
    first = rows.drop_duplicates("path")
    by_size, by_content = defaultdict(list), defaultdict(list)
    for number, path in first["path"].items():
        by_size[os.path.getsize(path)].append(number)
    for numbers in by_size.values():
        for number in numbers if len(numbers) > 1 else ():
            digest = file_digest(Path(first.at[number, "path"]))
            by_content[digest].append(number)
    copies = []
    for numbers in by_content.values():
        places = [f"row {n} ({first.at[n, 'path']})" for n in numbers]
        patients = first.loc[numbers, "patient"].unique()
        if len(patients) > 1:
            raise ValueError(
                f"{table}: {len(places)} recordings are the same sound under the"
                f" patients {some(list(patients))}, who may be trained on and"
                f" tested: {some(places)}; keep one, or name one patient"
            )
        copies += places[1:]
    warnings.report({"recordings are copies of another one": copies}, table)


def _make_cycles(rows, table):
    """The rows as cycles, ordered by id, without their side."""
    paths = rows["path"].unique()
    stems = Counter(Path(path).stem for path in paths)
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = {
        path: Path(path).stem
        if stems[Path(path).stem] == 1
        else os.path.relpath(path, root).replace(os.sep, "_")
        for path in paths
    }
    if len(set(names.values())) < len(names):
        raise ValueError(
            f"{table}: recordings are called too alike, rename some"
        )
    place = rows.groupby("path", sort=False).cumcount()
    cycles = []
    for number, row in rows.iterrows():
        facts = {fact: row.get(fact) for fact in (*FACTS, "split")}
        if facts["age"] is not None and math.isnan(facts["age"]):
            facts["age"] = None
        cycles.append(
            {
                **facts,
                "id": f"{names[row['path']]}_{place[number]:03d}",
                "recording": names[row["path"]],
                "wav": Path(row["path"]),
                "where": f"row {number}",
                "row": number,
                **row[["start", "end", "label", "patient"]].to_dict(),
            }
        )
    return sorted(cycles, key=lambda cycle: cycle["id"])


def _read_sides(cycles, table):
    """Sets each cycle's side by the column; a patient has one."""
    sides = defaultdict(dict)
    for cycle in sorted(cycles, key=lambda cycle: cycle["row"]):
        side = (cycle["split"] or "").casefold()
        if side not in PARTS:
            raise ValueError(
                f"{table} {cycle['where']}: split is '{cycle['split'] or ''}',"
                f" not one of {', '.join(PARTS)}"
            )
        cycle["side"] = side
        sides[cycle["patient"]].setdefault(side, cycle["where"])
    torn = {p: places for p, places in sides.items() if len(places) > 1}
    if torn:
        patient, places = next(iter(torn.items()))
        told = ", ".join(f"{where} ({side})" for side, where in places.items())
        raise ValueError(
            f"{table}: {len(torn)} patients are in more than one part, such as"
            f" {patient}: {told}; put each into one"
        )
    return f"split of {Path(table).name}"


def _draw_sides(cycles, test_fraction, test_fold, split_seed):
    """Sets the side of drawn patients to test, and of others to train."""
    if not 0 < test_fraction <= 0.5:
        raise ValueError(f"test_fraction is {test_fraction}, not in 0 to 0.5")
    n_folds = round(1 / test_fraction)
    check_fold("test_fold", test_fold, range(n_folds))
    tested = draw_patients(cycles, n_folds, test_fold, split_seed)
    for cycle in cycles:
        cycle["side"] = "test" if cycle["patient"] in tested else "train"
    return (
        f"patient fold {test_fold} of {n_folds} drawn with seed {split_seed} for"
        " testing"
    )


def _check_classes(partitions, labels, table, warnings):
    """Refuses a training without a class; elsewhere it is a warning."""
    for part, members in partitions.items():
        there = {cycle["label"] for cycle in members}
        missing = [label for label in labels if label not in there]
        if missing and part == "train":
            raise ValueError(
                f"{table}: no row to train on is {', '.join(missing)}: choose"
                " another test_fold, valid_fold or split_seed, or join or drop"
                " rare labels by label_mapping"
            )
        if missing and members:
            warnings.append(f"no row of {part} is {', '.join(missing)}")
