"""Tests of the preparation of KAUH, whose labels stand in the files' names.

Authors
 * qlung_plugin contributors
"""

import json

import numpy as np
import pytest
import soundfile

from recipes.KAUH.kauh_prepare import parse_recording_name, prepare_kauh

RATE = 4000


@pytest.fixture
def write(tmp_path):
    """Writes a recording of noise; None is silence."""

    def write(name, seconds=0.5, loud=0.1, folder="KAUH/audio"):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).standard_normal(round(seconds * RATE))
        soundfile.write(path, loud * noise, RATE)
        return path

    return write


@pytest.fixture
def prepare(tmp_path):
    def prepare(**options):
        summary = prepare_kauh(tmp_path / "KAUH", tmp_path / "out", **options)
        entries = json.loads((tmp_path / "out" / "test.json").read_text())
        written = json.loads((tmp_path / "out" / "kauh.json").read_text())
        assert written == summary
        return entries, summary

    return prepare


@pytest.mark.parametrize(
    "sound, label",
    [
        ("N", "normal"),
        ("E W", "wheeze"),
        (" I  E W ", "wheeze"),
        ("C", "crackle"),
        ("Crep", "crackle"),
        ("I C E W", "both"),
        ("I C", None),
    ],
)
def test_the_label_is_the_sound_in_the_name(sound, label):
    name = f"BP12_Asthma,{sound},P L L,50,F"
    assert parse_recording_name(name)["label"] == label


def test_what_else_a_name_tells():
    name = "DP4_Heart Failure + Lung Fibrosis ,I C,P L R ,72,M"
    assert parse_recording_name(name) == {
        "recording": "DP4",
        "patient": "4",
        "device": "diaphragm mode",
        "diagnosis": "Heart Failure + Lung Fibrosis",
        "sound": "I C",
        "label": None,
        "location": "P L R",
        "age": 72,
        "sex": "M",
    }


@pytest.mark.parametrize(
    "name",
    [
        "BP12_Asthma,E W,P L L,50",  # no sex
        "BP12_Asthma,E W,P L L,old,F",
        "FP12_Asthma,E W,P L L,50,F",  # no such mode
    ],
)
def test_what_is_no_name_of_a_recording(name):
    assert parse_recording_name(name) is None


def test_an_entry_is_a_recording_as_a_whole(write, prepare):
    for mode in "BDE":
        write(f"{mode}P7_asthma,E W,P R U,40,M.wav", seconds=1.25)
    entries, summary = prepare()
    assert list(entries) == ["BP7", "DP7", "EP7"]
    assert entries["EP7"] == {
        "wav": {
            "file": "{data_root}/audio/EP7_asthma,E W,P R U,40,M.wav",
            "start": 0,
            "stop": 5000,
        },
        "sample_rate": 4000,
        "duration": 1.25,
        "label": "wheeze",
        "sound": "E W",
        "diagnosis": "asthma",
        "patient": "7",
        "recording": "EP7",
        "device": "extended mode",
        "age": 40,
        "sex": "M",
        "location": "P R U",
    }
    assert summary["partitions"]["test"] == {
        "recordings": 3,
        "patients": 1,
        "cycles": 3,
        "counts": {"normal": 0, "crackle": 0, "wheeze": 3, "both": 0},
    }
    assert summary["database"] == "KAUH 2021"
    assert summary["subset"] == "3 of 336 recordings"


def test_what_is_neither_is_left_out_and_counted(write, prepare):
    write("BP1_N,N,P L U,30,F.wav")
    for number, sound in enumerate(["I C", "I C B", "I C", "Bronchial"], 2):
        write(f"BP{number}_BRON,{sound},P L U,30,F.wav")
    write("other.wav")
    write("BP9_N,N,P L U,30,F.wav", loud=0)
    entries, summary = prepare()
    assert list(entries) == ["BP1"]
    names, sounds, silent, left_out = summary["warnings"]
    assert "1 wav files not named like KAUH recordings: other.wav" in names
    assert sounds == (
        "4 recordings left out whose sound is none of N, E W, I E W, C, Crep,"
        " I C E W: Bronchial (1), I C (2), I C B (1)"
    )
    assert "1 recordings without sound" in silent
    assert "1 recordings left out, their recordings being without" in left_out
    assert summary["recordings"] == 6


def test_only_the_published_database_is_called_so(write, prepare):
    write("BP113_N,N,P L U,30,F.wav")
    _, summary = prepare()
    assert "not KAUH 2021's" in summary["database"]
    assert summary["subset"] is None
    with pytest.raises(ValueError, match="recordings: expected 336, found 1"):
        prepare(strict=True)


@pytest.mark.parametrize(
    "names, kind, message",
    [
        (["a.wav"], FileNotFoundError, "holds no recording of KAUH, named <B"),
        (
            ["BP1_N,N,P L U,30,F.wav", "copy/BP1_N,N,P L U,30,F.wav"],
            ValueError,
            "copy.*'BP1' occurs twice",
        ),
        (["BP1_BRON,I C,P L U,30,F.wav"], ValueError, "has a label and"),
    ],
)
def test_what_cannot_be_prepared(names, kind, message, write, prepare):
    for name in names:
        write(name)
    with pytest.raises(kind, match=message):
        prepare()


def test_an_earlier_manifest_is_kept(write, prepare, tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks test.json, kauh.json"):
        prepare(skip_prep=True)
    path = write("BP1_N,N,P L U,30,F.wav")
    before = prepare()
    path.unlink()
    assert prepare(skip_prep=True) == before


def test_the_real_recordings(real_data, tmp_path):
    summary = prepare_kauh(real_data / "kauh", tmp_path)
    assert summary["subset"] == "168 of 336 recordings"
    assert summary["partitions"]["test"] == {
        "recordings": 159,
        "patients": 53,
        "cycles": 159,
        "counts": {"normal": 57, "crackle": 51, "wheeze": 51, "both": 0},
    }
    [warning] = summary["warnings"]
    assert warning.startswith("9 recordings left out")
    assert warning.endswith("I C (3), I C B (6)")
    entries = json.loads((tmp_path / "test.json").read_text())
    # Each in the three modes, of one label.
    labels = {(e["patient"], e["label"]) for e in entries.values()}
    modes = {(e["patient"], e["device"]) for e in entries.values()}
    assert (len(labels), len(modes)) == (53, 3 * 53)
    lengths = [entry["duration"] for entry in entries.values()]
    assert 5 <= min(lengths) and max(lengths) <= 30
