"""The class counts of a training set, from the files that a recipe writes.

Authors
 * qlung_plugin contributors
"""

import csv
import io
from collections import Counter
from pathlib import Path

from qlung_plugin.utils.ordinary_files import (
    LARGEST_TABLE,
    parse_json,
    read_ordinary,
)


def read_class_counts(
    path: Path | str,
    label_key: str | None = None,
    label_encoder: Path | str | None = None,
) -> list[int]:
    """Reads the training samples per class, ``[class]``.

    Of a manifest of SpeechBrain's kind, in CSV (a name that ends in ``.csv``) or
    JSON, whose labels are under a key, and have the indices of the file that
    ``CategoricalEncoder.save`` wrote, the recipes' ``label_encoder.txt``. Or of a
    JSON list of the counts.

    Example
    -------
    >>> path = getfixture("tmp_path") / "counts.json"
    >>> _ = path.write_text("[2063, 1215, 501, 363]")
    >>> read_class_counts(path)
    [2063, 1215, 501, 363]
    """
    text = read_ordinary(path, LARGEST_TABLE)
    if Path(path).suffix == ".csv":
        # As SpeechBrain reads it.
        rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        entries = {str(rows.line_num): row for row in rows}
    else:
        content = parse_json(text, path)
        if isinstance(content, list):
            return _checked(content, path)
        if not isinstance(content, dict):
            raise ValueError(
                f"{path} is neither a manifest nor a list of counts"
            )
        entries = content
    if label_key is None or label_encoder is None:
        raise ValueError(
            f"{path} is a manifest: label_key has to name its key of the label,"
            " and label_encoder the file that tells the index of each label"
        )
    return _count(entries, path, label_key, label_encoder)


def _checked(counts: list[int], path: Path | str) -> list[int]:
    wrong = [count for count in counts if type(count) is not int or count < 1]
    if wrong or not counts:
        raise ValueError(
            f"{path} has to list a positive number for each class, not"
            f" {wrong[0] if wrong else counts!r}"
        )
    return counts


def _count(
    entries: dict[str, dict[str, str]],
    path: Path | str,
    label_key: str,
    label_encoder: Path | str,
) -> list[int]:
    """Counts the entries of a manifest per index of their label."""
    # Here, because the mathematics imports without it.
    from speechbrain.dataio.encoder import CategoricalEncoder

    without = [
        key
        for key, entry in entries.items()
        if not isinstance(entry, dict) or entry.get(label_key) is None
    ]
    if without or not entries:
        raise ValueError(
            f"{path} has no {label_key!r}"
            + (f" in entry {without[0]}" if without else ": it is empty")
        )
    labels = Counter(entry[label_key] for entry in entries.values())
    encoder = CategoricalEncoder()
    encoder.load(label_encoder)
    indices = encoder.lab2ind
    unknown = sorted(str(label) for label in labels if label not in indices)
    if unknown:
        raise ValueError(
            f"{label_encoder} does not know {unknown[0]!r}, a label of {path}:"
            " is it of another training?"
        )
    counts = [0] * (max(indices.values()) + 1)
    for label, count in labels.items():
        counts[indices[label]] = count
    return counts
