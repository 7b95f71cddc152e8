"""Tests of the SPRSound preparation on generated corpora.

Authors
 * qlung_plugin contributors
"""

import json
import logging
import os
from collections import Counter

import numpy as np
import pytest
import soundfile

from recipes.SPRSound import sprsound_prepare
from recipes.SPRSound.sprsound_prepare import (
    labels_by_type,
    prepare_recordings,
    prepare_sprsound,
)
from tests.unittests.dataio.icbhi_files import the_warning
from tests.unittests.dataio.sprsound_files import (
    NAMES,
    RATE,
    TYPES,
    as_json,
    json_of,
    wav_of,
    write_corpus,
)


def write_wav(path):
    """Noise that no other file holds."""
    rng = np.random.default_rng(list(path.stem.encode()))
    samples = rng.uniform(-0.5, 0.5, 7 * RATE)
    soundfile.write(path, samples, RATE, format="WAV", subtype="PCM_16")


@pytest.fixture
def data(tmp_path):
    """A corpus in the layout of 2022, all types in every recording."""
    write_corpus(tmp_path / "data", write_wav)
    return tmp_path / "data"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results"


def read(output, name):
    return json.loads((output / f"{name}.json").read_text())


def recordings(manifest):
    return {entry["recording"] for entry in manifest.values()}


def patients(manifest):
    return {entry["patient"] for entry in manifest.values()}


# Manifests


def test_manifest_entry_is_as_worked_by_hand(data, output):
    json_of(data, "inter").write_text(
        as_json([(342, 2515, "Normal"), (2557, 3776, "Rhonchi")])
    )
    prepare_sprsound(data, output)
    entries = read(output, "test")
    name = "65000001_0.4_0_p4_21"
    shared = {
        "sample_rate": 8000,
        "patient": "65000001",
        "recording": name,
        "device": None,
        "age": 0.4,
        "sex": "M",
        "location": "right lateral",
        "partition": "inter",
    }
    file = f"{{data_root}}/test_wav/{name}.wav"
    assert {key: entries[key] for key in entries if key.startswith(name)} == {
        f"{name}_000": {
            "wav": {"file": file, "start": 2736, "stop": 20120},
            "duration": 2.173,
            "label": "normal",
            "type": "Normal",
            **shared,
        },
        f"{name}_001": {
            "wav": {"file": file, "start": 20456, "stop": 30208},
            "duration": 1.219,
            "label": "wheeze",
            "type": "Rhonchi",
            **shared,
        },
    }


def test_summary_counts_and_names_the_protocol(data, output, caplog):
    with caplog.at_level(logging.INFO):
        summary = prepare_sprsound(data, output, train="train")
    counts = dict(normal=1, crackle=2, wheeze=3, both=1)

    def times(n):
        return {label: n * count for label, count in counts.items()}

    held_out = summary["partitions"]["valid"]["patients"]
    assert held_out in (1, 2)  # of 8 in 5 folds
    expected = {"train": 8 - held_out, "valid": held_out, "test": 2}
    assert summary == {
        "database": "SPRSound 2022",
        "recordings": 10,
        "recordings_published": 1949 + 355,
        "subset": "10 of 2304 recordings",
        "split": "official",
        "protocol": "trained on train, tested on inter, 7 types of events as "
        "normal, crackle, wheeze, both, Rhonchi (10) and Stridor (10) merged "
        "into wheeze, validation on fold 0 of 5 of the training patients "
        "(split seed 0)",
        "patients_on_both_sides": [],
        "partitions": {
            name: {
                "recordings": n,
                "patients": n,
                "cycles": 7 * n,
                "counts": times(n),
            }
            for name, n in expected.items()
        },
        "warnings": [],
    }
    assert read(output, "sprsound") == summary
    assert "10 of 2304 recordings" in caplog.text


@pytest.mark.parametrize(
    "test, names, published",
    [
        ("train", NAMES["train"], 1949),
        ("inter+intra", NAMES["inter"] + NAMES["intra"], 355 + 379),
    ],
)
def test_partitions_and_their_unions(data, output, test, names, published):
    """Only the test side is written; a copy of another one stays in it."""
    copy = wav_of(data, "inter", 1).read_bytes()
    wav_of(data, "train", 4).write_bytes(copy)
    summary = prepare_sprsound(data, output, test=test)
    assert {p.name for p in output.iterdir()} == {"test.json", "sprsound.json"}
    assert list(summary["partitions"]) == ["test"]
    assert summary["warnings"] == []
    manifest = read(output, "test")
    assert recordings(manifest) == set(names)
    assert list(manifest) == sorted(manifest)
    assert len(manifest) == 7 * len(names)
    for entry in manifest.values():
        assert entry["recording"] in NAMES[entry["partition"]]
    assert summary["subset"] == f"{len(names)} of {published} recordings"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"test": "outer"}, "name one of train, inter, intra"),
        ({"test": "inter+"}, "name one of train, inter, intra"),
        ({"test": "inter+intra", "train": "train+intra"}, "'intra' occurs"),
        ({"continuous": "keep"}, "'keep', not merge or drop"),
        ({"num_classes": 3}, "num_classes must be 2 or 4"),
    ],
)
def test_other_options_are_refused(data, output, options, message):
    with pytest.raises(ValueError, match=message):
        prepare_sprsound(data, output, **options)


