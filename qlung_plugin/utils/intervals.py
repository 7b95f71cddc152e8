"""Confidence intervals by resampling patients.

The cycles of a patient resemble each other, so the patient is the unit that
is drawn: an interval over cycles would be far too narrow.

Authors
-------
 * qlung_plugin contributors
"""

import logging

import numpy as np
import pandas as pd

from qlung_plugin.utils.metric_stats import (
    LABELS,
    label_codes,
    respiratory_scores,
)

logger = logging.getLogger(__name__)


def patient_confusions(predictions, labels=LABELS):
    """One confusion matrix per patient.

    Arguments
    ---------
    predictions : pandas.DataFrame
        One row per cycle with ``patient``, ``label`` and ``prediction``.
    labels : sequence of str
        All classes, in order, normal first.

    Returns
    -------
    numpy.ndarray
        Counts ``[patient, class, class]``, rows truth, columns prediction;
        patients in the order of their names as text.

    Raises
    ------
    ValueError
        If a patient is missing, or a name is not among the labels.

    Example
    -------
    >>> table = pd.DataFrame({"patient": ["p2", "p1", "p2"]})
    >>> table["label"] = ["normal", "both", "wheeze"]
    >>> table["prediction"] = ["normal", "both", "both"]
    >>> patient_confusions(table).sum((1, 2)).tolist()
    [1, 2]
    """
    missing = int(predictions["patient"].isna().sum())
    if missing:
        raise ValueError(
            f"{missing} cycles name no patient: intervals over patients need it"
        )
    names = predictions["patient"].astype(str)
    patient, patients = pd.factorize(names, sort=True)
    truth = label_codes(predictions["label"], labels)
    predicted = label_codes(predictions["prediction"], labels)
    shape = (len(patients), len(labels), len(labels))
    confusions = np.zeros(shape, dtype=int)
    np.add.at(confusions, (patient, truth, predicted), 1)
    return confusions


def bootstrap_scores(confusions, n_resamples=10000, seed=0):
    """Scores of resampled sets of patients.

    The resamples depend on the seed and the number of patients only: two
    models judged on the same patients are drawn alike.

    Arguments
    ---------
    confusions : array_like
        Counts ``[patient, class, class]``, see :func:`patient_confusions`.
    n_resamples : int
        Number of sets, each of as many patients drawn with replacement.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict
        The scores of :func:`respiratory_scores`, ``[resample]``, in percent;
        NaN where a resample holds no normal, or no abnormal, cycle.

    Raises
    ------
    ValueError
        If there is no patient, or the shape is wrong.

    Example
    -------
    >>> scores = bootstrap_scores(np.tile(np.eye(4), (3, 1, 1)), n_resamples=5)
    >>> scores["score"].tolist()
    [100.0, 100.0, 100.0, 100.0, 100.0]
    """
    confusions = np.asarray(confusions, dtype=float)
    if confusions.ndim != 3 or len(confusions) == 0:
        raise ValueError(
            "confusions must be [patient, class, class] with one patient or "
            f"more, got the shape {list(confusions.shape)}"
        )
    patients = len(confusions)
    draw = np.random.default_rng(seed).multinomial
    weights = draw(patients, np.full(patients, 1 / patients), n_resamples)
    # In floating point for the speed of BLAS; whole numbers stay exact.
    sums = weights.astype(float) @ confusions.reshape(patients, -1)
    return respiratory_scores(sums.reshape(-1, *confusions.shape[1:]))


def bootstrap_interval(confusions, n_resamples=10000, confidence=0.95, seed=0):
    """Percentile bootstrap intervals over patients.

    A resample in which a score is undefined (no normal, or no abnormal, cycle
    was drawn) is left out of the interval of that score; a warning counts
    them. One patient says nothing about the spread between patients: the
    interval is NaN.

    Arguments
    ---------
    confusions : array_like
        Counts ``[patient, class, class]``, see :func:`patient_confusions`.
    n_resamples : int
        Number of resamples.
    confidence : float
        Share of the resamples inside the interval, in (0, 1).
    seed : int
        Seed of the draw.

    Returns
    -------
    dict
        ``(low, high)`` in percent for each of the scores of
        :func:`respiratory_scores`; NaN where no resample defines the score.

    Raises
    ------
    ValueError
        If there is no patient, the shape is wrong or the confidence is not in
        (0, 1).

    Example
    -------
    >>> confusions = [[[5, 1], [1, 1]], [[3, 3], [0, 2]], [[4, 2], [1, 1]]]
    >>> low, high = bootstrap_interval(confusions)["sp"]
    >>> f"{low:.2f} to {high:.2f}"
    '50.00 to 83.33'
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    scores = bootstrap_scores(confusions, n_resamples, seed)
    if len(confusions) == 1:
        return {name: (np.nan, np.nan) for name in scores}
    undefined = int(np.isnan(scores["score"]).sum())
    if undefined:
        logger.warning(
            "%d of %d resamples of %d patients hold no normal or no abnormal "
            "cycle and are left out of the intervals",
            undefined,
            n_resamples,
            len(confusions),
        )
    tail = (1 - confidence) / 2
    return {
        name: _quantiles(values[~np.isnan(values)], (tail, 1 - tail))
        for name, values in scores.items()
    }


def _quantiles(values, shares):
    """Quantiles as a tuple of floats; NaN of no value at all."""
    if len(values) == 0:
        return tuple(np.nan for _ in shares)
    return tuple(np.quantile(values, shares).tolist())
