"""Areas, risk-coverage curves and quartiles against explicit computation."""

import logging
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, mannwhitneyu, spearmanr
from sklearn.metrics import roc_auc_score

from qlung_plugin.scores.icbhi_score import LABELS, prediction_metrics
from qlung_plugin.scores.quality_analysis import (
    compare_with_errors,
    compare_with_experts,
    quality_columns,
    quality_quartile,
    risk_coverage,
    scores_by_quartile,
)
from qlung_plugin.scores.roc import area_interval, bootstrap_areas


def recordings(n=374, patients=109, seed=0, decimals=2):
    """Scores with ties, classes and patients, the scores a bit informative."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    score = (rng.normal(size=n) + 0.7 * positive).round(decimals)
    patient = [f"p{number}" for number in rng.integers(0, patients, n)]
    return score, positive, np.array(patient)


def predictions(n=300, patients=25, seed=0):
    """A table in which a high quality goes with being right."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"label": rng.choice(LABELS, n, p=[0.6, 0.2, 0.1, 0.1])}
    )
    table["patient"] = rng.integers(0, patients, n).astype(str)
    table["quality"] = rng.random(n).round(2)
    right = rng.random(n) < 0.3 + 0.6 * table["quality"]
    table["prediction"] = np.where(right, table["label"], rng.choice(LABELS, n))
    probabilities = rng.dirichlet(np.ones(4), n)
    table[[f"p_{name}" for name in LABELS]] = probabilities
    table["quality_constant"] = 0.5
    table["quality_partly"] = table["quality"].where(rng.random(n) < 0.8)
    table["quality_never"] = np.nan
    return table


# Area under the ROC curve


@pytest.mark.parametrize("decimals", [0, 1, 6])
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
    for counts, found in zip(draws, resampled, strict=True):
        rows = np.concatenate(
            [
                np.flatnonzero(patient == name)
                for name, count in zip(names, counts)
                for _ in range(count)
            ]
        )
        expected = roc_auc_score(positive[rows], score[rows])
        assert found == pytest.approx(expected, abs=1e-12)


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
    found = area_interval(score, positive, patient)
    assert found["area"] == pytest.approx(roc_auc_score(positive, score))
    # Two standard errors of a 2.5 % quantile of 1,000 resamples or so.
    assert found["interval"] == pytest.approx(list(reference), abs=0.015)


def test_ten_thousand_resamples_are_fast():
    score, positive, patient = recordings()
    start = time.perf_counter()
    bootstrap_areas(score, positive, patient, n_resamples=10000)
    assert time.perf_counter() - start < 2


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


def test_same_seed_draws_two_measures_alike():
    score, positive, patient = recordings()
    _, up = bootstrap_areas(score, positive, patient, 100, seed=1)
    _, down = bootstrap_areas(-score, positive, patient, 100, seed=1)
    np.testing.assert_allclose(up + down, 1)
    _, other = bootstrap_areas(score, positive, patient, 100, seed=2)
    assert not np.allclose(up, other)


def test_order_of_the_rows_does_not_matter():
    score, positive, patient = recordings()
    order = np.random.default_rng(0).permutation(len(score))
    expected = area_interval(score, positive, patient)
    assert area_interval(score[order], positive[order], patient[order]) == (
        expected
    )


@pytest.mark.parametrize("rows", [0, 5])
def test_area_of_one_class_is_undefined(rows):
    patient = list("ababa")[:rows]
    found = area_interval(range(rows), [True] * rows, patient, 50)
    assert np.isnan([found["area"], *found["interval"]]).all()


def test_one_patient_has_no_interval():
    found = area_interval([1, 2], [False, True], ["a", "a"])
    assert found["area"] == 1
    assert np.isnan(found["interval"]).all()


def test_resamples_of_one_class_are_left_out_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        found = area_interval(
            [1, 3, 2], [True, False, False], ["a", "b", "c"], n_resamples=1000
        )
    assert found == {"area": 0.0, "interval": [0.0, 0.0]}
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


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_impossible_confidence(confidence):
    with pytest.raises(ValueError, match="confidence must be in"):
        area_interval([1, 2], [True, False], ["a", "b"], confidence=confidence)


