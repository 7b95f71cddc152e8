"""Learning a quality score: fitted to some patients, judged on others."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from recipes.SPRSound.quality.quality_figures import calibration_figure
from recipes.SPRSound.quality.quality_learning import (
    CalibratedModel,
    coefficient_table,
    decide_by_one,
    fit_calibrated,
    fit_weighted,
    fitting_weights,
    group_differences,
    logistic_pipeline,
    out_of_fold,
    patient_folds,
    resample_coefficients,
)


def make_table(patients=40, recordings=5, copies=0, seed=0, strength=2.0):
    """Recordings whose ``signal`` tells something of their quality.

    Degraded copies of those that are not poor follow.
    """
    rng = np.random.default_rng(seed)
    n = patients * recordings
    names = [f"p{number:02d}" for number in range(patients)]
    table = pd.DataFrame({"patient": np.repeat(names, recordings)})
    logit = strength * rng.standard_normal(n)
    table["poor"] = rng.random(n) < expit(logit - 1)
    table["degraded"] = False
    table["signal"] = 10 + 3 * logit
    for number in range(4):
        table[f"noise{number}"] = rng.standard_normal(n)
    usable = table[~table["poor"]]
    extra = [usable.assign(poor=True, degraded=True)] * copies
    return pd.concat([table, *extra], ignore_index=True)


NAMES = ["signal", *(f"noise{number}" for number in range(4))]


def pipeline(measurements=2, regularisation=1.0):
    return logistic_pipeline(measurements, regularisation, 0.1, 4.0)


def fit(table, names=tuple(NAMES), settings=None, folds=4, weight=1.0):
    settings = settings or {"one": pipeline()}
    return fit_calibrated(table, list(names), settings, folds, 0, weight)


@pytest.fixture(autouse=True)
def fixture_no_warnings():
    """Nothing here may depend on what scikit-learn is about to remove."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # What another test left open may be collected here.
        warnings.simplefilter("ignore", ResourceWarning)
        yield


# Folds


def test_every_patient_is_in_one_fold_and_poor_ones_are_in_each():
    table = make_table(copies=1)
    folds = patient_folds(table, 5, 3)
    assert sorted(p for fold in folds for p in fold) == sorted(
        table["patient"].unique()
    )
    recordings = table[~table["degraded"]]
    for fold in folds:
        held_out = recordings[recordings["patient"].isin(fold)]
        share = held_out["poor"].mean()
        assert share == pytest.approx(recordings["poor"].mean(), abs=0.1)
    assert folds == patient_folds(table, 5, 3)
    assert folds != patient_folds(table, 5, 4)
    # Copies do not move them.
    assert folds == patient_folds(make_table(copies=3), 5, 3)


def test_too_few_patients_with_poor_recordings_are_said():
    table = make_table(patients=8)
    table["poor"] = table["patient"].isin(["p00", "p01", "p02"])
    with pytest.raises(
        ValueError, match="3 patients with poor recordings cannot make 4 folds"
    ):
        patient_folds(table, 4, 0)
    table["poor"] = ~table["poor"]
    with pytest.raises(ValueError, match="3 patients with others"):
        patient_folds(table, 4, 0)


def test_copies_are_fitted_to_and_never_of_a_patient_to_predict():
    table = make_table(copies=2)
    seen = []

    def predict(train, test):
        assert not set(train["patient"]) & set(test["patient"])
        assert train["degraded"].any() and not test["degraded"].any()
        assert set(train.index) | set(test.index) <= set(table.index)
        seen.extend(test.index)
        return np.ones(len(test))

    partitions = [patient_folds(table, 5, seed) for seed in (0, 1)]
    found = out_of_fold(table, partitions, predict)
    recordings = list(table.index[~table["degraded"]])
    assert sorted(seen) == sorted(2 * recordings)
    assert found.index.tolist() == recordings
    assert (found == 1).all()  # a mean over the partitions, not a sum


def test_measurement_that_tells_patients_apart_does_not_help():
    # Half of the patients have poor recordings only: a model that has seen a
    # patient could read the answer from the number of the patient.
    table = make_table(patients=40)
    rng = np.random.default_rng(1)
    number = table["patient"].str[1:].astype(int)
    poor = rng.permutation(40) < 20
    table["poor"] = poor[number]
    code = rng.standard_normal((40, 10))
    names = [f"code{k}" for k in range(10)]
    table[names] = code[number]
    partitions = [patient_folds(table, 5, seed) for seed in range(2)]
    settings = {"all": pipeline(10, 10.0)}

    def predict(train, test):
        return fit(train, names, settings).decide(test)

    found = out_of_fold(table, partitions, predict)
    assert roc_auc_score(table["poor"], found) < 0.65
    # While of the very patients that it was fitted to, it would know.
    known = fit_weighted(settings["all"], table, names, 1.0)
    decisions = known.decision_function(table[names].to_numpy())
    assert roc_auc_score(table["poor"], decisions) > 0.8


