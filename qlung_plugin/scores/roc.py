"""Area under the ROC curve, with an interval by resampling patients.

Authors
 * qlung_plugin contributors
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from qlung_plugin.scores.intervals import percentile_interval
from qlung_plugin.scores.metrics import format_number

logger = logging.getLogger(__name__)


def bootstrap_areas(
    score: npt.ArrayLike,
    positive: npt.ArrayLike,
    patient: Iterable[object],
    n_resamples: int = 10000,
    seed: int = 0,
) -> tuple[float, np.ndarray]:
    """Area under the ROC curve, and that of resampled sets of patients.

    The area is the share of the pairs of a positive and a negative row in which
    the positive one has the higher score; a tie counts one half (Hanley and
    McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 1982). A set of patients drawn with
    replacement is a weight per patient, and its area a weighted share of the
    pairs, which are counted per pair of patients once.

    Scores of any range, classes and names of patients are ``[row]``; none may be
    missing. The draw depends on the seed and the number of patients only: two
    scores of the same patients are drawn alike. The area, and those of the
    resamples ``[resample]``, are NaN without a positive or a negative row.
    """
    score = np.asarray(score, dtype=float)
    positive = np.asarray(positive, dtype=bool)
    names = pd.Series(patient, dtype=object)
    if not len(score) == len(positive) == len(names):
        raise ValueError(
            f"{len(score)} scores, {len(positive)} classes and {len(names)}"
            " patients: one of each is needed per row"
        )
    if np.isnan(score).any() or names.isna().any():
        raise ValueError("a score or a patient is missing: leave the row out")
    code, patients = pd.factorize(names.astype(str), sort=True)
    wins = _pairs_won(score, positive, code, len(patients))
    positives = np.bincount(code[positive], minlength=len(patients))
    negatives = np.bincount(code[~positive], minlength=len(patients))

    def areas(weights: np.ndarray) -> np.ndarray:
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
    score: npt.ArrayLike,
    positive: npt.ArrayLike,
    patient: Iterable[object],
    n_resamples: int = 10000,
    seed: int = 0,
) -> dict[str, Any]:
    """Area under the ROC curve with a 95 % percentile interval over patients.

    The arguments are those of :func:`bootstrap_areas`. Resamples without a
    positive or without a negative row are left out of the interval; a warning
    counts them. One patient says nothing about the spread between patients: the
    interval is NaN.
    """
    area, resampled = bootstrap_areas(
        score, positive, patient, n_resamples, seed
    )
    undefined = int(np.isnan(resampled).sum())
    if len(set(map(str, patient))) < 2 or undefined == n_resamples:
        return {"area": area, "interval": [np.nan, np.nan]}
    if undefined:
        logger.warning(
            "%d of %d resamples of the patients lack one of the two classes"
            " and are left out of the interval of the area",
            undefined,
            n_resamples,
        )
    return {
        "area": area,
        "interval": list(percentile_interval(resampled, 0.95)),
    }


def format_area(values: Mapping[str, Any]) -> str:
    """The text of an ``area`` with its ``interval``.

    Example
    -------
    >>> format_area({"area": 0.701, "interval": [0.634, 0.7664]})
    '0.70 (0.63 to 0.77)'
    """
    low, high = map(format_number, values["interval"])
    return f"{format_number(values['area'])} ({low} to {high})"


def _pairs_won(
    score: np.ndarray, positive: np.ndarray, code: np.ndarray, patients: int
) -> np.ndarray:
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
