"""Configurations side by side, against figures worked out by other means.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.runs.comparison import (
    compare_configurations,
    comparison_rows,
    results_table,
)
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.intervals import (
    bootstrap_differences,
    bootstrap_interval,
    patient_confusions,
)
from qlung_plugin.scores.operating_point import (
    choose_operating_point,
    with_operating_point,
)
from tests.unittests.runs.conftest import evaluation

SCORES = ("sp", "se", "score", "se_two_class", "score_two_class")
TABLES = ["sp", "se", "score", "score_two_class"]  # shown there


TRUTH = ["normal", "crackle", "wheeze", "both"] * 10


def random_evaluation(configuration, seed, skill, truth=TRUTH, **about):
    rng = np.random.default_rng([int(seed), int(100 * skill)])
    guess = rng.choice(LABELS, len(truth))
    right = rng.random(len(truth)) < skill
    prediction = np.where(right, truth, guess).tolist()
    return evaluation(configuration, seed, truth, prediction, **about)


def shares(one):
    """The scores by counting cycles."""
    table = one.predictions
    normal = table["label"] == "normal"
    right = table["label"] == table["prediction"]
    called = table["prediction"] != "normal"
    sp, se = 100 * right[normal].mean(), 100 * right[~normal].mean()
    two_class = 100 * called[~normal].mean()
    mean, mean_two = (sp + se) / 2, (sp + two_class) / 2
    return dict(zip(SCORES, (sp, se, mean, two_class, mean_two)))


def stack(runs):
    return [patient_confusions(one.predictions) for one in runs]


# One row per run


def test_results_table_counts_cycles_and_patients():
    one = evaluation(
        "ce",
        "1",
        ["normal", "normal", "crackle", "wheeze", "both"],
        ["normal", "both", "crackle", "both", "normal"],
        fold="5 pooled",
        epoch="3/4/5/6/7",
    )
    [row] = results_table([one]).to_dict("records")
    assert (
        list(row)
        == (
            "configuration seed fold database partition checkpoint epoch"
            " sp se score se_two_class score_two_class auroc auroc_macro"
            " average_precision_macro sp_at_operating_point"
            " se_at_operating_point score_at_operating_point cycles patients"
        ).split()
    )
    assert row["sp"] == pytest.approx(50)
    assert row["se"] == pytest.approx(100 / 3)
    assert row["score"] == pytest.approx(125 / 3)
    assert row["se_two_class"] == pytest.approx(200 / 3)
    assert row["score_two_class"] == pytest.approx(175 / 3)
    assert (row["cycles"], row["patients"]) == (5, 3)
    assert (row["fold"], row["epoch"]) == ("5 pooled", "3/4/5/6/7")


# Configurations


def compare(evaluations, n_resamples=50):
    """The rows by configuration."""
    rows = compare_configurations(evaluations, n_resamples)
    return {row["configuration"]: row for row in rows}


def test_means_deviations_and_intervals():
    runs = {
        name: [random_evaluation(name, s, skill) for s in ("1", "2", "10")]
        for name, skill in (("ce", 0.3), ("qlung", 0.6))
    }
    rows = compare([*runs["ce"], *runs["qlung"]], 500)
    for name, ones in runs.items():
        values = pd.DataFrame([shares(one) for one in ones])[TABLES]
        row = rows[name]
        assert row["seeds"] == row["pairs"] == 3
        assert row["mean"] == pytest.approx(dict(values.mean()))
        assert row["std"] == pytest.approx(dict(values.std(ddof=1)))
        assert row["interval"] == bootstrap_interval(
            stack(ones), 500, place="tables"
        )
    assert np.isnan(list(rows["ce"]["difference"].values())).all()
    assert rows["qlung"]["difference"] == bootstrap_differences(
        stack(runs["qlung"]), stack(runs["ce"]), 500, place="tables"
    )


def test_seeds_are_paired_by_name_not_by_place():
    base = [random_evaluation("ce", s, 0.4) for s in ("1", "2", "3")]
    ours = [random_evaluation("qlung", s, 0.5) for s in ("3", "1")]
    rows = compare([*base, *ours], 300)
    row = rows["qlung"]
    assert row["pairs"] == 2 and row["seeds"] == 2
    assert row["difference"] == bootstrap_differences(
        stack(ours), stack([base[2], base[0]]), 300, place="tables"
    )
    # The mean of the other is over all three, so this is not their difference.
    apart = row["mean"]["score"] - rows["ce"]["mean"]["score"]
    assert row["difference"]["score"][0] != pytest.approx(apart)


SAME = "not judged on the same cycles as a"


@pytest.mark.parametrize(
    "seed, about, reason",
    [
        ("7", {}, "no seed in common with a"),
        ("1", {"truth": TRUTH[:-1]}, SAME),
        ("1", {"truth": TRUTH[::-1]}, SAME),
        ("1", {"patient": ["x"] * len(TRUTH)}, SAME),
    ],
)
def test_what_cannot_be_paired_is_not_compared(seed, about, reason):
    other = random_evaluation("b", seed, 0.5, **about)
    row = compare([random_evaluation("a", "1", 0.5), other])["b"]
    assert row["unpaired"] == reason and row["pairs"] == 0
    assert np.isnan(list(row["difference"].values())).all()
    assert np.isfinite(list(row["mean"].values())).all()


def test_seeds_of_one_configuration_on_different_cycles_are_refused():
    runs = [
        random_evaluation("ce", "1", 0.5),
        random_evaluation("ce", "2", 0.5, truth=TRUTH[:-2]),
    ]
    with pytest.raises(ValueError, match="ce/1 and ce/2 were not judged on"):
        compare(runs)


def test_one_seed_has_no_deviation_but_an_interval_over_patients():
    row = compare([random_evaluation("ce", "1", 0.5)], 200)["ce"]
    low, high = row["interval"]["sp"]
    assert np.isnan(row["std"]["sp"])
    assert low < row["mean"]["sp"] < high


def test_undefined_scores_stay_undefined(caplog):
    truth = ["normal"] * 8
    runs = [
        evaluation(name, seed, truth, [guess] * 8)
        for name, guess in (("a", "normal"), ("b", "both"))
        for seed in ("1", "2")
    ]
    row = compare(runs)["b"]
    for score in ("se", "score"):
        figures = [row[k][score] for k in ("mean", "std")]
        figures += [*row["interval"][score], *row["difference"][score]]
        assert np.isnan(figures).all()
    assert row["difference"]["sp"][0] == -100
    assert "50 of 50 resamples" in caplog.text


# The operating point


def shifted(configuration, seed, offset):
    """The same model but for how readily it calls a cycle normal."""
    rng = np.random.default_rng(int(seed))
    truth = np.array([LABELS.index(label) for label in 6 * TRUTH])
    logits = rng.normal(size=(len(truth), 4)) + 2 * np.eye(4)[truth]
    logits[:, 0] += offset
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    called = np.array(LABELS)[shares.argmax(1)].tolist()
    one = evaluation(configuration, seed, 6 * TRUTH, called)
    table = one.predictions.assign(
        **{f"p_{label}": share for label, share in zip(LABELS, shares.T)}
    )
    point = choose_operating_point(table, LABELS)
    one.predictions = with_operating_point(table, point, LABELS)
    return one


def test_a_shift_of_the_operating_point_is_seen_to_be_one():
    runs = [
        shifted(name, seed, offset)
        for name, offset in (("ce", 3), ("margin", 0.5))
        for seed in ("1", "2")
    ]
    rows = {
        (row["configuration"], row["decision"]): row
        for row in comparison_rows(runs)
    }
    plain = rows["margin", ""]["difference"]
    at_point = rows["margin", ", at the operating point"]["difference"]
    assert plain["score"][1] > 5  # looks like a gain
    assert at_point["score"] == (0, 0, 0)
    assert "auroc" not in at_point and abs(plain["auroc"][0]) < 2
    assert rows["margin", ", at the operating point"]["differences"][-1] == ""
    table = results_table(runs)
    assert table["score_at_operating_point"][0] == pytest.approx(
        table["score_at_operating_point"][2]
    )
    runs[0].predictions = runs[0].predictions.iloc[:, :-1]
    decisions = [
        (row["configuration"], row["decision"]) for row in comparison_rows(runs)
    ]
    assert decisions == [
        ("ce", ""),
        ("margin", ""),
        ("margin", ", at the operating point"),
    ]
