"""Reads the annotations of SPRSound, the paediatric respiratory sounds.

The database is described at
https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound

Authors
 * qlung_plugin contributors
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qlung_plugin.dataio.fields import add_once, quantity
from qlung_plugin.dataio.folders import (
    Warnings,
    named_files,
    only_copy,
    walk_folders,
)
from qlung_plugin.utils.ordinary_files import read_json

SEARCH_DEPTH = 3  # an archive unpacked in a folder, and a release in it

# Types of events in their published order, and their labels of ICBHI.
TYPES = {
    "Normal": "normal",
    "Fine Crackle": "crackle",
    "Coarse Crackle": "crackle",
    "Wheeze": "wheeze",
    "Rhonchi": "wheeze",
    "Stridor": "wheeze",
    "Wheeze+Crackle": "both",
}
ANNOTATIONS = ("Normal", "CAS", "DAS", "CAS & DAS", "Poor Quality")
# The releases say nothing of the places p5 to p8.
LOCATIONS = {
    "p1": "left posterior",
    "p2": "left lateral",
    "p3": "right posterior",
    "p4": "right lateral",
}
SEXES = {"0": "M", "1": "F"}
RECORDING = re.compile(
    r"(?P<patient>[0-9]+)_(?P<age>[0-9]+(\.[0-9]+)?)_(?P<sex>[01])_"
    r"(?P<location>p[1-8])_(?P<index>[0-9]+)"
)

# Folders of audio and of annotations, beside each other: in the release of
# 2022, in later ones (where the test partitions had two names), in the newest.
TRAIN_FOLDERS = (
    ("train_wav", "train_json"),
    ("train_classification_wav", "train_classification_json"),
    ("train2022_wav", "train2022_json"),
)
TEST_FOLDERS = (
    ("test_wav", "test_json"),
    ("valid_classification_wav/2022", "valid_classification_json/2022"),
    ("test_classification_wav/2022", "test_classification_json/2022"),
    ("test2022_wav", "test2022_json"),
)
LAYOUTS = {
    "train": TRAIN_FOLDERS,
    "inter": [(wav, f"{text}/inter_test_json") for wav, text in TEST_FOLDERS],
    "intra": [(wav, f"{text}/intra_test_json") for wav, text in TEST_FOLDERS],
}


# The folders of audio by those of annotations, by partition.
Places = dict[str, dict[Path, Path]]


def read_corpus(
    data_folder: Path | str, partitions: Iterable[str], strict: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads the annotations of some partitions; opens no audio.

    Returns the annotated recordings that have audio, sorted by name: what
    :func:`parse_recording_name` says, ``recording``, ``device`` (None),
    ``partition``, ``wav``, and what :func:`read_annotation` gives as
    ``annotation`` and ``events``. And what was odd but usable.
    """
    data_folder = Path(os.path.abspath(data_folder))
    warnings = Warnings(strict)
    recordings: dict[str, dict[str, Any]] = {}
    audio: dict[Path, dict[str, Path]] = {}
    places = _find_places(data_folder, warnings)
    for partition in partitions:
        if not places[partition]:
            raise FileNotFoundError(
                _describe_missing(data_folder, partition, places)
            )
        files = {f: _recordings_in(f, ".json") for f in places[partition]}
        contents = {folder: set(files[folder][0]) for folder in files}
        folder = only_copy(
            contents, "annotations of SPRSound", "data_folder", warnings
        )
        annotations, others = files[folder]
        wav_folder = places[partition][folder]
        if not wav_folder.is_dir():
            raise FileNotFoundError(
                f"{folder} holds annotations, but there is no {wav_folder} "
                "with their recordings"
            )
        if wav_folder not in audio:
            audio[wav_folder] = _audio_in(wav_folder, places, warnings)
        problems = {
            "annotations without recording": [
                name for name in annotations if name not in audio[wav_folder]
            ],
            "json files not named like SPRSound recordings": others,
        }
        warnings.report(problems, folder)
        names = [name for name in annotations if name in audio[wav_folder]]
        if not names:
            raise ValueError(f"{folder}: no recording has audio and annotation")
        for name in names:
            annotation, events = read_annotation(annotations[name])
            recording = {
                **parse_recording_name(name),
                "recording": name,
                "device": None,
                "partition": partition,
                "wav": audio[wav_folder][name],
                "annotation": annotation,
                "events": events,
            }
            add_once(recordings, name, recording, annotations[name])
    return [recordings[name] for name in sorted(recordings)], warnings


