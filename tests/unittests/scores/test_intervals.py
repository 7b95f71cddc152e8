"""Bootstrap over patients and runs against explicit loops and SciPy.

Authors
 * qlung_plugin contributors
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.intervals import (
    bootstrap_differences,
    bootstrap_interval,
    bootstrap_scores,
    patient_confusions,
    patient_outcomes,
)
from qlung_plugin.scores.metrics import metrics_of

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


def runs(n_runs=4, n_patients=20, seed=0, skill=0.0):
    """Confusions of several runs on the same cycles, of different skill."""
    rng = np.random.default_rng(seed)
    counts = np.random.default_rng(77).integers(1, 25, (n_patients, 4))
    easy = np.random.default_rng(78).normal(0, 1, n_patients)
    confusions = np.zeros((n_runs, n_patients, 4, 4), dtype=int)
    for run in range(n_runs):
        good = rng.normal(skill, 0.5)
        for patient, truth in np.ndindex(n_patients, 4):
            right = 1 / (1 + np.exp(-good - easy[patient]))
            shares = np.full(4, (1 - right) / 3)
            shares[truth] = right
            size = counts[patient, truth]
            confusions[run, patient, truth] = rng.multinomial(size, shares)
    return confusions


def mean_scores(confusions):
    """Each run over all its patients, then the mean over the runs."""
    scores = [metrics_of(run.sum(0), "intervals") for run in confusions]
    return {name: np.mean([s[name] for s in scores]) for name in SCORES}


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
    results = patient_confusions(table_of(rows))
    np.testing.assert_array_equal(
        results, [expected[patient] for patient in sorted(expected)]
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


@pytest.mark.parametrize(
    "shape",
    [(0, 4, 4), (4, 4), (3, 0, 4, 4), (1, 2, 3, 4, 4)],
)
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match="must be"):
        bootstrap_interval(np.zeros(shape))


@pytest.mark.parametrize("confidence", [0, 95])
def test_confidence_in_percent_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(corpus(3), confidence=confidence)


# Runs of a configuration


def test_each_resample_of_runs_equals_a_loop():
    confusions = runs(3, 7)
    rng = np.random.default_rng(5)
    patients = rng.multinomial(7, np.full(7, 1 / 7), 40)
    drawn_runs = rng.multinomial(3, np.full(3, 1 / 3), 40)
    scores = bootstrap_scores(confusions, n_resamples=40, seed=5)
    for resample in range(40):
        values = {name: [] for name in SCORES}
        for run, times in enumerate(drawn_runs[resample]):
            total = sum(
                n * confusions[run, patient]
                for patient, n in enumerate(patients[resample])
            )
            for _ in range(times):
                for name, value in metrics_of(total, "intervals").items():
                    values[name].append(value)
        for name in SCORES:
            expected = np.mean(values[name])
            assert scores[name][resample] == pytest.approx(expected), name


@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_interval_over_runs_equals_scipy(confidence):
    confusions = runs(5, 30)
    interval = bootstrap_interval(confusions, 9999, confidence)
    for name in SCORES:
        expected = scipy_interval(
            lambda patients, drawn: _drawn_scores(confusions, patients, drawn)[
                name
            ],
            30,
            5,
            confidence,
        )
        assert expected[1] - expected[0] > 2  # the tolerance is small
        assert interval[name] == pytest.approx(expected, abs=0.5), name


def test_alike_patients_leave_the_spread_of_the_runs():
    # Three runs of scores 100, 50 and 0: of the 27 equally likely draws, one
    # has the mean 100 and one the mean 0.
    confusions = np.zeros((3, 10, 2, 2))
    for run, (wrong, right) in enumerate([(0, 4), (2, 2), (4, 0)]):
        confusions[run, :] = [[right, wrong], [wrong, right]]
    means = [np.mean(d) for d in itertools.product((100, 50, 0), repeat=3)]
    scores = bootstrap_scores(confusions, 20000)["score"]
    for mean in set(means):
        share = np.isclose(scores, mean).mean()
        assert share == pytest.approx(means.count(mean) / 27, abs=0.01)
    assert bootstrap_interval(confusions, 20000)["score"] == (0, 100)


def test_runs_on_different_cycles_are_refused():
    confusions = runs(2, 5)
    confusions[1, 3, 0, 0] += 1
    with pytest.raises(ValueError, match="runs were judged on different"):
        bootstrap_interval(confusions)


# Metrics of the probabilities


def judged(seed, runs=2, patients=6, cycles=90):
    """Runs' predictions of the same cycles, with many ties."""
    facts = np.random.default_rng(0)
    truth = facts.integers(0, 4, cycles)
    patient = facts.integers(0, patients, cycles).astype(str)
    rng, tables = np.random.default_rng(seed), []
    for _ in range(runs):
        logits = rng.normal(size=(cycles, 4)) + np.eye(4)[truth]
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        table = pd.DataFrame(
            shares.round(1), columns=[f"p_{k}" for k in LABELS]
        )
        table["patient"], table["label"] = patient, np.array(LABELS)[truth]
        table["prediction"] = np.array(LABELS)[shares.argmax(1)]
        tables.append(table)
    return tables


