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
from hypothesis import given, settings
from hypothesis import strategies as st

from qlung_plugin.dataio.sprsound import parse_recording_name, read_annotation
from recipes.SPRSound import sprsound_prepare
from recipes.SPRSound.sprsound_prepare import (
    labels_by_type,
    prepare_recordings,
    prepare_sprsound,
)

RATE = 8000
TYPES = (
    "Normal",
    "Fine Crackle",
    "Coarse Crackle",
    "Wheeze",
    "Rhonchi",
    "Stridor",
    "Wheeze+Crackle",
)
# Folders of audio and annotations in the three published layouts, written out,
# and in the one between the last two.
LAYOUTS = {
    "2022": {
        "train": ("train_wav", "train_json"),
        "inter": ("test_wav", "test_json/inter_test_json"),
        "intra": ("test_wav", "test_json/intra_test_json"),
    },
    "later": {
        "train": (
            "Classification/train_classification_wav",
            "Classification/train_classification_json",
        ),
        "inter": (
            "Classification/valid_classification_wav/2022",
            "Classification/valid_classification_json/2022/inter_test_json",
        ),
        "intra": (
            "Classification/valid_classification_wav/2022",
            "Classification/valid_classification_json/2022/intra_test_json",
        ),
    },
    "between": {
        "train": (
            "Classification/train_classification_wav",
            "Classification/train_classification_json",
        ),
        "inter": (
            "Classification/test_classification_wav/2022",
            "Classification/test_classification_json/2022/inter_test_json",
        ),
        "intra": (
            "Classification/test_classification_wav/2022",
            "Classification/test_classification_json/2022/intra_test_json",
        ),
    },
    "newest": {
        "train": ("BioCAS2022/train2022_wav", "BioCAS2022/train2022_json"),
        "inter": (
            "BioCAS2022/test2022_wav",
            "BioCAS2022/test2022_json/inter_test_json",
        ),
        "intra": (
            "BioCAS2022/test2022_wav",
            "BioCAS2022/test2022_json/intra_test_json",
        ),
    },
}

# Eight patients in train, two of them in intra, two others in inter.
NAMES = {
    "train": [f"4000000{i}_5.{i}_{i % 2}_p1_{i}" for i in range(1, 9)],
    "intra": ["40000001_5.1_1_p2_11", "40000002_5.2_0_p3_12"],
    "inter": ["65000001_0.4_0_p4_21", "65000002_16.2_1_p4_22"],
}
EVERY = [(1000 * i, 1000 * i + 900, kind) for i, kind in enumerate(TYPES)]


def write_wav(path, seconds=7.0, channels=1, **options):
    """Noise that no other file holds."""
    rng = np.random.default_rng(list(path.stem.encode()))
    samples = rng.uniform(-0.5, 0.5, (int(seconds * RATE), channels))
    options = {"format": "WAV", "subtype": "PCM_16", **options}
    soundfile.write(path, samples, RATE, **options)


def as_json(events, annotation="Normal"):
    events = [
        {"start": str(start), "end": str(end), "type": kind}
        for start, end, kind in events
    ]
    content = {"record_annotation": annotation, "event_annotation": events}
    return json.dumps(content)


def write_corpus(data, layout="2022", wav=".wav", text=".json"):
    for partition, (audio, annotations) in LAYOUTS[layout].items():
        (data / audio).mkdir(parents=True, exist_ok=True)
        (data / annotations).mkdir(parents=True)
        for name in NAMES[partition]:
            write_wav(data / audio / f"{name}{wav}")
            (data / annotations / f"{name}{text}").write_text(as_json(EVERY))


