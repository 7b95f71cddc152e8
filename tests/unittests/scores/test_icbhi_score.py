"""The ICBHI score against loops, scikit-learn and numbers worked by hand."""

import io
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, f1_score, recall_score

from qlung_plugin.scores.icbhi_score import (
    LABELS,
    RespiratoryScore,
    label_codes,
    prediction_metrics,
)
from qlung_plugin.scores.metrics import metrics_of

# No deadline: the machine may be busy.
WIDE = settings(max_examples=50, deadline=None)
CLASSES = st.sampled_from(LABELS)
PAIRS = st.lists(st.tuples(CLASSES, CLASSES), min_size=1, max_size=60)
MATRICES = hnp.arrays(int, (3, 4, 4), elements=st.integers(0, 50))


def scores_by_loop(label, prediction):
    """The definitions, one cycle after the other."""
    hits = {"sp": [], "se": [], "se_two_class": []}
    for true, predicted in zip(label, prediction):
        if true == "normal":
            hits["sp"].append(predicted == "normal")
        else:
            hits["se"].append(predicted == true)
            hits["se_two_class"].append(predicted != "normal")
    scores = {
        name: 100 * sum(results) / len(results) if results else math.nan
        for name, results in hits.items()
    }
    scores["score"] = (scores["sp"] + scores["se"]) / 2
    scores["score_two_class"] = (scores["sp"] + scores["se_two_class"]) / 2
    return scores


def one_hot(codes, n_classes=4):
    return torch.nn.functional.one_hot(torch.tensor(codes), n_classes).float()


def filled(label, prediction, labels=LABELS, batch=7):
    """A RespiratoryScore that was given the predictions in batches."""
    stats = RespiratoryScore(labels)
    truth = label_codes(label, labels)
    probabilities = one_hot(label_codes(prediction, labels), len(labels))
    for start in range(0, len(label), batch):
        part = slice(start, start + batch)
        ids = [f"cycle{i}" for i in range(len(label))][part]
        stats.append(ids, probabilities[part], torch.tensor(truth[part]))
    return stats


@pytest.mark.parametrize(
    "normal, abnormal, published",
    [
        (652, 153, (62.69, 39.33, 51.01)),
        (843, 88, (81.06, 22.62, 51.84)),
        (702, 153, (67.50, 39.33, 53.42)),
    ],
)
def test_published_rows_of_the_sprsound_inter_set(normal, abnormal, published):
    # Exact fractions of its 1040 normal and 389 abnormal events.
    confusion = np.zeros((4, 4))
    confusion[0, :2] = normal, 1040 - normal
    confusion[2, [2, 3]] = abnormal, 305 - abnormal
    confusion[[1, 3], 0] = 83, 1
    scores = metrics_of(confusion)
    results = [float(scores[key]) for key in ("sp", "se", "score")]
    assert results == pytest.approx(published, abs=0.0051)


def test_the_rules_of_sensitivity_differ_where_classes_are_confused():
    # 10 crackles called wheeze: found, but not given their class.
    scores = metrics_of([[10, 0, 0], [0, 0, 10], [5, 0, 5]])
    assert scores["se"] == 25
    assert scores["se_two_class"] == 75
    assert scores["score"] == 62.5
    assert scores["score_two_class"] == 87.5


@WIDE
@given(PAIRS)
def test_scores_equal_a_loop_over_the_predictions(pairs):
    label, prediction = zip(*pairs)
    metrics = prediction_metrics(label, prediction)
    for name, value in scores_by_loop(label, prediction).items():
        assert metrics[name] == pytest.approx(value, nan_ok=True), name


@WIDE
@given(MATRICES)
def test_merging_the_abnormal_classes_leaves_the_two_class_scores(confusions):
    merged = np.add.reduceat(confusions, [0, 1], axis=-1)
    merged = np.add.reduceat(merged, [0, 1], axis=-2)
    four, two = metrics_of(confusions), metrics_of(merged)
    for name in ("sp", "se_two_class", "score_two_class"):
        np.testing.assert_array_equal(four[name], two[name])
    # With one abnormal class, the rules agree.
    np.testing.assert_array_equal(two["se"], two["se_two_class"])
    assert not (four["se"] > four["se_two_class"]).any()


def test_undefined_scores_are_nan():
    no_normal = metrics_of([[0, 0], [1, 3]])
    no_abnormal = metrics_of([[3, 1], [0, 0]])
    assert np.isnan(no_normal["sp"]) and np.isnan(no_normal["score"])
    assert no_normal["se"] == 75
    assert np.isnan(no_abnormal["se"]) and np.isnan(no_abnormal["score"])
    assert np.isnan(no_abnormal["se_two_class"])
    assert no_abnormal["sp"] == 75


@pytest.mark.parametrize("shape", [(4,), (3, 4), (1, 1)])
def test_wrong_shape_of_confusion(shape):
    with pytest.raises(ValueError, match="confusion matrix must be"):
        metrics_of(np.zeros(shape))


@WIDE
@given(PAIRS)
def test_other_metrics_equal_scikit_learn(pairs):
    label, prediction = zip(*pairs)
    metrics = prediction_metrics(label, prediction)
    occurring = sorted(set(label) | set(prediction))
    expected = f1_score(label, prediction, labels=occurring, average="macro")
    assert metrics["macro_f1"] == pytest.approx(100 * expected)
    recall = recall_score(
        label, prediction, labels=LABELS, average=None, zero_division=np.nan
    )
    assert list(metrics["recall"].values()) == (
        pytest.approx(100 * recall, nan_ok=True)
    )
    assert metrics["counts"] == {name: label.count(name) for name in LABELS}
    right = np.trace(metrics["confusion"]) / len(label)
    assert right == pytest.approx(accuracy_score(label, prediction))


