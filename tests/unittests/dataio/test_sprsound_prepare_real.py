"""Tests of the SPRSound preparation on real recordings.

They read the folder that the environment variable QLUNG_DATA names.

Authors
 * qlung_plugin contributors
"""

import json
from collections import Counter

import pytest

from recipes.SPRSound.sprsound_prepare import (
    prepare_recordings,
    prepare_sprsound,
)


@pytest.fixture
def intra(real_data):
    """The complete intra-patient test partition."""
    folder = real_data / "sprsound"
    if not folder.is_dir():
        pytest.skip(f"{real_data} has no sprsound")
    return folder


@pytest.fixture
def half_of_train(real_data):
    """A fifth of train, with all recordings of poor quality in its half."""
    folder = real_data / "sprsound_quality"
    if not folder.is_dir():
        pytest.skip(f"{real_data} has no sprsound_quality")
    return folder


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_intra_has_its_published_counts(intra, tmp_path):
    summary = prepare_sprsound(intra, tmp_path, test="intra", strict=True)
    assert summary["database"] == "SPRSound 2022"
    assert summary["recordings"] == summary["recordings_published"] == 379
    assert summary["subset"] is None
    assert summary["partitions"]["test"] == {
        "recordings": 379,
        "patients": 162,
        "cycles": 1004,
        "counts": dict(normal=688, crackle=175 + 14, wheeze=124, both=3),
    }
    entries = read(tmp_path, "test").values()
    assert Counter(entry["type"] for entry in entries) == {
        "Normal": 688,
        "Fine Crackle": 175,
        "Coarse Crackle": 14,
        "Wheeze": 108,
        "Rhonchi": 14,
        "Stridor": 2,
        "Wheeze+Crackle": 3,
    }
    (warning,) = summary["warnings"]
    assert warning.startswith("2 recordings hold no event (2 of them marked")


def test_whole_recordings_have_the_experts_annotation(half_of_train, tmp_path):
    summary = prepare_recordings(half_of_train, tmp_path)
    assert summary["subset"] == "374 of 1949 recordings"
    assert summary["warnings"] == []
    counts = summary["partitions"]["train"]
    assert (counts["recordings"], counts["patients"]) == (374, 109)
    assert counts["counts"] == {
        "Normal": 194,
        "CAS": 22,
        "DAS": 42,
        "CAS & DAS": 22,
        "Poor Quality": 94,
    }
    entries = read(tmp_path, "recordings").values()
    assert len(entries) == 374
    assert sum(e["annotation"] == "Poor Quality" for e in entries) == 94
