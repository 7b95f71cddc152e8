"""Reads the annotations and splits of ICBHI 2017.

The database is described at https://bhichallenge.med.auth.gr

Authors
 * qlung_plugin contributors
"""

import os
import re
from pathlib import Path

from qlung_plugin.dataio.manifests import (
    add_once,
    only_copy,
    quantity,
    report_unpaired,
    some,
)
from qlung_plugin.dataio.partitions import check_fold, draw_patients
from qlung_plugin.utils.labels import LABELS

SPLIT_FILES = ("ICBHI_challenge_train_test.txt", "official_split.txt")
FOLD_FILES = ("patient_list_foldwise.txt",)
DEMOGRAPHIC_FILES = ("demographic_info.txt",)
PATIENT_FOLDS = 5
SEARCH_DEPTH = 4  # the mirror's audio folder lies three folders down
RECORDING = re.compile(
    "(?P<patient>[0-9]+)_(?P<index>[0-9A-Za-z]+)_(?P<location>[A-Za-z]+)_"
    "(?P<mode>sc|mc)_(?P<device>[0-9A-Za-z]+)"
)
LAYOUTS = (
    "Expected are files <patient>_<index>_<location>_<sc|mc>_<device>.wav and "
    ".txt in ICBHI_final_database (official archive), in [Respiratory_Sound_"
    "Database/[Respiratory_Sound_Database/]]audio_and_txt_files (mirror), in "
    "icbhi_dataset/audio_test_data (research code) or in the folder itself."
)


def read_corpus(
    data_folder,
    split="official",
    test_fold=0,
    split_file=None,
    fold_file=None,
    split_seed=0,
    strict=False,
):
    """Reads annotations, split and demographics; opens no audio.

    Arguments
    ---------
    data_folder, split, test_fold, split_file, fold_file, split_seed
        As for the preparation of the recipe.
    strict : bool
        Whether a recording without annotation, or the reverse, is an error.

    Returns
    -------
    cycles : list
        One dict per annotated cycle, sorted by `id`; `side` is "train" or
        "test", `wav` is None where the audio is missing.
    protocol : str
        The split in words.
    warnings : list
        What was odd but usable, as sentences with counts.
    """
    if split not in ("official", "patient_folds"):
        raise ValueError(f"split is '{split}', not official or patient_folds")
    data_folder = Path(os.path.abspath(data_folder))
    warnings = []
    folder, files = _find_recordings(data_folder, warnings)
    files = _annotated(folder, files, strict, warnings)
    if split == "official":
        path = _find_file(SPLIT_FILES, folder, data_folder, split_file)
        if path is None:
            raise FileNotFoundError(
                f"{data_folder}: no {' or '.join(SPLIT_FILES)}. The common "
                "mirror lacks the official split; get it under the first name "
                "from the challenge page, https://bhichallenge.med.auth.gr, "
                "and put it there or name it as split_file"
            )
        sides = _read_split(path)
        files = _use_final_names(files, sides, warnings)
    cycles = _read_cycles(files, warnings)
    demographics = _find_file(DEMOGRAPHIC_FILES, folder, data_folder)
    _add_demographics(cycles, demographics, warnings)
    if split == "official":
        for cycle in cycles:
            cycle["side"] = sides[cycle["recording"]]
        return cycles, "official split", warnings
    path = _find_file(FOLD_FILES, folder, data_folder, fold_file)
    tested, folds = _test_patients(cycles, path, test_fold, split_seed)
    for cycle in cycles:
        cycle["side"] = "test" if cycle["patient"] in tested else "train"
    return cycles, f"patient fold {test_fold} of {folds} for testing", warnings


