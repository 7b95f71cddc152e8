"""Prepares SPRSound, the paediatric respiratory sound database, release 2022.

Annotations and audio headers become JSON manifests: of respiratory events, to
test a classifier on or to train one, and of whole recordings with the experts'
annotation, to judge a measure of quality. The database is described at
https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound

Authors
 * qlung_plugin contributors
"""

import hashlib
import re
from collections import Counter

from qlung_plugin.dataio.fields import add_once, some
from qlung_plugin.dataio.folders import check_folders
from qlung_plugin.dataio.locating import locate_cycles, read_headers
from qlung_plugin.dataio.manifests import (
    log_summary,
    make_manifest,
    read_summary,
    write_manifests,
)
from qlung_plugin.dataio.partitions import (
    check_published,
    class_labels,
    count_cycles,
    hold_out_patients,
    name_data,
    patients_of,
)
from qlung_plugin.dataio.sprsound import (
    ANNOTATIONS,
    LAYOUTS,
    TYPES,
    read_corpus,
)
from qlung_plugin.utils.files import write_json

DATABASE = "SPRSound 2022"
SUMMARY = "sprsound.json"
RECORDINGS = "recordings.json"
PERSON = ("patient", "recording", "device", "age", "sex", "location")
FACTS = ("label", "type", *PERSON, "partition")
CONTINUOUS = ("Rhonchi", "Stridor")
PATIENT = re.compile("[0-9]{8}")
BLOCK = 2**16  # samples that are compared at a time
# The counts by type are in the order of TYPES.
PUBLISHED = {
    "train": {
        "recordings": 1949,
        "patients": 251,
        "events": 6656,
        "types": (5159, 912, 49, 452, 39, 15, 30),
    },
    "inter": {
        "recordings": 355,
        "patients": 41,
        "events": 1429,
        "types": (1040, 80, 3, 305, 0, 0, 1),
    },
    "intra": {
        "recordings": 379,
        "patients": 162,
        "events": 1004,
        "types": (688, 175, 14, 108, 14, 2, 3),
    },
}


def prepare_sprsound(
    data_folder,
    output_folder,
    test="inter",
    train=None,
    continuous="merge",
    num_classes=4,
    valid_fraction=0.2,
    valid_fold=0,
    split_seed=0,
    strict=False,
    skip_prep=False,
):
    """Writes the manifests of events: `test.json` and `sprsound.json`.

    With `train`, also `train.json` and `valid.json`. A recording of the
    training side that is on the test side too, under another name, is left out
    of training.

    Arguments
    ---------
    data_folder : str
        Where the database is, in any of its layouts. Never written to.
    output_folder : str
        Where the manifests go.
    test : str
        Partition to test on: "inter" (no patient of train), "intra" (all of
        its patients are in train too), "train", or several as "inter+intra".
    train : str
        Partition or partitions to train on, others than those of `test`.
    continuous : str
        Whether to "merge" rhonchi and stridor into wheezes or to "drop" them.
    num_classes : int
        4 (normal, crackle, wheeze, both) or 2 (normal, abnormal).
    valid_fraction, valid_fold, split_seed
        As for `qlung_plugin.dataio.partitions.hold_out_patients`.
    strict : bool
        Whether anything but the complete published partitions is an error.
    skip_prep : bool
        Whether to keep the manifests of an earlier call.

    Returns
    -------
    summary : dict
        Protocol, counts and warnings, as written to `sprsound.json`.

    Raises
    ------
    ValueError
        If a file is malformed or an argument out of range.
    FileNotFoundError
        If a partition, or manifests to keep, are missing.

    Example
    -------
    >>> summary = prepare_sprsound("SPRSound", "results")  # doctest: +SKIP
    """
    if skip_prep:
        names = ("train", "valid", "test") if train else ("test",)
        manifests = [f"{name}.json" for name in names]
        return read_summary(output_folder, manifests, SUMMARY)
    labels = labels_by_type(continuous, num_classes)
    sides = _sides(test, train)
    data_folder, output_folder = check_folders(data_folder, output_folder)

    recordings, warnings = read_corpus(data_folder, sides, strict)
    if strict:
        _check_published(recordings, sides)
    data = _name_data(recordings, sides)
    for recording in recordings:
        recording["side"] = sides[recording["partition"]]
    wavs = [recording["wav"] for recording in recordings]
    headers = read_headers(wavs, warnings)
    recordings = _leave_out_copies(recordings, headers, warnings)
    events, mapping = _label_events(recordings, labels, warnings)
    events = locate_cycles(events, headers, warnings, "events")
    if not patients_of(events, "test"):
        raise ValueError(f"{data_folder}: no event to test on in {test}")

    protocol = f"tested on {test}, {mapping}"
    partitions = {"test": events}
    if train:
        partitions, validation = hold_out_patients(
            events, valid_fraction, valid_fold, split_seed
        )
        protocol = f"trained on {train}, {protocol}, {validation}"
    both_sides = patients_of(events, "train") & patients_of(events, "test")
    summary = {
        **data,
        "split": "official",
        "protocol": protocol,
        "patients_on_both_sides": sorted(both_sides),
        "partitions": _count(partitions, recordings, class_labels(num_classes)),
        "warnings": warnings,
    }
    manifests = {
        f"{name}.json": make_manifest(members, data_folder, FACTS)
        for name, members in partitions.items()
    }
    write_manifests(output_folder, manifests, SUMMARY, summary)
    return summary


