"""Tests of the linear probe, and of what is told of its predictions.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from qlung_plugin.scores.intervals import bootstrap_interval, patient_outcomes
from qlung_plugin.scores.judgement import judge
from qlung_plugin.scores.probe import probe
from qlung_plugin.training import linear_head

LABELS = ["normal", "crackle", "wheeze"]
SHARES = [f"p_{label}" for label in LABELS]


@pytest.fixture(scope="module")
def data():
    """Three classes that a line nearly tells apart, and a trait per patient."""
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(24), 6)
    classes = generator.integers(3, size=len(patients))
    centres = generator.standard_normal((3, 8)) * 2
    traits = generator.standard_normal((24, 8))
    noise = generator.standard_normal((len(patients), 8))
    return centres[classes] + traits[patients] + noise, classes, patients


def embedded(embeddings, classes, patients):
    table = pd.DataFrame(embeddings).add_prefix("e_")
    return table.assign(label=np.take(LABELS, classes), patient=patients)


def table_of(probabilities, classes, patients):
    table = pd.DataFrame(probabilities, columns=SHARES)
    table["label"] = np.take(LABELS, classes)
    table["prediction"] = np.take(LABELS, probabilities.argmax(1))
    return table.assign(patient=patients)


def test_each_row_is_judged_by_a_regression_on_other_patients(
    data, monkeypatch
):
    """With one strength there is nothing to choose: scikit-learn, step by step."""
    embeddings, classes, patients = data
    monkeypatch.setattr(linear_head, "STRENGTHS", (0.1,))
    table = embedded(*data).sample(frac=1, random_state=0)  # in any order
    predictions = probe(table, LABELS)
    assert (predictions.index == table.index).all()
    predictions = predictions.sort_index()
    folds = predictions["fold"].to_numpy()
    assert set(folds) == set(range(5))
    for fold in range(5):
        test = folds == fold
        assert not set(patients[test]) & set(patients[~test])
        scaler = StandardScaler().fit(embeddings[~test])
        line = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
        line.fit(scaler.transform(embeddings[~test]), classes[~test])
        expected = line.predict_proba(scaler.transform(embeddings[test]))
        told = predictions.loc[test, SHARES]
        np.testing.assert_allclose(told, expected, atol=1e-3)
        labels = np.take(LABELS, told.to_numpy().argmax(1))
        assert (predictions.loc[test, "prediction"] == labels).all()


def test_what_is_of_the_patient_alone_is_worth_nothing(data):
    """Classes drawn per patient, embeddings that name the patient."""
    _, _, patients = data
    generator = np.random.default_rng(0)
    classes = generator.permutation(np.arange(24) % 2)[patients]
    embeddings = generator.standard_normal((24, 30))[patients]
    told = probe(embedded(embeddings, classes, patients), LABELS[:2])
    assert roc_auc_score(classes, told["p_crackle"]) < 0.75
    embeddings = embeddings + 3 * classes[:, None]
    told = probe(embedded(embeddings, classes, patients), LABELS[:2])
    assert roc_auc_score(classes, told["p_crackle"]) > 0.95


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda table: table.assign(label="normal"), "one label"),
        (lambda table: table.assign(patient="a"), "two patients or more"),
        (lambda table: table.assign(e_3=np.nan), "finite"),
        (lambda table: table.assign(label="both"), "not among the labels"),
    ],
)
def test_what_cannot_be_probed(data, change, message):
    with pytest.raises(ValueError, match=message):
        probe(change(embedded(*data)), LABELS)


def test_figures_are_those_of_scikit_learn_and_of_the_intervals(data):
    _, classes, patients = data
    generator = np.random.default_rng(2)
    probabilities = generator.dirichlet(np.ones(3), len(classes))
    probabilities[np.arange(len(classes)), classes] += 0.3
    probabilities /= probabilities.sum(1, keepdims=True)
    table = table_of(probabilities, classes, patients)
    figures = judge(table, LABELS, n_resamples=2000)
    macro = balanced_accuracy_score(classes, probabilities.argmax(1))
    assert figures.loc["Macro recall", "value"] == pytest.approx(100 * macro)
    area = roc_auc_score(classes, probabilities, multi_class="ovr")
    assert figures.loc["Macro AUROC", "value"] == pytest.approx(100 * area)
    intervals = bootstrap_interval(patient_outcomes([table], LABELS), 2000)
    for name, key in (("Score", "score"), ("Sp", "sp"), ("AUROC", "auroc")):
        low, high = figures.loc[name, ["low", "high"]]
        assert (low, high) == pytest.approx(intervals[key])
        assert low < figures.loc[name, "value"] < high
    # What the same rule says of calling all normal.
    always = np.tile([1.0, 0.0, 0.0], (len(classes), 1))
    same = judge(table_of(always, classes, patients), LABELS, n_resamples=10)
    pd.testing.assert_series_equal(
        same["value"], figures["always"], check_names=False
    )


def test_without_a_normal_class_there_is_no_score(data):
    _, classes, patients = data
    table = table_of(np.eye(3)[classes], classes, patients)
    figures = judge(table, LABELS, normal=False, n_resamples=100)
    assert list(figures.index) == ["Macro recall", "Macro AUROC"]
    assert (figures["value"] == 100).all()
    one = judge(table.assign(patient="a"), LABELS, n_resamples=100)
    assert one[["low", "high"]].isna().all(axis=None)


def test_resamples_without_a_class_are_counted(caplog):
    classes = np.array([0, 0, 0, 1, 2])
    table = table_of(np.eye(3)[classes], classes, ["a", "b", "c", "d", "e"])
    judge(table, LABELS, n_resamples=1000)
    assert "of 1000 resamples of 5 patients lack a class" in caplog.text