def parse_recording_name(name):
    """Splits a recording's name into its parts.

    Arguments
    ---------
    name : str
        File name without suffix.

    Returns
    -------
    parts : dict
        Strings by "patient", "index", "location", "mode" and "device".

    Example
    -------
    >>> parse_recording_name("101_1b1_Al_sc_Meditron")["device"]
    'Meditron'
    """
    match = RECORDING.fullmatch(name)
    if match is None:
        raise ValueError(
            f"'{name}' is not <patient>_<index>_<location>_<sc|mc>_<device>"
        )
    return match.groupdict()


def read_annotation(path):
    """Reads the cycles of one recording.

    Arguments
    ---------
    path : str
        File with a line `start end crackle wheeze` per cycle, in seconds.

    Returns
    -------
    cycles : list
        Tuples (start, end, label).

    Example
    -------
    >>> path = getfixture("tmp_path") / "101_1b1_Al_sc_Meditron.txt"
    >>> _ = path.write_text("0.036\\t0.579\\t0\\t0\\n0.579\\t2.45\\t1\\t0\\n")
    >>> read_annotation(path)
    [(0.036, 0.579, 'normal'), (0.579, 2.45, 'crackle')]
    """
    return [cycle for _, cycle in _parse_annotation(path)]


def _find_recordings(data_folder, warnings):
    """The audio folder, and its files {".wav": ..., ".txt": ...} by name."""
    found = {}
    for folder, subfolders, names in os.walk(data_folder, followlinks=True):
        folder = Path(folder)
        if len(folder.relative_to(data_folder).parts) == SEARCH_DEPTH:
            subfolders.clear()
        files = {}
        for path in sorted(folder / name for name in names):
            kind = path.suffix.lower()
            if kind in (".wav", ".txt") and RECORDING.fullmatch(path.stem):
                add_once(files.setdefault(path.stem, {}), kind, path, path)
        if files:
            found[folder] = files
    if not found:
        state = "holds no" if data_folder.is_dir() else "does not exist: no"
        raise FileNotFoundError(
            f"data_folder {data_folder} {state} ICBHI recordings. {LAYOUTS}"
        )
    contents = {f: {n: set(found[f][n]) for n in found[f]} for f in found}
    # The mirror is distributed with its folder twice, one in the other.
    folder = only_copy(contents, "ICBHI", warnings)
    return folder, found[folder]


def _find_file(names, audio_folder, data_folder, given=None):
    """The given file, or the one nearest to the audio, or None."""
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"{given} does not exist")
        return Path(given)
    folders = [audio_folder, *audio_folder.parents]
    # Where data_folder is the audio folder itself, also the one it lies in.
    last = max(folders.index(data_folder), 1)
    candidates = [f / name for f in folders[: last + 1] for name in names]
    return next((path for path in candidates if path.is_file()), None)


def _annotated(folder, files, strict, warnings):
    """The files of annotated recordings; reports what has no counterpart."""
    strangers = folder.glob("[!.]*.[wW][aA][vV]")
    problems = {
        "recordings without annotation": [
            name for name in files if ".txt" not in files[name]
        ],
        "annotations without recording": [
            name for name in files if ".wav" not in files[name]
        ],
        "wav files not named like ICBHI recordings": sorted(
            path.name for path in strangers if path.stem not in files
        ),
    }
    report_unpaired(problems, folder, strict, warnings)
    return {name: files[name] for name in files if ".txt" in files[name]}


def _read_split(path):
    """The side of each recording, "train" or "test"."""
    sides = {}
    for where, (recording, side) in _read_fields(path, 2):
        if not RECORDING.fullmatch(recording):
            raise ValueError(f"{where}: '{recording}' names no recording")
        if side not in ("train", "test"):
            raise ValueError(f"{where}: side is '{side}', not train or test")
        add_once(sides, recording, side, where)
    return sides


