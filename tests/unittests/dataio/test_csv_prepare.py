"""Tests of the preparation of recordings of one's own.

Authors
 * qlung_plugin contributors
"""

import json
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import soundfile

from recipes.CSV.csv_prepare import MANIFESTS, prepare_csv, read_labels

RATE = 1000


class Corpus:
    """Recordings of noise, one per patient, and a table of their stretches."""

    def __init__(self, folder, patients=12):
        self.folder, self.data = folder, folder / "own"
        self.data.mkdir()
        rows = []
        for number in range(patients):
            self.write(f"{number}.wav", number)
            rows += [
                [f"{number}.wav", start, start + 1, label, f"p{number}"]
                for start, label in enumerate(["normal", "rub"])
            ]
        columns = ["path", "start", "end", "label", "patient"]
        self.table = pd.DataFrame(rows, columns=columns, dtype=object)

    def write(self, name, seed, seconds=2.0):
        noise = np.random.default_rng(seed).standard_normal(int(seconds * RATE))
        path = self.data / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * noise, RATE)

    def set(self, row, column, value):
        """By the number of the row in the file."""
        self.table.loc[row - 2, column] = value

    def prepare(self, **options):
        self.table.to_csv(self.data / "table.csv", index=False)
        summary = prepare_csv(self.data, self.folder / "out", **options)
        parts = [
            json.loads((self.folder / "out" / name).read_text())
            for name in MANIFESTS
        ]
        return parts, summary


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def patients(entries):
    return {entry["patient"] for entry in entries.values()}


def test_rows_become_entries_and_each_patient_is_in_one_part(corpus):
    parts, summary = corpus.prepare()
    assert sum(map(len, parts)) == len(corpus.table)
    people = [patients(part) for part in parts]
    assert sorted(sum(map(list, people), [])) == sorted(set.union(*people))
    assert all(people)
    entry = {**parts[0], **parts[1], **parts[2]}["3_001"]
    assert entry["wav"] == {
        "file": "{data_root}/3.wav",
        "start": 1000,
        "stop": 2000,
    }
    assert entry["label"] == "rub" and entry["duration"] == 1
    assert entry["device"] is None and entry["age"] is None
    assert summary["database"] == "own" and summary["warnings"] == []
    written = json.loads((corpus.folder / "out" / "csv.json").read_text())
    assert written == summary
    assert corpus.prepare(skip_prep=True)[1] == summary


def test_every_patient_is_tested_in_one_fold(corpus):
    tested = []
    for fold in range(4):
        parts, _ = corpus.prepare(test_fraction=0.25, test_fold=fold)
        tested += patients(parts[2])
    assert sorted(tested) == sorted(set(corpus.table["patient"]))
    with pytest.raises(ValueError, match="test_fold is 4, not one of"):
        corpus.prepare(test_fraction=0.25, test_fold=4)
    with pytest.raises(ValueError, match="test_fraction is 0, not in 0 to 0.5"):
        corpus.prepare(test_fraction=0)


def test_whole_recordings_need_no_times(corpus):
    corpus.table = corpus.table.iloc[::2].drop(columns=["start", "end"])
    corpus.table["label"] = ["normal", "rub"] * 6
    corpus.table["age"] = [5, None] * 6
    parts, _ = corpus.prepare()
    entries = {**parts[0], **parts[1], **parts[2]}
    assert {entry["duration"] for entry in entries.values()} == {2.0}
    assert {entry["age"] for entry in entries.values()} == {5, None}


def test_a_column_may_say_the_split(corpus):
    corpus.table["split"] = ["train"] * 16 + ["Test"] * 8
    parts, _ = corpus.prepare(split="column", valid_fraction=0.25)
    assert patients(parts[2]) == {"p8", "p9", "p10", "p11"}
    assert len(patients(parts[1])) == 2  # of the eight others
    corpus.table["split"] = ["train"] * 12 + ["valid"] * 4 + ["test"] * 8
    parts, summary = corpus.prepare(split="column")
    assert patients(parts[1]) == {"p6", "p7"}
    assert "validation on its patients of table.csv" in summary["protocol"]
    corpus.set(2, "split", "test")
    with pytest.raises(ValueError, match=r"p0: row 2 \(test\), row 3 \(train"):
        corpus.prepare(split="column")
    corpus.set(2, "split", "exam")
    with pytest.raises(ValueError, match="row 2: split is 'exam', not one of"):
        corpus.prepare(split="column")
    corpus.table = corpus.table.drop(columns="split")
    with pytest.raises(ValueError, match="row 2: split is ''"):
        corpus.prepare(split="column")
    with pytest.raises(ValueError, match="split is 'official'"):
        corpus.prepare(split="official")


