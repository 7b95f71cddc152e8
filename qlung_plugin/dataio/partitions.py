"""From cycles to partitions: patients held out, counts, completeness.

Cycles are dicts as :mod:`qlung_plugin.dataio.locating` describes them.

Authors
 * qlung_plugin contributors
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.labels import LABELS, TWO_CLASSES, has_normal
from qlung_plugin.dataio.manifests import Cycle, Entries


def patients_of(cycles: Sequence[Cycle], side: str) -> set[str]:
    """The set of patients on a side, "train" or "test"."""
    return {cycle["patient"] for cycle in cycles if cycle["side"] == side}


def draw_patients(
    cycles: Sequence[Cycle], n_folds: int, fold: int, seed: int
) -> set[str]:
    """The patients of one of several folds, stratified by the label.

    Every patient is in exactly one of the folds.
    """
    # Here, because annotations are read without it, and it takes a second.
    from sklearn.model_selection import StratifiedGroupKFold

    patients = [cycle["patient"] for cycle in cycles]
    if len(set(patients)) < n_folds:
        raise ValueError(
            f"{len(set(patients))} patients cannot make {n_folds} folds: use "
            "more recordings or, for validation, another valid_fraction or 0"
        )
    labels = [cycle["label"] for cycle in cycles]
    # Shuffled here, by the numbers that patients get: scikit-learn before 1.8,
    # the last for Python 3.10, loses the stratification where it shuffles.
    names, index = np.unique(patients, return_inverse=True)
    order = np.random.RandomState(seed).permutation(len(names))
    numbers = np.argsort(order)[index]
    folds = StratifiedGroupKFold(n_folds).split(labels, labels, numbers)
    _, members = list(folds)[fold]
    return {patients[member] for member in members}


def hold_out_patients(
    cycles: Sequence[Cycle],
    valid_fraction: float,
    valid_fold: int,
    split_seed: int,
) -> tuple[dict[str, list[Cycle]], str]:
    """Sets patients of the training side aside for validation.

    Patients who also occur on the test side always stay in training: held out,
    they would select the model by people it is tested on.

    Returns lists of cycles by "train", "valid" and "test", and the validation
    in words. ``valid_fraction`` is a share of the training side, 0 to 0.5, and
    with 0 there is no validation; else ``valid_fold`` is one of the ``round(1 /
    valid_fraction)`` folds, drawn with ``split_seed``.
    """
    if not 0 <= valid_fraction <= 0.5:
        raise ValueError(f"valid_fraction is {valid_fraction}, not in 0 to 0.5")
    held_out = set()
    validation = "no validation (the whole training side is trained on)"
    if valid_fraction:
        n_folds = round(1 / valid_fraction)
        check_fold("valid_fold", valid_fold, range(n_folds))
        eligible = patients_of(cycles, "train") - patients_of(cycles, "test")
        candidates = [c for c in cycles if c["patient"] in eligible]
        held_out = draw_patients(candidates, n_folds, valid_fold, split_seed)
        validation = (
            f"validation on fold {valid_fold} of {n_folds} of the training "
            f"patients (split seed {split_seed})"
        )
    partitions: dict[str, list[Cycle]] = {"train": [], "valid": [], "test": []}
    for cycle in cycles:
        held = cycle["patient"] in held_out
        partitions["valid" if held else cycle["side"]].append(cycle)
    return partitions, validation


def hold_out_device(
    cycles: Sequence[Cycle], device: str
) -> tuple[dict[str, list[Cycle]], str]:
    """Sets what a device recorded of the training side aside for validation.

    The patients that it recorded there leave training altogether, with what
    other devices recorded of them, which neither trains nor validates. Nor do
    those of them who also occur on the test side: they are tested.

    Returns what :func:`hold_out_patients` does.
    """
    unknown = {c["recording"] for c in cycles if not c.get("device")}
    if unknown:
        raise ValueError(
            f"valid_device is {device}, but of {len(unknown)} recordings the"
            f" device is unknown: {some(sorted(unknown))}"
        )
    trained = [cycle for cycle in cycles if cycle["side"] == "train"]
    counts = Counter(cycle["device"] for cycle in trained)
    if device not in counts:
        known = ", ".join(f"{d} ({n} cycles)" for d, n in counts.most_common())
        raise ValueError(
            f"valid_device is {device}, which recorded nothing of the training"
            f" side: there are {known or 'no devices'}"
        )
    heard = {c["patient"] for c in trained if c["device"] == device}
    eligible = heard - patients_of(cycles, "test")
    partitions: dict[str, list[Cycle]] = {"train": [], "valid": [], "test": []}
    left_out = []
    for cycle in cycles:
        if cycle["side"] == "test" or cycle["patient"] not in heard:
            partitions[cycle["side"]].append(cycle)
        elif cycle["device"] == device and cycle["patient"] in eligible:
            partitions["valid"].append(cycle)
        else:
            left_out.append(cycle)
    labels = Counter(cycle["label"] for cycle in partitions["valid"])
    normal = labels[LABELS[0]]
    if not 0 < normal < labels.total():
        raise ValueError(
            f"valid_device {device} cannot validate: of its"
            f" {labels.total()} cycles (of patients who are not tested) {normal}"
            " are normal, and there must be normal and abnormal ones"
        )
    validation = (
        f"validation on the {labels.total()} cycles of device {device}, whose"
        f" {len(eligible)} patients are not trained on;"
        f" {len(left_out)} further cycles left out, of its patients by other"
        " devices or of those who are tested, too"
    )
    return partitions, validation


def check_fold(argument: str, fold: int, folds: Iterable[int]) -> None:
    """Refuses a fold that is not one of the folds."""
    if fold not in folds:
        raise ValueError(f"{argument} is {fold}, not one of {list(folds)}")


def count_cycles(
    cycles: Sequence[Cycle], labels: Sequence[str] = LABELS
) -> dict[str, Any]:
    """The "recordings", "patients", "cycles", and "counts" by label."""
    counts = Counter(cycle["label"] for cycle in cycles)
    return {
        "recordings": len({cycle["recording"] for cycle in cycles}),
        "patients": len({cycle["patient"] for cycle in cycles}),
        "cycles": len(cycles),
        "counts": {label: counts[label] for label in labels},
    }


def check_published(
    family: str,
    expected: Mapping[str, Mapping[str, object]],
    found: Mapping[str, Mapping[str, object]],
) -> None:
    """Refuses data whose counts, by part and fact, are not the published ones."""
    differences = [
        f"{part} {fact}: expected {value}, found {found[part][fact]}"
        for part, facts in expected.items()
        for fact, value in facts.items()
        if found[part][fact] != value
    ]
    if differences:
        raise ValueError(
            f"not the published {family}: {'; '.join(differences)}"
        )


def name_data(
    database: str,
    found: int,
    published: int,
    patients: Iterable[str],
    is_patient: Callable[[str], bool],
) -> dict[str, Any]:
    """What the summary says of the data's origin and completeness.

    ``subset`` is None if complete. ``is_patient`` tells whether the database
    can have a patient of that number: a result on others (generated ones, say)
    must not look like one on the database.
    """
    subset = f"{found} of {published} recordings"
    complete = found == published
    if not all(map(is_patient, patients)):
        family = database.split()[0]
        database = f"recordings in {family}'s layout that are not {database}'s"
        complete = True  # it is not a part of the database
    return {
        "database": database,
        "recordings": found,
        "recordings_published": published,
        "subset": None if complete else subset,
    }


def check_manifests(
    manifests: Mapping[str, Entries], labels: Sequence[str] = LABELS
) -> None:
    """Refuses partitions on which training or its scores would be undefined."""
    for name in ("train", "test"):
        if not manifests[name]:
            raise ValueError(f"no cycle is in the {name} manifest")
    validated = {entry["label"] for entry in manifests["valid"].values()}
    normal = labels[0]
    if not has_normal(labels):
        return  # the macro recall is that of the classes that occur
    if validated == {normal} or (validated and normal not in validated):
        raise ValueError(
            f"all cycles for validation are {sorted(validated)}, so that their"
            " Score is undefined: choose another valid_fold or valid_fraction,"
            " or valid_fraction 0"
        )


def class_labels(num_classes: int) -> list[str]:
    """The labels of 4 classes, or of 2: normal against abnormal, in order.

    Any other number is a ValueError.

    Example
    -------
    >>> class_labels(2)
    ['normal', 'abnormal']
    """
    labels = {len(LABELS): LABELS, len(TWO_CLASSES): TWO_CLASSES}
    if num_classes not in labels:
        raise ValueError(f"num_classes must be 2 or 4, not {num_classes}")
    return list(labels[num_classes])


def check_labels(labels: Sequence[str], origin: str) -> None:
    """Refuses a model whose labels are not those that a manifest can have."""
    if tuple(labels) not in (LABELS, TWO_CLASSES):
        raise ValueError(
            f"{origin} has the labels {list(labels)}: a database is prepared"
            f" with {LABELS} or {TWO_CLASSES}, in this order"
        )


def with_labels(manifest: Entries, labels: Sequence[str]) -> Entries:
    """A manifest of four classes with the labels of the problem at hand.

    If these are normal and abnormal, crackle, wheeze and both become abnormal.
    """
    merged = {label: label for label in labels}
    if tuple(labels) == TWO_CLASSES:
        merged.update(dict.fromkeys(LABELS[1:], "abnormal"))
    relabelled = {}
    for key, entry in manifest.items():
        if entry["label"] not in merged:
            raise ValueError(
                f"{key} is labelled {entry['label']!r}, which is not among"
                f" {list(labels)}"
            )
        relabelled[key] = {**entry, "label": merged[entry["label"]]}
    return relabelled


def count_labels(
    manifest: Entries, labels: Sequence[str] = LABELS
) -> list[int]:
    """Number of cycles per label, in the order of the labels."""
    counts = Counter(entry["label"] for entry in manifest.values())
    return [counts[label] for label in labels]
