"""Probabilities that can be taken at their word, and cycles that cannot be called.

Authors
 * qlung_plugin contributors
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

BINS = 10
TINY = np.finfo(np.float32).tiny  # what a probability of 0 counts as
# Bounds of the logarithm of the temperature, which data that are told apart
# without an error would let go to 0; and a prior that keeps offsets finite.
WIDEST, PRIOR = 3.0, 1e-2


class Calibration(NamedTuple):
    """``softmax(log p / temperature + offsets)`` of probabilities ``p``."""

    temperature: float
    offsets: np.ndarray  # [class]

    def apply(self, probabilities: npt.ArrayLike) -> np.ndarray:
        """The calibrated probabilities ``[cycle, class]``."""
        logs = _logarithms(probabilities)
        return softmax(logs / self.temperature + self.offsets, -1)


def fit_calibration(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike
) -> Calibration:
    """Temperature and an offset per class, of the least cross entropy.

    Of probabilities ``[cycle, class]`` and classes ``[cycle]``. Temperature
    scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)
    with the bias terms of Alexandari et al. (ICML 2020), which a population with
    other shares of the classes needs. A class without a cycle keeps its offset of 0.

    Example
    -------
    >>> shares = np.array([[0.99, 0.01], [0.01, 0.99]])[[0, 0, 0, 1, 1, 1]]
    >>> fitted = fit_calibration(shares, [0, 0, 1, 1, 1, 0])
    >>> fitted.apply([[0.99, 0.01]]).round(2).tolist()
    [[0.67, 0.33]]
    """
    logs, truth = _logarithms(probabilities), np.asarray(truth)
    there = np.unique(truth)
    rows, target = np.arange(len(truth)), np.eye(logs.shape[1])[truth]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, offsets = np.exp(-parameters[0]), np.zeros(logs.shape[1])
        offsets[there] = parameters[1:]
        found = log_softmax(scale * logs + offsets, -1)
        slope = np.exp(found) - target
        gradient = [
            -scale * (slope * logs).sum(),
            *(slope.sum(0)[there] + 2 * PRIOR * parameters[1:]),
        ]
        penalty = PRIOR * (parameters[1:] ** 2).sum()
        return penalty - found[rows, truth].sum(), np.array(gradient)

    bounds = [(-WIDEST, WIDEST), *[(None, None)] * len(there)]
    start = np.zeros(1 + len(there))
    found = minimize(loss, start, jac=True, bounds=bounds).x
    offsets = np.zeros(logs.shape[1])
    offsets[there] = found[1:]
    return Calibration(float(np.exp(found[0])), offsets)


def reliability(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, share that is right, and number of cycles, by confidence.

    ``[bin]``: bins of the most probable class's probability, with as many cycles
    in each as can be.

    Example
    -------
    >>> shares = [[0.6, 0.4], [0.7, 0.3], [0.9, 0.1], [0.9, 0.1]]
    >>> for values in reliability(shares, [0, 1, 0, 0], bins=2):
    ...     print(values.round(2).tolist())
    [0.65, 0.9]
    [0.5, 1.0]
    [2, 2]
    """
    shares, truth = np.asarray(probabilities), np.asarray(truth)
    confidence, right = shares.max(-1), shares.argmax(-1) == truth
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    parts = [part for part in parts if len(part)]
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def expected_calibration_error(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = BINS
) -> float:
    """By how much confidence and the share that is right differ, on average.

    In [0, 1], over the bins of :func:`reliability`, each by its cycles.

    Example
    -------
    >>> shares = [[0.6, 0.4], [0.7, 0.3], [0.9, 0.1], [0.9, 0.1]]
    >>> round(expected_calibration_error(shares, [0, 1, 0, 0], bins=2), 3)
    0.125
    """
    confidence, right, counts = reliability(probabilities, truth, bins)
    return float(np.average(np.abs(confidence - right), weights=counts))


def cross_entropy(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The mean of ``-log p`` of the true classes ``[cycle]``."""
    truth = np.asarray(truth)
    return float(-_logarithms(probabilities)[range(len(truth)), truth].mean())


def conformal_threshold(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: npt.ArrayLike,
    errors: float,
) -> float:
    """How probable a class has to be to be in the set of those that may be true.

    Split conformal prediction with patients as the units that are exchanged: if
    those here, of whom nothing was fitted, and a new one are exchangeable, and
    the new one's cycle is any of theirs, its true class is in the set with a
    probability of at least ``1 - errors``, over all draws of such patients. It
    is no promise for each patient, class or quality. Each patient weighs the same
    however many cycles they have, and the new one counts as the worst (Lee, Barber and
    Willett, "Distribution-free inference with hierarchical data", 2023,
    arXiv:2306.06342: hierarchical conformal prediction).

    Arguments
    ---------
    probabilities : numpy.ndarray
        ``[cycle, class]``.
    truth : numpy.ndarray
        Classes ``[cycle]``.
    patients : numpy.ndarray
        Whose it is, ``[cycle]``.
    errors : float
        The share in (0, 1) of cycles whose true class may be left out.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If there are fewer than ``1 / errors - 1`` patients: no set short of all
        classes would have the guarantee.

    Example
    -------
    >>> shares = [[p, 1 - p] for p in (0.9, 0.8, 0.7, 0.6)]
    >>> conformal_threshold(shares, [0, 0, 0, 0], ["a", "b", "c", "d"], 0.4)
    0.7
    """
    needed = patients_needed(errors)
    shares, truth = np.asarray(probabilities), np.asarray(truth)
    _, patient, counts = np.unique(
        np.asarray(patients), return_inverse=True, return_counts=True
    )
    if len(counts) < needed:
        raise ValueError(
            f"to leave out the true class of at most {errors:g} of the cycles"
            f" takes {needed} patients or more of whom nothing is fitted, and"
            f" there are {len(counts)}"
        )
    own = shares[range(len(truth)), truth]
    order = np.argsort(-own, kind="stable")
    weights = 1 / ((len(counts) + 1) * counts[patient[order]])
    # Rounding must not ask for one cycle more.
    place = int(np.searchsorted(weights.cumsum(), 1 - errors - 1e-12))
    return float(own[order][min(place, len(own) - 1)])


def patients_needed(errors: float) -> int:
    """How few patients :func:`conformal_threshold` takes.

    Example
    -------
    >>> patients_needed(0.1), patients_needed(0.25)
    (9, 3)
    """
    return math.ceil(round(1 / errors, 9)) - 1


def certain(probabilities: npt.ArrayLike, threshold: float) -> np.ndarray:
    """Whether exactly one class ``[cycle]`` is probable enough.

    Example
    -------
    >>> certain([[0.8, 0.2], [0.55, 0.45], [0.6, 0.4]], 0.45).tolist()
    [True, False, True]
    """
    return (np.asarray(probabilities) >= threshold).sum(-1) == 1


def _logarithms(probabilities: npt.ArrayLike) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=float), TINY))
