"""Tests of what durations alone tell.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from qlung_plugin.dataio.labels import LABELS
from qlung_plugin.scores.duration import describe_duration, duration_alone


def cycles(seed=0, longer=0.0, count=200):
    """Of 20 patients; abnormal cycles are longer by so many seconds."""
    rng = np.random.default_rng(seed)
    label = rng.choice(LABELS, count)
    duration = rng.uniform(1, 3, count).round(1)
    return pd.DataFrame(
        {
            "duration": duration + longer * (label != "normal"),
            "label": label,
            "patient": rng.integers(20, size=count).astype(str),
        }
    )


@pytest.mark.parametrize("longer", [-0.8, 0.4])
def test_against_scikit_learn_in_the_direction_that_suits(longer):
    table = cycles(longer=longer)
    figures = duration_alone(table, LABELS)
    sign = np.sign(longer)
    expected = roc_auc_score(
        table["label"] != "normal", sign * table["duration"]
    )
    assert figures["auroc"] == pytest.approx(100 * expected)
    assert figures["abnormal"] == ("longer" if longer > 0 else "shorter")
    low, high = figures["interval"]
    assert 50 < low < figures["auroc"] < high < 100


def test_the_other_direction_is_the_mirror():
    table = cycles(longer=0.3)
    turned = table.assign(duration=4 - table["duration"])
    figures, mirrored = (duration_alone(t, LABELS) for t in (table, turned))
    assert mirrored["abnormal"] == "shorter"
    assert mirrored["auroc"] == pytest.approx(figures["auroc"])
    assert mirrored["interval"] == pytest.approx(figures["interval"])


def test_what_is_not_known():
    table = cycles()
    assert duration_alone(table.drop(columns="duration"), LABELS) is None
    holes = table.assign(duration=table["duration"].where(table.index > 0))
    assert duration_alone(holes, LABELS) is None
    normal = table[table["label"] == "normal"]
    assert duration_alone(normal, LABELS) is None
    assert duration_alone(table, ["S1", *LABELS[1:]]) is None
    assert describe_duration(None) == "not known"
