"""Areas under the ROC curve against scikit-learn, SciPy and explicit draws.

Authors
 * qlung_plugin contributors
"""

import logging

import numpy as np
import pytest
from scipy.stats import bootstrap, mannwhitneyu
from sklearn.metrics import roc_auc_score

from qlung_plugin.scores.roc import area_interval, bootstrap_areas


def recordings(n=374, patients=109, seed=0, decimals=2):
    """Scores with ties, classes and patients, the scores a bit informative."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    score = (rng.normal(size=n) + 0.7 * positive).round(decimals)
    patient = [f"p{number}" for number in rng.integers(0, patients, n)]
    return score, positive, np.array(patient)


@pytest.mark.parametrize("decimals", [0, 6])
def test_area_is_scikit_learns_ties_included(decimals):
    score, positive, patient = recordings(decimals=decimals)
    area, _ = bootstrap_areas(score, positive, patient, n_resamples=1)
    assert area == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    statistic = mannwhitneyu(score[positive], score[~positive]).statistic
    pairs = positive.sum() * (~positive).sum()
    assert area == pytest.approx(statistic / pairs, abs=1e-12)


def test_resampled_areas_are_those_of_explicitly_resampled_rows():
    score, positive, patient = recordings(n=60, patients=9, decimals=1)
    _, resampled = bootstrap_areas(
        score, positive, patient, n_resamples=200, seed=3
    )
    names = np.unique(patient)
    draws = np.random.default_rng(3).multinomial(
        len(names), np.full(len(names), 1 / len(names)), 200
    )
    for counts, results in zip(draws, resampled, strict=True):
        rows = np.concatenate(
            [
                np.flatnonzero(patient == name)
                for name, count in zip(names, counts)
                for _ in range(count)
            ]
        )
        expected = roc_auc_score(positive[rows], score[rows])
        assert results == pytest.approx(expected, abs=1e-12)


def test_interval_is_scipys_over_patients():
    score, positive, patient = recordings(n=200, patients=40)
    names = np.unique(patient)
    rows_of = [np.flatnonzero(patient == name) for name in names]

    def area(drawn):
        rows = np.concatenate([rows_of[number] for number in drawn])
        good = score[rows][~positive[rows]]
        poor = score[rows][positive[rows]][:, None]
        return (poor > good).mean() + (poor == good).mean() / 2

    reference = bootstrap(
        (np.arange(len(names)),),
        area,
        n_resamples=1000,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval
    results = area_interval(score, positive, patient)
    assert results["area"] == pytest.approx(roc_auc_score(positive, score))
    # Two standard errors of a 2.5 % quantile of 1,000 resamples or so.
    assert results["interval"] == pytest.approx(list(reference), abs=0.015)


def test_patients_and_not_rows_are_resampled():
    score, positive, patient = recordings(n=100, patients=100)
    copies = [np.tile(values, 5) for values in (score, positive, patient)]
    once = area_interval(score, positive, patient)
    # Five copies of each row say nothing new about the patients.
    assert area_interval(*copies)["interval"] == pytest.approx(
        once["interval"], abs=1e-12
    )
    as_if_independent = area_interval(
        copies[0], copies[1], np.arange(500).astype(str)
    )["interval"]
    assert np.ptp(as_if_independent) < 0.6 * np.ptp(once["interval"])


@pytest.mark.parametrize("rows", [0, 5])
def test_area_of_one_class_is_undefined(rows):
    patient = list("ababa")[:rows]
    results = area_interval(range(rows), [True] * rows, patient, 50)
    assert np.isnan([results["area"], *results["interval"]]).all()


def test_one_patient_has_no_interval():
    results = area_interval([1, 2], [False, True], ["a", "a"])
    assert results["area"] == 1
    assert np.isnan(results["interval"]).all()


def test_resamples_of_one_class_are_left_out_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        results = area_interval(
            [1, 3, 2], [True, False, False], ["a", "b", "c"], n_resamples=1000
        )
    assert results == {"area": 0.0, "interval": [0.0, 0.0]}
    # (2 / 3) ** 3 of them lack a, and 1 / 27 have a alone.
    undefined = int(caplog.text.split(" of 1000 ")[0].split()[-1])
    assert undefined == pytest.approx(1000 * 9 / 27, abs=60)


@pytest.mark.parametrize(
    ("score", "positive", "patient", "message"),
    [
        ([1, 2], [True], ["a", "b"], "2 scores, 1 classes and 2 patients"),
        ([1, np.nan], [True, False], ["a", "b"], "is missing"),
        ([1, 2], [True, False], ["a", None], "is missing"),
    ],
)
def test_malformed_rows(score, positive, patient, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_areas(score, positive, patient)
