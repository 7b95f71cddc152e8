"""Bootstrap over patients against an explicit loop and against SciPy."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from qlung_plugin.utils.intervals import (
    bootstrap_interval,
    bootstrap_scores,
    patient_confusions,
)
from qlung_plugin.utils.metric_stats import LABELS, respiratory_scores

SCORES = ("sp", "se", "score", "se_two_class", "score_two_class")


def corpus(n_patients=40, seed=0):
    """Confusions of patients who differ much in size and in difficulty."""
    rng = np.random.default_rng(seed)
    right = rng.beta(2, 2, n_patients)
    confusions = np.zeros((n_patients, 4, 4), dtype=int)
    for patient, truth in np.ndindex(n_patients, 4):
        shares = np.full(4, (1 - right[patient]) / 3)
        shares[truth] = right[patient]
        size = rng.integers(1, 40)
        confusions[patient, truth] = rng.multinomial(size, shares)
    return confusions


def table_of(rows):
    return pd.DataFrame(rows, columns=["patient", "label", "prediction"])


# Confusions per patient

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["101", "7", "p"]),
        st.sampled_from(LABELS),
        st.sampled_from(LABELS),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_confusions_equal_a_loop_in_any_order_of_rows(rows, random):
    expected = {patient: np.zeros((4, 4), int) for patient, _, _ in rows}
    for patient, label, prediction in rows:
        place = LABELS.index(label), LABELS.index(prediction)
        expected[patient][place] += 1
    random.shuffle(rows)
    found = patient_confusions(table_of(rows))
    np.testing.assert_array_equal(
        found, [expected[patient] for patient in sorted(expected)]
    )


def test_patients_read_as_numbers_keep_their_order():
    rows = [(n, "normal", label) for n, label in zip((9, 101, 20), LABELS)]
    texts = [(str(n), *rest) for n, *rest in rows]
    as_numbers, as_texts = (
        patient_confusions(table_of(part)) for part in (rows, texts)
    )
    np.testing.assert_array_equal(as_numbers, as_texts)
    assert as_texts.argmax(-1)[:, 0].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    "row, message",
    [
        ((None, "normal", "normal"), "1 cycles name no patient"),
        (("1", "rhonchi", "normal"), "rhonchi"),
        (("1", "normal", None), "not among the labels"),
    ],
)
def test_bad_rows(row, message):
    rows = [("1", "normal", "normal"), row]
    with pytest.raises(ValueError, match=message):
        patient_confusions(table_of(rows))


# Resampling


def test_each_resample_is_the_sum_over_its_draw():
    confusions = corpus(9)
    draws = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9), 50)
    scores = bootstrap_scores(confusions, n_resamples=50, seed=5)
    for resample, draw in enumerate(draws):
        total = np.zeros((4, 4))
        for patient, times in enumerate(draw):
            for _ in range(times):
                total += confusions[patient]
        for name, value in respiratory_scores(total).items():
            assert scores[name][resample] == pytest.approx(value), name


def test_interval_equals_a_bootstrap_by_explicit_draws():
    # Two independent bootstraps of 4,000: each end scatters by about 0.15.
    confusions = corpus()
    rng = np.random.default_rng(99)
    values = {name: [] for name in SCORES}
    for _ in range(4000):
        drawn = rng.choice(len(confusions), len(confusions))
        for name, value in respiratory_scores(confusions[drawn].sum(0)).items():
            values[name].append(value)
    interval = bootstrap_interval(confusions, n_resamples=4000)
    for name in SCORES:
        expected = np.percentile(values[name], [2.5, 97.5])
        assert expected[1] - expected[0] > 5  # the tolerance is small
        assert interval[name] == pytest.approx(expected, abs=0.8), name


@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_interval_equals_scipy(confidence):
    confusions = corpus(seed=3)
    interval = bootstrap_interval(confusions, 9999, confidence)
    for name in SCORES:

        def statistic(patients, axis):
            sums = np.take(confusions, patients, axis=0).sum(axis - 2)
            return respiratory_scores(sums)[name]

        expected = stats.bootstrap(
            (np.arange(len(confusions)),),
            statistic,
            n_resamples=9999,
            batch=1000,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert interval[name] == pytest.approx(tuple(expected), abs=0.5), name


def test_patients_are_drawn_not_cycles():
    # Twenty patients, always right or always wrong: the share of patients has
    # the standard error sqrt(0.25 / 20), however many cycles each has.
    confusions = np.zeros((20, 2, 2))
    confusions[:10, 0, 0] = confusions[10:, 0, 1] = 1000
    confusions[:, 1, 1] = 1
    low, high = bootstrap_interval(confusions)["sp"]
    expected = 100 * stats.binom.ppf([0.025, 0.975], 20, 0.5) / 20
    assert (low, high) == pytest.approx(expected, abs=5)
    assert high - low > 35


def test_seed():
    confusions = corpus(8)
    first, again, other = (
        bootstrap_interval(confusions, 200, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_paired_models_see_the_same_draw():
    # A model that is right where the other is, and on one patient more, is
    # never worse in any resample.
    worse = corpus(12)
    better = worse.copy()
    better[0] = np.diag(worse[0].sum(1))
    a = bootstrap_scores(worse, 500, seed=2)["score"]
    b = bootstrap_scores(better, 500, seed=2)["score"]
    assert (b >= a).all() and (b > a).any()


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(int, (6, 4, 4), elements=st.integers(1, 30)),
    st.floats(0.05, 0.9),
)
def test_wider_confidence_is_a_wider_interval(confusions, confidence):
    narrow = bootstrap_interval(confusions, 300, confidence)
    wide = bootstrap_interval(confusions, 300, (1 + confidence) / 2)
    for name in SCORES:
        assert 0 <= wide[name][0] <= narrow[name][0]
        assert narrow[name][0] <= narrow[name][1] <= wide[name][1] <= 100


def test_equal_patients_have_an_interval_of_no_width():
    confusions = np.tile(corpus(1), (5, 1, 1))
    for name, value in respiratory_scores(confusions[0]).items():
        ends = bootstrap_interval(confusions, 100)[name]
        assert ends == pytest.approx((value, value)), name


def test_one_patient_has_no_interval():
    interval = bootstrap_interval(corpus(1))
    assert sorted(interval) == sorted(SCORES)
    assert np.isnan(list(interval.values())).all()


def test_undefined_resamples_are_left_out_and_counted(caplog):
    # One of three patients has abnormal cycles: (2/3)^3 of the resamples have
    # none. The sensitivity is 50 wherever it is defined.
    confusions = np.zeros((3, 2, 2))
    confusions[:, 0, 0] = 4
    confusions[0, 1] = 2, 2
    interval = bootstrap_interval(confusions, 10000)
    assert interval["sp"] == (100, 100)
    assert interval["se"] == (50, 50)
    assert interval["score"] == (75, 75)
    [record] = caplog.records
    left_out = record.args[0]
    assert left_out == pytest.approx(10000 * (2 / 3) ** 3, abs=200)


def test_score_that_no_resample_defines(caplog):
    confusions = np.zeros((3, 2, 2))
    confusions[:, 0, 0] = 4
    interval = bootstrap_interval(confusions, 100)
    assert interval["sp"] == (100, 100)
    assert np.isnan(interval["se"]).all() and np.isnan(interval["score"]).all()
    assert "100 of 100 resamples" in caplog.text


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (2, 3, 4), (2, 2, 4, 4)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match="must be"):
        bootstrap_interval(np.zeros(shape))


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_in_percent_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(corpus(3), confidence=confidence)


def test_ten_thousand_resamples_take_well_under_a_second():
    confusions = corpus(126)
    times = []
    for _ in range(3):  # the best of three, as the machine may be busy
        start = time.perf_counter()
        bootstrap_interval(confusions, n_resamples=10000)
        times.append(time.perf_counter() - start)
    assert min(times) < 1
