"""Tests of the SPRSound preparation on real recordings.

They read the folder that the environment variable QLUNG_DATA names.

Authors
 * qlung_plugin contributors
"""

import json

from recipes.SPRSound.sprsound_prepare import (
    prepare_recordings,
    prepare_sprsound,
)


def test_intra_has_its_published_counts(real_data, tmp_path):
    folder = real_data / "sprsound"
    summary = prepare_sprsound(folder, tmp_path, test="intra", strict=True)
    assert summary["database"] == "SPRSound 2022"
    assert summary["recordings"] == summary["recordings_published"] == 379
    assert summary["subset"] is None
    assert summary["partitions"]["test"] == {
        "recordings": 379,
        "patients": 162,
        "cycles": 1004,
        "counts": dict(normal=688, crackle=175 + 14, wheeze=124, both=3),
    }
    (warning,) = summary["warnings"]
    assert warning.startswith("2 recordings hold no event (2 of them marked")


def test_whole_recordings_have_the_experts_annotation(real_data, tmp_path):
    """A fifth of train, with all recordings of poor quality in its half."""
    summary = prepare_recordings(real_data / "sprsound_quality", tmp_path)
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
    entries = json.loads((tmp_path / "recordings.json").read_text()).values()
    assert len(entries) == 374
    assert sum(e["annotation"] == "Poor Quality" for e in entries) == 94
