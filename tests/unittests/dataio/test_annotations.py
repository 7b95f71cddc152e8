"""Tests of telling annotations from what else lies beside a recording.

Authors
 * qlung_plugin contributors
"""

import csv
import json
import logging
import os

import pandas as pd
import pytest

from qlung_plugin.cli.classify import WRITERS
from qlung_plugin.dataio.annotations import ANNOTATIONS
from qlung_plugin.dataio.cycle_sources import find_cycles
from qlung_plugin.inference.classification import Classification
from qlung_plugin.inference.quality import COLUMNS
from tests.unittests.dataio.test_cycle_sources import (
    ICBHI,
    TIMES,
    make_recording,
    sprsound,
)


@pytest.fixture
def recording(tmp_path):
    return make_recording(tmp_path, "breath.wav")


def printed(file, form):
    """Writes what ``qlung classify --format`` prints."""
    row = {"start": 0.0, "end": 2.0, "prediction": "normal", "p_normal": 1.0}
    summary = {
        "recording": "breath.wav",
        "cycle_count": 1,
        "abnormal_fraction": 0.0,
        "worst_quality": 0.5,
        "unusable_count": 0,
        "uncertain_count": 0,
        "cycle_source": "segmentation",
        "confidence": 0.5,
        "truncated": False,
        "operating_point": None,
    }
    table = pd.DataFrame([{**row, "quality": 0.5}])
    with open(file, "w") as stream:
        WRITERS[form](stream)("breath.wav", Classification(table, summary))


def test_what_qlung_printed_is_no_annotation(recording, caplog):
    """As of ``qlung classify breath.wav --format csv > breath.csv``."""
    expected = find_cycles(recording)
    assert expected.source == "segmentation"
    for form, suffix in (("csv", ".csv"), ("json", ".json"), ("table", ".txt")):
        path = recording.path.with_suffix(suffix)
        path.touch()  # as the shell does before anything is printed
        assert find_cycles(recording) == expected
        printed(path, form)
        assert find_cycles(recording) == expected
    with open(path.with_suffix(".csv"), "w") as stream:
        csv.writer(stream).writerow(["recording", *COLUMNS])
    assert find_cycles(recording) == expected
    assert caplog.records == []
    # Named, it is refused: its cycles are wanted, but are they annotated?
    with pytest.raises(ValueError, match="what qlung printed.*leave the col"):
        find_cycles(recording, path.with_suffix(".csv"))
    with pytest.raises(ValueError, match="no list 'event_annotation'"):
        find_cycles(recording, path.with_suffix(".json"))
    # In a folder, it says what was found instead.
    path.with_suffix(".wav").unlink()
    message = rf"no annotation of .*{path.stem}.csv \(it is something else\)"
    with pytest.raises(FileNotFoundError, match=message):
        find_cycles(recording, path.parent)


@pytest.mark.parametrize(
    "name, content",
    [
        ("breath.txt", "Recorded in ward 3.\nPatient coughs.\n"),
        ("breath.txt", "0.1 0.2 0.3 0.4\n"),
        ("breath.txt", "0 \uff11 0 0\n"),  # a digit of full width
        ("breath.txt", ""),
        ("breath.json", json.dumps({"uuid": "x", "cough_detected": "0.97"})),
        ("breath.json", "[1, 2"),
        ("breath.csv", "time,amplitude\n0,0.1\n"),
        ("breath.csv", f"a,{'b' * 200_000}\n"),
    ],
)
def test_what_is_something_else_is_left_without_a_word(
    recording, caplog, name, content
):
    (recording.path.parent / name).write_text(content)
    assert find_cycles(recording).source == "segmentation"
    assert caplog.records == []


@pytest.mark.parametrize(
    "name, content, lack",
    [
        ("breath.txt", "start end c w\n0 1 0 0\n", "its first line is not"),
        ("breath.txt", ICBHI.encode("utf-16"), "UTF-16: save it as UTF-8"),
        ("breath.json", '{"record_annotation": "CAS"}', "holds no list"),
        ("breath.json", sprsound(TIMES)[:-5], "is no valid JSON"),
        ("breath.csv", "Start;End\n0;1\n", "lacks the columns start and end"),
    ],
)
def test_what_nearly_is_one_is_told(recording, caplog, name, content, lack):
    path = recording.path.parent / name
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    assert find_cycles(recording).source == "segmentation"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage() and lack in record.getMessage()


@pytest.mark.parametrize("target", [None, "/dev/zero", "nowhere"])
def test_what_is_no_file_is_not_opened(recording, caplog, target):
    path = recording.path.with_suffix(".txt")
    if target is None:
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    assert find_cycles(recording).source == "segmentation"
    assert str(path) in caplog.text
    with pytest.raises((OSError, ValueError), match=path.name):
        find_cycles(recording, path)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("breath.txt", "0 1 0 0\n1 2 0\n", "breath.txt:2: 3 fields"),
        ("breath.json", '{"event_annotation": [1]}', "needs start, end and"),
        ("breath.csv", "start,end\n0,x\n", "breath.csv:2: 'x' is not a number"),
    ],
)
def test_an_annotation_with_a_fault_is_an_error(
    recording, name, content, message
):
    """It is not taken for something else, and the recording segmented."""
    (recording.path.parent / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        find_cycles(recording)


def test_of_several_annotations_it_is_told_which_is_read(recording, caplog):
    text, json_, csv_ = (
        recording.path.with_suffix(suffix) for suffix in ANNOTATIONS
    )
    text.write_text("a note\n")
    json_.write_text(sprsound(TIMES))
    csv_.write_text("start,end\n0,9\n")
    assert find_cycles(recording).times == TIMES
    assert f"has 2 annotations: {json_} is read, and not {csv_}" in caplog.text
    # Who names one is left alone, and so is who has one under two names.
    caplog.clear()
    assert find_cycles(recording, csv_).times == [(0.0, 9.0)]
    json_.unlink()
    os.link(csv_, csv_.with_suffix(".CSV"))
    assert find_cycles(recording).times == [(0.0, 9.0)]
    assert caplog.records == []
