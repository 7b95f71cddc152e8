"""A recording that is classified gets what the recipe's test stage gave it.

Authors
 * qlung_plugin contributors
"""

import json
from pathlib import Path

import numpy as np
import pytest

from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.runs.predictions import read_predictions
from qlung_plugin.scores.operating_point import (
    AT_POINT,
    shares_at,
    with_operating_point,
)

LABELS = ["normal", "crackle", "wheeze", "both"]


def recordings_of(manifest, data_root):
    """Files, and the ids of their cycles in the order of time."""
    files = {}
    entries = json.loads(manifest.read_text())
    for cycle, entry in entries.items():
        path = entry["wav"]["file"].replace("{data_root}", str(data_root))
        files.setdefault(path, []).append((entry["wav"]["start"], cycle))
    return {
        Path(path): [cycle for _, cycle in sorted(cycles)]
        for path, cycles in files.items()
    }


def assert_equal_to_predictions(classified, predictions, ids, point):
    scores = [f"p_{label}" for label in LABELS]
    expected = predictions.set_index("id").loc[ids]
    assert len(classified) == len(ids)
    difference = np.abs(classified[scores].values - expected[scores].values)
    assert difference.max() < 1e-5
    # A point is chosen where two cycles tie: there, the last digit decides.
    shares = shares_at(expected[scores], point)
    for table, name in ((classified, "prediction"), (expected, AT_POINT)):
        called = shares[np.arange(len(ids)), table[name].map(LABELS.index)]
        assert (called > shares.max(axis=1) - 1e-5).all()
    # The file has six decimals.
    np.testing.assert_allclose(
        classified["quality"], expected["quality"], atol=1e-6
    )


@pytest.fixture(scope="module")
def model(icbhi_run):
    return RespiratorySoundClassifier.from_hparams(icbhi_run)


def test_probabilities_are_those_of_the_test_stage(model, icbhi_run, corpus):
    predictions = with_operating_point(
        read_predictions(icbhi_run / "predictions.csv"),
        model.operating_point,
        LABELS,
    )
    files = recordings_of(icbhi_run / "test.json", corpus)
    assert sum(map(len, files.values())) == len(predictions) > 10
    for path, ids in files.items():
        cycles, summary = model.classify_file(path)
        assert summary["cycle_source"] == str(path.with_suffix(".txt"))
        point = list(model.operating_point.values())
        assert_equal_to_predictions(cycles, predictions, ids, point)
