"""Tests of the table of metrics: whatever shows figures reads it.

Authors
 * qlung_plugin contributors
"""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
)

from qlung_plugin.runs.comparison import results_table
from qlung_plugin.runs.evaluations import read_evaluations
from qlung_plugin.runs.experiment_report import format_experiments
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.scores.icbhi_score import prediction_metrics
from qlung_plugin.scores.intervals import (
    bootstrap_interval,
    patient_outcomes,
    run_scores,
)
from qlung_plugin.scores.metrics import (
    CLASS_METRICS,
    METRICS,
    OF_DECISIONS,
    PLACES,
    WITHOUT_NORMAL,
    Metric,
    always_normal,
    always_the_same,
    metrics_in,
    metrics_of,
)
from qlung_plugin.scores.operating_point import (
    choose_operating_point,
    normal_point,
)
from tests.unittests.report_runs import (
    Tables,
    render,
    write_recordings,
    write_run,
)


def balanced_accuracy(confusion):
    """The mean recall of the classes, which all have cycles here."""
    counts = confusion.sum(-1)
    return 100 * (np.diagonal(confusion, 0, -2, -1) / counts).mean(-1)


@pytest.fixture
def row(monkeypatch):
    """A row that is added, and what it is of a run's counts."""
    metric = Metric(
        name="balanced accuracy",
        heading="Balanced",
        rule="mean recall of the classes",
        compute=balanced_accuracy,
        shown="strata",
    )
    monkeypatch.setitem(METRICS, "balanced", metric)


def test_a_row_is_all_that_a_metric_takes(row, tmp_path):
    recordings = write_recordings(tmp_path / "data")
    runs = [
        write_run(tmp_path / "ce" / str(seed), recordings, seed)
        for seed in (1, 2)
    ]
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    results = metrics["selected"]
    recalls = results["recall"].values()
    assert results["balanced"] == pytest.approx(sum(recalls) / 4)
    low, high = results["interval"]["balanced"]
    assert low < results["balanced"] < high
    for group in results["strata"]["device"].values():
        assert 0 < group["balanced"] <= 100
    report = (runs[0] / "report.txt").read_text()
    assert f"balanced accuracy {results['balanced']:.2f}" in " ".join(
        report.split()
    )
    evaluations = [
        one
        for run in runs
        for one in read_evaluations(RunFolder(run), "ce", run.name)
    ]
    table = results_table(evaluations)
    assert table["balanced"][0] == pytest.approx(results["balanced"])
    text = format_experiments(evaluations)
    assert "- Balanced: mean recall of the classes." in text
    assert "| Two-class Score | AUROC | Balanced |" in text
    page, *_ = render(runs[0])
    cells = [
        cell
        for tables in Tables(page).tables.values()
        for table in tables
        for row in table
        for cell in row
    ]
    assert sum("Balanced" in cell for cell in cells) >= 2
    assert f"{results['balanced']:.2f}" in cells


def test_places_show_what_the_next_ones_do():
    shown = [set(metrics_in(place)) for place in PLACES]
    assert shown[0] == set(METRICS)
    for more, fewer in zip(shown, shown[1:]):
        assert fewer < more


