"""Tests of the ICBHI preparation on a generated corpus.

Authors
 * qlung_plugin contributors
"""

import json
import logging

import numpy as np
import pytest
import soundfile

from qlung_plugin.dataio.manifests import read_manifest
from recipes.ICBHI.icbhi_prepare import prepare_icbhi
from tests.unittests.dataio.icbhi_files import (
    AUDIO,
    PEOPLE,
    RATE,
    SIDES,
    SPLIT,
    TEST,
    the_warning,
    write_corpus,
    write_recordings,
    write_split,
)


@pytest.fixture
def data(tmp_path):
    """A corpus in the layout of the mirror, with the official split."""
    write_corpus(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results"


def read(output, name):
    return json.loads((output / f"{name}.json").read_text())


def patients(manifest):
    return {entry["patient"] for entry in manifest.values()}


def test_manifest_entry_is_as_worked_by_hand(tmp_path, output):
    folder = tmp_path / "data"
    folder.mkdir()
    name = "101_1b1_Al_sc_Meditron"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 25000)
    soundfile.write(folder / f"{name}.wav", samples, 10000)
    (folder / f"{name}.txt").write_text(
        "0.03607\t0.57912\t0\t0\n0.57912 2.45 0 1\n"
    )
    write_split(folder / SPLIT, {name: "test"})
    (folder / PEOPLE).write_text("\n101 3 F NA 19 99\n")
    summary = prepare_icbhi(folder, output, valid_fraction=0)
    assert the_warning(summary["warnings"], "train side")
    assert read(output, "train") == read(output, "valid") == {}
    shared = {
        "sample_rate": 10000,
        "patient": "101",
        "recording": name,
        "device": "Meditron",
        "age": 3.0,
        "sex": "F",
        "location": "Al",
    }
    file = f"{{data_root}}/{name}.wav"
    assert read(output, "test") == {
        f"{name}_000": {
            "wav": {"file": file, "start": 361, "stop": 5791},
            "duration": 0.543,
            "label": "normal",
            **shared,
        },
        f"{name}_001": {
            "wav": {"file": file, "start": 5791, "stop": 24500},
            "duration": 1.8709,
            "label": "wheeze",
            **shared,
        },
    }


def test_speechbrain_reads_the_cycle_that_the_entry_names(data, output):
    from speechbrain.dataio.dataio import read_audio
    from speechbrain.dataio.dataset import DynamicItemDataset

    ramp = np.arange(4 * RATE, dtype=np.int16)
    soundfile.write(data / AUDIO / f"{TEST[0]}.wav", ramp, RATE)
    prepare_icbhi(data, output)
    dataset = DynamicItemDataset.from_json(
        str(output / "test.json"), replacements={"data_root": str(data)}
    )
    dataset.add_dynamic_item(read_audio, takes="wav", provides="signal")
    dataset.set_output_keys(["id", "signal", "label"])
    cycle = dataset[1]
    assert (cycle["id"], cycle["label"]) == (f"{TEST[0]}_001", "crackle")
    samples = (cycle["signal"] * 2**15).round().int().tolist()
    assert samples == list(range(4000, 8000))


def test_summary_counts_and_names_the_protocol(data, output, caplog):
    with caplog.at_level(logging.INFO):
        summary = prepare_icbhi(data, output, valid_fraction=0)
    # 9 and 3 recordings of four cycles, one of each label.
    assert summary == {
        # Its patients are 101 to 226: a result on others is not one on ICBHI.
        "database": "recordings in ICBHI's layout that are not ICBHI 2017's",
        "recordings": 12,
        "recordings_published": 920,
        "subset": None,
        "split": "official",
        "protocol": "official split, no validation (the whole training side "
        "is trained on)",
        "patients_on_both_sides": ["401"],
        "partitions": {
            name: {
                "recordings": n_recordings,
                "patients": n_recordings,
                "cycles": 4 * n_recordings,
                "counts": dict.fromkeys(
                    ("normal", "crackle", "wheeze", "both"), n_recordings
                ),
            }
            for name, n_recordings in (("train", 9), ("valid", 0), ("test", 3))
        },
        "warnings": [],
    }
    assert read(output, "icbhi") == summary
    assert "12 recordings" in caplog.text
    assert "both sides of the split: 401" in caplog.text
    assert "'crackle': 9" in caplog.text
    assert prepare_icbhi("absent", output, skip_prep=True) == summary


