"""Prepares the ICBHI 2017 respiratory sound database.

Annotations, audio headers and a split (the official one, or five folds by
patient) become one JSON manifest per partition, one entry per breathing cycle.
The database is described at https://bhichallenge.med.auth.gr

Authors
 * qlung_plugin contributors
"""

import json
import math
import os
import re
from collections import Counter
from pathlib import Path

import soundfile
from sklearn.model_selection import StratifiedGroupKFold
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

logger = get_logger(__name__)

LABELS = ("normal", "crackle", "wheeze", "both")
SUMMARY = "icbhi.json"
SPLIT_FILES = ("ICBHI_challenge_train_test.txt", "official_split.txt")
FOLD_FILES = ("patient_list_foldwise.txt",)
DEMOGRAPHIC_FILES = ("demographic_info.txt",)
PATIENT_FOLDS = 5
PATIENTS = range(101, 227)
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
    output_folder = Path(output_folder).resolve()
    if skip_prep:
        return _read_summary(output_folder)
    data_folder = Path(os.path.abspath(data_folder))
    if output_folder.is_relative_to(data_folder.resolve()):
        raise ValueError(
            f"output_folder {output_folder} lies in the data folder "
            f"{data_folder}, which is never written to: choose another one"
        )

    cycles, protocol, warnings = read_corpus(
        data_folder, split, test_fold, split_file, fold_file, split_seed, strict
    )
    cycles = _locate_in_audio(cycles, warnings)
    if not cycles:
        raise ValueError(f"{data_folder}: no recording has a usable cycle")
    for side in ("train", "test"):
        if not _patients(cycles, side):
            warnings.append(f"no recording is on the {side} side of the split")
    partitions, validation = _hold_out_patients(
        cycles, valid_fraction, valid_fold, split_seed
    )
    if strict:
        _check_published(cycles, by_side=split == "official")

    found = count_cycles(cycles)["recordings"]
    published = PUBLISHED["all"]["recordings"]
    subset = f"{found} of {published} recordings"
    database = "ICBHI 2017"
    strangers = {
        c["patient"] for c in cycles if int(c["patient"]) not in PATIENTS
    }
    if strangers:
        # A result on them must not look like one on ICBHI.
        database = "recordings in ICBHI's layout that are not ICBHI 2017's"
        subset = None
    both_sides = _patients(cycles, "train") & _patients(cycles, "test")
    summary = {
        "database": database,
        "recordings": found,
        "recordings_published": published,
        "subset": None if found == published else subset,
        "split": split,
        "protocol": f"{protocol}, {validation}",
        "patients_on_both_sides": sorted(both_sides),
        "partitions": {p: count_cycles(partitions[p]) for p in partitions},
        "warnings": warnings,
    }
    manifests = {
        f"{name}.json": {c["id"]: _entry(c, data_folder) for c in members}
        for name, members in partitions.items()
    }
    output_folder.mkdir(parents=True, exist_ok=True)
    # The summary comes last: it must not describe manifests yet to be written.
    for name, content in {**manifests, SUMMARY: summary}.items():
        _write_json(output_folder / name, content)
    _log(summary)
    return summary


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
        As for `prepare_icbhi`.
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


def count_cycles(cycles):
    """Counts recordings, patients, cycles, and cycles per label.

    Arguments
    ---------
    cycles : list
        Dicts with `recording`, `patient` and `label`.

    Returns
    -------
    count : dict
        Numbers by "recordings", "patients", "cycles"; by label in "counts".
    """
    labels = Counter(cycle["label"] for cycle in cycles)
    return {
        "recordings": len({cycle["recording"] for cycle in cycles}),
        "patients": len({cycle["patient"] for cycle in cycles}),
        "cycles": len(cycles),
        "counts": {label: labels[label] for label in LABELS},
    }


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
                _add_once(files.setdefault(path.stem, {}), kind, path, path)
        if files:
            found[folder] = files
    if not found:
        state = "holds no" if data_folder.is_dir() else "does not exist: no"
        raise FileNotFoundError(
            f"data_folder {data_folder} {state} ICBHI recordings. {LAYOUTS}"
        )
    first, *others = sorted(found, key=lambda path: (len(path.parts), path))
    contents = {f: {n: set(found[f][n]) for n in found[f]} for f in found}
    for other in others:
        if contents[other] != contents[first]:
            raise ValueError(
                f"both {first} and {other} hold ICBHI recordings, and not the "
                "same ones: let data_folder point at one of them"
            )
        # The mirror is distributed with its folder twice, one in the other.
        warnings.append(f"{other} repeats {first} and is not read")
    return first, found[first]


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
    for problem, names in problems.items():
        message = f"{folder}: {len(names)} {problem}: {_some(names)}"
        if names and strict:
            raise ValueError(message)
        if names:
            warnings.append(message)
    return {name: files[name] for name in files if ".txt" in files[name]}


