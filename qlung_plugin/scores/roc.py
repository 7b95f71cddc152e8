"""Area under the ROC curve, with an interval by resampling patients.

Authors
 * qlung_plugin contributors
"""

import logging

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)


def bootstrap_areas(score, positive, patient, n_resamples=10000, seed=0):
    """Area under the ROC curve, and that of resampled sets of patients.

    The area is the share of the pairs of a positive and a negative row in which
    the positive one has the higher score; a tie counts one half (Hanley and
    McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 1982). A set of patients drawn with
    replacement is a weight per patient, and its area a weighted share of the
    pairs, which are counted per pair of patients once.

    Arguments
    ---------
    score : array_like
        ``[row]``, of any range.
    positive : array_like
        Boolean ``[row]``.
    patient : array_like
        Names ``[row]``.
    n_resamples : int
        Number of sets, each of as many patients drawn with replacement.
    seed : int
        Seed of the draw. The sets depend on it and on the number of patients
        only: two scores of the same patients are drawn alike.

    Returns
    -------
    area : float
        In [0, 1]; NaN without a positive or without a negative row.
    resampled : numpy.ndarray
        ``[resample]``, NaN likewise.

    Raises
    ------
    ValueError
        If the lengths differ, a patient is missing or a score is NaN.

    Example
    -------
    >>> area, resampled = bootstrap_areas(
    ...     [1, 2, 2, 3], [False, True, False, True], ["a", "a", "b", "b"]
    ... )
    >>> area, sorted(set(resampled.tolist()))
    (0.875, [0.875, 1.0])
    """
    score = np.asarray(score, dtype=float)
    positive = np.asarray(positive, dtype=bool)
    patient = pd.Series(patient, dtype=object)
    if not len(score) == len(positive) == len(patient):
        raise ValueError(
            f"{len(score)} scores, {len(positive)} classes and {len(patient)}"
            " patients: one of each is needed per row"
        )
    if np.isnan(score).any() or patient.isna().any():
        raise ValueError("a score or a patient is missing: leave the row out")
    code, patients = pd.factorize(patient.astype(str), sort=True)
    wins = _pairs_won(score, positive, code, len(patients))
    positives = np.bincount(code[positive], minlength=len(patients))
    negatives = np.bincount(code[~positive], minlength=len(patients))

    def areas(weights):
        won = np.einsum("rp,rp->r", weights @ wins, weights)
        with np.errstate(invalid="ignore"):  # 0 / 0 is the documented NaN
            return won / ((weights @ positives) * (weights @ negatives))

    if len(patients) == 0:
        return np.nan, np.full(n_resamples, np.nan)
    draw = np.random.default_rng(seed).multinomial
    share = np.full(len(patients), 1 / len(patients))
    weights = draw(len(patients), share, n_resamples).astype(float)
    return float(areas(np.ones((1, len(patients))))[0]), areas(weights)


def area_interval(
    score, positive, patient, n_resamples=10000, confidence=0.95, seed=0
):
    """Area under the ROC curve with a percentile interval over patients.

    Resamples without a positive or without a negative row are left out of the
    interval; a warning counts them. One patient says nothing about the spread
    between patients: the interval is NaN.

    Arguments
    ---------
    score, positive, patient, n_resamples, seed
        See :func:`bootstrap_areas`.
    confidence : float
        Share of the resamples inside the interval, in (0, 1).

    Returns
    -------
    dict
        ``area`` and ``interval``, a list [low, high]; NaN where undefined.

    Example
    -------
    >>> area_interval([3, 1, 2], [True, False, False], ["a", "b", "c"])
    {'area': 1.0, 'interval': [1.0, 1.0]}
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    area, resampled = bootstrap_areas(
        score, positive, patient, n_resamples, seed
    )
    defined = resampled[~np.isnan(resampled)]
    one_patient = len(set(map(str, patient))) < 2
    if one_patient or np.isnan(area) or len(defined) == 0:
        return {"area": area, "interval": [np.nan, np.nan]}
    if len(defined) < n_resamples:
        logger.warning(
            "%d of %d resamples of the patients lack one of the two classes"
            " and are left out of the interval of the area",
            n_resamples - len(defined),
            n_resamples,
        )
    tail = (1 - confidence) / 2
    ends = np.quantile(defined, (tail, 1 - tail))
    return {"area": area, "interval": ends.tolist()}


def format_area(found):
    """An area with its interval, as text.

    Example
    -------
    >>> format_area({"area": 0.701, "interval": [0.634, 0.7664]})
    '0.70 (0.63 to 0.77)'
    """
    low, high = found["interval"]
    text = f"{found['area']:.2f} ({low:.2f} to {high:.2f})"
    return text.replace("nan", "n/a")


def _pairs_won(score, positive, code, patients):
    """How often rows of one patient are above those of another.

    ``[patient, patient]``: positive rows of the first against negative rows of
    the second, a tie counting one half.
    """
    of_positive = code[positive]
    wins = np.zeros((patients, patients))
    for other in range(patients):
        negatives = np.sort(score[~positive & (code == other)])
        below = np.searchsorted(negatives, score[positive], "left")
        up_to = np.searchsorted(negatives, score[positive], "right")
        wins[:, other] = np.bincount(of_positive, (below + up_to) / 2, patients)
    return wins