def parse_recording_name(name: str) -> dict[str, Any]:
    """A recording's "patient", "age" in years, "sex" (M or F) and "location".

    The last is in words where the database gives any.
    """
    match = RECORDING.fullmatch(name)
    if match is None:
        raise ValueError(
            f"'{name}' is not <patient>_<age>_<0|1>_<p1 to p8>_<recording>"
        )
    return {
        "patient": match["patient"],
        "age": float(match["age"]),
        "sex": SEXES[match["sex"]],
        "location": LOCATIONS.get(match["location"], match["location"]),
    }


def read_annotation(
    path: Path | str,
) -> tuple[str | None, list[dict[str, Any]]]:
    """Reads the annotation of one recording, such as "Poor Quality", and events.

    The JSON has `record_annotation` (or `recording_annotation`, or neither) and
    the list `event_annotation` of `start` and `end` in milliseconds, as texts
    or as numbers, and `type`. The events have ``type``, ``start`` and ``end``
    in seconds, and ``where``, their place.
    """
    content = read_json(path)
    content = content if isinstance(content, dict) else {}
    if not isinstance(content.get("event_annotation"), list):
        raise ValueError(f"{path}: holds no list 'event_annotation'")
    annotation = content.get("record_annotation")
    annotation = content.get("recording_annotation", annotation)
    if annotation not in (None, *ANNOTATIONS):
        raise ValueError(
            f"{path}: the recording's annotation is '{annotation}', not one "
            f"of {', '.join(ANNOTATIONS)}"
        )
    events = []
    for index, event in enumerate(content["event_annotation"]):
        where = f"{path}: event_annotation[{index}]"
        if not isinstance(event, dict) or {"start", "end", "type"} - set(event):
            raise ValueError(f"{where}: needs start, end and type")
        if event["type"] not in tuple(TYPES):
            raise ValueError(
                f"{where}: type is '{event['type']}', not one of "
                f"{', '.join(TYPES)}"
            )
        start = quantity(str(event["start"]), where) / 1000
        end = quantity(str(event["end"]), where) / 1000
        place = {"start": start, "end": end, "where": where}
        events.append({"type": event["type"], **place})
    return annotation, events


def _find_places(data_folder: Path, warnings: Warnings) -> Places:
    places: Places = {partition: {} for partition in LAYOUTS}
    for folder, _ in walk_folders(data_folder, SEARCH_DEPTH, warnings):
        for partition, layouts in LAYOUTS.items():
            for audio, annotations in layouts:
                if (folder / annotations).is_dir():
                    places[partition][folder / annotations] = folder / audio
    return places


def _describe_missing(data_folder: Path, partition: str, places: Places) -> str:
    """What to tell of a partition that was not found."""
    state = "holds no" if data_folder.is_dir() else "does not exist: no"
    others = [name for name in places if places[name]]
    expected = ", or ".join(f"{w} and {a}" for w, a in LAYOUTS[partition])
    return (
        f"data_folder {data_folder} {state} partition '{partition}' of "
        f"SPRSound (found: {', '.join(others) or 'none'}). Expected are the "
        f"folders {expected}, with files <patient>_<age>_<0|1>_<p1 to p8>_"
        "<recording>.wav and .json"
    )


def _recordings_in(
    folder: Path, suffix: str
) -> tuple[dict[str, Path], list[str]]:
    return named_files(sorted(folder.iterdir()), suffix, RECORDING)


def _audio_in(
    folder: Path, places: Places, warnings: Warnings
) -> dict[str, Path]:
    """Recordings in a folder of audio, which partitions may share."""
    audio, others = _recordings_in(folder, ".wav")
    annotated: set[str] = set()
    for by_annotations in places.values():
        for annotations, shared in by_annotations.items():
            if shared == folder:
                annotated.update(_recordings_in(annotations, ".json")[0])
    problems = {
        "recordings without annotation": [
            name for name in audio if name not in annotated
        ],
        "wav files not named like SPRSound recordings": others,
    }
    warnings.report(problems, folder)
    return audio