def test_skip_prep_returns_the_earlier_summary(data, output):
    summary = prepare_sprsound(data, output)
    assert prepare_sprsound("absent", output, skip_prep=True) == summary
    with pytest.raises(
        FileNotFoundError, match=r"lacks train.json, valid.json"
    ):
        prepare_sprsound("absent", output, train="train", skip_prep=True)


@pytest.mark.parametrize("prepare", [prepare_sprsound, prepare_recordings])
def test_nothing_is_written_into_the_data_folder(data, prepare):
    before = sorted(data.rglob("*"))
    with pytest.raises(ValueError, match="lies in the data folder"):
        prepare(data, data / "test_wav" / "a")
    assert sorted(data.rglob("*")) == before


def test_generated_recordings_are_not_called_sprsound(data, output):
    """SPRSound's patients have eight digits, others none of its name."""
    for path in (wav_of(data, "inter"), json_of(data, "inter")):
        path.rename(path.with_name(f"9001_5.1_1_p1_1{path.suffix}"))
    summary = prepare_sprsound(data, output)
    assert summary["subset"] is None
    assert summary["database"] == (
        "recordings in SPRSound's layout that are not SPRSound 2022's"
    )


# Audio


def test_recordings_without_sound(data, output):
    """No event of theirs is trained on or tested; experts judge them all."""
    wav = wav_of(data, "inter")
    soundfile.write(wav, np.zeros(7 * RATE), RATE)
    summary = prepare_sprsound(data, output)
    assert str(wav) in the_warning(
        summary["warnings"], "1 recordings without sound"
    )
    assert the_warning(
        summary["warnings"], "7 events left out, their recordings being"
    )
    assert recordings(read(output, "test")) == {NAMES["inter"][1]}
    summary = prepare_recordings(data, output, "inter")
    assert the_warning(summary["warnings"], "1 recordings without sound")
    assert set(read(output, "recordings")) == set(NAMES["inter"])


def test_a_copy_under_another_name_is_left_out_of_training(data, output):
    """Its samples tell, not its bytes: here one is written with 24 bits."""
    samples, _ = soundfile.read(wav_of(data, "inter", 1))
    soundfile.write(wav_of(data, "train", 4), samples, RATE, "PCM_24")
    summary = prepare_sprsound(
        data, output, train="train+intra", valid_fraction=0
    )
    copy, original = NAMES["train"][4], NAMES["inter"][1]
    assert the_warning(
        summary["warnings"], "1 recordings left out of training"
    ).endswith(f"{copy} is {original}")
    trained = {*NAMES["train"], *NAMES["intra"]} - {copy}
    assert recordings(read(output, "train")) == trained
    assert recordings(read(output, "test")) == set(NAMES["inter"])
    # It was found, so the data are complete.
    assert summary["recordings"] == 12
    assert summary["partitions"]["train"]["recordings"] == 9
    assert summary["partitions"]["train"]["patients"] == 7


# Annotations


def test_recordings_without_events_are_counted(data, output):
    json_of(data, "inter", 0).write_text(as_json([], "Poor Quality"))
    json_of(data, "intra", 0).write_text(as_json([], "Normal"))
    summary = prepare_sprsound(data, output, test="inter+intra")
    warning = the_warning(summary["warnings"], "2 recordings hold no event")
    assert "(1 of them marked Poor Quality)" in warning
    test = summary["partitions"]["test"]
    assert (test["recordings"], test["patients"], test["cycles"]) == (4, 4, 14)
    assert len(recordings(read(output, "test"))) == 2
    json_of(data, "intra", 1).write_text(as_json([], "Poor Quality"))
    with pytest.raises(ValueError, match="no event to test on in intra"):
        prepare_sprsound(data, output, test="intra", train="train")


# Labels