@pytest.mark.parametrize("metric", sorted(OF_DECISIONS & set(METRICS)))
def test_metrics_are_percentages_of_any_counts(metric):
    rng = np.random.default_rng(0)
    confusions = rng.integers(0, 20, (50, 4, 4))
    together = metrics_of(confusions)[metric]
    for confusion, value in zip(confusions, together):
        alone = metrics_of(confusion)[metric]
        np.testing.assert_allclose(value, alone, rtol=1e-12)
        assert 0 <= alone <= 100
    assert metrics_of(np.eye(4))[metric] == 100


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("lacking", [None, 0, 1])
def test_metrics_of_probabilities_are_those_of_scikit_learn(classes, lacking):
    rng = np.random.default_rng(classes)
    labels = ["normal", *(f"class {k}" for k in range(1, classes))]
    shares = rng.dirichlet(np.ones(classes), 200).round(1)  # many ties
    truth = rng.integers(0, classes, 200)
    shares, truth = shares[truth != lacking], truth[truth != lacking]
    names = np.array(labels)[truth]
    found = prediction_metrics(names, names, labels, shares)
    areas, precisions = [], []
    for k, label in enumerate(labels):
        expected = [np.nan, np.nan]
        if k != lacking and len(set(truth)) > 1:
            expected[0] = 100 * roc_auc_score(truth == k, shares[:, k])
            areas.append(expected[0])
        if k != lacking:
            share = average_precision_score(truth == k, shares[:, k])
            expected[1] = 100 * share
            precisions.append(expected[1])
        per_class = [
            found[key][label]
            for key in ("class_auroc", "class_average_precision")
        ]
        assert per_class == pytest.approx(expected, rel=1e-6, nan_ok=True)
    abnormal = np.nan
    if lacking != 0 and len(set(truth)) > 1:
        abnormal = 100 * roc_auc_score(truth > 0, -shares[:, 0])
    assert found["auroc"] == pytest.approx(abnormal, nan_ok=True)
    macro = np.mean(areas) if areas else np.nan
    assert found["auroc_macro"] == pytest.approx(macro, nan_ok=True)
    assert found["average_precision_macro"] == pytest.approx(
        np.mean(precisions), rel=1e-6
    )


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_without_a_normal_class_the_score_is_the_macro_recall(classes):
    rng = np.random.default_rng(classes)
    labels = [f"class {k}" for k in range(classes)]
    truth, called = rng.integers(0, classes - (classes > 2), (2, 300))
    shares = rng.dirichlet(np.ones(classes), 300)
    names = np.array(labels)
    found = prediction_metrics(names[truth], names[called], labels, shares)
    assert {*WITHOUT_NORMAL} == {*found} - {*CLASS_METRICS} - {
        "counts",
        "confusion",
    }
    # A class that does not occur does not count.
    expected = balanced_accuracy_score(truth, called)
    assert found["score"] == pytest.approx(100 * expected)
    outcomes = patient_outcomes(
        [
            pd.DataFrame(
                {
                    "patient": rng.integers(0, 30, 300),
                    "label": names[truth],
                    "prediction": names[called],
                    **{f"p_{x}": p for x, p in zip(labels, shares.T)},
                }
            )
        ],
        labels,
    )
    low, high = bootstrap_interval(outcomes, 200)["score"]
    assert low < found["score"] < high
    assert run_scores(outcomes)["score"] == pytest.approx(found["score"])
    name, floor = always_the_same(found["counts"])
    always = balanced_accuracy_score(truth, 0 * truth)
    assert name == "always one class"
    assert floor["score"] == pytest.approx(100 * always)


def test_a_normal_class_is_the_first_and_called_so():
    confusion = [[8, 2], [1, 9]]
    assert metrics_of(confusion, labels=("normal", "murmur"))["sp"] == 80
    assert "sp" not in metrics_of(confusion, labels=("murmur", "normal"))
    assert choose_operating_point(pd.DataFrame(), ("S1", "S2")) is None
    with pytest.raises(ValueError, match="none is called normal"):
        normal_point(1.0, ("S1", "S2"))


def test_without_probabilities_there_are_metrics_of_decisions_alone():
    found = prediction_metrics(["normal", "both"], ["normal", "both"])
    assert set(found) - {"counts", "confusion"} == OF_DECISIONS
    assert OF_DECISIONS < {*METRICS, *CLASS_METRICS}


def test_the_floor_is_that_of_one_answer():
    floor = always_normal()
    assert floor["se_two_class"] == 0 and floor["score_two_class"] == 50
    assert floor["auroc"] == 50
    assert floor["macro_f1"] == pytest.approx(100 / 3)  # F1 of 2/3 and of 0
