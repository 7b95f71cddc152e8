"""Tests of finding SPRSound's files and reading them; no audio is opened.

Authors
 * qlung_plugin contributors
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.dataio.sprsound import (
    parse_recording_name,
    read_annotation,
    read_corpus,
)
from tests.unittests.dataio.icbhi_files import the_warning
from tests.unittests.dataio.sprsound_files import (
    LAYOUTS,
    NAMES,
    TYPES,
    as_json,
    json_of,
    wav_of,
    write_corpus,
)


@pytest.fixture
def data(tmp_path):
    """A corpus in the layout of 2022."""
    write_corpus(tmp_path / "data", Path.touch)
    return tmp_path / "data"


def names(recordings):
    return [recording["recording"] for recording in recordings]


# Layouts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "root, wav, text", [(".", ".wav", ".json"), ("SPRSound", ".WAV", ".JSON")]
)
def test_every_layout_is_found(tmp_path, layout, root, wav, text):
    """Named is the folder itself, or one that holds it unpacked in another."""
    data = tmp_path / "data"
    place = data / root
    write_corpus(place, Path.touch, layout, wav, text)
    recordings, warnings = read_corpus(data, NAMES)
    assert names(recordings) == sorted(sum(NAMES.values(), []))
    assert warnings == []
    for recording in recordings:
        name, partition = recording["recording"], recording["partition"]
        folder = place / LAYOUTS[layout][partition][0]
        assert recording["wav"] == folder.resolve() / f"{name}{wav}"
        assert [event["type"] for event in recording["events"]] == [*TYPES]


def test_a_missing_partition_names_the_layouts(data):
    for path in (data / "test_json" / "inter_test_json").iterdir():
        path.unlink()
    (data / "test_json" / "inter_test_json").rmdir()
    message = f"{data} holds no partition 'inter'.*found: train, intra"
    with pytest.raises(FileNotFoundError, match=message) as error:
        read_corpus(data, ["intra", "inter"])
    assert "test2022_json/inter_test_json" in str(error.value)
    assert names(read_corpus(data, ["intra"])[0]) == NAMES["intra"]
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        read_corpus(data / "absent", ["intra"])


def test_annotations_without_audio_are_an_error(data):
    for name in NAMES["inter"]:
        (data / "test_wav" / f"{name}.wav").unlink()
    with pytest.raises(ValueError, match="inter_test_json: no recording has"):
        read_corpus(data, ["inter", "intra"])
    (data / "test_wav").rename(data / "wav")
    with pytest.raises(FileNotFoundError, match=f"no {data}/test_wav"):
        read_corpus(data, ["inter"])


def test_a_second_copy_is_ignored_and_reported(data):
    write_corpus(data / "copy", Path.touch)
    recordings, warnings = read_corpus(data, ["inter"])
    assert names(recordings) == NAMES["inter"]
    assert str(data / "copy") in the_warning(warnings, "repeats")
    json_of(data / "copy", "inter").unlink()
    with pytest.raises(ValueError, match="not the same ones") as error:
        read_corpus(data, ["inter"])
    assert str(data / "copy") in str(error.value)


# Names


def test_a_recording_name_says_patient_and_place():
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
        "40000001_5.1_2_p1_7",
        "40000001_5.1_1_p9_7",
        "40000001_x_1_p1_7",
        "40000001_5.1_1_p1_7.wav",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is not <patient>_<age>"):
        parse_recording_name(name)


def test_files_with_other_names_are_reported(data):
    (data / "test_wav" / "cough.wav").touch()
    (json_of(data, "inter").parent / "cough.json").write_text("{}")
    (json_of(data, "inter").parent / "._hidden.json").write_text("")
    (data / "test_wav" / "README.md").write_text("no audio")
    recordings, warnings = read_corpus(data, ["inter"])
    assert "cough.wav" in the_warning(warnings, "1 wav files not named like")
    assert "cough.json" in the_warning(warnings, "1 json files not named like")
    assert len(warnings) == len(recordings) == 2


def test_a_name_in_two_partitions_is_an_error(data):
    json_of(data, "intra").rename(
        json_of(data, "intra").with_name(f"{NAMES['inter'][0]}.json")
    )
    with pytest.raises(ValueError, match=f"'{NAMES['inter'][0]}' occurs twice"):
        read_corpus(data, ["inter", "intra"])


@pytest.mark.parametrize(
    "path, problem",
    [
        (json_of, "1 recordings without annotation"),
        (wav_of, "1 annotations without recording"),
    ],
)
def test_a_missing_half_is_reported(data, path, problem):
    """Not so the audio of the other test partition in the same folder."""
    assert read_corpus(data, ["inter"])[1] == []
    path(data, "inter").unlink()
    recordings, warnings = read_corpus(data, ["inter"])
    assert NAMES["inter"][0] in the_warning(warnings, problem)
    assert names(recordings) == NAMES["inter"][1:]
    with pytest.raises(ValueError, match=problem):
        read_corpus(data, ["inter"], strict=True)


# Annotations


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.json"


def test_numbers_and_the_documented_key_are_read_too(path):
    path.write_text(
        '{"recording_annotation": "CAS & DAS", "event_annotation": '
        '[{"start": 342, "end": 2515.5, "type": "Wheeze+Crackle"}]}'
    )
    annotation, (event,) = read_annotation(path)
    assert annotation == "CAS & DAS"
    assert (event["start"], event["end"]) == (0.342, 2.5155)
    assert event["type"] == "Wheeze+Crackle"


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"event_annotation": [}', "column 23"),
        ('{"event_annotation": [], "event_annotation": []}', "there twice"),
        ("[]", "holds no list 'event_annotation'"),
        ('{"event_annotation": {}}', "holds no list 'event_annotation'"),
        (as_json([], "poor quality"), "annotation is 'poor quality', not one"),
    ],
)
def test_a_malformed_annotation_is_named(path, content, message):
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^{path}.*{message}"):
        read_annotation(path)


@pytest.mark.parametrize(
    "event",
    [
        "x",
        {"start": "0", "end": "900"},
        {"start": "x", "end": "900", "type": "Normal"},
        {"start": "0", "end": None, "type": "Normal"},
        {"start": True, "end": "900", "type": "Normal"},
        {"start": "0", "end": "900", "type": "wheeze"},
        {"start": "0", "end": "900", "type": ["Normal"]},
    ],
)
def test_a_malformed_event_is_named(path, event):
    good = {"start": 0, "end": 1, "type": "Normal"}
    path.write_text(json.dumps({"event_annotation": [good, event]}))
    with pytest.raises(ValueError, match=rf"^{path}: event_annotation\[1\]: "):
        read_annotation(path)


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


@settings(max_examples=100, deadline=None)
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
