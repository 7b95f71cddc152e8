"""Configurations side by side, against figures worked out by other means.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.runs.comparison import compare_configurations, results_table
from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.intervals import (
    bootstrap_differences,
    bootstrap_interval,
    patient_confusions,
)

SCORES = ("sp", "se", "score", "se_two_class", "score_two_class")


def evaluation(configuration, seed, label, prediction, patient=None, **about):
    """An evaluation of cycles c0, c1, ...; two to a patient by default."""
    count = len(label)
    cycles = pd.DataFrame(
        {
            "id": [f"c{index:03d}" for index in range(count)],
            "patient": patient or [str(index // 2) for index in range(count)],
            "label": label,
            "prediction": prediction,
        }
    )
    return Evaluation(
        **{
            "configuration": configuration,
            "seed": seed,
            "database": "ICBHI 2017",
            "partition": "test side of the official split",
            "checkpoint": "selected",
            "epoch": "3",
            "selection": "best validation score",
            "protocol": "official split",
            "labels": LABELS,
            "predictions": cycles,
            "folder": Path(configuration, seed),
            **about,
        }
    )


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
            " sp se score se_two_class score_two_class cycles patients"
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


def test_means_deviations_and_intervals():
    runs = {
        name: [random_evaluation(name, s, skill) for s in ("1", "2", "10")]
        for name, skill in (("ce", 0.3), ("qlung", 0.6))
    }
    table = compare_configurations([*runs["ce"], *runs["qlung"]], 500)
    table = table.set_index(["configuration", "score"])
    for name, ones in runs.items():
        values = [shares(one) for one in ones]
        interval = bootstrap_interval(stack(ones), 500)
        for score in SCORES:
            row = table.loc[name, score]
            expected = [value[score] for value in values]
            assert row["seeds"] == 3
            assert row["mean"] == pytest.approx(np.mean(expected))
            assert row["std"] == pytest.approx(np.std(expected, ddof=1))
            assert (row["low"], row["high"]) == interval[score]
    assert table.loc["ce"]["difference"].isna().all()
    expected = bootstrap_differences(
        stack(runs["qlung"]), stack(runs["ce"]), 500
    )
    for score in SCORES:
        row = table.loc["qlung", score]
        ends = ["difference", "difference_low", "difference_high"]
        assert tuple(row[ends]) == expected[score]
        assert row["pairs"] == 3


def test_seeds_are_paired_by_name_not_by_place():
    base = [random_evaluation("ce", s, 0.4) for s in ("1", "2", "3")]
    ours = [random_evaluation("qlung", s, 0.5) for s in ("3", "1")]
    table = compare_configurations([*base, *ours], 300)
    row = table.set_index(["configuration", "score"]).loc["qlung", "score"]
    expected = bootstrap_differences(
        stack(ours), stack([base[2], base[0]]), 300
    )["score"]
    assert row["pairs"] == 2 and row["seeds"] == 2
    assert row["difference"] == pytest.approx(expected[0])
    assert row["difference_low"] == pytest.approx(expected[1])
    assert row["difference_high"] == pytest.approx(expected[2])
    # The mean of the other is over all three, so this is not their difference.
    means = table[table["score"] == "score"].set_index("configuration")["mean"]
    assert row["difference"] != pytest.approx(means["qlung"] - means["ce"])


@pytest.mark.parametrize(
    "other, reason",
    [
        (random_evaluation("b", "7", 0.5), "no seed in common with a"),
        (
            random_evaluation("b", "1", 0.5, truth=TRUTH[:-1]),
            "not judged on the same cycles as a",
        ),
        (
            random_evaluation("b", "1", 0.5, truth=TRUTH[::-1]),
            "not judged on the same cycles as a",
        ),
        (
            random_evaluation("b", "1", 0.5, patient=["x"] * len(TRUTH)),
            "not judged on the same cycles as a",
        ),
    ],
)
def test_what_cannot_be_paired_is_not_compared(other, reason):
    table = compare_configurations(
        [random_evaluation("a", "1", 0.5), other], 50
    )
    ours = table[table["configuration"] == "b"]
    assert set(ours["unpaired"]) == {reason}
    assert set(ours["pairs"]) == {0}
    assert ours["difference"].isna().all()
    assert ours["mean"].notna().all()


def test_seeds_of_one_configuration_on_different_cycles_are_refused():
    runs = [
        random_evaluation("ce", "1", 0.5),
        random_evaluation("ce", "2", 0.5, truth=TRUTH[:-2]),
    ]
    with pytest.raises(ValueError, match="ce/1 and ce/2 were not judged on"):
        compare_configurations(runs, 50)


def test_one_seed_has_no_deviation_but_an_interval_over_patients():
    [row] = (
        compare_configurations([random_evaluation("ce", "1", 0.5)], 200)
        .query("score == 'sp'")
        .to_dict("records")
    )
    assert np.isnan(row["std"])
    assert row["low"] < row["mean"] < row["high"]


def test_undefined_scores_stay_undefined(caplog):
    truth = ["normal"] * 8
    runs = [
        evaluation(name, seed, truth, [guess] * 8)
        for name, guess in (("a", "normal"), ("b", "both"))
        for seed in ("1", "2")
    ]
    table = compare_configurations(runs, 50)
    table = table.set_index(["configuration", "score"])
    for score in ("se", "score"):
        columns = ["mean", "std", "low", "high", "difference"]
        assert table.loc["b", score][columns].isna().all()
    assert table.loc["b", "sp"]["difference"] == -100
    assert "50 of 50 resamples" in caplog.text