def _read_split(path):
    """The side of each recording, "train" or "test"."""
    sides = {}
    for where, (recording, side) in _read_fields(path, 2):
        if not RECORDING.fullmatch(recording):
            raise ValueError(f"{where}: '{recording}' names no recording")
        if side not in ("train", "test"):
            raise ValueError(f"{where}: side is '{side}', not train or test")
        _add_once(sides, recording, side, where)
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
        _add_once(by_final_name, names[0], paths, paths[".txt"])
    if renamed:
        warnings.append(
            f"{len(renamed)} recordings have a name from before their device "
            f"was corrected, the split's name is used: {_some(renamed)}"
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
            f"{len(empty)} annotation files hold no cycle: {_some(empty)}"
        )
    return sorted(cycles, key=lambda cycle: cycle["id"])


def _parse_annotation(path):
    """Pairs of "file:line" and (start, end, label)."""
    cycles = []
    for where, (start, end, crackle, wheeze) in _read_fields(path, 4):
        if {crackle, wheeze} - {"0", "1"}:
            raise ValueError(f"{where}: crackle and wheeze must be 0 or 1")
        label = LABELS[int(crackle) + 2 * int(wheeze)]
        times = _quantity(start, where), _quantity(end, where)
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
        age = None if age == "NA" else _quantity(age, where)
        sex = None if sex == "NA" else sex
        _add_once(people, patient, {"age": age, "sex": sex}, where)
    for cycle in cycles:
        cycle.update(people.get(cycle["patient"], {"age": None, "sex": None}))


def _test_patients(cycles, fold_file, test_fold, split_seed):
    """The patients of the test fold; number and origin of the folds."""
    if fold_file is None:
        _check_fold("test_fold", test_fold, range(PATIENT_FOLDS))
        tested = _draw_patients(cycles, PATIENT_FOLDS, test_fold, split_seed)
        return tested, f"{PATIENT_FOLDS} drawn with seed {split_seed}"
    folds = {}
    for where, (patient, fold) in _read_fields(fold_file, 2):
        if not re.fullmatch("[0-9]+", fold):
            raise ValueError(f"{where}: '{fold}' is not the number of a fold")
        _add_once(folds, patient, int(fold), where)
    numbers = sorted(set(folds.values()))
    _check_fold("test_fold", test_fold, numbers)
    missing = {cycle["patient"] for cycle in cycles} - set(folds)
    if missing:
        raise ValueError(f"{fold_file}: no patient {_some(sorted(missing))}")
    tested = {patient for patient in folds if folds[patient] == test_fold}
    return tested, f"{len(numbers)} in {fold_file.name}"


def _check_fold(argument, fold, folds):
    if fold not in folds:
        raise ValueError(f"{argument} is {fold}, not one of {list(folds)}")


def _locate_in_audio(cycles, warnings):
    """The cycles that have audio, their times in samples."""
    wavs = sorted({cycle["wav"] for cycle in cycles if cycle["wav"]})
    progress = tqdm(wavs, desc="Reading ICBHI headers", disable=None)
    headers = {wav: _read_header(wav) for wav in progress}
    located, excess, unusable = [], [], []
    for cycle in cycles:
        if cycle["wav"] is None:
            continue
        rate, frames = headers[cycle["wav"]]
        length = frames / rate
        start = round(min(cycle["start"], length) * rate)
        stop = round(min(cycle["end"], length) * rate)
        if stop <= start:
            unusable.append(cycle["where"])
            continue
        if (cycle["end"] - length) * rate > 0.5:
            excess.append((1000 * (cycle["end"] - length), cycle["where"]))
        samples = {"start": start, "stop": stop, "sample_rate": rate}
        located.append({**cycle, **samples})
    if excess:
        most, where = max(excess)
        warnings.append(
            f"{len(excess)} cycles clipped that end past the end of their "
            f"recording, by up to {most:.1f} ms ({where})"
        )
    if unusable:
        warnings.append(
            f"{len(unusable)} cycles left out that have no length or start "
            f"past the end of their recording: {_some(unusable)}"
        )
    return located


