"""Area under the ROC curve, with an interval by resampling patients.

Authors
 * qlung_plugin contributors
"""

import logging
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from qlung_plugin.scores.metrics import format_number

logger = logging.getLogger(__name__)

RESAMPLES_AT_ONCE = 1000  # to bound the memory


class Pairs:
    """Pairs of a positive and a negative row, counted per pair of patients.

    Scores and classes are ``[row]``, patients numbers ``[row]`` below their count.
    A set of patients is a weight for each, so that its area is a weighted share.
    """

    def __init__(
        self,
        score: np.ndarray,
        positive: np.ndarray,
        patient: np.ndarray,
        patients: int,
    ) -> None:
        self.wins = _pairs_won(score, positive, patient, patients)
        self.positives = np.bincount(patient[positive], minlength=patients)
        self.negatives = np.bincount(patient[~positive], minlength=patients)

    def area(self, weights: np.ndarray) -> np.ndarray:
        """Areas ``[set]`` under the ROC curve of weights ``[set, patient]``."""
        won = np.einsum("sp,sp->s", weights @ self.wins, weights)
        pairs = (weights @ self.positives) * (weights @ self.negatives)
        with np.errstate(invalid="ignore"):  # 0 / 0 is the documented NaN
            return won / pairs


class Ranking:
    """How probabilities order cycles, whatever threshold decides.

    Probabilities are ``[cycle, class]``, class 0 normal; truth and patients are
    numbers ``[cycle]``. Figures are in [0, 1], of sets of patients as weights
    ``[set, patient]``; NaN where a class, or all others, lack.

    Example
    -------
    >>> ranking = Ranking(np.eye(2), np.array([0, 1]), np.array([0, 0]))
    >>> ranking.area(np.ones((1, 1))).tolist()
    [1.0]
    """

    def __init__(
        self, probabilities: np.ndarray, truth: np.ndarray, patient: np.ndarray
    ) -> None:
        self.probabilities = np.asarray(probabilities, dtype=float)
        self.truth, self.patient = truth, patient
        self.patients = int(patient.max()) + 1

    def area(self, weights: np.ndarray) -> np.ndarray:
        """AUROC ``[set]`` of abnormal against normal cycles."""
        return self._abnormal.area(weights)

    def areas(self, weights: np.ndarray) -> np.ndarray:
        """AUROC ``[set, class]`` of each class against the rest."""
        return np.stack([p.area(weights) for p in self._classes], -1)

    def precisions(self, weights: np.ndarray) -> np.ndarray:
        """Average precision ``[set, class]`` of each class.

        The mean over its cycles of the share of the class among all cycles of
        at least their probability, as scikit-learn's without interpolation.
        """
        parts = range(0, len(weights), RESAMPLES_AT_ONCE)
        return np.concatenate(
            [
                self._precisions(weights[i : i + RESAMPLES_AT_ONCE])
                for i in parts
            ]
        )

    def _precisions(self, weights: np.ndarray) -> np.ndarray:
        weights = weights.astype(np.float32)  # of whole numbers: exact
        means = []
        for patient, own, everyone in self._at_least:
            times = weights[:, patient]
            among = np.maximum(weights @ everyone, 1)  # else times is 0
            total = (times * (weights @ own) / among).sum(-1, dtype=float)
            with np.errstate(invalid="ignore"):
                means.append(total / times.sum(-1, dtype=float))
        return np.stack(means, -1)

    @cached_property
    def _abnormal(self) -> Pairs:
        score, positive = -self.probabilities[:, 0], self.truth > 0
        return Pairs(score, positive, self.patient, self.patients)

    @cached_property
    def _classes(self) -> list[Pairs]:
        return [
            Pairs(score, self.truth == k, self.patient, self.patients)
            for k, score in enumerate(self.probabilities.T)
        ]

    @cached_property
    def _at_least(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Per class the patients ``[cycle]`` of its cycles, and how many cycles
        of the class, and of all, ``[patient, cycle]``, have at least their
        probability."""
        found = []
        for k, score in enumerate(self.probabilities.T):
            order, positive = np.argsort(-score), self.truth == k
            count = np.zeros((2, len(score) + 1, self.patients), np.float32)
            rows = np.arange(1, len(score) + 1)
            count[0, rows, self.patient[order]] = positive[order]
            count[1, rows, self.patient[order]] = 1
            places = np.searchsorted(-score[order], -score[positive], "right")
            own, everyone = count.cumsum(1)[:, places].transpose(0, 2, 1)
            found.append((self.patient[positive], own, everyone))
        return found


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
    areas = Pairs(score, positive, code, len(patients)).area
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


def percentile_interval(
    values: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Low and high end of resampled values; NaN of none that is not NaN."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)).tolist()
    return low, high


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