def test_validation_and_folds_by_patient(data, output):
    summary = prepare_icbhi(data, output, split="patient_folds", test_fold=2)
    assert summary["split"] == "patient_folds"
    assert summary["patients_on_both_sides"] == []
    assert summary["protocol"] == (
        "patient fold 2 of 5 drawn with seed 0 for testing, validation on fold"
        " 0 of 5 of the training patients (split seed 0)"
    )
    sides = [patients(read(output, n)) for n in ("train", "valid", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 11


def test_validation_by_device(data, output):
    """401, on both sides, neither trains nor validates."""
    names = [f"{patient}_1b1_Al_sc_LittC2SE" for patient in (501, 502)]
    write_recordings(data / AUDIO, names)
    write_split(data / SPLIT, {**SIDES, **dict.fromkeys(names, "train")})
    summary = prepare_icbhi(data, output, valid_device="Meditron")
    assert patients(read(output, "train")) == {"501", "502"}
    valid = read(output, "valid")
    assert patients(valid) == {str(patient) for patient in range(201, 209)}
    assert {entry["device"] for entry in valid.values()} == {"Meditron"}
    assert "on the 32 cycles of device Meditron" in summary["protocol"]
    assert "4 further cycles left out" in summary["protocol"]
    assert patients(read(output, "test")) == {"301", "302", "401"}
    with pytest.raises(
        ValueError, match="valid_device is Litt3200, which reco"
    ):
        prepare_icbhi(data, output, valid_device="Litt3200")


def test_nothing_is_written_where_data_are(data, tmp_path):
    (data / AUDIO).rename(tmp_path / "elsewhere")
    link = tmp_path / "link"
    link.symlink_to(data)
    before = sorted(tmp_path.rglob("*"))
    elsewhere = tmp_path / "elsewhere"
    for output, annotations in (
        (data, None),
        (link / "new" / "folder", None),
        (elsewhere / "new", elsewhere),
    ):
        with pytest.raises(ValueError, match="lies in the data folder"):
            prepare_icbhi(data, output, annotation_folder=annotations)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_usable_recording_is_an_error(data, output):
    for path in (data / AUDIO).glob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match="no recording has a usable cycle"):
        prepare_icbhi(data, output)
    assert not output.exists()


def test_an_index_is_the_annotations(data, output):
    """So that an id never changes its cycle."""
    path = data / AUDIO / f"{TEST[0]}.txt"
    path.write_text("0 1 0 0\n1 1 0 0\n0 1 0 0\n1 2 1 0\n")
    summary = prepare_icbhi(data, output)
    assert len(summary["warnings"]) == 2
    manifest = read_manifest(output / "test.json", data)
    ids = [cycle for cycle in manifest if cycle.startswith(TEST[0])]
    assert ids == [f"{TEST[0]}_000", f"{TEST[0]}_003"]


def test_strict_lists_what_differs_from_the_published_counts(data, output):
    with pytest.raises(ValueError, match="not the published ICBHI") as error:
        prepare_icbhi(data, output, strict=True)
    for difference in (
        "all recordings: expected 920, found 12",
        "all patients: expected 126, found 11",
        "all cycles: expected 6898, found 48",
        "test recordings: expected 381, found 3",
        "train counts: expected (2063, 1215, 501, 363), found (9, 9, 9, 9)",
    ):
        assert difference in str(error.value)
    assert not output.exists()
    with pytest.raises(ValueError, match="all recordings") as error:
        prepare_icbhi(data, output, split="patient_folds", strict=True)
    assert "train" not in str(error.value)
