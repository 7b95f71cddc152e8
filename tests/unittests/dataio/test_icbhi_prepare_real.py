"""Tests of the ICBHI preparation on real recordings and annotations.

They read the folder that the environment variable QLUNG_DATA names.

Authors
 * qlung_plugin contributors
"""

import json

import numpy as np
import pytest
import soundfile

from qlung_plugin.dataio.icbhi import read_corpus
from qlung_plugin.dataio.partitions import count_cycles
from qlung_plugin.processing.segmentation import LOWEST_RATE
from recipes.ICBHI.icbhi_prepare import prepare_icbhi

LABELS = ("normal", "crackle", "wheeze", "both")


@pytest.fixture
def subset(real_data):
    return real_data / "icbhi_sc"


@pytest.fixture
def annotations(real_data):
    return real_data / "icbhi_annotations"


def read_manifest(output, name):
    return json.loads((output / f"{name}.json").read_text())


def count(cycles, side):
    found = count_cycles([c for c in cycles if c["side"] == side])
    counts = tuple(found["counts"][label] for label in LABELS)
    return found["recordings"], found["patients"], counts


# The single-channel subset


def test_the_subset_has_its_published_counts(subset, tmp_path):
    summary = prepare_icbhi(subset, tmp_path, valid_fraction=0)
    assert summary["subset"] == "188 of 920 recordings"
    assert summary["patients_on_both_sides"] == ["218"]
    assert summary["warnings"] == []
    assert summary["partitions"]["train"] == {
        "recordings": 92,
        "patients": 41,
        "cycles": 1049,
        "counts": dict(normal=740, crackle=147, wheeze=120, both=42),
    }
    assert summary["partitions"]["test"] == {
        "recordings": 96,
        "patients": 33,
        "cycles": 920,
        "counts": dict(normal=639, crackle=102, wheeze=140, both=39),
    }
    assert read_manifest(tmp_path, "valid") == {}


def test_the_subset_holds_out_every_fold_with_every_label(subset, tmp_path):
    held_out = set()
    for fold in range(5):
        summary = prepare_icbhi(subset, tmp_path, valid_fold=fold)
        partitions = summary["partitions"]
        assert all(partitions["valid"]["counts"].values())
        cycles = [partitions[name]["cycles"] for name in ("train", "valid")]
        assert sum(cycles) == 1049
        patients = {
            entry["patient"]
            for entry in read_manifest(tmp_path, "valid").values()
        }
        assert not patients & held_out
        held_out |= patients
    assert len(held_out) == 40 and "218" not in held_out


# All annotations


def test_the_official_split_has_its_published_counts(annotations):
    cycles, protocol, warnings = read_corpus(annotations)
    assert protocol == "official split"
    assert count(cycles, "train") == (539, 79, (2063, 1215, 501, 363))
    assert count(cycles, "test") == (381, 49, (1579, 649, 385, 143))
    (warning,) = warnings
    assert "920 annotations without recording" in warning


def test_the_names_before_the_correction_give_the_same_cycles(
    annotations, tmp_path
):
    differences = annotations / "filename_differences.txt"
    old_names = differences.read_text().replace("'", "").split()
    old = {name.rpartition("_")[0]: name for name in old_names}
    assert len(old) == 91
    for path in (annotations / "audio_and_txt_files").iterdir():
        name = old.get(path.stem.rpartition("_")[0], path.stem)
        (tmp_path / f"{name}.txt").symlink_to(path.resolve())
    cycles, _, warnings = read_corpus(
        tmp_path, split_file=annotations / "ICBHI_challenge_train_test.txt"
    )
    assert any(w.startswith("91 recordings have a name") for w in warnings)
    expected, _, _ = read_corpus(annotations)
    facts = ("id", "side", "device", "label", "start", "end")
    assert [[c[f] for f in facts] for c in cycles] == [
        [c[f] for f in facts] for c in expected
    ]


@pytest.fixture
def complete(annotations, tmp_path):
    """All 920 annotations beside noise of their length."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 100 * LOWEST_RATE)
    folder = tmp_path / "data" / "ICBHI_final_database"
    folder.mkdir(parents=True)
    for path in (annotations / "audio_and_txt_files").iterdir():
        (folder / path.name).symlink_to(path.resolve())
        last = float(path.read_text().split("\n")[-2].split()[1])
        frames = int(LOWEST_RATE * last) + 1
        assert frames <= len(noise)
        wav = folder / f"{path.stem}.wav"
        soundfile.write(wav, noise[:frames], LOWEST_RATE)
    for name in ("ICBHI_challenge_train_test.txt", "demographic_info.txt"):
        (tmp_path / "data" / name).symlink_to((annotations / name).resolve())
    return tmp_path / "data"


def test_strict_accepts_the_complete_database_only(complete, tmp_path):
    output = tmp_path / "results"
    summary = prepare_icbhi(complete, output, strict=True)
    assert summary["subset"] is None
    assert summary["recordings"] == 920
    assert summary["patients_on_both_sides"] == ["156", "218"]
    cycles = [part["cycles"] for part in summary["partitions"].values()]
    assert sum(cycles) == 6898 and cycles[2] == 2756
    prepare_icbhi(complete, output, split="patient_folds", strict=True)

    audio = complete / "ICBHI_final_database"
    for suffix in (".wav", ".txt"):
        (audio / f"101_1b1_Al_sc_Meditron{suffix}").unlink()
    with pytest.raises(ValueError, match="recordings: expected 920, found 919"):
        prepare_icbhi(complete, output, strict=True)