def prepare_recordings(data_folder, output_folder, partition="train"):
    """Writes `recordings.json`, an entry per recording as a whole.

    Arguments
    ---------
    data_folder : str
        Where the database is, in any of its layouts. Never written to.
    output_folder : str
        Where the manifest goes.
    partition : str
        "train", "inter", "intra", or several as "inter+intra".

    Returns
    -------
    summary : dict
        As that of `prepare_sprsound`; the counts of a partition are by the
        experts' annotation of the recording, such as "Poor Quality", which is
        also the `annotation` of an entry (None where there is none).

    Example
    -------
    >>> summary = prepare_recordings("SPRSound", "results")  # doctest: +SKIP
    """
    sides = _sides(partition, None)
    data_folder, output_folder = check_folders(data_folder, output_folder)
    recordings, warnings = read_corpus(data_folder, sides)
    wavs = [recording["wav"] for recording in recordings]
    headers = read_headers(wavs, warnings)
    wholes = [
        {
            **recording,
            "id": recording["recording"],
            "start": 0,
            "stop": headers[recording["wav"]].frames,
            "sample_rate": headers[recording["wav"]].sample_rate,
        }
        for recording in recordings
    ]
    facts = (*PERSON, "partition", "annotation")
    unknown = [r["recording"] for r in recordings if r["annotation"] is None]
    if unknown:
        warnings.append(
            f"{len(unknown)} recordings lack an annotation as a whole: "
            f"{some(unknown)}"
        )
    partitions = {}
    for name in sides:
        members = [r for r in recordings if r["partition"] == name]
        found = Counter(recording["annotation"] for recording in members)
        partitions[name] = {
            **_count_recordings(members),
            "counts": {kind: found[kind] for kind in ANNOTATIONS},
        }
    summary = {
        **_name_data(recordings, sides),
        "protocol": f"whole recordings of {partition}, annotated by experts",
        "partitions": partitions,
        "warnings": warnings,
    }
    entries = make_manifest(wholes, data_folder, facts)
    write_json(entries, output_folder / RECORDINGS)
    log_summary(summary)
    return summary


def labels_by_type(continuous="merge", num_classes=4):
    """The label of each type of event; types that are dropped have none."""
    if continuous not in ("merge", "drop"):
        raise ValueError(f"continuous is '{continuous}', not merge or drop")
    labels, names = dict(TYPES), class_labels(num_classes)
    if num_classes == 2:
        labels = {t: names[TYPES[t] != "normal"] for t in TYPES}
    if continuous == "drop":
        labels = {t: labels[t] for t in TYPES if t not in CONTINUOUS}
    return labels