@pytest.fixture
def data(tmp_path):
    """A corpus in the layout of 2022, all types in every recording."""
    write_corpus(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results"


def json_of(data, partition, index=0, layout="2022"):
    folder = data / LAYOUTS[layout][partition][1]
    return folder / f"{NAMES[partition][index]}.json"


def wav_of(data, partition, index=0, layout="2022"):
    folder = data / LAYOUTS[layout][partition][0]
    return folder / f"{NAMES[partition][index]}.wav"


def read(output, name):
    return json.loads((output / f"{name}.json").read_text())


def recordings(manifest):
    return {entry["recording"] for entry in manifest.values()}


def patients(manifest):
    return {entry["patient"] for entry in manifest.values()}


def the_warning(summary, words):
    """The only warning with these words."""
    (warning,) = [w for w in summary["warnings"] if words in w]
    return warning


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


def test_without_train_only_the_test_side_is_written(data, output):
    summary = prepare_sprsound(data, output)
    assert {p.name for p in output.iterdir()} == {"test.json", "sprsound.json"}
    assert list(summary["partitions"]) == ["test"]
    assert summary["subset"] == "2 of 355 recordings"
    assert summary["protocol"].startswith("tested on inter, 7 types")


@pytest.mark.parametrize(
    "test, names",
    [
        ("inter", NAMES["inter"]),
        ("intra", NAMES["intra"]),
        ("train", NAMES["train"]),
        ("inter+intra", NAMES["inter"] + NAMES["intra"]),
        ("train+intra+inter", sum(NAMES.values(), [])),
    ],
)
def test_partitions_and_their_unions(data, output, test, names):
    summary = prepare_sprsound(data, output, test=test)
    manifest = read(output, "test")
    assert recordings(manifest) == set(names)
    assert list(manifest) == sorted(manifest)
    assert len(manifest) == 7 * len(names)
    for entry in manifest.values():
        assert entry["recording"] in NAMES[entry["partition"]]
    published = {"train": 1949, "inter": 355, "intra": 379}
    total = sum(published[name] for name in test.split("+"))
    assert summary["subset"] == f"{len(names)} of {total} recordings"


def test_training_on_a_union(data, output):
    prepare_sprsound(
        data, output, test="inter", train="train+intra", valid_fraction=0
    )
    expected = set(NAMES["train"] + NAMES["intra"])
    assert recordings(read(output, "train")) == expected
    assert read(output, "valid") == {}


@pytest.mark.parametrize(
    "test", ["outer", "", "inter+", "Inter", "inter intra"]
)
def test_an_unknown_partition_is_refused(data, output, test):
    with pytest.raises(ValueError, match="name one of train, inter, intra"):
        prepare_sprsound(data, output, test=test)
    with pytest.raises(ValueError, match="name one of train, inter, intra"):
        prepare_recordings(data, output, partition=test)


def test_a_partition_on_both_sides_is_refused(data, output):
    with pytest.raises(ValueError, match="'intra' occurs twice"):
        prepare_sprsound(data, output, test="inter+intra", train="train+intra")


def test_skip_prep_returns_the_earlier_summary(data, output):
    summary = prepare_sprsound(data, output)
    assert prepare_sprsound("absent", output, skip_prep=True) == summary
    with pytest.raises(
        FileNotFoundError, match=r"lacks train.json, valid.json"
    ):
        prepare_sprsound("absent", output, train="train", skip_prep=True)


@pytest.mark.parametrize("below", ["", "manifests", "test_wav/a"])
@pytest.mark.parametrize("prepare", [prepare_sprsound, prepare_recordings])
def test_nothing_is_written_into_the_data_folder(data, prepare, below):
    before = sorted(data.rglob("*"))
    with pytest.raises(ValueError, match="lies in the data folder"):
        prepare(data, data / below)
    assert sorted(data.rglob("*")) == before


def test_the_order_of_the_file_system_does_not_matter(
    data, output, monkeypatch
):
    results = []
    glob = type(data).glob
    for reverse in (False, True):

        def glob_in_order(path, pattern, reverse=reverse):
            return sorted(glob(path, pattern), reverse=reverse)

        monkeypatch.setattr(type(data), "glob", glob_in_order)
        summary = prepare_sprsound(data, output, train="train")
        manifests = [read(output, name) for name in ("train", "valid", "test")]
        results.append((summary, manifests))
    assert results[0] == results[1]


# Layouts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("root", ["data", "SPRSound-main", "."])
@pytest.mark.parametrize("wav, text", [(".wav", ".json"), (".WAV", ".JSON")])
def test_every_layout_is_found(tmp_path, output, layout, root, wav, text):
    """Named is the folder itself, or one that holds it unpacked in another."""
    data = tmp_path / "data"
    write_corpus(data if root == "data" else data / root, layout, wav, text)
    summary = prepare_sprsound(data, output, test="inter+intra", train="train")
    assert summary["recordings"] == 12
    assert summary["warnings"] == []
    for name in ("train", "valid", "test"):
        for entry in read(output, name).values():
            file = entry["wav"]["file"].format(data_root=data)
            assert soundfile.info(file).frames == 7 * RATE


@pytest.mark.parametrize("layout", ["later", "between", "newest"])
def test_the_release_itself_may_be_named(tmp_path, output, layout):
    write_corpus(tmp_path, layout)
    (release,) = [path for path in tmp_path.iterdir() if path != output]
    assert prepare_sprsound(release, output)["recordings"] == 2


def test_a_missing_partition_tells_the_layouts(data, output):
    for path in (data / "test_json" / "inter_test_json").iterdir():
        path.unlink()
    (data / "test_json" / "inter_test_json").rmdir()
    with pytest.raises(
        FileNotFoundError, match="no partition 'inter'"
    ) as error:
        prepare_sprsound(data, output, test="intra+inter")
    assert str(data) in str(error.value)
    assert "(found: train, intra)" in str(error.value)
    for _, annotations in (LAYOUTS[name]["inter"] for name in LAYOUTS):
        # Within the release's folder.
        expected = annotations.split("Classification/")[-1]
        assert expected.split("BioCAS2022/")[-1] in str(error.value)
    assert not output.exists()
    assert prepare_sprsound(data, output, test="intra")["recordings"] == 2


def test_a_missing_data_folder_is_named(tmp_path, output):
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        prepare_sprsound(tmp_path / "absent", output)


def test_annotations_without_a_folder_of_audio_are_named(data, output):
    (data / "test_wav").rename(data / "wav")
    with pytest.raises(FileNotFoundError, match=f"no {data}/test_wav"):
        prepare_sprsound(data, output)


def test_a_partition_without_any_recording_is_an_error(data, output):
    for name in NAMES["inter"]:
        (data / "test_wav" / f"{name}.wav").unlink()
    with pytest.raises(ValueError, match="inter_test_json: no recording has"):
        prepare_sprsound(data, output, test="inter+intra")


def test_a_second_copy_is_ignored_and_reported(data, output):
    write_corpus(data / "copy")
    summary = prepare_sprsound(data, output)
    assert summary["recordings"] == 2
    assert str(data / "copy") in the_warning(summary, "repeats")


def test_two_different_copies_are_an_error(data, output):
    write_corpus(data, "newest")
    json_of(data, "inter", layout="newest").unlink()
    with pytest.raises(ValueError, match="not the same ones") as error:
        prepare_sprsound(data, output)
    assert str(data / "BioCAS2022") in str(error.value)


# Names


def test_a_recording_name_tells_patient_and_place():
    assert parse_recording_name("00016281_13.4_1_p3_11865") == {
        "patient": "00016281",
        "age": 13.4,
        "sex": "F",
        "location": "right posterior",
    }
    places = [
        parse_recording_name(f"40000001_5_0_p{i}_1")["location"]
        for i in range(1, 9)
    ]
    assert places == [
        "left posterior",
        "left lateral",
        "right posterior",
        "right lateral",
        *("p5", "p6", "p7", "p8"),  # undocumented
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "40000001_5.1_1_p1",
        "40000001_5.1_2_p1_7",
        "40000001_5.1_1_p9_7",
        "40000001_x_1_p1_7",
        "40000001_5.1_1_p1_7.wav",
        "101_1b1_Al_sc_Meditron",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is not <patient>_<age>"):
        parse_recording_name(name)


def test_files_with_other_names_are_reported(data, output):
    write_wav(data / "test_wav" / "cough.wav")
    (json_of(data, "inter").parent / "cough.json").write_text("{}")
    (json_of(data, "inter").parent / "._hidden.json").write_text("")
    (data / "test_wav" / "README.md").write_text("no audio")
    summary = prepare_sprsound(data, output)
    assert "cough.wav" in the_warning(summary, "1 wav files not named like")
    assert "cough.json" in the_warning(summary, "1 json files not named like")
    assert len(summary["warnings"]) == 2 and summary["recordings"] == 2


def test_a_name_in_two_partitions_is_an_error(data, output):
    json_of(data, "intra").rename(
        json_of(data, "intra").with_name(f"{NAMES['inter'][0]}.json")
    )
    with pytest.raises(ValueError, match=f"'{NAMES['inter'][0]}' occurs twice"):
        prepare_sprsound(data, output, test="inter+intra")


def test_generated_recordings_are_not_called_sprsound(data, output):
    """SPRSound's patients have eight digits, others none of its name."""
    for path in (wav_of(data, "inter"), json_of(data, "inter")):
        path.rename(path.with_name(f"9001_5.1_1_p1_1{path.suffix}"))
    for summary in (
        prepare_sprsound(data, output),
        prepare_recordings(data, output, "inter"),
    ):
        assert summary["subset"] is None
        assert summary["database"] == (
            "recordings in SPRSound's layout that are not SPRSound 2022's"
        )
    assert prepare_sprsound(data, output, "intra")["database"] == (
        "SPRSound 2022"
    )


# Audio


@pytest.mark.parametrize(
    "path, problem",
    [
        (json_of, "1 recordings without annotation"),
        (wav_of, "1 annotations without recording"),
    ],
)
def test_a_missing_half_is_reported(data, output, path, problem):
    path(data, "inter").unlink()
    summary = prepare_sprsound(data, output)
    assert NAMES["inter"][0] in the_warning(summary, problem)
    assert summary["recordings"] == 1
    with pytest.raises(ValueError, match=problem):
        prepare_sprsound(data, output, strict=True)


def test_audio_of_the_other_test_partition_lacks_nothing(data, output):
    """Both test partitions share a folder of audio."""
    assert prepare_sprsound(data, output)["warnings"] == []


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
@pytest.mark.parametrize("prepare", [prepare_sprsound, prepare_recordings])
def test_an_unreadable_wav_is_named(data, output, content, prepare):
    wav = wav_of(data, "train")
    wav.write_bytes(content)
    with pytest.raises(ValueError, match=f"{wav} is not readable as audio"):
        prepare(data, output, "train")


def test_a_stereo_and_an_empty_wav_are_named(data, output):
    wav = wav_of(data, "inter")
    write_wav(wav, channels=2)
    with pytest.raises(ValueError, match=f"{wav}: 2 channels, mix down"):
        prepare_sprsound(data, output)
    write_wav(wav, seconds=0)
    with pytest.raises(ValueError, match=f"{wav} holds no sample"):
        prepare_sprsound(data, output)


def test_recordings_without_sound(data, output):
    """No event of theirs is trained on or tested; experts judge them all."""
    wav = wav_of(data, "inter")
    soundfile.write(wav, np.zeros(7 * RATE), RATE)
    summary = prepare_sprsound(data, output)
    assert str(wav) in the_warning(summary, "1 recordings without sound")
    assert the_warning(summary, "7 events left out, their recordings being")
    assert recordings(read(output, "test")) == {NAMES["inter"][1]}
    summary = prepare_recordings(data, output, "inter")
    assert the_warning(summary, "1 recordings without sound")
    assert set(read(output, "recordings")) == set(NAMES["inter"])


def test_a_copy_under_another_name_is_left_out_of_training(data, output):
    """Its samples tell, not its bytes: here one is written with 24 bits."""
    samples, _ = soundfile.read(wav_of(data, "inter", 1))
    soundfile.write(wav_of(data, "train", 4), samples, RATE, "PCM_24")
    summary = prepare_sprsound(data, output, train="train", valid_fraction=0)
    copy, original = NAMES["train"][4], NAMES["inter"][1]
    assert the_warning(summary, "1 recordings left out of training").endswith(
        f"{copy} is {original}"
    )
    assert recordings(read(output, "train")) == {*NAMES["train"]} - {copy}
    assert recordings(read(output, "test")) == set(NAMES["inter"])
    # It was found, so the data are complete.
    assert summary["recordings"] == 10
    assert summary["partitions"]["train"]["recordings"] == 7
    assert summary["partitions"]["train"]["patients"] == 7


def test_a_copy_stays_where_it_is_not_trained_on(data, output):
    wav_of(data, "train", 4).write_bytes(wav_of(data, "inter", 1).read_bytes())
    for test in ("train", "train+inter"):
        summary = prepare_sprsound(data, output, test=test)
        assert summary["warnings"] == []
        assert NAMES["train"][4] in recordings(read(output, "test"))


# Annotations


def test_numbers_and_the_documented_key_are_read_too(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        '{"recording_annotation": "CAS & DAS", "event_annotation": '
        '[{"start": 342, "end": 2515.5, "type": "Wheeze+Crackle"}]}'
    )
    annotation, (event,) = read_annotation(path)
    assert annotation == "CAS & DAS"
    assert (event["start"], event["end"]) == (0.342, 2.5155)
    assert event["type"] == "Wheeze+Crackle"


@pytest.mark.parametrize(
    "content, position",
    [
        ("", "char 0"),
        ('{"event_annotation": [}', "column 23"),
        ('{"event_annotation": []', "char 23"),
        ('{\n "event_annotation": [], }', "line 2"),
        ("\xff", "position 0"),
        ('{"event_annotation": [], "event_annotation": []}', "there twice"),
        ('{"event_annotation": [NaN]}', "NaN is no finite number"),
    ],
)
def test_broken_json_is_named_with_its_position(
    data, output, content, position
):
    path = json_of(data, "inter")
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=f"{path} is no ") as error:
        prepare_sprsound(data, output)
    assert position in str(error.value)


@pytest.mark.parametrize(
    "content", ["[]", "null", "{}", '{"event_annotation": {}}']
)
def test_json_of_another_kind_is_named(data, output, content):
    path = json_of(data, "inter")
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^{path}: holds no list 'event_"):
        prepare_sprsound(data, output)


def test_an_annotation_that_is_no_file_is_named(data, output):
    path = json_of(data, "inter")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path} is no ordinary file"):
        prepare_sprsound(data, output)


