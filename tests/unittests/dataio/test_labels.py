"""Two classes of four, by one number.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.dataio.partitions import class_labels, with_labels

MANIFEST = {
    "101_0": {"label": "normal", "patient": "101"},
    "101_1": {"label": "crackle", "patient": "101"},
    "102_0": {"label": "wheeze", "patient": "102"},
    "102_1": {"label": "both", "patient": "102"},
}


def test_labels_by_their_number():
    assert class_labels(4) == ["normal", "crackle", "wheeze", "both"]
    assert class_labels(2) == ["normal", "abnormal"]


@pytest.mark.parametrize("number", [0, 1, 3, 7])
def test_other_numbers_are_refused(number):
    with pytest.raises(ValueError, match=f"2 or 4, not {number}"):
        class_labels(number)


def test_everything_but_normal_becomes_abnormal():
    merged = with_labels(MANIFEST, class_labels(2))
    assert [entry["label"] for entry in merged.values()] == [
        "normal",
        "abnormal",
        "abnormal",
        "abnormal",
    ]
    assert list(merged) == list(MANIFEST)
    assert merged["102_1"]["patient"] == "102"
    # The manifest itself is as it was, and merging twice changes nothing.
    assert MANIFEST["102_1"]["label"] == "both"
    assert with_labels(merged, class_labels(2)) == merged


def test_four_classes_stay():
    assert with_labels(MANIFEST, class_labels(4)) == MANIFEST


@pytest.mark.parametrize("label", ["rhonchi", "Normal", "abnormal"])
def test_a_label_that_has_no_place_is_named(label):
    with pytest.raises(ValueError, match=f"103_0 is labelled '{label}'"):
        with_labels({"103_0": {"label": label}}, class_labels(4))