# Weights


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_copies_weigh_as_much_as_poor_recordings(weight):
    table = make_table(copies=3)
    weights = fitting_weights(table, weight)
    poor = (table["poor"] & ~table["degraded"]).to_numpy()
    degraded = table["degraded"].to_numpy()
    assert weights[degraded].sum() == pytest.approx(weight * poor.sum())
    assert (weights[~degraded] == 1).all()


def test_all_fitted_parts_are_weighted():
    """A row of weight 1/2 twice is a row of weight 1."""
    single = make_table(copies=1)
    copies = single[single["degraded"]]
    double = pd.concat([single, copies], ignore_index=True)
    first, second = (
        fit_weighted(pipeline(), table, NAMES, 1.0)
        for table in (single, double)
    )
    values = single[NAMES].to_numpy()
    np.testing.assert_allclose(
        first.decision_function(values),
        second.decision_function(values),
        atol=1e-3,
    )
    weights = fitting_weights(single, 1.0)
    scaler = first.named_steps["standardscaler"]
    np.testing.assert_allclose(
        scaler.mean_, np.average(values, axis=0, weights=weights)
    )


# Models


@pytest.mark.parametrize("number", [1, 3])
def test_as_many_measurements_are_chosen_as_asked_for(number):
    fitted = fit(make_table(), settings={"one": pipeline(number)})
    coefficients, _ = coefficient_table(fitted)
    assert len(coefficients) == number
    assert "signal" in coefficients.index
    assert coefficients["coefficient"].abs().idxmax() == "signal"


def test_missing_measurements_count_as_the_mean_and_outliers_are_limited():
    fitted = fit(make_table())
    coefficients, intercept = coefficient_table(fitted)
    nothing = pd.DataFrame({name: [np.nan] for name in NAMES})
    assert fitted.decide(nothing)[0] == pytest.approx(-intercept)
    mean, scale, slope = coefficients.loc["signal"]
    for value in (-1e6, 1e6):
        far = nothing.assign(signal=mean + value)
        limited = -intercept - slope * 4.0 * np.sign(value)
        assert fitted.decide(far)[0] == pytest.approx(limited)


def test_coefficients_give_the_logit_of_being_usable():
    table = make_table(copies=1)
    fitted = fit(table)
    coefficients, intercept = coefficient_table(fitted)
    logit = np.full(len(table), intercept)
    for name, row in coefficients.iterrows():
        standardised = (table[name] - row["mean"]) / row["scale"]
        logit += row["coefficient"] * np.clip(standardised, -4, 4)
    np.testing.assert_allclose(logit, -fitted.decide(table))
    assert coefficients["coefficient"]["signal"] < 0  # high means poor


def test_best_setting_is_chosen_by_recordings_out_of_fold():
    table = make_table()
    settings = {"strong": pipeline(1, 1e-6), "free": pipeline(5, 1.0)}
    # Of equal settings the first.
    fitted = fit(table, settings={"a": pipeline(1), "b": pipeline(1)})
    assert fitted.setting == "a"
    assert fitted.areas["a"] == fitted.areas["b"]
    fitted = fit(table, settings=settings)
    assert fitted.setting == max(fitted.areas, key=fitted.areas.get)
    assert set(fitted.areas) == {"strong", "free"}


def test_calibration_finds_the_probability_that_made_the_table():
    table = make_table(patients=300, copies=1)
    fitted = fit(table, settings={"one": pipeline(1)})
    recordings = table[~table["degraded"]]
    true = expit((recordings["signal"] - 10) / 3 - 1)
    found = expit(fitted.decide(recordings))
    assert np.abs(found - true).mean() < 0.03
    # Copies count as poor in fitting.
    raw = fitted._replace(slope=1.0, offset=0.0)
    assert np.abs(expit(raw.decide(recordings)) - true).mean() > 0.1


def test_perfect_decisions_are_calibrated_to_finite_numbers():
    table = make_table()
    table["signal"] = np.where(table["poor"], 1.0, -1.0)
    fitted = fit(table)
    assert np.isfinite([fitted.slope, fitted.offset]).all()
    assert expit(fitted.decide(table))[table["poor"]].min() > 0.9


