"""A study's figures are those of a loop over its recordings."""

import math

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.scores.degradation_study import (
    median_scores,
    score_changes,
    severity_correlations,
)

VERSIONS = [
    ("none", None),
    ("white_noise", 20),
    ("white_noise", 0),
    ("dropouts", 0.1),
    ("dropouts", 0.5),
]


@pytest.fixture(name="table")
def fixture_table():
    rng = np.random.default_rng(0)
    rows = [
        {
            "recording": f"r{number}",
            "degradation": kind,
            "degree": degree,
            "snr": rng.random(),
            "flatness": rng.random(),
        }
        for number in range(7)
        for kind, degree in VERSIONS
        # Some versions do not exist of some recordings.
        if number != 3 or kind != "dropouts"
    ]
    return pd.DataFrame(rows)


def scores(table, kind, degree, measure):
    """Of one version, by recording."""
    return {
        row["recording"]: row[measure]
        for _, row in table.iterrows()
        if row["degradation"] == kind
        and (row["degree"] == degree or kind == "none")
    }


def test_medians_are_those_of_each_version(table):
    medians = median_scores(table, ["snr", "flatness"])
    assert medians["degradation"].tolist() == [kind for kind, _ in VERSIONS]
    for (kind, degree), (_, row) in zip(VERSIONS, medians.iterrows()):
        for name in ("snr", "flatness"):
            values = sorted(scores(table, kind, degree, name).values())
            assert row[name] == pytest.approx(np.median(values))


def medians_of(kind, none, **by_degree):
    rows = [("none", None, none)] + [
        (kind, float(degree.strip("_").replace("_", ".")), value)
        for degree, value in by_degree.items()
    ]
    return pd.DataFrame(rows, columns=["degradation", "degree", "snr"])


@pytest.mark.parametrize(
    ("kind", "none", "by_degree", "expected"),
    [
        # A lower ratio is worse, a higher share is.
        ("white_noise", 0.9, {"_20": 0.8, "_10": 0.5, "_0": 0.1}, -1),
        ("clipping", 0.9, {"_0_5": 0.8, "_0_3": 0.5, "_0_1": 0.1}, -1),
        # The order of the rows does not matter.
        ("dropouts", 0.9, {"_0_5": 0.1, "_0_1": 0.8, "_0_3": 0.5}, -1),
        # Ranks 1 2 3 4 and 3 4 2 1: 1 - 6 * (4 + 4 + 1 + 9) / (4 * 15).
        ("lost_contact", 0.3, {"_0_1": 0.4, "_0_2": 0.2, "_0_3": 0.1}, -0.8),
    ],
)
def test_correlation_by_hand(kind, none, by_degree, expected):
    medians = medians_of(kind, none, **by_degree)
    results = severity_correlations(medians, ["snr"])
    assert results.index.tolist() == [kind]
    assert results.loc[kind, "snr"] == pytest.approx(expected)


def test_score_that_does_not_move_has_no_correlation():
    medians = medians_of("dropouts", 0.5, _0_1=0.5, _0_3=0.5)
    assert math.isnan(severity_correlations(medians, ["snr"]).iloc[0, 0])


def test_correlation_with_an_unknown_kind():
    medians = medians_of("reverberation", 0.5, _1=0.4)
    with pytest.raises(KeyError, match="reverberation"):
        severity_correlations(medians, ["snr"])


def test_changes_are_those_of_each_recording(table):
    changes = score_changes(table, ["snr", "flatness"])
    assert len(changes) == len(VERSIONS) - 1
    for _, row in changes.iterrows():
        version = row["degradation"], row["degree"]
        for name in ("snr", "flatness"):
            before = scores(table, "none", None, name)
            after = scores(table, *version, name)
            moved = [abs(after[key] - before[key]) for key in after]
            assert row["recordings"] == len(moved)
            assert row[f"{name}_median"] == pytest.approx(np.median(moved))
            assert row[f"{name}_p95"] == pytest.approx(np.quantile(moved, 0.95))
    assert set(changes["recordings"]) == {6, 7}