@pytest.mark.parametrize("bad", ["Wheeze", None])
def test_unknown_label(bad):
    with pytest.raises(ValueError, match="not among the labels"):
        prediction_metrics(["normal", bad], ["normal", "normal"])


@WIDE
@given(PAIRS, st.integers(1, 20))
def test_summary_does_not_depend_on_the_batches(pairs, batch):
    label, prediction = zip(*pairs)
    stats = filled(label, prediction, batch=batch)
    expected = prediction_metrics(label, prediction, LABELS, stats.scores)
    # Written out, as NaN equals nothing.
    assert str(stats.summarize()) == str(expected)


def test_summary_holds_plain_python_numbers():
    # Half precision rounds the sum of probabilities.
    logits = torch.tensor([[9, 2, 3, 0.5], [1, 2, 3, 0.5]], dtype=torch.half)
    stats = RespiratoryScore()
    stats.append(["a", "b"], logits.softmax(1), [0, 3])
    summary = stats.summarize()
    assert str(json.loads(json.dumps(summary))) == str(summary)
    assert stats.summarize("score") == summary["score"] == 50.0
    assert type(summary["score"]) is float
    assert summary["confusion"][3] == [0, 0, 1, 0]
    assert summary["counts"] == dict(normal=1, crackle=0, wheeze=0, both=1)


def test_predictions_keep_ids_and_probabilities():
    stats = RespiratoryScore()
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    targets = torch.tensor([[2], [0]])
    stats.append(["b", "a"], probabilities.requires_grad_(), targets)
    table = stats.predictions()
    assert table["id"].tolist() == ["b", "a"]
    assert table["label"].tolist() == ["wheeze", "normal"]
    assert table["prediction"].tolist() == ["both", "normal"]
    scores = table[[f"p_{name}" for name in LABELS]].to_numpy()
    np.testing.assert_allclose(scores, probabilities.detach(), rtol=1e-6)


def test_cleared_and_empty():
    stats = filled(["normal"], ["both"])
    stats.summarize()
    stats.clear()
    assert stats.summary == {}
    for method in (stats.predictions, stats.summarize):
        with pytest.raises(ValueError, match="no predictions"):
            method()
    stats.append(["cycle0"], one_hot([0]), torch.tensor([0]))
    assert stats.summarize("sp") == 100


def test_ids_appended_twice():
    stats = filled(["normal"], ["normal"])
    stats.append(["cycle0"], one_hot([1]), torch.tensor([1]))
    with pytest.raises(ValueError, match="'cycle0'.*clear"):
        stats.summarize()


@pytest.mark.parametrize(
    "ids, probabilities, targets, message",
    [
        (["a"], torch.full((1, 3), 1 / 3), [0], r"\[1, 4\]"),
        (["a"], torch.full((1, 4), 0.25), [0, 1], "one per id"),
        (["a"], torch.full((1, 4), 0.25), [4], "class positions"),
        (["a"], torch.tensor([[2.0, -1.0, 0.0, 0.0]]), [0], "softmax"),
        (
            list("abcdefg"),
            torch.tensor([[1.0], *[[torch.nan]] * 5, [1.0]]).repeat(1, 4) / 4,
            [0] * 7,
            "5 cycles are not finite: 'b', 'c', 'd', ...: .*diverged",
        ),
    ],
)
def test_wrong_batches(ids, probabilities, targets, message):
    stats = RespiratoryScore()
    with pytest.raises(ValueError, match=message):
        stats.append(ids, probabilities, targets)
    assert stats.ids == []


@pytest.mark.parametrize("labels", [("normal",), ("normal", "normal")])
def test_wrong_labels(labels):
    with pytest.raises(ValueError, match="two or more different"):
        RespiratoryScore(labels)


def test_write_stats_names_the_rules(capsys):
    stats = filled(
        ["normal", "both", "crackle"], ["normal", "wheeze", "crackle"]
    )
    stream = io.StringIO()
    stats.write_stats(stream)
    text = stream.getvalue()
    assert capsys.readouterr().out == ""
    assert "\nSe: 50.00 %, exact class" in text
    assert "\nTwo-class Se: 100.00 %, any abnormal class" in text
    assert text.splitlines()[-1].split() == ["both", "0", "0", "1", "0"]
    stats.write_stats(stream, verbose=True)
    assert text in capsys.readouterr().out


def test_cross_entropy_is_pytorchs():
    torch.manual_seed(0)
    probabilities = torch.rand(7, 4).softmax(dim=1)
    targets = torch.tensor([0, 1, 2, 3, 0, 1, 0])
    score = RespiratoryScore()
    score.append(list("abcdefg"), probabilities, targets)
    expected = torch.nn.functional.nll_loss(probabilities.log(), targets)
    assert score.cross_entropy() == pytest.approx(expected.item(), rel=1e-6)


def test_cross_entropy_of_a_probability_of_zero_is_finite():
    score = RespiratoryScore()
    score.append(["a"], torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([1]))
    assert 80 < score.cross_entropy() < 90
