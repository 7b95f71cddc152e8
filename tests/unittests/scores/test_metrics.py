"""Tests of the table of metrics: whatever shows figures reads it.

Authors
 * qlung_plugin contributors
"""

import json

import numpy as np
import pytest

from qlung_plugin.runs.comparison import results_table
from qlung_plugin.runs.evaluations import read_evaluations
from qlung_plugin.runs.experiment_report import format_experiments
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.scores.metrics import (
    METRICS,
    PLACES,
    Metric,
    always_normal,
    metrics_in,
    metrics_of,
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
    assert "| Two-class Score | Balanced |" in text
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


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_are_percentages_of_any_counts(metric):
    rng = np.random.default_rng(0)
    confusions = rng.integers(0, 20, (50, 4, 4))
    together = metrics_of(confusions)[metric]
    for confusion, value in zip(confusions, together):
        alone = metrics_of(confusion)[metric]
        np.testing.assert_allclose(value, alone, rtol=1e-12)
        assert 0 <= alone <= 100
    assert metrics_of(np.eye(4))[metric] == 100


def test_the_floor_is_that_of_one_answer():
    floor = always_normal()
    assert floor["se_two_class"] == 0 and floor["score_two_class"] == 50
    assert floor["macro_f1"] == pytest.approx(100 / 3)  # F1 of 2/3 and of 0