def test_the_normal_class_is_called_so_and_is_the_first(corpus):
    corpus.table["label"] = corpus.table["label"].replace("normal", "healthy")
    _, summary = corpus.prepare()
    assert (
        "no class is called normal, of healthy, rub" in summary["warnings"][0]
    )
    assert read_labels(corpus.data) == ["healthy", "rub"]
    labels = read_labels(corpus.data, normal_label="healthy")
    assert labels == ["normal", "rub"]
    parts, summary = corpus.prepare(normal_label="healthy", labels=labels)
    assert not summary["warnings"]
    assert {e["label"] for e in parts[0].values()} == {"normal", "rub"}
    for options, message in (
        ({"normal_label": "well"}, "well, which no row has; there are healthy"),
        (
            {"normal_label": "healthy", "label_mapping": {"rub": "normal"}},
            "rows are labelled normal, too",
        ),
        (
            {"labels": ["rub", "normal"], "normal_label": "healthy"},
            "normal is to be the first",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            corpus.prepare(**options)


def test_labels_are_mapped_and_strangers_are_named(corpus):
    corpus.set(2, "label", "Rub")
    with pytest.raises(ValueError, match=r"1 rows have none .*: row 2 \(Rub\)"):
        corpus.prepare(labels=["normal", "rub"])
    parts, _ = corpus.prepare(
        labels=["normal", "rub"], label_mapping={"Rub": "rub"}
    )
    labels = [entry["label"] for part in parts for entry in part.values()]
    assert Counter(labels) == {"rub": 13, "normal": 11}
    _, summary = corpus.prepare(label_mapping={"Rub": None})
    (warning,) = summary["warnings"]
    assert "rows left out with the labels Rub (1)" in warning
    with pytest.raises(ValueError, match="nothing to tell apart"):
        read_labels(
            corpus.data, label_mapping={"Rub": "normal", "rub": "normal"}
        )


def test_a_class_that_training_lacks_is_an_error_and_elsewhere_a_warning(
    corpus,
):
    corpus.table["split"] = ["train"] * 12 + ["valid"] * 4 + ["test"] * 8
    for row in (19, 21, 23, 25):
        corpus.set(row, "label", "normal")
    parts, summary = corpus.prepare(split="column")
    assert "no row of test is rub" in summary["warnings"]
    corpus.set(25, "label", "squawk")
    with pytest.raises(
        ValueError, match="no row to train on is squawk: choose"
    ):
        corpus.prepare(split="column")


def test_times_past_the_end_are_counted(corpus):
    corpus.set(3, "end", 2.5)
    corpus.set(5, "start", 4)
    corpus.set(5, "end", 5)
    _, summary = corpus.prepare()
    clipped, left_out = summary["warnings"]
    assert "1 rows clipped" in clipped and "500.0 ms (row 3)" in clipped
    assert "1 rows left out" in left_out and "row 5" in left_out


def test_one_sound_under_two_patients_is_refused(corpus):
    shutil.copy(corpus.data / "0.wav", corpus.data / "3.wav")
    with pytest.raises(
        ValueError,
        match=r"2 recordings are the same sound under the patients p0, p3.*"
        r": row 2 \(.*0.wav\), row 8 \(.*3.wav\)",
    ):
        corpus.prepare()
    for row in (8, 9):
        corpus.set(row, "patient", "p0")
    _, summary = corpus.prepare()
    (warning,) = summary["warnings"]
    assert "1 recordings are copies of another one: row 8" in warning
    with pytest.raises(ValueError, match="copies of another one"):
        corpus.prepare(strict=True)


def test_recordings_may_be_called_alike_and_be_elsewhere(corpus):
    corpus.write("more/0.wav", 100)
    elsewhere = corpus.folder / "elsewhere.wav"
    shutil.move(corpus.data / "1.wav", elsewhere)
    corpus.table.replace(
        {"1.wav": str(elsewhere), "2.wav": "more/0.wav"}, inplace=True
    )
    parts, _ = corpus.prepare()
    entries = {**parts[0], **parts[1], **parts[2]}
    files = {key: entry["wav"]["file"] for key, entry in entries.items()}
    assert files["elsewhere_000"] == str(elsewhere)
    assert files["own_0.wav_000"] == "{data_root}/0.wav"
    assert files["own_more_0.wav_001"] == "{data_root}/more/0.wav"


def test_too_few_patients_are_told(tmp_path):
    corpus = Corpus(tmp_path, patients=4)
    with pytest.raises(ValueError, match="4 patients cannot make 5 folds"):
        corpus.prepare()
