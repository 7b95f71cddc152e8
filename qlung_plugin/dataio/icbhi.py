"""Finds the files of ICBHI 2017, and reads its annotations and splits.

The database is described at https://bhichallenge.med.auth.gr

Authors
 * qlung_plugin contributors
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from qlung_plugin.dataio.fields import add_once, some
from qlung_plugin.dataio.folders import (
    Warnings,
    named_files,
    only_copy,
    walk_folders,
)
from qlung_plugin.dataio.icbhi_tables import (
    RECORDING,
    Person,
    parse_recording_name,
    read_annotation,
    read_demographics,
    read_folds,
    read_split,
)
from qlung_plugin.dataio.manifests import Cycle
from qlung_plugin.dataio.partitions import check_fold, draw_patients

SPLIT_FILES = ("ICBHI_challenge_train_test.txt", "official_split.txt")
FOLD_FILES = ("patient_list_foldwise.txt",)
DEMOGRAPHIC_FILES = ("demographic_info.txt",)
PATIENT_FOLDS = 5
SEARCH_DEPTH = 4  # the mirror's audio folder lies three folders down
LAYOUTS = (
    "Expected are files <patient>_<index>_<location>_<sc|mc>_<device>.wav and "
    ".txt in ICBHI_final_database (official archive), in [Respiratory_Sound_"
    "Database/[Respiratory_Sound_Database/]]audio_and_txt_files (mirror), in "
    "icbhi_dataset/audio_test_data (research code) or in the folder itself; "
    "or the .txt in another folder, which annotation_folder names."
)


class Files(NamedTuple):
    """The files of a recording."""

    annotation: Path
    audio: Path | None


def read_corpus(
    data_folder: Path | str,
    split: str = "official",
    test_fold: int = 0,
    split_file: Path | str | None = None,
    fold_file: Path | str | None = None,
    split_seed: int = 0,
    strict: bool = False,
    annotation_folder: Path | str | None = None,
) -> tuple[list[Cycle], str, list[str]]:
    """Reads annotations, split and demographics; opens no audio.

    The arguments are those of the preparation of the recipe. Returns the
    annotated cycles, sorted by ``id``, whose ``side`` is "train" or "test", and
    whose ``wav`` is None where the audio is missing; the split in words; and
    what was odd but usable.
    """
    if split not in ("official", "patient_folds"):
        raise ValueError(f"split is '{split}', not official or patient_folds")
    data_folder = Path(os.path.abspath(data_folder))
    annotations = Path(os.path.abspath(annotation_folder or data_folder))
    warnings = Warnings(strict)
    files, places = _find_recordings(data_folder, annotations, warnings)
    if split == "official":
        path = _find_file(SPLIT_FILES, places, split_file)
        if path is None:
            raise FileNotFoundError(
                f"{data_folder}: no {' or '.join(SPLIT_FILES)}. The common "
                "mirror lacks the official split; get it under the first name "
                "from the challenge page, https://bhichallenge.med.auth.gr, "
                "and put it there or name it as split_file"
            )
        sides = read_split(path)
        files = _split_only(files, path, sides, warnings)
    cycles = _read_cycles(files, warnings)
    path = _find_file(DEMOGRAPHIC_FILES, places)
    _add_demographics(cycles, path, warnings)
    if split == "official":
        for cycle in cycles:
            cycle["side"] = sides[cycle["recording"]]
        return cycles, "official split", warnings
    path = _find_file(FOLD_FILES, places, fold_file)
    if path is None:
        check_fold("test_fold", test_fold, range(PATIENT_FOLDS))
        tested = draw_patients(cycles, PATIENT_FOLDS, test_fold, split_seed)
        folds = f"{PATIENT_FOLDS} drawn with seed {split_seed}"
    else:
        fold_of = read_folds(path)
        numbers = sorted(set(fold_of.values()))
        check_fold("test_fold", test_fold, numbers)
        cycles = _folds_only(cycles, path, fold_of, warnings)
        tested = {p for p, fold in fold_of.items() if fold == test_fold}
        folds = f"{len(numbers)} in {path.name}"
    for cycle in cycles:
        cycle["side"] = "test" if cycle["patient"] in tested else "train"
    return cycles, f"patient fold {test_fold} of {folds} for testing", warnings


def _find_recordings(
    data_folder: Path,
    annotation_folder: Path,
    warnings: Warnings,
) -> tuple[dict[str, Files], list[tuple[Path, Path]]]:
    """The files of annotated recordings by name, and places of others.

    These are pairs of the folder that the annotations, or recordings, were
    found in and the one they were looked for.
    """
    folders = dict(walk_folders(data_folder, SEARCH_DEPTH, warnings))
    audio_at, audio, strangers = _files_of_a_kind(
        folders, ".wav", "data_folder", warnings
    )
    if annotation_folder != data_folder:
        folders = dict(walk_folders(annotation_folder, SEARCH_DEPTH, warnings))
    texts_at, texts, _ = _files_of_a_kind(
        folders, ".txt", "annotation_folder", warnings
    )
    if texts_at is None:
        what = "annotations of ICBHI" if audio else "ICBHI recordings"
        there = annotation_folder.is_dir()
        state = "holds no" if there else "does not exist: no"
        raise FileNotFoundError(
            f"{annotation_folder} {state} {what}. {LAYOUTS}"
        )
    problems = {
        "recordings without annotation": sorted(set(audio) - set(texts)),
        "annotations without recording": sorted(set(texts) - set(audio)),
        "wav files not named like ICBHI recordings": strangers,
    }
    warnings.report(problems, audio_at or texts_at)
    files = {name: Files(texts[name], audio.get(name)) for name in texts}
    places = [(texts_at, annotation_folder)]
    if audio_at:
        places.append((audio_at, data_folder))
    return files, places


def _files_of_a_kind(
    folders: Mapping[Path, list[str]],
    kind: str,
    argument: str,
    warnings: Warnings,
) -> tuple[Path | None, dict[str, Path], list[str]]:
    """The folder that is read of those with files of a kind, and its files."""
    found = {
        folder: named_files((folder / n for n in names), kind, RECORDING)
        for folder, names in folders.items()
    }
    contents = {
        folder: set(files) for folder, (files, _) in found.items() if files
    }
    if not contents:
        return None, {}, []
    # The mirror is distributed with its folder twice, one in the other.
    folder = only_copy(contents, f"ICBHI's {kind}", argument, warnings)
    return folder, *found[folder]


def _find_file(
    names: Sequence[str],
    places: Iterable[tuple[Path, Path]],
    given: Path | str | None = None,
) -> Path | None:
    """The given file, or the one nearest to what was found, or None."""
    if given is not None:
        if not os.path.lexists(given):
            raise FileNotFoundError(f"{given} does not exist")
        return Path(given)
    for folder, root in places:
        folders = [folder, *folder.parents]
        # Where data_folder is the audio folder itself, also where it lies.
        last = max(folders.index(root), 1)
        for path in (f / name for f in folders[: last + 1] for name in names):
            # What is no ordinary file is refused when it is read.
            if os.path.lexists(path):
                return path
    return None


def _split_only(
    files: dict[str, Files],
    split_file: Path,
    sides: dict[str, str],
    warnings: Warnings,
) -> dict[str, Files]:
    """Files by the split's names, in which 91 recordings changed the device.

    A name without its device occurs only once in the published split. What the
    split does not name is left out, as splits without leaks do on purpose.
    """
    final: dict[str, list[str]] = {}
    for name in sides:
        final.setdefault(name.rpartition("_")[0], []).append(name)
    renamed: list[str] = []
    unnamed: list[str] = []
    by_final_name: dict[str, Files] = {}
    for name, paths in files.items():
        names = [name]
        if name not in sides:
            names = final.get(name.rpartition("_")[0], [])
            (renamed if names else unnamed).append(name)
        if len(names) > 1:
            raise ValueError(
                f"{paths.annotation}: not in {split_file}, where it may be any of"
                f" {some(names)}"
            )
        for final_name in names:
            add_once(by_final_name, final_name, paths, paths.annotation)
    if renamed:
        warnings.append(
            f"{len(renamed)} recordings have a name from before their device "
            f"was corrected, the split's name is used: {some(renamed)}"
        )
    if not by_final_name:
        raise ValueError(
            f"{split_file} names none of the {len(files)} recordings, such as"
            f" {some(unnamed)}: is it their split?"
        )
    problem = {"recordings left out that it does not name": unnamed}
    warnings.report(problem, split_file)
    return by_final_name


def _folds_only(
    cycles: list[Cycle],
    fold_file: Path,
    folds: dict[str, int],
    warnings: Warnings,
) -> list[Cycle]:
    """The cycles of patients that are in a fold."""
    missing = sorted({cycle["patient"] for cycle in cycles} - set(folds))
    problem = {"patients left out that it does not name": missing}
    warnings.report(problem, fold_file)
    return [cycle for cycle in cycles if cycle["patient"] in folds]


def _read_cycles(files: dict[str, Files], warnings: Warnings) -> list[Cycle]:
    """All annotated cycles as dicts."""
    cycles: list[Cycle] = []
    empty = []
    for recording in files:
        parsed = read_annotation(files[recording].annotation)
        if not parsed:
            empty.append(recording)
        for index, (where, start, end, label) in enumerate(parsed):
            cycle = {
                "id": f"{recording}_{index:03d}",
                "recording": recording,
                "wav": files[recording].audio,
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


def _add_demographics(
    cycles: list[Cycle], path: Path | None, warnings: Warnings
) -> None:
    """Adds age and sex, None where they are unknown.

    Nothing is trained with them: no state of the file stops a training.
    """
    people: dict[str, Person] = {}
    trouble = None
    if path is None:
        warnings.append(f"no {DEMOGRAPHIC_FILES[0]}: age and sex are unknown")
    else:
        try:
            people, odd = read_demographics(path)
        except (OSError, ValueError) as error:
            trouble = f"age and sex are unknown: {error}"
        else:
            patients = {cycle["patient"] for cycle in cycles}
            absent = sorted(patients - set(people))
            if odd or absent:
                trouble = (
                    f"{path}: age and sex are unknown of {len(absent)} patients"
                    f" ({some(absent)}); {len(odd)} lines are not understood"
                    f" ({some(odd)})"
                )
    if trouble and warnings.strict:
        raise ValueError(trouble)
    if trouble:
        warnings.append(trouble)
    for cycle in cycles:
        unknown: Person = {"age": None, "sex": None}
        cycle.update(people.get(cycle["patient"], unknown))