def test_model_that_is_wrong_out_of_fold_says_nothing():
    # The first patients' rule is the opposite of that of the others.
    table = make_table(patients=2, recordings=40)
    table["poor"] = table["signal"] > table["signal"].median()
    table.loc[table["patient"] == "p00", "signal"] *= -1
    fitted = fit(table, ["signal"], {"one": pipeline(1)}, folds=2)
    assert fitted.areas["one"] < 0.5
    share = table["poor"].mean()
    assert expit(fitted.decide(table)) == pytest.approx(share)


def test_sign_of_a_single_measurement_is_that_of_the_training_recordings():
    train = make_table(copies=1)
    test = make_table(seed=1)
    decision = decide_by_one("signal", train, test)
    assert decision.corr(test["signal"]) == pytest.approx(1)
    train["signal"] *= -1
    assert decide_by_one("signal", train, test).corr(
        test["signal"]
    ) == pytest.approx(-1)
    # Copies have no say.
    train.loc[train["degraded"], "signal"] = 1e6
    assert decide_by_one("signal", train, test).corr(
        test["signal"]
    ) == pytest.approx(-1)
    test.loc[0, "signal"] = np.nan
    assert np.isnan(decide_by_one("signal", train, test)[0])


# Intervals


def test_resampled_coefficients_surround_what_was_found():
    table = make_table(copies=1)
    fitted = fit(table)
    resampled = resample_coefficients(table, fitted, 20, 0, 1.0)
    assert resampled.shape == (20, 5)
    assert list(resampled) == NAMES
    assert ((resampled != 0).sum(axis=1) <= 2).all()
    found = coefficient_table(fitted)[0]["coefficient"]["signal"]
    low, high = resampled["signal"].quantile([0.025, 0.975])
    assert low < found < high < 0
    again = resample_coefficients(table, fitted, 20, 0, 1.0)
    pd.testing.assert_frame_equal(resampled, again)


def test_resamples_without_a_poor_recording_are_left_out():
    table = make_table(patients=4)
    table["poor"] = table["patient"] == "p00"
    estimator = fit_weighted(pipeline(), table, NAMES, 1.0)
    fitted = CalibratedModel(estimator, NAMES, 1.0, 0.0, "one", {})
    resampled = resample_coefficients(table, fitted, 40, 0, 1.0)
    assert 10 < len(resampled) < 40  # a set lacks a patient with 0.75 ** 4


def test_group_differences_are_those_of_explicit_resamples():
    rng = np.random.default_rng(0)
    n = 60
    table = pd.DataFrame({"patient": rng.integers(0, 12, n).astype(str)})
    table["annotation"] = rng.choice(["Normal", "CAS", "Poor Quality"], n)
    table["quality"] = rng.random(n)
    found = group_differences(table, "quality", "Normal", 100, 3)
    patients = sorted(table["patient"].unique())
    drawn = np.random.default_rng(3).multinomial(
        len(patients), np.full(len(patients), 1 / len(patients)), 100
    )
    differences = []
    for counts in drawn:
        rows = pd.concat(
            table[table["patient"] == patient]
            for patient, count in zip(patients, counts)
            for _ in range(count)
        )
        means = rows.groupby("annotation")["quality"].mean()
        differences.append(means["CAS"] - means["Normal"])
    means = table.groupby("annotation")["quality"].mean()
    assert found["CAS"]["mean"] == pytest.approx(means["CAS"])
    assert found["CAS"]["difference"] == pytest.approx(
        means["CAS"] - means["Normal"]
    )
    assert found["CAS"]["interval"] == pytest.approx(
        np.quantile(differences, [0.025, 0.975])
    )
    assert found["Normal"]["interval"] == [0, 0]
    assert sum(group["recordings"] for group in found.values()) == n


def test_groups_without_the_reference_have_no_difference():
    table = pd.DataFrame({"patient": ["a", "b"], "annotation": ["CAS", "DAS"]})
    table["quality"] = [0.2, 0.4]
    found = group_differences(table, "quality", "Normal", 50)
    assert found["DAS"]["mean"] == pytest.approx(0.4)
    assert np.isnan(found["DAS"]["difference"])
    assert np.isnan(found["DAS"]["interval"]).all()


# Figures


@pytest.fixture(name="scores")
def fixture_scores():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"quality_logistic": rng.random(200)})
    table["quality_other"] = rng.random(200)
    table["poor"] = rng.random(200) > table["quality_logistic"]
    return table


def test_calibration_figure_shows_shares_of_usable_recordings(scores):
    names = ["quality_logistic", "quality_other"]
    figure = calibration_figure(scores, names, "Generated")
    figure.canvas.draw()
    curve = figure.axes[0].lines[1].get_xydata()
    tenth = scores.nsmallest(20, "quality_logistic")
    assert curve[0] == pytest.approx(
        [tenth["quality_logistic"].mean(), 1 - tenth["poor"].mean()]
    )
    assert len(curve) == 10
