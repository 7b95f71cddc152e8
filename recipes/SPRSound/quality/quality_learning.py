"""Learning a quality score from experts, without fooling oneself.

Pure functions on a table with a row per recording, and one per degraded copy of
a recording. Its columns are ``patient``; ``poor``, what the experts said, or
that it is a degraded copy; ``degraded``, whether it is; and measurements, NaN
where missing. Its index is unique.

Degraded copies take part in fitting alone: no model is chosen, calibrated or
judged by them, nor by a patient that it was fitted to. Models answer with a
decision: the higher, the poorer the recording.

Authors
 * qlung_plugin contributors
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import BaseEstimator, clone
from sklearn.feature_selection import SelectFromModel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from qlung_plugin.dataio.partitions import draw_patients

WEIGHTED = ("standardscaler", "selectfrommodel", "logisticregression")


def logistic_pipeline(measurements, regularisation, selection, limit):
    """A logistic model of few standardised measurements, not fitted.

    What is missing counts as the mean. As many ``measurements`` are chosen as
    that, which have the largest coefficients in a sparse linear model of all (L1
    penalty, of which ``selection`` is ``C``). ``regularisation`` is ``C`` of the
    logistic model: the higher, the freer. A standardised measurement counts up to
    ``limit`` either way.
    """
    # Not a sparse LogisticRegression: there is no way to ask for one that
    # scikit-learn 1.7 and 1.8 take alike.
    sparse = LinearSVC(
        penalty="l1", dual=False, C=selection, max_iter=10000, random_state=0
    )
    return make_pipeline(
        StandardScaler(),
        FunctionTransformer(clip, kw_args={"limit": limit}),
        SimpleImputer(
            strategy="constant", fill_value=0.0, keep_empty_features=True
        ),
        SelectFromModel(sparse, threshold=-np.inf, max_features=measurements),
        LogisticRegression(C=regularisation, max_iter=1000),
    )


def clip(values, limit):
    """Limits values either way."""
    return np.clip(values, -limit, limit)


def fitting_weights(table, degraded_weight):
    """Weights in fitting: 1 for each recording, the same for each copy.

    ``degraded_weight`` is the total weight of the degraded copies, relative to
    that of the poor recordings.
    """
    degraded = table["degraded"].to_numpy()
    poor = (table["poor"] & ~table["degraded"]).sum()
    weight = degraded_weight * poor / max(degraded.sum(), 1)
    return np.where(degraded, weight, 1.0)


def fit_weighted(estimator, table, names, degraded_weight):
    """A copy of an estimator fitted to recordings and degraded copies.

    All parts of a :func:`logistic_pipeline` are fitted with weights.
    """
    weights = fitting_weights(table, degraded_weight)
    arguments = {"sample_weight": weights}
    if isinstance(estimator, Pipeline):
        arguments = {f"{step}__sample_weight": weights for step in WEIGHTED}
    values = table[names].to_numpy()
    return clone(estimator).fit(values, table["poor"], **arguments)


def patient_folds(table, n_folds, seed):
    """Patients in folds, the share of poor recordings as equal as can be.

    Every patient is in exactly one of the sets. If fewer patients than folds have
    poor recordings, or others, a ValueError says so.
    """
    recordings = table[~table["degraded"]]
    for poor, name in ((True, "poor recordings"), (False, "others")):
        rows = recordings[recordings["poor"] == poor]
        patients = rows["patient"].nunique()
        if patients < n_folds:
            raise ValueError(
                f"{patients} patients with {name} cannot make {n_folds} folds:"
                " use more recordings or fewer folds"
            )
    rows = [
        {"patient": patient, "label": poor}
        for patient, poor in zip(recordings["patient"], recordings["poor"])
    ]
    return [draw_patients(rows, n_folds, k, seed) for k in range(n_folds)]


def out_of_fold(table, partitions, predict):
    """What is predicted of each recording by models that lack its patient.

    ``partitions`` are one or more of :func:`patient_folds`, over which the mean is
    taken. ``predict`` gets a table to fit to, with degraded copies, and one to
    predict, of recordings alone; it returns decisions.
    """
    recordings = ~table["degraded"]
    total = pd.Series(0.0, table.index[recordings])
    for folds in partitions:
        for patients in folds:
            held_out = table["patient"].isin(patients)
            tested = table[held_out & recordings]
            total[tested.index] += predict(table[~held_out], tested)
    return total / len(partitions)


class CalibratedModel(NamedTuple):
    """A fitted model and what turns its decision into a logit."""

    estimator: BaseEstimator
    names: list  # of the measurements
    slope: float
    offset: float
    setting: object  # the chosen one
    areas: dict  # under the ROC curve, by setting

    def decide(self, table):
        """Logit of the probability of being poor, per row."""
        values = table[self.names].to_numpy()
        decision = self.estimator.decision_function(values)
        return self.slope * decision + self.offset


def fit_calibrated(table, names, estimators, n_folds, seed, degraded_weight):
    """Chooses among settings of a model, fits it and calibrates it.

    The setting is that of the largest area under the ROC curve of decisions out
    of fold; the first of equal ones. On the same decisions a logistic regression
    learns which probability they stand for (J. Platt, "Probabilistic outputs for
    support vector machines", 1999).
    """
    poor = table.loc[~table["degraded"], "poor"]
    folds = [patient_folds(table, n_folds, seed)]
    decisions, areas = {}, {}
    for setting, estimator in estimators.items():

        def predict(train, test, estimator=estimator):
            fitted = fit_weighted(estimator, train, names, degraded_weight)
            return fitted.decision_function(test[names].to_numpy())

        decisions[setting] = out_of_fold(table, folds, predict)
        areas[setting] = float(roc_auc_score(poor, decisions[setting]))
    best = max(areas, key=areas.get)
    slope, offset = _fit_sigmoid(decisions[best].to_numpy(), poor)
    return CalibratedModel(
        fit_weighted(estimators[best], table, names, degraded_weight),
        list(names),
        slope,
        offset,
        best,
        areas,
    )


def decide_by_one(name, train, test):
    """A single measurement as a decision; its sign is learned.

    The difference to the median of the training recordings, turned so that their
    poor ones are higher; NaN where not measured.
    """
    known = train[~train["degraded"] & train[name].notna()]
    area = roc_auc_score(known["poor"], known[name])
    sign = 1 if area >= 0.5 else -1
    return sign * (test[name] - known[name].median())


def coefficient_table(fitted):
    """The numbers of a calibrated logistic model, of the logit of being usable.

    By chosen measurement ``mean``, ``scale`` and ``coefficient``; and the
    intercept to be added.
    """
    parts = fitted.estimator.named_steps
    chosen = parts["selectfrommodel"].get_support()
    final = parts["logisticregression"]
    coefficients = pd.DataFrame(
        {
            "mean": parts["standardscaler"].mean_[chosen],
            "scale": parts["standardscaler"].scale_[chosen],
            "coefficient": -fitted.slope * final.coef_[0],
        },
        index=np.array(fitted.names)[chosen],
    )
    intercept = -(fitted.slope * final.intercept_[0] + fitted.offset)
    return coefficients, float(intercept)


def resample_coefficients(table, fitted, n_resamples, seed, degraded_weight):
    """Coefficients ``[resample, measurement]`` fitted to patients drawn anew.

    Each set is of as many patients drawn with replacement; those without a poor
    recording, or without another, are left out. The measurements are chosen anew
    for every set, 0 where one is not; the setting and the calibration stay.
    """
    rows = table.groupby("patient").indices
    patients = sorted(rows)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_resamples):
        drawn = rng.choice(patients, len(patients))
        resample = table.iloc[np.concatenate([rows[p] for p in drawn])]
        if resample.loc[~resample["degraded"], "poor"].nunique() < 2:
            continue
        estimator = fit_weighted(
            fitted.estimator, resample, fitted.names, degraded_weight
        )
        refitted = fitted._replace(estimator=estimator)
        found.append(coefficient_table(refitted)[0]["coefficient"])
    resampled = pd.DataFrame(found, columns=fitted.names)
    return resampled.reset_index(drop=True).fillna(0.0)


def group_differences(table, score, reference, n_resamples=10000, seed=0):
    """Mean score of each group, and by how much it differs from a reference.

    Groups are those of the column ``annotation``. By group ``recordings``,
    ``mean``, ``difference`` and its 95 % ``interval`` by bootstrap over patients, in
    the way of :func:`qlung_plugin.scores.roc.bootstrap_areas`; NaN where there is
    nothing to compare with.
    """
    by = table.groupby(["patient", "annotation"])[score]
    sums, counts = (
        by.sum().unstack(fill_value=0),
        by.size().unstack(fill_value=0),
    )
    patients = len(counts)
    draw = np.random.default_rng(seed).multinomial
    weights = draw(patients, np.full(patients, 1 / patients), n_resamples)
    weights = np.vstack([np.ones(patients), weights])  # first as they are
    with np.errstate(invalid="ignore"):  # a group that was not drawn is NaN
        means = pd.DataFrame(
            (weights @ sums.to_numpy()) / (weights @ counts.to_numpy()),
            columns=counts.columns,
        )
    nothing = pd.Series(np.nan, means.index)
    differences = means.sub(means.get(reference, nothing), axis="index")
    ends = differences[1:].quantile([0.025, 0.975])
    return {
        group: {
            "recordings": int(counts[group].sum()),
            "mean": means[group][0],
            "difference": differences[group][0],
            "interval": ends[group].tolist(),
        }
        for group in counts
    }


def _fit_sigmoid(decisions, poor):
    """Slope and offset that turn decisions into logits."""
    scale = decisions.std() or 1.0
    # Nearly free, but finite where the decisions are perfect.
    sigmoid = LogisticRegression(C=100.0)
    sigmoid.fit(decisions[:, None] / scale, poor)
    slope = float(sigmoid.coef_[0, 0] / scale)
    if slope > 0:
        return slope, float(sigmoid.intercept_[0])
    # What goes the wrong way says nothing: all have the share of poor ones.
    return 0.0, float(logit(poor.mean()))
