"""Tests of linear heads that are chosen and judged by patient.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qlung_plugin.nnet.losses import AngularMarginLoss, MarginRegularizedLoss
from qlung_plugin.nnet.margins import (
    ClassImbalanceMargin,
    QualityMargin,
    WeightedMargin,
)
from qlung_plugin.training.linear_head import (
    STRENGTHS,
    choose_head,
    fit_head,
    judge_head,
    patient_folds,
)


def cycles(patients=12, each=6, dim=5, classes=3, seed=0):
    """Embeddings that tell classes apart, but not clearly, by patient."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(classes, size=patients * each)
    centres = generator.normal(size=(classes, dim))
    embeddings = 7 + centres[codes] + generator.normal(size=(len(codes), dim))
    return embeddings, codes, np.repeat(np.arange(patients), each)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_head_is_scikit_learns_pipeline(classes, balanced):
    embeddings, codes, _ = cycles(classes=classes)
    head = fit_head(embeddings, codes, classes, 0.1, balanced)
    weights = "balanced" if balanced else None
    pipeline = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, class_weight=weights)
    ).fit(embeddings, codes)
    np.testing.assert_allclose(
        head.probabilities(embeddings),
        pipeline.predict_proba(embeddings),
        atol=1e-4,
    )


def test_a_class_without_a_cycle_is_never_said():
    embeddings, codes, _ = cycles()
    there = codes != 1
    head = fit_head(embeddings[there], codes[there], 3, 0.1)
    shares = head.probabilities(embeddings)
    assert (shares[:, 1] == 0).all() and np.isfinite(shares).all()
    alone = fit_head(embeddings[:3], [2, 2, 2], 3, 0.1)
    assert alone.probabilities(embeddings).tolist() == [[0, 0, 1]] * len(codes)


def test_a_constant_dimension_has_no_weight():
    embeddings, codes, _ = cycles()
    embeddings[:, 2] = 4.0
    head = fit_head(embeddings, codes, 3, 1.0)
    assert (
        np.abs(head.weight[:, 2]).max() < 1e-9 and np.isfinite(head.bias).all()
    )


def test_the_strength_has_the_least_cross_entropy_on_held_out_patients():
    embeddings, codes, patients = cycles()
    chosen = choose_head(embeddings, codes, patients, 3)
    losses = {}
    for strength in STRENGTHS:
        shares = np.zeros((len(codes), 3))
        for train, test in patient_folds(codes, patients):
            pipeline = make_pipeline(
                StandardScaler(), LogisticRegression(C=strength, max_iter=1000)
            ).fit(embeddings[train], codes[train])
            shares[test] = pipeline.predict_proba(embeddings[test])
        losses[strength] = log_loss(codes, shares)
    assert chosen.strength == min(losses, key=losses.get)
    assert log_loss(codes, chosen.held_out) == pytest.approx(
        losses[chosen.strength], abs=1e-4
    )


def test_a_patient_who_is_judged_is_not_learned_from():
    """Other labels of a patient's own cycles do not move what is said of them."""
    embeddings, codes, patients = cycles()
    folds = list(patient_folds(codes, patients))
    judged = list(judge_head(embeddings, codes, patients, 3))
    rows = np.sort(np.concatenate([test for test, _ in judged]))
    assert rows.tolist() == list(range(len(codes)))
    train, test = folds[1]
    alone = choose_head(embeddings[train], codes[train], patients[train], 3)
    assert judged[1][0].tolist() == test.tolist()
    np.testing.assert_array_equal(judged[1][1].head.weight, alone.head.weight)


def test_same_data_give_the_same_head():
    one, other = (choose_head(*cycles(), 3) for _ in range(2))
    np.testing.assert_array_equal(one.head.weight, other.head.weight)
    np.testing.assert_array_equal(one.held_out, other.held_out)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=2, max_size=40
    ).filter(lambda rows: len({patient for _, patient in rows}) > 1),
    st.integers(0, 99),
)
def test_folds_share_out_patients(rows, seed):
    """Each row is judged once, by patients who are not learned from."""
    codes, patients = np.array(rows).T
    if np.bincount(codes).max() < 2:
        codes = codes * 0
    folds = list(patient_folds(codes, patients, seed))
    assert len(folds) > 1
    tested = np.sort(np.concatenate([test for _, test in folds]))
    assert tested.tolist() == list(range(len(rows)))
    for train, test in folds:
        assert not set(patients[train]) & set(patients[test])
        assert sorted([*train, *test]) == list(range(len(rows)))


def test_two_patients_are_judged_by_each_other():
    embeddings, codes, patients = cycles(patients=2)
    judged = list(judge_head(embeddings, codes, patients, 3))
    assert len(judged) == 2
    for test, chosen in judged:
        assert len(set(patients[test])) == 1
        assert np.isfinite(chosen.head.probabilities(embeddings[test])).all()


def test_one_patient_is_refused():
    with pytest.raises(ValueError, match="two patients"):
        patient_folds([0, 1], ["a", "a"])


@pytest.mark.parametrize("classes", [2, 3])
def test_margins_lessen_qlungs_objective(classes):
    """It is stationary there, whatever is seen of embeddings but their space."""
    embeddings, codes, _ = cycles(classes=classes)
    quality = np.random.default_rng(1).random(len(codes))
    deviation, mean = embeddings.std(0), embeddings.mean(0)
    x = torch.from_numpy((embeddings - mean) / deviation)
    margin = WeightedMargin(
        [
            QualityMargin(),
            ClassImbalanceMargin(
                np.bincount(codes).tolist(), num_classes=classes
            ),
        ],
        [0.5, 0.5],
    )
    loss = MarginRegularizedLoss(AngularMarginLoss(margin))

    def objective(head):
        weight = torch.tensor(head.weight * deviation, requires_grad=True)
        bias = torch.tensor(head.bias + head.weight @ mean)
        cosines = torch.nn.functional.normalize(x) @ (
            torch.nn.functional.normalize(weight).T
        )
        logits = x @ weight.T + bias
        mean_loss = loss(
            logits,
            cosines,
            None,
            torch.from_numpy(codes),
            torch.from_numpy(quality),
        )
        value = 0.1 * len(codes) * mean_loss + weight.square().sum() / 2
        value.backward()
        return value.item(), weight.grad.abs().max().item()

    plain = objective(fit_head(embeddings, codes, classes, 0.1))
    margins = objective(
        fit_head(embeddings, codes, classes, 0.1, quality=quality)
    )
    assert margins[0] < plain[0]
    assert margins[1] < 0.01 < plain[1]


@pytest.mark.slow
def test_margins_are_chosen_and_judged_alike():
    embeddings, codes, patients = cycles()
    quality = np.random.default_rng(1).random(len(codes))
    judged = list(judge_head(embeddings, codes, patients, 3, quality=quality))
    rows = np.concatenate([test for test, _ in judged])
    assert sorted(rows) == list(range(len(codes)))
    shares = judged[0][1].head.probabilities(embeddings)
    plain = next(judge_head(embeddings, codes, patients, 3))[1]
    assert np.abs(shares - plain.head.probabilities(embeddings)).max() > 1e-3