# Against experts


def test_low_quality_finds_the_poor():
    table = pd.DataFrame({"patient": list("aabbcc")})
    table["poor"] = [True, True, False, False, False, False]
    table["good"] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    table["bad"] = 1 - table["good"]
    table["partly"] = [0.1, None, 0.05, 0.4, None, 0.6]
    found = compare_with_experts(table, ["good", "bad", "partly"], 100)
    assert found["good"]["area"] == 1
    assert found["bad"]["area"] == 0
    # Of the three pairs with the one measured poor recording, two are right.
    assert found["partly"]["area"] == pytest.approx(2 / 3)
    counts = {k: found["partly"][k] for k in ("recordings", "poor", "patients")}
    assert counts == {"recordings": 4, "poor": 1, "patients": 3}
    assert found["partly"]["missing"] == 2
    assert found["good"]["missing"] == 0


# Risk and coverage


def expected_risk(score, correct, draws=4000):
    """By sorting, ties in random order, many times."""
    rng = np.random.default_rng(0)
    risks = []
    for _ in range(draws):
        order = np.lexsort((rng.random(len(score)), -np.asarray(score)))
        errors = ~np.asarray(correct)[order]
        risks.append([errors[: k + 1].mean() for k in range(len(errors))])
    return np.mean(risks, axis=0)


def test_risk_by_hand():
    coverage, risk = risk_coverage(
        [0.2, 0.9, 0.5, 0.7], [False, True, True, False]
    )
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_ties_are_set_aside_in_random_order():
    score = [0.3, 0.3, 0.3, 0.8, 0.8, 0.1]
    correct = [True, False, False, True, False, False]
    _, risk = risk_coverage(score, correct)
    assert risk == pytest.approx(expected_risk(score, correct), abs=0.02)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_constant_score_is_as_good_as_random(correct):
    _, risk = risk_coverage([0.5] * len(correct), correct)
    assert risk == pytest.approx([1 - np.mean(correct)] * len(correct))


def test_knowing_all_errors_is_best():
    rng = np.random.default_rng(0)
    correct = rng.random(100) < 0.7
    _, best = risk_coverage(correct.astype(float), correct)
    kept = np.arange(1, 101)
    right = correct.sum()
    assert best == pytest.approx(np.maximum(kept - right, 0) / kept)
    for seed in range(5):
        other = np.random.default_rng(seed).random(100)
        assert risk_coverage(other, correct)[1].mean() > best.mean()


def test_risk_of_a_missing_score():
    with pytest.raises(ValueError, match="score is missing"):
        risk_coverage([0.1, None], [True, False])


# Quartiles


def test_quartiles_without_ties_are_of_equal_size_in_order():
    quality = pd.Series(np.random.default_rng(0).permutation(80) / 80)
    quartile = quality_quartile(quality)
    assert quartile.value_counts().to_dict() == {1: 20, 2: 20, 3: 20, 4: 20}
    assert quality.groupby(quartile).max().is_monotonic_increasing
    for number in (1, 2, 3):
        lower = quality[quartile == number].max()
        assert lower < quality[quartile == number + 1].min()


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=1))
@settings(max_examples=50, deadline=None)
def test_equal_quality_is_in_one_quartile(values):
    quality = pd.Series(values)
    quartile = quality_quartile(quality)
    assert (quartile.groupby(quality).nunique() == 1).all()
    assert quartile.between(1, 4).all()
    ordered = quartile.groupby(quality).first()
    assert ordered.is_monotonic_increasing


def test_scores_of_the_quartiles_are_those_of_their_rows():
    table = predictions()
    quartile = quality_quartile(table["quality"])
    found = scores_by_quartile(table, "quality")
    assert sum(row["cycles"] for row in found) == len(table)
    for row in found:
        rows = table[quartile == row["quartile"]]
        metrics = prediction_metrics(rows["label"], rows["prediction"])
        for name in ("sp", "se", "score"):
            assert row[name] == metrics[name]
        right = (rows["label"] == rows["prediction"]).mean()
        assert row["accuracy"] == pytest.approx(100 * right)
        assert row["normal"] == metrics["counts"]["normal"]
        assert row["lowest"] == rows["quality"].min()
        assert row["highest"] == rows["quality"].max()


