"""Prepares the ICBHI 2017 respiratory sound database.

Annotations, audio headers and a split (the official one, or five folds by
patient) become one JSON manifest per partition, one entry per breathing cycle.
The database is described at https://bhichallenge.med.auth.gr

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.dataio.folders import check_folders
from qlung_plugin.dataio.icbhi import read_corpus
from qlung_plugin.dataio.locating import locate_cycles, read_headers
from qlung_plugin.dataio.manifests import (
    make_manifest,
    read_summary,
    write_manifests,
)
from qlung_plugin.dataio.partitions import (
    check_published,
    count_cycles,
    hold_out_device,
    hold_out_patients,
    name_data,
    patients_of,
)

MANIFESTS = ("train.json", "valid.json", "test.json")
SUMMARY = "icbhi.json"
FACTS = ("label", "patient", "recording", "device", "age", "sex", "location")
PATIENTS = range(101, 227)
# Counts by label are in the order of LABELS.
PUBLISHED = {
    "all": {"recordings": 920, "patients": 126, "cycles": 6898},
    "train": {"recordings": 539, "counts": (2063, 1215, 501, 363)},
    "test": {"recordings": 381, "counts": (1579, 649, 385, 143)},
}


def prepare_icbhi(
    data_folder,
    output_folder,
    split="official",
    test_fold=0,
    split_file=None,
    fold_file=None,
    valid_fraction=0.2,
    valid_fold=0,
    split_seed=0,
    strict=False,
    skip_prep=False,
    annotation_folder=None,
    valid_device=None,
):
    """Writes `train.json`, `valid.json`, `test.json` and `icbhi.json`.

    Arguments
    ---------
    data_folder : str
        Where the database is, in any of its usual layouts. Never written to.
    output_folder : str
        Where the manifests go.
    split : str
        "official" (by recording) or "patient_folds" (80/20 by patient).
    test_fold : int
        Which of the patient folds is the test side.
    split_file : str
        The official split, where it does not lie beside the audio.
    fold_file : str
        The patient folds, where they do not lie beside the audio. The folds
        are drawn where there is no such file at all.
    valid_fraction : float
        Share of the training side to hold out for validation, up to 0.5. With
        0 all of it is trained on, as in the published protocol.
    valid_fold : int
        Which of the `round(1 / valid_fraction)` folds is held out.
    split_seed : int
        Seed of the folds drawn here, apart from the seed of the training.
    strict : bool
        Whether anything but the complete published database is an error.
    skip_prep : bool
        Whether to keep the manifests of an earlier call.
    annotation_folder : str, optional
        Where the annotations are, if not in data_folder.
    valid_device : str, optional
        The device whose cycles of the training side validate instead of a
        fraction of its patients. None of its patients is trained on.

    Returns
    -------
    summary : dict
        Protocol, counts and warnings, as written to `icbhi.json`.

    Raises
    ------
    ValueError
        If a file is malformed or an argument out of range.
    FileNotFoundError
        If recordings, split, or manifests to keep are missing.

    Example
    -------
    >>> summary = prepare_icbhi("ICBHI", "results")  # doctest: +SKIP
    """
    if skip_prep:
        return read_summary(output_folder, MANIFESTS, SUMMARY)
    data_folder, output_folder = check_folders(data_folder, output_folder)
    if annotation_folder is not None:
        check_folders(annotation_folder, output_folder)
    cycles, protocol, warnings = read_corpus(
        data_folder,
        split,
        test_fold,
        split_file,
        fold_file,
        split_seed,
        strict,
        annotation_folder,
    )
    wavs = [cycle["wav"] for cycle in cycles if cycle["wav"]]
    headers = read_headers(wavs, warnings)
    cycles = locate_cycles(cycles, headers, warnings)
    if not cycles:
        raise ValueError(f"{data_folder}: no recording has a usable cycle")
    for side in ("train", "test"):
        if not patients_of(cycles, side):
            warnings.append(f"no recording is on the {side} side of the split")
    if valid_device is None:
        partitions, validation = hold_out_patients(
            cycles, valid_fraction, valid_fold, split_seed
        )
    else:
        partitions, validation = hold_out_device(cycles, valid_device)
    if strict:
        _check_published(cycles, by_side=split == "official")

    both_sides = patients_of(cycles, "train") & patients_of(cycles, "test")
    summary = {
        **name_data(
            "ICBHI 2017",
            count_cycles(cycles)["recordings"],
            PUBLISHED["all"]["recordings"],
            {cycle["patient"] for cycle in cycles},
            lambda patient: int(patient) in PATIENTS,
        ),
        "split": split,
        "protocol": f"{protocol}, {validation}",
        "patients_on_both_sides": sorted(both_sides),
        "partitions": {p: count_cycles(partitions[p]) for p in partitions},
        "warnings": warnings,
    }
    manifests = {
        f"{name}.json": make_manifest(members, data_folder, FACTS)
        for name, members in partitions.items()
    }
    write_manifests(output_folder, manifests, SUMMARY, summary)
    return summary


def _check_published(cycles, by_side):
    """Compares with the published counts."""
    sides = PUBLISHED if by_side else ("all",)
    found = {}
    for side in sides:
        on_side = [c for c in cycles if side in ("all", c["side"])]
        found[side] = count_cycles(on_side)
        found[side]["counts"] = tuple(found[side]["counts"].values())
    check_published("ICBHI", {side: PUBLISHED[side] for side in sides}, found)
