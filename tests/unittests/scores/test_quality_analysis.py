"""Areas, risk-coverage curves and quartiles against explicit computation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from qlung_plugin.scores.icbhi_score import LABELS, prediction_metrics
from qlung_plugin.scores.quality_analysis import (
    compare_with_errors,
    compare_with_experts,
    quality_quartile,
    risk_coverage,
    scores_by_quartile,
)


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


# Against experts


def test_low_quality_finds_the_poor():
    table = pd.DataFrame({"patient": list("aabbcc")})
    table["poor"] = [True, True, False, False, False, False]
    table["good"] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    table["bad"] = 1 - table["good"]
    table["partly"] = [0.1, None, 0.05, 0.4, None, 0.6]
    results = compare_with_experts(table, ["good", "bad", "partly"], 100)
    assert results["good"]["area"] == 1
    assert results["bad"]["area"] == 0
    # Of the three pairs with the one measured poor recording, two are right.
    assert results["partly"]["area"] == pytest.approx(2 / 3)
    counts = {
        k: results["partly"][k] for k in ("recordings", "poor", "patients")
    }
    assert counts == {"recordings": 4, "poor": 1, "patients": 3}
    assert results["partly"]["missing"] == 2
    assert results["good"]["missing"] == 0


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


def test_ties_are_set_aside_in_random_order():
    score = [0.3, 0.3, 0.3, 0.8, 0.8, 0.1]
    correct = [True, False, False, True, False, False]
    _, risk = risk_coverage(score, correct)
    assert risk == pytest.approx(expected_risk(score, correct), abs=0.02)


def test_risk_of_a_missing_score():
    with pytest.raises(ValueError, match="score is missing"):
        risk_coverage([0.1, None], [True, False])


# Quartiles


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
    results = scores_by_quartile(table, "quality")
    assert sum(row["cycles"] for row in results) == len(table)
    for row in results:
        rows = table[quartile == row["quartile"]]
        metrics = prediction_metrics(rows["label"], rows["prediction"])
        for name in ("sp", "se", "score"):
            assert row[name] == metrics[name]
        right = (rows["label"] == rows["prediction"]).mean()
        assert row["accuracy"] == pytest.approx(100 * right)
        assert row["normal"] == metrics["counts"]["normal"]
        assert row["lowest"] == rows["quality"].min()
        assert row["highest"] == rows["quality"].max()


# Against the model's errors


def test_figures_against_the_errors_are_those_of_scipy_and_scikit_learn():
    table = predictions()
    results = compare_with_errors(table, n_resamples=200)["quality"]
    correct = table["label"] == table["prediction"]
    reference = spearmanr(table["quality"], correct)
    assert results["spearman"] == pytest.approx(reference.statistic)
    assert results["p_value"] == pytest.approx(reference.pvalue)
    area = roc_auc_score(correct, table["quality"])
    assert results["area"] == pytest.approx(area)
    low, high = results["interval"]
    assert low < area < high
    _, risk = risk_coverage(table["quality"], correct)
    assert results["aurc"] == pytest.approx(100 * risk.mean())
    assert results["error"] == pytest.approx(100 * (1 - correct.mean()))
    assert results["gain"] == pytest.approx(results["error"] - results["aurc"])
    assert results["gain"] > 5  # the table is made so
    assert results["patients"] == table["patient"].nunique()


def test_confidence_is_the_largest_probability():
    table = predictions()
    correct = table["label"] == table["prediction"]
    # A model that is sure where it is right.
    table["p_normal"] = np.where(correct, 0.97, 0.4)
    table[["p_crackle", "p_wheeze", "p_both"]] = 0.01
    results = compare_with_errors(table, n_resamples=20)["confidence"]
    assert results["area"] == 1
    assert results["cycles"] == len(table)


def test_unmeasured_cycles_are_left_out_and_counted():
    table = predictions()
    results = compare_with_errors(table, n_resamples=20)
    measured = table[table["quality_partly"].notna()]
    alone = compare_with_errors(measured, n_resamples=20)["quality"]
    partly = results["quality_partly"]
    assert partly["missing"] == len(table) - len(measured) > 0
    assert {**partly, "missing": 0} == alone


def test_measure_without_any_value_is_told_and_undefined():
    results = compare_with_errors(predictions(), n_resamples=20)[
        "quality_never"
    ]
    assert (results["cycles"], results["missing"]) == (0, 300)
    figures = ("error", "aurc", "gain", "area", "spearman", "p_value")
    assert np.isnan([results[name] for name in figures]).all()
    assert [row["cycles"] for row in results["quartiles"]] == [0, 0, 0, 0]


def test_constant_measure_gains_nothing_and_correlates_with_nothing():
    results = compare_with_errors(predictions(), n_resamples=20)
    constant = results["quality_constant"]
    assert constant["gain"] == pytest.approx(0, abs=1e-9)
    assert constant["area"] == 0.5
    assert constant["interval"] == [0.5, 0.5]
    assert np.isnan(constant["spearman"])


def test_table_that_lacks_columns_or_rows():
    with pytest.raises(ValueError, match=r"lacks the columns \['p_both'\]"):
        compare_with_errors(predictions().drop(columns="p_both"))
    with pytest.raises(ValueError, match="has 0 rows"):
        compare_with_errors(predictions()[:0])