@pytest.mark.parametrize("kind", ["wheeze", "No Event", "", None, ["Normal"]])
def test_an_unknown_type_is_named_with_its_file(data, output, kind):
    path = json_of(data, "inter")
    path.write_text(as_json([(0, 900, "Normal"), (1000, 1900, kind)]))
    with pytest.raises(ValueError, match="type is") as error:
        prepare_sprsound(data, output)
    assert f"{path}: event_annotation[1]: type is '{kind}'" in str(error.value)
    assert "Wheeze+Crackle" in str(error.value)


def test_an_unknown_annotation_is_named_with_its_file(data, output):
    path = json_of(data, "train")
    path.write_text(as_json([], "poor quality"))
    with pytest.raises(ValueError, match=f"^{path}: .*'poor quality', not one"):
        prepare_recordings(data, output)


@pytest.mark.parametrize(
    "event",
    [
        "x",
        {},
        {"start": "0", "end": "900"},
        {"start": "x", "end": "900", "type": "Normal"},
        {"start": "-1", "end": "900", "type": "Normal"},
        {"start": "0", "end": "nan", "type": "Normal"},
        {"start": "0", "end": None, "type": "Normal"},
        {"start": "0", "end": "1_000", "type": "Normal"},
        {"start": "0", "end": "\uff19", "type": "Normal"},
        {"start": True, "end": "900", "type": "Normal"},
        {"start": ["0"], "end": "900", "type": "Normal"},
    ],
)
def test_a_malformed_event_is_named(data, output, event):
    path = json_of(data, "inter")
    path.write_text(json.dumps({"event_annotation": [event]}))
    with pytest.raises(ValueError) as error:
        prepare_sprsound(data, output)
    assert str(error.value).startswith(f"{path}: event_annotation[0]: ")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=5)
    # Values that occur, lest nothing be read.
    | st.sampled_from(["0", "900", "Normal", "Wheeze", "Poor Quality"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["start", "end", "type", "event_annotation", "record_annotation"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_json_is_read_or_refused_by_name(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(content))
    try:
        annotation, events = read_annotation(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert annotation in (None, "Normal", "Poor Quality")
        for event in events:
            assert event["type"] in TYPES
            assert 0 <= event["start"] < np.inf and 0 <= event["end"] < np.inf


def test_recordings_without_events_are_counted(data, output):
    json_of(data, "inter", 0).write_text(as_json([], "Poor Quality"))
    json_of(data, "intra", 0).write_text(as_json([], "Normal"))
    summary = prepare_sprsound(data, output, test="inter+intra")
    warning = the_warning(summary, "2 recordings hold no event")
    assert "(1 of them marked Poor Quality)" in warning
    test = summary["partitions"]["test"]
    assert (test["recordings"], test["patients"], test["cycles"]) == (4, 4, 14)
    assert summary["recordings"] == 4
    assert len(recordings(read(output, "test"))) == 2


def test_no_event_at_all_is_an_error(data, output):
    for index in (0, 1):
        json_of(data, "inter", index).write_text(as_json([], "Poor Quality"))
    with pytest.raises(ValueError, match="no event to test on in inter"):
        prepare_sprsound(data, output, train="train")


def test_an_event_past_the_end_is_clipped_and_reported(data, output):
    json_of(data, "inter", 0).write_text(as_json([(5000, 7123.4, "Wheeze")]))
    summary = prepare_sprsound(data, output)
    warning = the_warning(summary, "clipped")
    assert warning.startswith("1 events") and "123.4 ms" in warning
    assert str(json_of(data, "inter")) in warning
    entry = read(output, "test")[f"{NAMES['inter'][0]}_000"]
    assert entry["wav"]["stop"] == 7 * RATE and entry["duration"] == 2.0


def test_events_without_length_are_left_out_and_reported(data, output):
    events = [
        (0, 900, "Normal"),
        (1000, 1000, "Normal"),
        (2000, 1000, "Wheeze"),
        (7000, 8000, "Normal"),  # starts at the end
        (1000, 2000, "Fine Crackle"),
    ]
    json_of(data, "inter", 0).write_text(as_json(events))
    summary = prepare_sprsound(data, output)
    warning = the_warning(summary, "left out")
    assert warning.startswith("3 events")
    assert f"{json_of(data, 'inter')}: event_annotation[1]" in warning
    name = NAMES["inter"][0]
    ids = [key for key in read(output, "test") if key.startswith(name)]
    # The index is the annotation's, so an id never changes its event.
    assert ids == [f"{name}_000", f"{name}_004"]


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
    order = ["normal", "crackle", "wheeze", "both"]
    assert list(test["counts"]) == (
        order if num_classes == 4 else ["normal", "abnormal"]
    )
    fate = {
        "drop": "dropped",
        "merge": f"merged into {expected.get('Rhonchi')}",
    }
    assert summary["protocol"].endswith(
        f"Rhonchi (2) and Stridor (2) {fate[continuous]}"
    )


def test_the_index_does_not_depend_on_what_is_dropped(data, output):
    prepare_sprsound(data, output, continuous="drop")
    name = NAMES["inter"][0]
    assert read(output, "test")[f"{name}_006"]["type"] == "Wheeze+Crackle"


def test_other_mappings_are_refused(data, output):
    with pytest.raises(ValueError, match="'keep', not merge or drop"):
        prepare_sprsound(data, output, continuous="keep")
    with pytest.raises(ValueError, match="num_classes is 3, not 4 or 2"):
        prepare_sprsound(data, output, num_classes=3)


# Validation


def test_the_validation_folds_cover_the_training_patients_once(data, output):
    held_out = Counter()
    for fold in range(4):
        summary = prepare_sprsound(
            data, output, train="train", valid_fraction=0.25, valid_fold=fold
        )
        assert f"fold {fold} of 4" in summary["protocol"]
        valid = patients(read(output, "valid"))
        assert not valid & patients(read(output, "train"))
        assert not valid & patients(read(output, "test"))
        held_out.update(valid)
    assert held_out == Counter(f"4000000{i}" for i in range(1, 9))


def test_patients_who_are_tested_on_are_never_held_out(data, output):
    for fold in range(3):
        summary = prepare_sprsound(
            data,
            output,
            test="intra",
            train="train",
            valid_fraction=1 / 3,
            valid_fold=fold,
        )
        valid = patients(read(output, "valid"))
        assert valid and not valid & {"40000001", "40000002"}
        both = ["40000001", "40000002"]
        assert summary["patients_on_both_sides"] == both


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


def test_a_fold_or_fraction_out_of_range_is_refused(data, output):
    with pytest.raises(ValueError, match="valid_fold is 5, not one of"):
        prepare_sprsound(data, output, train="train", valid_fold=5)
    with pytest.raises(ValueError, match="valid_fraction is 0.6"):
        prepare_sprsound(data, output, train="train", valid_fraction=0.6)


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


@pytest.mark.parametrize(
    "fact, value",
    [
        ("recordings", 3),
        ("patients", 1),
        ("events", 13),
        ("types", (2, 2, 2, 2, 2, 1, 3)),
    ],
)
def test_strict_compares_every_count(data, output, published, fact, value):
    found = published["intra"][fact]
    published["intra"][fact] = value
    prepare_sprsound(data, output, test="inter", strict=True)
    with pytest.raises(ValueError, match="not the published SPRSound") as error:
        prepare_sprsound(data, output, test="inter+intra", strict=True)
    assert str(error.value).endswith(
        f"SPRSound: intra {fact}: expected {value}, found {found}"
    )


def test_the_counts_are_those_of_the_publication():
    assert {
        name: (c["recordings"], c["patients"], c["events"], c["types"])
        for name, c in sprsound_prepare.PUBLISHED.items()
    } == {
        "train": (1949, 251, 6656, (5159, 912, 49, 452, 39, 15, 30)),
        "inter": (355, 41, 1429, (1040, 80, 3, 305, 0, 0, 1)),
        "intra": (379, 162, 1004, (688, 175, 14, 108, 14, 2, 3)),
    }
    assert tuple(labels_by_type()) == TYPES


# Whole recordings


def test_recordings_are_listed_as_a_whole(data, output):
    json_of(data, "intra", 0).write_text(as_json([], "Poor Quality"))
    summary = prepare_recordings(data, output, "intra")
    assert os.listdir(output) == ["recordings.json"]
    first, second = NAMES["intra"]
    entries = read(output, "recordings")
    assert list(entries) == [first, second]
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
    assert entries[second]["annotation"] == "Normal"
    assert summary["subset"] == "2 of 379 recordings"
    counts = summary["partitions"]["intra"]
    assert counts["recordings"] == counts["patients"] == 2
    assert counts["counts"] == {
        "Normal": 1,
        "CAS": 0,
        "DAS": 0,
        "CAS & DAS": 0,
        "Poor Quality": 1,
    }


def test_recordings_of_several_partitions_and_without_annotation(data, output):
    json_of(data, "inter", 1).write_text('{"event_annotation": []}')
    summary = prepare_recordings(data, output, "inter+train")
    assert "1 recordings lack" in the_warning(summary, NAMES["inter"][1])
    entries = read(output, "recordings")
    assert list(entries) == sorted(NAMES["inter"] + NAMES["train"])
    assert entries[NAMES["inter"][1]]["annotation"] is None
    assert sum(summary["partitions"]["inter"]["counts"].values()) == 1
    assert summary["partitions"]["train"]["counts"]["Normal"] == 8
