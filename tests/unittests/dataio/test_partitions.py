"""Tests of partitions, and of labels by the number of classes.

Authors
 * qlung_plugin contributors
"""

from collections import Counter

import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.dataio.partitions import (
    check_manifests,
    class_labels,
    hold_out_device,
    hold_out_patients,
    patients_of,
    with_labels,
)

MANIFEST = {
    "101_0": {"label": "normal", "patient": "101"},
    "101_1": {"label": "crackle", "patient": "101"},
    "102_0": {"label": "wheeze", "patient": "102"},
    "102_1": {"label": "both", "patient": "102"},
}


def cycle(patient, side="train", label="normal", index=0):
    cycle_id = f"{patient}_{side}_{index}"
    return {
        "id": cycle_id,
        "patient": str(patient),
        "side": side,
        "label": label,
    }


def uneven():
    """Patients with one to three recordings of two labels, some on two sides."""
    return [
        cycle(patient, side, label, index)
        for patient in range(101, 121)
        for index in range(1 + patient % 3)
        for side in ["test" if (patient + index) % 4 == 0 else "train"]
        for label in ("normal", "crackle")
    ]


def held_out(cycles, *arguments):
    partitions, _ = hold_out_patients(cycles, *arguments)
    return {cycle["patient"] for cycle in partitions["valid"]}


def test_the_validation_folds_cover_the_eligible_patients_once():
    """Who is tested on is not eligible."""
    cycles = [cycle(patient) for patient in range(201, 210)]
    cycles.append(cycle(209, "test"))
    counts = Counter()
    for fold in range(4):
        valid = held_out(cycles, 0.25, fold, 0)
        assert len(valid) == 2  # eight like patients in four folds
        counts.update(valid)
    assert counts == Counter(str(patient) for patient in range(201, 209))


def test_validation_is_stratified_by_label():
    """Crackles occur in every other patient only; each fold gets its share."""
    cycles = [
        cycle(patient, label=("normal", "crackle")[patient % 2], index=index)
        for patient in range(201, 209)
        for index in range(3)
    ]
    for seed in range(5):
        partitions, _ = hold_out_patients(cycles, 0.25, 0, seed)
        labels = Counter(cycle["label"] for cycle in partitions["valid"])
        assert labels == {"normal": 3, "crackle": 3}


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    fraction=st.sampled_from([0.5, 0.3, 0.2, 0.1]),
    data=st.data(),
)
def test_any_draw_keeps_patients_apart(seed, fraction, data):
    cycles = uneven()
    fold = data.draw(st.integers(0, round(1 / fraction) - 1))
    partitions, _ = hold_out_patients(cycles, fraction, fold, seed)
    train, valid, test = (
        {cycle["patient"] for cycle in partitions[name]}
        for name in ("train", "valid", "test")
    )
    assert valid and not valid & train and not valid & test
    assert test == patients_of(cycles, "test")
    ids = Counter(c["id"] for part in partitions.values() for c in part)
    assert ids == Counter(cycle["id"] for cycle in cycles)
    again, _ = hold_out_patients(cycles, fraction, fold, seed)
    assert again == partitions


def test_the_seed_changes_the_draw():
    draws = {frozenset(held_out(uneven(), 0.2, 0, seed)) for seed in range(8)}
    assert len(draws) > 1


@pytest.mark.parametrize(
    "fraction, fold, message",
    [
        (-0.1, 0, "valid_fraction is -0.1, not in 0 to 0.5"),
        (float("nan"), 0, "valid_fraction is nan"),
        (0.2, -1, "valid_fold is -1, not one of"),
        (0.2, 5, "valid_fold is 5, not one of"),
        (0.04, 0, "20 patients cannot make 25 folds"),
    ],
)
def test_impossible_validations_are_refused(fraction, fold, message):
    cycles = [cycle(patient) for patient in range(20)]
    with pytest.raises(ValueError, match=message):
        hold_out_patients(cycles, fraction, fold, 0)


def recorded(patient, device, side="train", labels=("normal", "crackle")):
    """A recording of a cycle of each label."""
    name = f"{patient}_{device}_{side}"
    return [
        {**cycle(patient, side, label), "id": f"{name}_{i}", "device": device}
        | {"recording": name}
        for i, label in enumerate(labels)
    ]