def _sides(test, train):
    """The side of each partition that is asked for."""
    sides = {}
    for side, partitions in (("test", test), ("train", train)):
        if partitions is None:
            continue
        for partition in partitions.split("+"):
            if partition not in LAYOUTS:
                raise ValueError(
                    f"'{partition}' in '{partitions}' is no partition: name "
                    f"one of {', '.join(LAYOUTS)}, or several as inter+intra"
                )
            add_once(sides, partition, side, f"test {test}, train {train}")
    return sides


def _leave_out_copies(recordings, headers, warnings):
    """Leaves out of training what is tested on under another name."""
    train = [r for r in recordings if r["side"] == "train"]
    if not train:
        return recordings
    tested = {
        _digest(headers[r["wav"]]): r["recording"]
        for r in recordings
        if r["side"] == "test"
    }
    digests = {r["recording"]: _digest(headers[r["wav"]]) for r in train}
    copies = {n: tested[d] for n, d in digests.items() if d in tested}
    if copies:
        pairs = some([f"{name} is {copy}" for name, copy in copies.items()])
        warnings.append(
            f"{len(copies)} recordings left out of training that are on the "
            f"test side under another name: {pairs}"
        )
    return [r for r in recordings if r["recording"] not in copies]


def _digest(recording):
    """Tells whether two recordings hold the same samples."""
    digest = hashlib.sha256()
    for block in recording.blocks(BLOCK):
        digest.update(block.numpy())
    return digest.digest()


def _label_events(recordings, labels, warnings):
    """All events that have a label, and the mapping in words."""
    events, found = [], Counter()
    for recording in recordings:
        for index, event in enumerate(recording["events"]):
            found[event["type"]] += 1
            if event["type"] in labels:
                name = f"{recording['recording']}_{index:03d}"
                label = labels[event["type"]]
                known = {"id": name, "label": label, **event}
                events.append({**recording, **known})
    silent = [r for r in recordings if not r["events"]]
    if silent:
        poor = sum(r["annotation"] == "Poor Quality" for r in silent)
        names = some([r["recording"] for r in silent])
        warnings.append(
            f"{len(silent)} recordings hold no event ({poor} of them marked "
            f"Poor Quality): {names}"
        )
    continuous = " and ".join(f"{kind} ({found[kind]})" for kind in CONTINUOUS)
    label = labels.get(CONTINUOUS[0])
    fate = f"merged into {label}" if label else "dropped"
    distinct = ", ".join(dict.fromkeys(labels.values()))
    mapping = f"{len(TYPES)} types of events as {distinct}, {continuous} {fate}"
    return sorted(events, key=lambda event: event["id"]), mapping


def _count(partitions, recordings, labels):
    """Counts of all partitions; recordings without event are recordings too."""
    members = {name: [] for name in partitions}
    held_out = {event["patient"] for event in partitions.get("valid", ())}
    for recording in recordings:
        held = recording["patient"] in held_out
        members["valid" if held else recording["side"]].append(recording)
    return {
        name: {
            **count_cycles(events, labels),
            **_count_recordings(members[name]),
        }
        for name, events in partitions.items()
    }


def _count_recordings(recordings):
    patients = {recording["patient"] for recording in recordings}
    return {"recordings": len(recordings), "patients": len(patients)}


def _check_published(recordings, partitions):
    """Compares with the published counts of the annotation."""
    found = {}
    for partition in partitions:
        members = [r for r in recordings if r["partition"] == partition]
        types = Counter(e["type"] for r in members for e in r["events"])
        found[partition] = {
            **_count_recordings(members),
            "events": types.total(),
            "types": tuple(types[kind] for kind in TYPES),
        }
    expected = {partition: PUBLISHED[partition] for partition in partitions}
    check_published("SPRSound", expected, found)


def _name_data(recordings, partitions):
    return name_data(
        DATABASE,
        len(recordings),
        sum(PUBLISHED[partition]["recordings"] for partition in partitions),
        {recording["patient"] for recording in recordings},
        PATIENT.fullmatch,
    )
