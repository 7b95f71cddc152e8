"""
Prepares the ICBHI 2017 respiratory sound database for classification.

Annotations, audio headers and the official split become one JSON manifest per
partition, with an entry per breathing cycle. The database is described at
https://bhichallenge.med.auth.gr

Authors
 * qlung_plugin contributors, 2026
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from speechbrain.dataio import audio_io
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

LABELS = ("normal", "crackle", "wheeze", "both")
SPLIT_FILE = "ICBHI_challenge_train_test.txt"
DEMOGRAPHICS_FILE = "demographic_info.txt"
MANIFESTS = ("train.json", "valid.json", "test.json")
SUMMARY = "icbhi.json"
RECORDINGS = 920  # of the published database
PATIENTS = range(101, 227)
RECORDING = re.compile(
    r"(?P<patient>\d+)_(?P<index>\w+)_(?P<location>[A-Za-z]+)_"
    r"(?P<mode>sc|mc)_(?P<device>[0-9A-Za-z]+)"
)


def prepare_icbhi(
    data_folder,
    output_folder,
    split_file=None,
    valid_fraction=0.2,
    valid_fold=0,
    split_seed=0,
    skip_prep=False,
):
    """Writes `train.json`, `valid.json`, `test.json` and `icbhi.json`.

    Arguments
    ---------
    data_folder : str
        Where the database is unpacked. Never written to.
    output_folder : str
        Where the manifests go.
    split_file : str
        The official split; None: look for it in data_folder.
    valid_fraction : float
        Share of the training patients to hold out for validation, up to 0.5.
        With 0 all are trained on, as in most published results.
    valid_fold : int
        Which of the `round(1 / valid_fraction)` folds is held out.
    split_seed : int
        Seed of the folds, apart from the seed of the training.
    skip_prep : bool
        If True, the manifests of an earlier call are kept.

    Returns
    -------
    summary : dict
        Protocol, counts and warnings, as written to `icbhi.json`.

    Example
    -------
    >>> data_folder = "/path/to/ICBHI"
    >>> summary = prepare_icbhi(data_folder, "results")  # doctest: +SKIP
    """
    output_folder = Path(output_folder)
    if skip_prep:
        with open(output_folder / SUMMARY, encoding="utf-8") as file:
            return json.load(file)
    data_folder = Path(os.path.abspath(data_folder))
    warnings = []
    annotations = find_annotations(data_folder)
    people = read_demographics(data_folder, warnings)
    split_file = split_file or find_file(data_folder, SPLIT_FILE)
    sides = read_split(split_file)
    cycles = []
    for name, path in split_names(annotations, sides, warnings).items():
        found = read_cycles(name, path, data_folder, warnings)
        facts = RECORDING.fullmatch(name).groupdict()
        known = people.get(facts["patient"], {"age": None, "sex": None})
        for cycle in found.values():
            cycle.update(
                patient=facts["patient"],
                recording=name,
                device=facts["device"],
                age=known["age"],
                sex=known["sex"],
                location=facts["location"],
            )
        cycles.extend(found.items())
    cycles = dict(sorted(cycles))
    if not cycles:
        raise ValueError(f"{data_folder}: no recording has a usable cycle")
    partitions, validation = hold_out_patients(
        cycles, sides, valid_fraction, valid_fold, split_seed
    )

    recordings = {cycle["recording"] for cycle in cycles.values()}
    patients = {cycle["patient"] for cycle in cycles.values()}
    complete = len(recordings) == RECORDINGS
    genuine = all(int(patient) in PATIENTS for patient in patients)
    summary = {
        "database": "ICBHI 2017" if genuine else "recordings like ICBHI's",
        "recordings": len(recordings),
        "recordings_published": RECORDINGS,
        "subset": None
        if complete or not genuine
        else f"{len(recordings)} of {RECORDINGS} recordings",
        "split": "official",
        "protocol": f"official split, {validation}",
        "patients_on_both_sides": sorted(
            patients_of(cycles, sides, "train")
            & patients_of(cycles, sides, "test")
        ),
        "partitions": {p: count(partitions[p]) for p in partitions},
        "warnings": warnings,
    }
    output_folder.mkdir(parents=True, exist_ok=True)
    contents = [*partitions.values(), summary]
    for name, content in zip((*MANIFESTS, SUMMARY), contents):
        with open(output_folder / name, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
    logger.info("%s", {k: v for k, v in summary.items() if k != "warnings"})
    for warning in warnings:
        logger.warning(warning)
    return summary


def find_annotations(data_folder):
    """The annotation of each recording, from the first folder that has any.

    Arguments
    ---------
    data_folder : pathlib.Path
        Where the database is, in any of its layouts.

    Returns
    -------
    annotations : dict
        Paths by the recording's name.
    """
    for folder, folders, names in os.walk(data_folder, followlinks=True):
        folders.sort()
        paths = [Path(folder, name) for name in names if name.endswith(".txt")]
        paths = {p.stem: p for p in paths if RECORDING.fullmatch(p.stem)}
        if paths:
            return dict(sorted(paths.items()))
    raise FileNotFoundError(
        f"{data_folder} holds no annotations of ICBHI, files "
        "<patient>_<index>_<location>_<sc|mc>_<device>.txt beside the .wav"
    )


def find_file(data_folder, name):
    """A file anywhere in a folder.

    Arguments
    ---------
    data_folder : pathlib.Path
        Where to look.
    name : str
        The file's name.

    Returns
    -------
    path : pathlib.Path
    """
    paths = sorted(data_folder.rglob(name), key=lambda path: len(path.parts))
    if not paths:
        raise FileNotFoundError(
            f"{data_folder} holds no {name}: some copies of the database lack"
            " it, get it from https://bhichallenge.med.auth.gr"
        )
    return paths[0]


def read_fields(path, count):
    """Reads the fields of a file's lines.

    Arguments
    ---------
    path : pathlib.Path
        The file.
    count : int
        How many fields a line has.

    Returns
    -------
    lines : list
        Pairs of the place, "file:line", and the list of fields.
    """
    lines = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if fields and len(fields) != count:
                raise ValueError(
                    f"{path}:{number}: {len(fields)} fields, not {count}"
                )
            if fields:
                lines.append((f"{path}:{number}", fields))
    return lines


def read_split(path):
    """Reads the side of each recording.

    Arguments
    ---------
    path : pathlib.Path
        With lines `recording side`.

    Returns
    -------
    sides : dict
        "train" or "test", by the recording's name.
    """
    sides = {}
    for where, (recording, side) in read_fields(path, 2):
        if not RECORDING.fullmatch(recording) or side not in ("train", "test"):
            raise ValueError(f"{where}: expected a recording and train or test")
        sides[recording] = side
    return sides


def read_demographics(data_folder, warnings):
    """Reads the age and sex of each patient, if they are known.

    Arguments
    ---------
    data_folder : pathlib.Path
        Where the database is.
    warnings : list
        Gets a sentence if they are not.

    Returns
    -------
    people : dict
        Age in years and sex (M, F), each or None, by patient.
    """
    try:
        path = find_file(data_folder, DEMOGRAPHICS_FILE)
    except FileNotFoundError:
        warnings.append(f"no {DEMOGRAPHICS_FILE}: age and sex are unknown")
        return {}
    people = {}
    for _, (patient, age, sex, *_) in read_fields(path, 6):
        people[patient] = {
            "age": None if age == "NA" else float(age),
            "sex": sex if sex in ("M", "F") else None,
        }
    return people


def split_names(annotations, sides, warnings):
    """Names the recordings as the split does, in which 91 changed the device.

    Arguments
    ---------
    annotations : dict
        Paths by the recording's name.
    sides : dict
        "train" or "test", by the recording's name.
    warnings : list
        Gets a sentence if the split leaves recordings out.

    Returns
    -------
    annotations : dict
        The paths by the split's names.
    """
    final = {name.rpartition("_")[0]: name for name in sides}
    named, unnamed = {}, []
    for name, path in annotations.items():
        if name not in sides:
            name = final.get(name.rpartition("_")[0])
        if name is None:
            unnamed.append(path.stem)
        else:
            named[name] = path
    if unnamed:
        warnings.append(
            f"{len(unnamed)} recordings left out that the split does not name,"
            f" such as {unnamed[0]}"
        )
    return named


def read_cycles(recording, path, data_folder, warnings):
    """Reads the cycles of one recording.

    Arguments
    ---------
    recording : str
        Its name, of which the cycles' ids are made.
    path : pathlib.Path
        Lines `start end crackle wheeze`, in seconds; the audio lies beside it.
    data_folder : pathlib.Path
        What {data_root} stands for in the manifests.
    warnings : list
        Gets a sentence of what is odd but usable.

    Returns
    -------
    cycles : dict
        Entries of the manifest, by id.
    """
    wav = path.with_suffix(".wav")
    if not wav.exists():
        warnings.append(f"{path}: there is no recording beside it")
        return {}
    audio = audio_io.info(str(wav))
    if audio.channels != 1:
        raise ValueError(f"{wav}: {audio.channels} channels, mix down to mono")
    rate, duration = audio.sample_rate, audio.frames / audio.sample_rate
    file = f"{{data_root}}/{wav.relative_to(data_folder).as_posix()}"
    cycles, places = {}, {}
    for index, (where, fields) in enumerate(read_fields(path, 4)):
        times, kinds = [float(field) for field in fields[:2]], fields[2:]
        if set(kinds) - {"0", "1"}:
            raise ValueError(f"{where}: crackle and wheeze must be 0 or 1")
        label = LABELS[int(kinds[0]) + 2 * int(kinds[1])]
        start, stop = (
            round(min(max(time, 0.0), duration) * rate) for time in times
        )
        name = f"{recording}_{index:03d}"
        known = places.setdefault((start, stop), name)
        if stop <= start or known != name:
            warnings.append(f"{where}: left out, it is empty or repeated")
            if cycles.get(known, {}).get("label", label) != label:
                del cycles[known]  # which of the labels is true?
            continue
        cycles[name] = {
            "wav": {"file": file, "start": start, "stop": stop},
            "sample_rate": rate,
            "duration": (stop - start) / rate,
            "label": label,
        }
    return cycles


def patients_of(cycles, sides, side):
    """The patients on a side.

    Arguments
    ---------
    cycles : dict
        Entries of the manifest, by id.
    sides : dict
        "train" or "test", by the recording's name.
    side : str
        One of them.

    Returns
    -------
    patients : set
    """
    return {
        cycle["patient"]
        for cycle in cycles.values()
        if sides[cycle["recording"]] == side
    }


def hold_out_patients(cycles, sides, valid_fraction, valid_fold, split_seed):
    """Sets patients of the training side aside for validation.

    Patients who are on the test side too are not held out: they would select
    the model by people that it is tested on.

    Arguments
    ---------
    cycles : dict
        Entries of the manifest, by id.
    sides : dict
        "train" or "test", by the recording's name.
    valid_fraction : float
        See prepare_icbhi.
    valid_fold : int
        See prepare_icbhi.
    split_seed : int
        See prepare_icbhi.

    Returns
    -------
    partitions : dict
        Entries by id, for train, valid and test.
    validation : str
        The validation in words.
    """
    held_out = set()
    validation = "no validation (the whole training side is trained on)"
    if valid_fraction:
        n_folds = round(1 / valid_fraction)
        if not 2 <= n_folds or valid_fold not in range(n_folds):
            raise ValueError(
                "valid_fraction must be up to 0.5, valid_fold one of its folds"
            )
        eligible = patients_of(cycles, sides, "train")
        eligible -= patients_of(cycles, sides, "test")
        if len(eligible) < n_folds:
            raise ValueError(
                f"{len(eligible)} patients cannot make {n_folds} folds: use"
                " another valid_fraction, or 0"
            )
        candidates = [c for c in cycles.values() if c["patient"] in eligible]
        labels = [cycle["label"] for cycle in candidates]
        # Shuffled here, so that all versions of scikit-learn stratify alike
        patients = [cycle["patient"] for cycle in candidates]
        names, index = np.unique(patients, return_inverse=True)
        order = np.random.RandomState(split_seed).permutation(len(names))
        numbers = np.argsort(order)[index]
        folds = StratifiedGroupKFold(n_folds).split(labels, labels, numbers)
        _, members = list(folds)[valid_fold]
        held_out = {patients[member] for member in members}
        validation = (
            f"validation on fold {valid_fold} of {n_folds} of the training"
            f" patients (split seed {split_seed})"
        )
    partitions = {"train": {}, "valid": {}, "test": {}}
    for key, cycle in cycles.items():
        held = cycle["patient"] in held_out
        side = "valid" if held else sides[cycle["recording"]]
        partitions[side][key] = cycle
    return partitions, validation


def count(cycles):
    """Counts of a partition.

    Arguments
    ---------
    cycles : dict
        Entries of the manifest, by id.

    Returns
    -------
    counts : dict
        Of recordings, patients and cycles, and of cycles by label.
    """
    labels = Counter(cycle["label"] for cycle in cycles.values())
    return {
        "recordings": len({c["recording"] for c in cycles.values()}),
        "patients": len({c["patient"] for c in cycles.values()}),
        "cycles": len(cycles),
        "counts": {label: labels[label] for label in LABELS},
    }
