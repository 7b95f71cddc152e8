"""Tests of calibrated probabilities, and of leaving cycles to a person.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from qlung_plugin.scores.calibration import (
    certain,
    conformal_threshold,
    cross_entropy,
    expected_calibration_error,
    fit_calibration,
    patients_needed,
)
from qlung_plugin.scores.operating_point import (
    choose_offset_for,
    decide,
    shares_at,
)


def drawn(cycles=4000, classes=3, seed=0):
    """Probabilities, and classes that are drawn from them."""
    generator = np.random.default_rng(seed)
    shares = softmax(generator.normal(size=(cycles, classes)) * 1.5, 1)
    codes = (shares.cumsum(1) < generator.random((cycles, 1))).sum(1)
    return shares, codes


def test_a_known_distortion_is_undone():
    shares, codes = drawn()
    wrong = softmax(2.5 * np.log(shares) + [1.0, -0.5, 0.0], 1)
    fitted = fit_calibration(wrong, codes)
    assert fitted.temperature == pytest.approx(2.5, rel=0.1)
    np.testing.assert_allclose(fitted.apply(wrong), shares, atol=0.06)
    assert expected_calibration_error(fitted.apply(wrong), codes) < 0.03
    assert expected_calibration_error(wrong, codes) > 0.05


def test_two_classes_are_platts_logistic_regression():
    shares, codes = drawn(classes=2)
    logit = np.log(shares[:, 1] / shares[:, 0])[:, None] * 3 + 1
    wrong = softmax(np.hstack([0 * logit, logit]), 1)
    platt = LogisticRegression(C=1e6, tol=1e-8).fit(logit, codes)
    fitted = fit_calibration(wrong, codes)
    expected = platt.predict_proba(logit)
    np.testing.assert_allclose(fitted.apply(wrong), expected, atol=1e-3)


def test_a_class_without_a_cycle_keeps_its_offset():
    shares, codes = drawn()
    there = codes != 1
    fitted = fit_calibration(shares[there], codes[there])
    assert fitted.offsets[1] == 0 and fitted.offsets.any()


def test_what_is_told_apart_without_an_error_stays_finite():
    fitted = fit_calibration([[0.6, 0.4], [0.4, 0.6], [1.0, 0.0]], [0, 1, 0])
    assert fitted.temperature > 0.01 and np.isfinite(fitted.offsets).all()
    assert np.isfinite(fitted.apply([[1.0, 0.0]])).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 4))
def test_calibration_never_raises_the_cross_entropy(seed, classes):
    shares, codes = drawn(60, classes, seed)
    codes = np.random.default_rng(seed).integers(classes, size=60)
    fitted = fit_calibration(shares, codes)
    before, after = (
        cross_entropy(s, codes) for s in (shares, fitted.apply(shares))
    )
    assert after <= before + 1e-6
    assert before == pytest.approx(
        log_loss(codes, shares, labels=range(classes))
    )


def test_expected_calibration_error_by_a_loop():
    shares, codes = drawn(1003)
    confidence = shares.max(1)
    order = sorted(range(1003), key=lambda i: confidence[i])
    error, start = 0.0, 0
    for number in range(10):
        size = 101 if number < 3 else 100
        part = order[start : start + size]
        start += size
        right = sum(shares[i].argmax() == codes[i] for i in part)
        error += abs(right - sum(confidence[i] for i in part)) / 1003
    assert expected_calibration_error(shares, codes) == pytest.approx(error)


def test_the_guarantee_holds_for_new_patients():
    """Patients differ: some are hard throughout, and have most of the cycles."""
    generator = np.random.default_rng(0)

    def patient():
        hard = generator.random() < 0.3
        count = 40 if hard else 3
        sure = generator.normal(-0.5 if hard else 2.0, 0.5, size=count)
        return np.stack([sure, 0 * sure], 1)

    left_out = []
    for _ in range(400):
        patients = [softmax(patient(), 1) for _ in range(20)]
        names = np.repeat(np.arange(20), [len(p) for p in patients])
        shares = np.concatenate(patients)
        threshold = conformal_threshold(
            shares, np.zeros(len(shares), int), names, 0.1
        )
        new = softmax(patient(), 1)
        left_out.append((new[:, 0] < threshold).mean())
    error = np.std(left_out) / np.sqrt(len(left_out))
    assert np.mean(left_out) < 0.1 + 2 * error
    assert np.mean(left_out) > 0.02  # nor is all taken


def test_one_cycle_each_is_plain_split_conformal():
    shares, codes = drawn(59, seed=3)
    own = np.sort(shares[range(59), codes])
    # The (n + 1)(1 - a)-th largest of n.
    rank = int(np.ceil(60 * 0.9))
    expected = own[::-1][rank - 1]
    found = conformal_threshold(shares, codes, np.arange(59), 0.1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("errors, needed", [(0.1, 9), (0.05, 19), (0.3, 3)])
def test_too_few_patients_are_refused(errors, needed):
    assert patients_needed(errors) == needed
    shares = np.full((needed, 2), 0.5)
    codes, names = np.zeros(needed, int), np.arange(needed)
    conformal_threshold(shares, codes, names, errors)
    with pytest.raises(ValueError, match=f"{needed} patients or more"):
        conformal_threshold(shares[1:], codes[1:], names[1:], errors)


def test_a_single_class_is_the_one_that_is_called():
    """So that an uncertain cycle is the only difference to not abstaining."""
    shares, _ = drawn(200)
    moved = shares_at(shares, [0.7, 0, 0])
    sure = certain(moved, 0.4)
    assert 0 < sure.sum() < 200
    np.testing.assert_array_equal(moved.argmax(1), decide(shares, [0.7, 0, 0]))
    assert (moved.max(1)[sure] >= 0.4).all()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("normal", [True, False])
def test_a_wanted_rate_is_reached(rate, normal):
    shares, codes = drawn()
    offset = choose_offset_for(rate, shares, codes, normal)
    called = decide(shares, [offset, 0, 0])
    of = (codes == 0) == normal
    reached = ((called == 0) == normal)[of].mean()
    assert reached == pytest.approx(rate, abs=2 / of.sum())