@pytest.mark.parametrize(
    "continuous, num_classes, expected",
    [
        ("merge", 4, "normal crackle crackle wheeze wheeze wheeze both"),
        ("drop", 4, "normal crackle crackle wheeze - - both"),
        ("merge", 2, "normal" + 6 * " abnormal"),
        ("drop", 2, "normal abnormal abnormal abnormal - - abnormal"),
    ],
)
def test_seven_types_become_labels(
    data, output, continuous, num_classes, expected
):
    summary = prepare_sprsound(
        data, output, continuous=continuous, num_classes=num_classes
    )
    expected = dict(zip(TYPES, expected.split()))
    expected = {kind: name for kind, name in expected.items() if name != "-"}
    assert labels_by_type(continuous, num_classes) == expected
    entries = read(output, "test").values()
    assert {entry["type"]: entry["label"] for entry in entries} == expected
    test = summary["partitions"]["test"]
    assert test["counts"] == {
        label: 2 * count for label, count in Counter(expected.values()).items()
    }
    assert list(test["counts"]) == list(dict.fromkeys(expected.values()))
    fate = f"merged into {expected.get('Rhonchi')}"
    fate = fate if continuous == "merge" else "dropped"
    assert summary["protocol"].endswith(f"Rhonchi (2) and Stridor (2) {fate}")
    # The index is the annotation's, whatever is dropped.
    last = read(output, "test")[f"{NAMES['inter'][0]}_006"]
    assert last["type"] == "Wheeze+Crackle"


# Validation


def test_recordings_without_events_go_with_their_patient(data, output):
    """They count where the other recordings of the patient are."""
    for index in range(1, 9):
        name = f"4000000{index}_5.{index}_{index % 2}_p2_10{index}"
        write_wav(data / "train_wav" / f"{name}.wav")
        (data / "train_json" / f"{name}.json").write_text(
            as_json([], "Poor Quality")
        )
    summary = prepare_sprsound(data, output, train="train", valid_fraction=0.25)
    counts = summary["partitions"]
    assert counts["valid"]["recordings"] == 2 * counts["valid"]["patients"] == 4
    assert counts["train"]["recordings"] == 2 * counts["train"]["patients"]


# The published counts


@pytest.fixture
def published(monkeypatch):
    """Counts that the generated corpus has."""

    def count(n):
        types = (n,) * 7
        return {"recordings": n, "patients": n, "events": 7 * n, "types": types}

    counts = {name: count(len(NAMES[name])) for name in NAMES}
    monkeypatch.setattr(sprsound_prepare, "PUBLISHED", counts)
    return counts


def test_strict_accepts_the_published_counts(data, output, published):
    summary = prepare_sprsound(
        data, output, test="inter+intra", train="train", strict=True
    )
    assert summary["subset"] is None
    # Neither a mapping nor a copy changes what was published.
    wav_of(data, "train", 4).write_bytes(wav_of(data, "inter", 1).read_bytes())
    prepare_sprsound(
        data, output, train="train", continuous="drop", strict=True
    )


def test_strict_compares_every_count(data, output, published):
    published["intra"] = {
        "recordings": 3,
        "patients": 1,
        "events": 13,
        "types": (2, 2, 2, 2, 2, 1, 3),
    }
    prepare_sprsound(data, output, test="inter", strict=True)
    with pytest.raises(ValueError, match="not the published SPRSound") as error:
        prepare_sprsound(data, output, test="inter+intra", strict=True)
    for fact, value in published["intra"].items():
        assert f"intra {fact}: expected {value}, found" in str(error.value)


# Whole recordings


def test_recordings_are_listed_as_a_whole(data, output):
    json_of(data, "intra", 0).write_text(as_json([], "Poor Quality"))
    json_of(data, "intra", 1).write_text('{"event_annotation": []}')
    summary = prepare_recordings(data, output, "intra+inter")
    assert os.listdir(output) == ["recordings.json"]
    first, second = NAMES["intra"]
    entries = read(output, "recordings")
    assert list(entries) == [first, second, *NAMES["inter"]]
    assert entries[first] == {
        "wav": {
            "file": f"{{data_root}}/test_wav/{first}.wav",
            "start": 0,
            "stop": 56000,
        },
        "sample_rate": 8000,
        "duration": 7.0,
        "patient": "40000001",
        "recording": first,
        "device": None,
        "age": 5.1,
        "sex": "F",
        "location": "left lateral",
        "partition": "intra",
        "annotation": "Poor Quality",
    }
    assert entries[second]["annotation"] is None
    assert second in the_warning(summary["warnings"], "1 recordings lack")
    assert summary["subset"] == f"4 of {379 + 355} recordings"
    none = dict.fromkeys(("Normal", "CAS", "DAS", "CAS & DAS"), 0)
    assert summary["partitions"] == {
        "intra": {
            "recordings": 2,
            "patients": 2,
            "counts": {**none, "Poor Quality": 1},
        },
        "inter": {
            "recordings": 2,
            "patients": 2,
            "counts": {**none, "Normal": 2, "Poor Quality": 0},
        },
    }
