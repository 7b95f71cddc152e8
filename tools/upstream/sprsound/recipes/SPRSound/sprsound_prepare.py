"""
Prepares SPRSound, release 2022, to test a respiratory sound classifier.

Annotations and audio headers become a JSON manifest with an entry per
respiratory event, labelled as ICBHI 2017 labels its cycles. The database of
paediatric recordings is described at
https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound

Authors
 * qlung_plugin contributors, 2026
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

from speechbrain.dataio import audio_io
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

LABELS = ("normal", "crackle", "wheeze", "both")
TYPES = {
    "Normal": "normal",
    "Fine Crackle": "crackle",
    "Coarse Crackle": "crackle",
    "Wheeze": "wheeze",
    "Rhonchi": "wheeze",
    "Stridor": "wheeze",
    "Wheeze+Crackle": "both",
}
CONTINUOUS = ("Rhonchi", "Stridor")
# Folders of audio and annotations, and the number of published recordings
PARTITIONS = {
    "train": ("train_wav", "train_json", 1949),
    "inter": ("test_wav", "test_json/inter_test_json", 355),
    "intra": ("test_wav", "test_json/intra_test_json", 379),
}
LOCATIONS = {
    "p1": "left posterior",
    "p2": "left lateral",
    "p3": "right posterior",
    "p4": "right lateral",
}
SEXES = {"0": "M", "1": "F"}
RECORDING = re.compile(
    r"(?P<patient>\d+)_(?P<age>\d+(\.\d+)?)_(?P<sex>[01])_(?P<place>p[1-8])_\d+"
)
MANIFEST, SUMMARY = "test.json", "sprsound.json"


def prepare_sprsound(
    data_folder,
    output_folder,
    test="inter",
    continuous="merge",
    skip_prep=False,
):
    """Writes `test.json` and `sprsound.json`.

    Arguments
    ---------
    data_folder : str
        Where the release of 2022 is. Never written to.
    output_folder : str
        Where the manifest goes.
    test : str
        Partition to test on: "inter" (no patient of train), "intra" (all of
        its patients are in train too), "train", or several as "inter+intra".
    continuous : str
        Whether to "merge" rhonchi and stridor into wheezes or to "drop" them.
    skip_prep : bool
        If True, the manifest of an earlier call is kept.

    Returns
    -------
    summary : dict
        Protocol, counts and warnings, as written to `sprsound.json`.

    Example
    -------
    >>> data_folder = "/path/to/SPRSound"
    >>> summary = prepare_sprsound(data_folder, "results")  # doctest: +SKIP
    """
    output_folder = Path(output_folder)
    if skip_prep:
        with open(output_folder / SUMMARY, encoding="utf-8") as file:
            return json.load(file)
    if continuous not in ("merge", "drop"):
        raise ValueError(f"continuous is '{continuous}', not merge or drop")
    data_folder = Path(os.path.abspath(data_folder))
    entries, names, warnings = {}, [], []
    for partition in test.split("+"):
        if partition not in PARTITIONS:
            raise ValueError(
                f"'{partition}' is not one of {', '.join(PARTITIONS)}"
            )
        for path in find_annotations(data_folder, partition, warnings):
            names.append(path.stem)
            events = read_events(path, data_folder, partition, warnings)
            entries.update(events)
    if continuous == "drop":
        entries = {
            k: e for k, e in entries.items() if e["type"] not in CONTINUOUS
        }
    if not entries:
        raise ValueError(f"{data_folder}: no event to test on in {test}")
    entries = dict(sorted(entries.items()))

    patients = {RECORDING.fullmatch(name)["patient"] for name in names}
    published = sum(PARTITIONS[p][2] for p in test.split("+"))
    genuine = all(len(patient) == 8 for patient in patients)
    labels = Counter(entry["label"] for entry in entries.values())
    fate = "merged into wheeze" if continuous == "merge" else "dropped"
    summary = {
        "database": "SPRSound 2022"
        if genuine
        else "recordings like SPRSound's",
        "recordings": len(names),
        "recordings_published": published,
        "subset": None
        if len(names) == published or not genuine
        else f"{len(names)} of {published} recordings",
        "split": "official",
        "protocol": f"tested on {test}, rhonchi and stridor {fate}",
        "patients_on_both_sides": [],
        "partitions": {
            "test": {
                "recordings": len(names),
                "patients": len(patients),
                "cycles": len(entries),
                "counts": {label: labels[label] for label in LABELS},
            }
        },
        "warnings": warnings,
    }
    output_folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((MANIFEST, entries), (SUMMARY, summary)):
        with open(output_folder / name, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
    logger.info("%s", {k: v for k, v in summary.items() if k != "warnings"})
    for warning in warnings:
        logger.warning(warning)
    return summary


def find_annotations(data_folder, partition, warnings):
    """The annotations of a partition.

    Arguments
    ---------
    data_folder : pathlib.Path
        Where the release is.
    partition : str
        One of PARTITIONS.
    warnings : list
        Gets a sentence of annotations without recording.

    Returns
    -------
    annotations : list
        Paths of JSON files whose recording is there.
    """
    audio, annotations, _ = PARTITIONS[partition]
    folder = data_folder / annotations
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{data_folder} holds no {annotations}: expected is the layout of"
            " the release of 2022"
        )
    paths = sorted(
        path for path in folder.glob("*.json") if RECORDING.fullmatch(path.stem)
    )
    wavs = {path: data_folder / audio / f"{path.stem}.wav" for path in paths}
    missing = [path.stem for path in paths if not wavs[path].exists()]
    if missing:
        warnings.append(
            f"{len(missing)} annotations in {folder} have no recording, such"
            f" as {missing[0]}"
        )
    return [path for path in paths if wavs[path].exists()]


def read_events(path, data_folder, partition, warnings):
    """Reads the events of one recording.

    Arguments
    ---------
    path : pathlib.Path
        JSON with the list `event_annotation` of `start` and `end` (in ms) and
        `type`.
    data_folder : pathlib.Path
        What {data_root} stands for in the manifest.
    partition : str
        One of PARTITIONS.
    warnings : list
        Gets a sentence of what is odd but usable.

    Returns
    -------
    events : dict
        Entries of the manifest, by id.
    """
    name = RECORDING.fullmatch(path.stem)
    file = f"{PARTITIONS[partition][0]}/{path.stem}.wav"
    audio = audio_io.info(str(data_folder / file))
    if audio.channels != 1:
        raise ValueError(f"{file}: {audio.channels} channels, mix down to mono")
    rate, duration = audio.sample_rate, audio.frames / audio.sample_rate
    with open(path, encoding="utf-8") as stream:
        annotation = json.load(stream)
    events, places = {}, {}
    for index, event in enumerate(annotation["event_annotation"]):
        where = f"{path}: event_annotation[{index}]"
        if event["type"] not in TYPES:
            raise ValueError(f"{where}: type is '{event['type']}'")
        times = (float(event[key]) / 1000 for key in ("start", "end"))
        start, stop = (
            round(min(max(time, 0.0), duration) * rate) for time in times
        )
        label = TYPES[event["type"]]
        key = f"{path.stem}_{index:03d}"
        known = places.setdefault((start, stop), key)
        if stop <= start or known != key:
            warnings.append(f"{where}: left out, it is empty or repeated")
            if events.get(known, {}).get("label", label) != label:
                del events[known]  # which of the labels is true?
            continue
        events[key] = {
            "wav": {
                "file": f"{{data_root}}/{file}",
                "start": start,
                "stop": stop,
            },
            "sample_rate": rate,
            "duration": (stop - start) / rate,
            "label": label,
            "type": event["type"],
            "patient": name["patient"],
            "recording": path.stem,
            "device": None,
            "age": float(name["age"]),
            "sex": SEXES[name["sex"]],
            "location": LOCATIONS.get(name["place"], name["place"]),
            "partition": partition,
        }
    return events