def devices():
    """Patient 3 is on both sides, 4 was recorded by two devices, 9 is tested."""
    return [
        *(*recorded(1, "A"), *recorded(2, "A"), *recorded(3, "A")),
        *(*recorded(3, "B", "test"), *recorded(4, "A"), *recorded(4, "B")),
        *(*recorded(5, "B"), *recorded(9, "A", "test")),
    ]


@pytest.mark.parametrize(
    "device, train, valid, left_out",
    [
        ("A", {"5_B"}, {"1_A", "2_A", "4_A"}, 4),  # of 3 by A, of 4 by B
        ("B", {"1_A", "2_A", "3_A"}, {"4_B", "5_B"}, 2),  # of 4 by A
    ],
)
def test_a_device_is_held_out_with_its_patients(device, train, valid, left_out):
    cycles = devices()
    partitions, words = hold_out_device(cycles, device)
    recordings = {
        name: {c["recording"].removesuffix("_train") for c in partitions[name]}
        for name in partitions
    }
    assert recordings["train"] == train
    assert recordings["valid"] == valid
    assert partitions["test"] == [c for c in cycles if c["side"] == "test"]
    assert {c["device"] for c in partitions["valid"]} == {device}
    assert f"the {2 * len(valid)} cycles of device {device}" in words
    assert f"{left_out} further cycles left out" in words
    assert sum(map(len, partitions.values())) == len(cycles) - left_out


def test_labels_of_a_held_out_device_choose_nothing():
    """Nor do those of its patients' other recordings."""
    cycles = devices()
    partitions, words = hold_out_device(cycles, "A")
    trained = {c["id"] for c in partitions["train"]}
    other = {"normal": "crackle", "crackle": "normal"}
    permuted = [
        c if c["id"] in trained else {**c, "label": other[c["label"]]}
        for c in cycles
    ]
    again, same = hold_out_device(permuted, "A")
    assert again["train"] == partitions["train"] and same == words


@pytest.mark.parametrize(
    "changed, device, message",
    [
        (
            {},
            "C",
            r"valid_device is C, which .*: there are A \(8 cycles\), B \(4 c",
        ),
        ({"device": None}, "A", "of 1 recordings the device is unknown: 5_B"),
        (
            {"label": "normal"},
            "B",
            "valid_device B cannot validate: of its 2 cycles .* 2 are normal",
        ),
    ],
)
def test_devices_that_cannot_validate_are_refused(changed, device, message):
    cycles = [
        {**c, **changed} if c["patient"] == "5" else c
        for c in devices()
        if (c["patient"], c["device"]) != ("4", "B") or not changed
    ]
    with pytest.raises(ValueError, match=message):
        hold_out_device(cycles, device)


def test_a_validation_without_a_score_is_refused():
    normal, wheeze = {"a": {"label": "normal"}}, {"b": {"label": "wheeze"}}
    sides = {"train": normal, "test": wheeze}
    check_manifests({**sides, "valid": {}})
    check_manifests({**sides, "valid": {**normal, **wheeze}})
    for valid in (normal, wheeze):
        with pytest.raises(ValueError, match="Score is undefined: choose ano"):
            check_manifests({**sides, "valid": valid})


def test_labels_by_their_number():
    assert class_labels(4) == ["normal", "crackle", "wheeze", "both"]
    assert class_labels(2) == ["normal", "abnormal"]
    for number in (0, 1, 3, 7):
        with pytest.raises(ValueError, match=f"2 or 4, not {number}"):
            class_labels(number)


def test_everything_but_normal_becomes_abnormal():
    merged = with_labels(MANIFEST, class_labels(2))
    labels = [entry["label"] for entry in merged.values()]
    assert labels == ["normal", "abnormal", "abnormal", "abnormal"]
    assert list(merged) == list(MANIFEST)
    assert merged["102_1"]["patient"] == "102"
    # The manifest itself is as it was, and merging twice changes nothing.
    assert MANIFEST["102_1"]["label"] == "both"
    assert with_labels(merged, class_labels(2)) == merged
    assert with_labels(MANIFEST, class_labels(4)) == MANIFEST

    with pytest.raises(ValueError, match="101_1 is labelled 'abnormal'"):
        with_labels(merged, class_labels(4))