def _read_header(wav):
    """Sample rate and number of samples."""
    try:
        info = soundfile.info(wav)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{wav}: not readable as audio ({error})") from error
    if info.channels != 1:
        raise ValueError(f"{wav}: {info.channels} channels, mix down to mono")
    if info.frames == 0:
        raise ValueError(f"{wav}: holds no samples")
    return info.samplerate, info.frames


def _patients(cycles, side):
    return {cycle["patient"] for cycle in cycles if cycle["side"] == side}


def _draw_patients(cycles, n_folds, fold, seed):
    """The patients of one of several folds, stratified by the label."""
    patients = [cycle["patient"] for cycle in cycles]
    if len(set(patients)) < n_folds:
        raise ValueError(
            f"{len(set(patients))} patients cannot make {n_folds} folds: use "
            "more recordings or, for validation, another valid_fraction or 0"
        )
    labels = [cycle["label"] for cycle in cycles]
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    _, members = list(folds.split(labels, labels, patients))[fold]
    return {patients[member] for member in members}


def _hold_out_patients(cycles, valid_fraction, valid_fold, split_seed):
    """The cycles by partition, and the validation in words.

    Patients who also occur on the test side always stay in training: held out,
    they would select the model by people it is tested on.
    """
    if not 0 <= valid_fraction <= 0.5:
        raise ValueError(f"valid_fraction is {valid_fraction}, not in 0 to 0.5")
    held_out = set()
    validation = "no validation (the whole training side is trained on)"
    if valid_fraction:
        n_folds = round(1 / valid_fraction)
        _check_fold("valid_fold", valid_fold, range(n_folds))
        eligible = _patients(cycles, "train") - _patients(cycles, "test")
        candidates = [c for c in cycles if c["patient"] in eligible]
        held_out = _draw_patients(candidates, n_folds, valid_fold, split_seed)
        validation = (
            f"validation on fold {valid_fold} of {n_folds} of the training "
            f"patients (split seed {split_seed})"
        )
    partitions = {"train": [], "valid": [], "test": []}
    for cycle in cycles:
        held = cycle["patient"] in held_out
        partitions["valid" if held else cycle["side"]].append(cycle)
    return partitions, validation


def _entry(cycle, data_folder):
    """The manifest's entry of a cycle."""
    path = cycle["wav"].relative_to(data_folder).as_posix()
    if "{" in path or "}" in path:
        # SpeechBrain fills in {data_root} by str.format_map.
        raise ValueError(f"{cycle['wav']}: rename it to a path without {{}}")
    start, stop, rate = cycle["start"], cycle["stop"], cycle["sample_rate"]
    facts = ("label", "patient", "recording", "device", "age", "sex")
    return {
        "wav": {"file": f"{{data_root}}/{path}", "start": start, "stop": stop},
        "sample_rate": rate,
        "duration": (stop - start) / rate,
        **{fact: cycle[fact] for fact in (*facts, "location")},
    }


def _check_published(cycles, by_side):
    """Compares with the published counts."""
    differences = []
    for side in PUBLISHED if by_side else ("all",):
        on_side = [c for c in cycles if side in ("all", c["side"])]
        found = count_cycles(on_side)
        found["counts"] = tuple(found["counts"].values())
        for fact, expected in PUBLISHED[side].items():
            if found[fact] != expected:
                differences.append(
                    f"{side} {fact}: expected {expected}, found {found[fact]}"
                )
    if differences:
        raise ValueError("not the published ICBHI: " + "; ".join(differences))


def _log(summary):
    subset = summary["subset"] or f"{summary['recordings']} recordings"
    logger.info("%s: %s, %s", summary["database"], subset, summary["protocol"])
    for name, count in summary["partitions"].items():
        logger.info("%s: %s", name, count)
    if summary["patients_on_both_sides"]:
        patients = ", ".join(summary["patients_on_both_sides"])
        logger.warning("patients on both sides of the split: %s", patients)
    for warning in summary["warnings"]:
        logger.warning(warning)


def _read_summary(output_folder):
    """The summary of an earlier call, if its manifests are there."""
    names = ("train.json", "valid.json", "test.json", SUMMARY)
    missing = [name for name in names if not (output_folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"skip_prep is set, but {output_folder} lacks {', '.join(missing)}"
        )
    return json.loads((output_folder / SUMMARY).read_text(encoding="utf-8"))


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


def _quantity(text, where):
    """A finite number, not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{where}: '{text}' is not a number of 0 or more")
    return value


def _add_once(table, key, value, where):
    if key in table:
        raise ValueError(f"{where}: '{key}' occurs twice")
    table[key] = value


def _some(names):
    """The first few names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _write_json(path, content):
    """Writes all of the file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