def test_all_equal_leaves_quartiles_empty():
    found = scores_by_quartile(predictions(), "quality_constant")
    assert [row["cycles"] for row in found] == [0, 0, 300, 0]
    assert np.isnan([found[0][key] for key in ("accuracy", "score")]).all()


# Against the model's errors


def test_quality_columns_in_order():
    assert quality_columns(predictions()) == [
        "quality",
        "quality_constant",
        "quality_partly",
        "quality_never",
    ]


def test_figures_against_the_errors_are_those_of_scipy_and_scikit_learn():
    table = predictions()
    found = compare_with_errors(table, n_resamples=200)["quality"]
    correct = table["label"] == table["prediction"]
    reference = spearmanr(table["quality"], correct)
    assert found["spearman"] == pytest.approx(reference.statistic)
    assert found["p_value"] == pytest.approx(reference.pvalue)
    area = roc_auc_score(correct, table["quality"])
    assert found["area"] == pytest.approx(area)
    low, high = found["interval"]
    assert low < area < high
    _, risk = risk_coverage(table["quality"], correct)
    assert found["aurc"] == pytest.approx(100 * risk.mean())
    assert found["error"] == pytest.approx(100 * (1 - correct.mean()))
    assert found["gain"] == pytest.approx(found["error"] - found["aurc"])
    assert found["gain"] > 5  # the table is made so
    assert found["patients"] == table["patient"].nunique()


def test_confidence_is_the_largest_probability():
    table = predictions()
    correct = table["label"] == table["prediction"]
    # A model that is sure where it is right.
    table["p_normal"] = np.where(correct, 0.97, 0.4)
    table[["p_crackle", "p_wheeze", "p_both"]] = 0.01
    found = compare_with_errors(table, n_resamples=20)["confidence"]
    assert found["area"] == 1
    assert found["cycles"] == len(table)


def test_unmeasured_cycles_are_left_out_and_counted():
    table = predictions()
    found = compare_with_errors(table, n_resamples=20)
    measured = table[table["quality_partly"].notna()]
    alone = compare_with_errors(measured, n_resamples=20)["quality"]
    partly = found["quality_partly"]
    assert partly["missing"] == len(table) - len(measured) > 0
    assert {**partly, "missing": 0} == alone


def test_measure_without_any_value_is_told_and_undefined():
    found = compare_with_errors(predictions(), n_resamples=20)["quality_never"]
    assert (found["cycles"], found["missing"]) == (0, 300)
    figures = ("error", "aurc", "gain", "area", "spearman", "p_value")
    assert np.isnan([found[name] for name in figures]).all()
    assert [row["cycles"] for row in found["quartiles"]] == [0, 0, 0, 0]


def test_constant_measure_gains_nothing_and_correlates_with_nothing():
    found = compare_with_errors(predictions(), n_resamples=20)
    constant = found["quality_constant"]
    assert constant["gain"] == pytest.approx(0, abs=1e-9)
    assert constant["area"] == 0.5
    assert constant["interval"] == [0.5, 0.5]
    assert np.isnan(constant["spearman"])


def test_model_that_is_always_right():
    table = predictions()
    table["prediction"] = table["label"]
    found = compare_with_errors(table, n_resamples=20)["quality"]
    assert found["error"] == found["aurc"] == found["gain"] == 0
    assert np.isnan([found["area"], found["spearman"]]).all()


def test_table_that_lacks_columns_or_rows():
    with pytest.raises(ValueError, match=r"lacks the columns \['p_both'\]"):
        compare_with_errors(predictions().drop(columns="p_both"))
    with pytest.raises(ValueError, match="has 0 rows"):
        compare_with_errors(predictions()[:0])


def test_unknown_label_is_an_error():
    table = predictions()
    table.loc[0, "label"] = "stridor"
    with pytest.raises(ValueError, match="stridor"):
        compare_with_errors(table, n_resamples=20)