def sklearn_figures(table):
    """Of cycles as often as they are in the table."""
    label = table["label"]
    classes = [(label == k, table[f"p_{k}"]) for k in LABELS]
    lacks = any(not own.any() or own.all() for own, _ in classes)
    return {
        "auroc": 100 * roc_auc_score(label != "normal", -table["p_normal"]),
        "auroc_macro": np.nan
        if lacks
        else 100 * np.mean([roc_auc_score(*one) for one in classes]),
        "average_precision_macro": np.nan
        if lacks
        else 100 * np.mean([average_precision_score(*one) for one in classes]),
    }


def test_resampled_areas_and_precisions_equal_those_of_the_drawn_rows():
    tables = judged(1)
    rng = np.random.default_rng(3)
    patients = rng.multinomial(6, np.full(6, 1 / 6), 30)
    shares = rng.multinomial(2, [0.5, 0.5], 30) / 2
    scores = bootstrap_scores(patient_outcomes(tables), 30, seed=3)
    for resample in range(30):
        rows = np.concatenate(
            [
                np.flatnonzero(tables[0]["patient"] == str(patient))
                for patient, times in enumerate(patients[resample])
                for _ in range(times)
            ]
        )
        each = [sklearn_figures(table.iloc[rows]) for table in tables]
        for name in each[0]:
            expected = shares[resample] @ [one[name] for one in each]
            assert scores[name][resample] == pytest.approx(
                expected, rel=1e-5, nan_ok=True
            ), name


def test_difference_of_areas_is_paired():
    ours, theirs = judged(1), judged(2)
    found = bootstrap_differences(
        *map(patient_outcomes, (ours, theirs)), 500, place="tables"
    )
    expected = np.mean([sklearn_figures(t)["auroc"] for t in ours]) - np.mean(
        [sklearn_figures(t)["auroc"] for t in theirs]
    )
    difference, low, high = found["auroc"]
    assert difference == pytest.approx(expected) and low < difference < high
    same = bootstrap_differences(*[patient_outcomes(ours)] * 2, 100)
    assert same["average_precision_macro"] == (0, 0, 0)


# Differences


def test_difference_is_that_of_the_mean_scores():
    ours, theirs = runs(5, 20, seed=1, skill=0.4), runs(5, 20, seed=2)
    results = bootstrap_differences(ours, theirs, 500)
    expected, baseline = mean_scores(ours), mean_scores(theirs)
    for name in SCORES:
        difference, low, high = results[name]
        assert difference == pytest.approx(expected[name] - baseline[name])
        assert low < difference < high


def test_configurations_are_drawn_in_pairs():
    # One more right cycle for each patient in each run: far less uncertain
    # than either score by itself.
    worse = runs(4, 12)
    worse[..., 0, 1] += 1
    better = worse.copy()
    better[..., 0, 1] -= 1
    better[..., 0, 0] += 1
    difference, low, high = bootstrap_differences(better, worse, 2000)["sp"]
    alone = bootstrap_interval(worse, 2000)["sp"]
    assert 0 < low < difference < high
    assert high - low < 0.5 * (alone[1] - alone[0])
    back = bootstrap_differences(worse, better, 2000)["sp"]
    assert back == pytest.approx((-difference, -high, -low))


@pytest.mark.parametrize(
    "baseline, message",
    [
        (runs(2, 5), r"\[3, 5, 4, 4\] and \[2, 5, 4, 4\]"),
        (runs(3, 5) + np.eye(4, dtype=int), "different cycles"),
    ],
)
def test_what_is_no_pair(baseline, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_differences(runs(3, 5), baseline)


def _drawn_scores(confusions, patients, drawn):
    """Scores of draws ``[resample, patient]`` and ``[resample, run]``."""
    cells = confusions[drawn[:, :, None], patients[:, None, :]]
    scores = metrics_of(cells.sum(2), "intervals")
    return {name: value.mean(1) for name, value in scores.items()}


def scipy_interval(statistic, n_patients, n_runs, confidence=0.95):
    """SciPy draws its two samples, patients and runs, independently."""

    def vectorized(patients, drawn, axis):
        if patients.ndim == 1:
            return statistic(patients[np.newaxis], drawn[np.newaxis])[0]
        return statistic(patients, drawn)

    return tuple(
        stats.bootstrap(
            (np.arange(n_patients), np.arange(n_runs)),
            vectorized,
            n_resamples=9999,
            batch=1000,
            method="percentile",
            confidence_level=confidence,
            rng=np.random.default_rng(1),
        ).confidence_interval
    )
