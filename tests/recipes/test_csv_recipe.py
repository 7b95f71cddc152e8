"""Recordings of one's own, from the table to a model that classifies them.

Authors
 * qlung_plugin contributors
"""

import csv
import json
import re

import pandas as pd
import pytest

from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.runs.evaluations import read_evaluations
from qlung_plugin.runs.experiment_report import write_experiments
from qlung_plugin.runs.folder import RunFolder
from tests.recipes.conftest import CSV, TINY, leave_out_figures, run_script
from tests.unittests.report_runs import render

HEAD = {
    **TINY,
    "number_of_epochs": "15",
    "lr": "0.01",
    "test_each_epoch": "False",
}


@pytest.fixture
def train(heart_corpus, cache, tmp_path, monkeypatch):
    """Runs the recipe on heart sounds; the output folder is returned."""
    leave_out_figures(monkeypatch)

    def run(**overrides):
        options = {
            **HEAD,
            "data_folder": heart_corpus,
            "output_folder": tmp_path / "run",
            "cache_folder": cache,
            **overrides,
        }
        run_script(CSV / "train.py", CSV / "hparams" / "head.yaml", options)
        return tmp_path / "run"

    return run


@pytest.mark.slow
def test_heart_sounds_are_learned_by_their_labels_alone(train, heart_corpus):
    band = "{f_min: 25.0, f_max: 800.0}"  # as the README says of hearts
    run = train(normal_label="no murmur", level=band, band=band)
    metrics = json.loads((run / "metrics.json").read_text())["selected"]
    assert list(metrics["counts"]) == [
        "normal",
        "diastolic murmur",
        "systolic murmur",
    ]
    assert metrics["auroc"] > 70 and metrics["operating_point"]
    model = RespiratorySoundClassifier.from_hparams(str(run))
    told = json.loads((run / "model/selected/model.json").read_text())
    front_end = told["architecture"]["cycle_features"]["arguments"][
        "compute_features"
    ]["arguments"]
    for part in ("level", "band"):
        arguments = front_end[part]["arguments"]
        assert (arguments["f_min"], arguments["f_max"]) == (25, 800)
    recording = sorted(heart_corpus.rglob("*.wav"))[0]
    cycles, summary = model.classify_file(recording, cycles="windows")
    assert 0 <= summary["abnormal_fraction"] <= 1
    assert "p_systolic murmur" in cycles


@pytest.mark.slow
def test_without_a_normal_class_there_is_macro_recall(
    train, heart_corpus, tmp_path
):
    run = train(number_of_epochs="2")
    metrics = json.loads((run / "metrics.json").read_text())["selected"]
    table = pd.read_csv(run / "predictions.csv")
    right = (table["label"] == table["prediction"]).groupby(table["label"])
    assert metrics["score"] == pytest.approx(100 * right.mean().mean())
    assert metrics["operating_point"] is None and "sp" not in metrics
    report = (run / "report.txt").read_text()
    assert re.search(r"macro recall +[0-9.]+", report)
    assert "specificity" not in report and "always one class" in report
    page, *_ = render(run)
    assert "Macro recall" in page and "Always answering one class" in page
    comparison = write_experiments(
        tmp_path / "out", read_evaluations(RunFolder(run), "head", "1")
    )
    analysis = (run / "quality_analysis.txt").read_text()
    for text in (report, page, comparison, analysis):
        assert "Macro recall" in text
        assert not re.search(r"\bScore\b", text)
    model = RespiratorySoundClassifier.from_hparams(str(run))
    recording = sorted(heart_corpus.rglob("*.wav"))[0]
    cycles, summary = model.classify_file(recording, cycles="windows")
    assert len(cycles) and summary["abnormal_fraction"] is None


def test_a_wrong_table_is_told_in_a_line(train, heart_corpus, tmp_path):
    with open(heart_corpus / "table.csv", newline="") as file:
        rows = list(csv.reader(file))
    rows[4][2] = "soon"
    path = tmp_path / "wrong.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(
            [
                rows[0],
                *([f"{heart_corpus}/{x}", *more] for x, *more in rows[1:]),
            ]
        )
    with pytest.raises(ValueError, match="wrong.csv row 5: end: 'soon' is not"):
        train(table=path)