def _use_final_names(files, sides, warnings):
    """Files by the split's names, in which 91 recordings changed the device.

    A name without its device occurs only once in the published split.
    """
    final = {}
    for name in sides:
        final.setdefault(name.rpartition("_")[0], []).append(name)
    renamed, by_final_name = [], {}
    for name, paths in files.items():
        names = [name]
        if name not in sides:
            names = final.get(name.rpartition("_")[0], [])
            renamed.append(name)
        if len(names) != 1:
            raise ValueError(f"{paths['.txt']}: not in the official split")
        add_once(by_final_name, names[0], paths, paths[".txt"])
    if renamed:
        warnings.append(
            f"{len(renamed)} recordings have a name from before their device "
            f"was corrected, the split's name is used: {some(renamed)}"
        )
    return by_final_name


def _read_cycles(files, warnings):
    """All annotated cycles as dicts."""
    cycles, empty = [], []
    for recording in files:
        parsed = _parse_annotation(files[recording][".txt"])
        if not parsed:
            empty.append(recording)
        for index, (where, (start, end, label)) in enumerate(parsed):
            cycle = {
                "id": f"{recording}_{index:03d}",
                "recording": recording,
                "wav": files[recording].get(".wav"),
                "where": where,
                "start": start,
                "end": end,
                "label": label,
            }
            cycles.append({**parse_recording_name(recording), **cycle})
    if empty:
        warnings.append(
            f"{len(empty)} annotation files hold no cycle: {some(empty)}"
        )
    return sorted(cycles, key=lambda cycle: cycle["id"])


def _parse_annotation(path):
    """Pairs of "file:line" and (start, end, label)."""
    cycles = []
    for where, (start, end, crackle, wheeze) in _read_fields(path, 4):
        if {crackle, wheeze} - {"0", "1"}:
            raise ValueError(f"{where}: crackle and wheeze must be 0 or 1")
        label = LABELS[int(crackle) + 2 * int(wheeze)]
        times = quantity(start, where), quantity(end, where)
        cycles.append((where, (*times, label)))
    return cycles


def _add_demographics(cycles, path, warnings):
    """Adds age and sex, None where they are unknown."""
    people = {}
    if path is None:
        warnings.append(f"no {DEMOGRAPHIC_FILES[0]}: age and sex are unknown")
    for where, fields in _read_fields(path, 6) if path else ():
        patient, age, sex = fields[:3]
        if sex not in ("M", "F", "NA"):
            raise ValueError(f"{where}: sex is '{sex}', not M, F or NA")
        age = None if age == "NA" else quantity(age, where)
        sex = None if sex == "NA" else sex
        add_once(people, patient, {"age": age, "sex": sex}, where)
    for cycle in cycles:
        cycle.update(people.get(cycle["patient"], {"age": None, "sex": None}))


def _test_patients(cycles, fold_file, test_fold, split_seed):
    """The patients of the test fold; number and origin of the folds."""
    if fold_file is None:
        check_fold("test_fold", test_fold, range(PATIENT_FOLDS))
        tested = draw_patients(cycles, PATIENT_FOLDS, test_fold, split_seed)
        return tested, f"{PATIENT_FOLDS} drawn with seed {split_seed}"
    folds = {}
    for where, (patient, fold) in _read_fields(fold_file, 2):
        if not re.fullmatch("[0-9]+", fold):
            raise ValueError(f"{where}: '{fold}' is not the number of a fold")
        add_once(folds, patient, int(fold), where)
    numbers = sorted(set(folds.values()))
    check_fold("test_fold", test_fold, numbers)
    missing = {cycle["patient"] for cycle in cycles} - set(folds)
    if missing:
        raise ValueError(f"{fold_file}: no patient {some(sorted(missing))}")
    tested = {patient for patient in folds if folds[patient] == test_fold}
    return tested, f"{len(numbers)} in {fold_file.name}"


def _read_fields(path, n_fields):
    """Yields "file:line" and the fields of every line that is not blank."""
    # Bytes that are no UTF-8 become characters that no field may contain.
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if fields and len(fields) != n_fields:
                raise ValueError(
                    f"{path}:{number}: {len(fields)} fields, not {n_fields}"
                )
            if fields:
                yield f"{path}:{number}", fields
