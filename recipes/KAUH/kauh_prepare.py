"""Prepares KAUH, the lung sounds of King Abdullah University Hospital.

The sound of a recording stands in its file's name; the name and the audio header
become one JSON manifest, an entry per recording as a whole. The database is
described at https://doi.org/10.1016/j.dib.2021.106913

Authors
 * qlung_plugin contributors
"""

import re
from collections import Counter

from qlung_plugin.dataio.fields import add_once
from qlung_plugin.dataio.folders import Warnings, check_folders, walk_folders
from qlung_plugin.dataio.locating import locate_cycles, read_headers
from qlung_plugin.dataio.manifests import (
    make_manifest,
    read_summary,
    write_manifests,
)
from qlung_plugin.dataio.partitions import (
    check_published,
    count_cycles,
    name_data,
)

MANIFEST = "test.json"
SUMMARY = "kauh.json"
SEARCH_DEPTH = 3  # an archive unpacked in a folder, and a folder in it
FACTS = (
    *("label", "sound", "diagnosis", "patient", "recording", "device"),
    *("age", "sex", "location"),
)
NAME = re.compile(
    r"(?P<recording>(?P<mode>[BDE])P(?P<patient>[0-9]+))_(?P<diagnosis>[^,]*),"
    r"(?P<sound>[^,]*),(?P<location>[^,]*),(?P<age>[0-9]+) *,(?P<sex>[MF]) *"
)
# What the stethoscope's filter lets through most.
MODES = {"B": "bell mode", "D": "diaphragm mode", "E": "extended mode"}
# Inspiratory (I) or expiratory (E) wheeze (W), crackle (C, Crep).
SOUNDS = {
    "N": "normal",
    "E W": "wheeze",
    "I E W": "wheeze",
    "C": "crackle",
    "Crep": "crackle",
    "I C E W": "both",
}
PATIENTS = range(1, 113)
PUBLISHED = {"all": {"recordings": 336, "patients": 112}}


def prepare_kauh(data_folder, output_folder, strict=False, skip_prep=False):
    """Writes `test.json` and `kauh.json`.

    A recording whose sound is neither normal nor a wheeze or crackle by its
    name is left out, and counted in a warning.

    Arguments
    ---------
    data_folder : str
        Where the recordings are, in any folder of it. Never written to.
    output_folder : str
        Where the manifest goes.
    strict : bool
        Whether anything but the complete published database is an error.
    skip_prep : bool
        Whether to keep the manifest of an earlier call.

    Returns
    -------
    summary : dict
        Protocol, counts and warnings, as written to `kauh.json`.

    Raises
    ------
    ValueError
        If a file is no audio, or a recording occurs twice.
    FileNotFoundError
        If recordings, or a manifest to keep, are missing.

    Example
    -------
    >>> summary = prepare_kauh("KAUH", "results")  # doctest: +SKIP
    """
    if skip_prep:
        return read_summary(output_folder, [MANIFEST], SUMMARY)
    data_folder, output_folder = check_folders(data_folder, output_folder)
    warnings = Warnings(strict)
    recordings = _find_recordings(data_folder, warnings)
    found = count_cycles(recordings)
    if strict:
        check_published("KAUH", PUBLISHED, {"all": found})
    labelled = [r for r in recordings if r["label"] is not None]
    others = Counter(r["sound"] for r in recordings if r["label"] is None)
    if others:
        counts = ", ".join(f"{s} ({n})" for s, n in sorted(others.items()))
        warnings.append(
            f"{others.total()} recordings left out whose sound is none of "
            f"{', '.join(SOUNDS)}: {counts}"
        )
    headers = read_headers([r["wav"] for r in labelled], warnings)
    for recording in labelled:
        header = headers[recording["wav"]]
        recording["start"] = 0
        recording["end"] = header.frames / header.sample_rate
    labelled = locate_cycles(labelled, headers, warnings, "recordings")
    if not labelled:
        raise ValueError(f"{data_folder}: no recording has a label and a sound")
    summary = {
        **name_data(
            "KAUH 2021",
            found["recordings"],
            PUBLISHED["all"]["recordings"],
            {recording["patient"] for recording in recordings},
            lambda patient: int(patient) in PATIENTS,
        ),
        "protocol": "whole recordings, labelled by the sound in their names",
        "partitions": {"test": count_cycles(labelled)},
        "warnings": warnings,
    }
    entries = make_manifest(labelled, data_folder, FACTS)
    write_manifests(output_folder, {MANIFEST: entries}, SUMMARY, summary)
    return summary


def parse_recording_name(name):
    """Tells everything that the name of a recording does; None if it is none.

    That is a patient number after the mode of the stethoscope (the "device"),
    diagnosis, sound (and its "label", None if it is none of ours), place on the
    chest in the database's letters, age in years and sex.
    """
    match = NAME.fullmatch(name)
    if match is None:
        return None
    # Blanks are many or few, before the comma too.
    texts = {
        key: " ".join(text.split()) for key, text in match.groupdict().items()
    }
    mode = MODES[texts.pop("mode")]
    label = SOUNDS.get(texts["sound"])
    return {**texts, "age": int(texts["age"]), "device": mode, "label": label}


def _find_recordings(data_folder, warnings):
    """The recordings in a folder and those below, by the order of their ids."""
    found, others = {}, []
    for folder, names in walk_folders(data_folder, SEARCH_DEPTH, warnings):
        for path in (folder / name for name in names):
            if path.suffix.lower() != ".wav" or path.name.startswith("."):
                continue
            facts = parse_recording_name(path.stem)
            if facts is None:
                others.append(path.name)
                continue
            place = {"id": facts["recording"], "wav": path, "where": str(path)}
            add_once(found, facts["recording"], {**facts, **place}, path)
    problems = {"wav files not named like KAUH recordings": others}
    warnings.report(problems, data_folder)
    if not found:
        raise FileNotFoundError(
            f"data_folder {data_folder} holds no recording of KAUH, named"
            " <B|D|E>P<patient>_<diagnosis>,<sound>,<place>,<age>,<M|F>.wav"
        )
    return [found[recording] for recording in sorted(found)]
