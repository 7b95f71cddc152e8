"""Tests of reading class counts from the files of a recipe.

Authors
 * qlung_plugin contributors
"""

import csv
import json

import pytest

from qlung_plugin.nnet.losses.class_counts import read_class_counts
from speechbrain.dataio.encoder import CategoricalEncoder

# The encoder's order is that of first appearance.
LABELS = ["hiss", "hum", "hiss", "click", "hiss", "hum"]
IN_ORDER = [3, 2, 1]  # hiss, hum, click


def encoder_of(labels, path):
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(labels)
    encoder.save(path)
    return path


@pytest.fixture
def encoder(tmp_path):
    return encoder_of(LABELS, tmp_path / "label_encoder.txt")


def as_json(path, labels):
    entries = {
        str(i): {"wav": "{data_root}/a.wav", "label": label}
        for i, label in enumerate(labels)
    }
    path.write_text(json.dumps(entries))
    return path


def as_csv(path, labels):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ID", "wav", "label"])
        rows.writerows([i, "a.wav", name] for i, name in enumerate(labels))
    return path


@pytest.mark.parametrize("write, end", [(as_json, "json"), (as_csv, "csv")])
def test_a_manifest_is_counted_in_the_order_of_the_encoder(
    write, end, encoder, tmp_path
):
    # The manifest's own order is another.
    path = write(tmp_path / f"train.{end}", sorted(LABELS))
    assert read_class_counts(path, "label", encoder) == IN_ORDER


def test_labels_are_numbers_and_one_has_no_sample(tmp_path):
    encoder = encoder_of([7, 5, 3], tmp_path / "label_encoder.txt")
    path = as_json(tmp_path / "train.json", [3, 7, 3])
    assert read_class_counts(path, "label", encoder) == [1, 0, 2]


def test_a_list_needs_no_encoder(tmp_path):
    path = tmp_path / "counts.json"
    path.write_text("[5, 3]")
    assert read_class_counts(path) == [5, 3]


@pytest.mark.parametrize("content", ["[]", "[3, 0]", "[3, true]", "[1.5, 2]"])
def test_a_list_of_anything_else_is_named(content, tmp_path):
    path = tmp_path / "counts.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="counts.json has to list a positive"):
        read_class_counts(path)


def test_a_manifest_needs_to_know_its_labels(encoder, tmp_path):
    path = as_json(tmp_path / "train.json", LABELS)
    with pytest.raises(ValueError, match="train.json is a manifest: label_key"):
        read_class_counts(path)
    with pytest.raises(
        ValueError, match="train.json has no 'class' in entry 0"
    ):
        read_class_counts(path, "class", encoder)


def test_a_label_that_the_encoder_lacks_is_named(encoder, tmp_path):
    path = as_csv(tmp_path / "train.csv", [*LABELS, "snap"])
    with pytest.raises(ValueError, match="does not know 'snap'.*train.csv"):
        read_class_counts(path, "label", encoder)


@pytest.mark.parametrize(
    "content, message",
    [("7", "neither a manifest nor a list"), ("{}", "it is empty")],
)
def test_what_is_no_manifest_is_named(content, message, encoder, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"train.json .*{message}"):
        read_class_counts(path, "label", encoder)


@pytest.mark.parametrize("missing", ["train.json", "label_encoder.txt"])
def test_a_missing_file_is_named(missing, encoder, tmp_path):
    as_json(tmp_path / "train.json", LABELS)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        read_class_counts(tmp_path / "train.json", "label", encoder)
