"""A linear head on embeddings, chosen and judged by patient.

The cycles of a patient resemble each other: whatever is chosen or judged here, is
so on patients that were not learned from.

Authors
 * qlung_plugin contributors
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import svd
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.class_weight import compute_sample_weight

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
UNCHOSEN = 1e-3  # where there is nothing to choose by
FOLDS = 5
MOST_ITERATIONS = 1000
ROUNDING = 1e-5  # of an embedding, in single precision, with what makes it
TINY = np.finfo(np.float32).tiny  # what a probability of 0 counts as


class LinearHead(NamedTuple):
    """Logits ``[cycle, class]`` are ``embeddings @ weight.T + bias``."""

    weight: np.ndarray  # [class, dim]
    bias: np.ndarray  # [class]

    def probabilities(self, embeddings: npt.ArrayLike) -> np.ndarray:
        """``[cycle, class]`` of embeddings ``[cycle, dim]``."""
        return softmax(np.asarray(embeddings) @ self.weight.T + self.bias, 1)


class ChosenHead(NamedTuple):
    """A head on all cycles, and what made its choice."""

    head: LinearHead
    strength: float  # C of scikit-learn: the smaller, the more regularised
    # [cycle, class], each patient's by a head that did not learn from it.
    held_out: np.ndarray


def patient_folds(
    codes: npt.ArrayLike,
    patients: npt.ArrayLike,
    seed: int = 0,
    folds: int = FOLDS,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from, and rows to judge, of folds by patient.

    So many, or fewer of fewer patients, with the classes ``[cycle]`` shared out as
    evenly as patients allow. A single patient is a ValueError.

    Example
    -------
    >>> folds = patient_folds([0, 1, 0, 1], ["a", "a", "b", "b"])
    >>> sorted(test.tolist() for train, test in folds)
    [[0, 1], [2, 3]]
    """
    codes, patients = np.asarray(codes), np.asarray(patients)
    folds = min(folds, len(np.unique(patients)), np.bincount(codes).max())
    if folds < 2:
        raise ValueError("cycles of two patients or more are needed")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # That a class has fewer cycles than there are folds, which may be.
        warnings.simplefilter("ignore", UserWarning)
        splits = list(splitter.split(codes, codes, patients))
    return ((a, b) for a, b in splits if len(a) and len(b))


def fit_head(
    embeddings: npt.ArrayLike,
    codes: npt.ArrayLike,
    classes: int,
    strength: float,
    balanced: bool = False,
    quality: npt.ArrayLike | None = None,
) -> LinearHead:
    """Multinomial logistic regression of standardised embeddings.

    Mean and deviation of the embeddings ``[cycle, dim]`` are folded into the
    weights; a dimension that is constant but for rounding has none. A class
    without a cycle has a probability of 0. ``strength`` is
    scikit-learn's ``C``; balanced, each class weighs the same as a whole. With
    the quality of the cycles ``[cycle]`` in [0, 1], it is fitted with margins: see
    :func:`qlung_plugin.training.margin_head.add_margins`, which knows no balance.

    Example
    -------
    >>> head = fit_head([[0.0, 9.0], [2.0, 9.0]], [0, 1], 2, strength=1.0)
    >>> head.probabilities([[0.0, 9.0], [1.0, 5.0]]).round(2).tolist()
    [[0.66, 0.34], [0.5, 0.5]]
    """
    return fit_heads(embeddings, codes, classes, [strength], balanced, quality)[
        0
    ]


def fit_heads(
    embeddings: npt.ArrayLike,
    codes: npt.ArrayLike,
    classes: int,
    strengths: Sequence[float],
    balanced: bool = False,
    quality: npt.ArrayLike | None = None,
) -> list[LinearHead]:
    """The heads of :func:`fit_head` of several strengths, at less cost."""
    embeddings, codes = np.asarray(embeddings, dtype=float), np.asarray(codes)
    there = np.unique(codes)
    bias = np.where(np.isin(range(classes), there), 0.0, -np.inf)
    constant = LinearHead(np.zeros((classes, embeddings.shape[1])), bias)
    if len(there) < 2:
        return [constant] * len(strengths)
    mean, deviation = embeddings.mean(0), embeddings.std(0)
    # What is constant but for rounding is no signal to be blown up.
    deviation[deviation <= ROUNDING * np.abs(mean)] = np.inf
    # L2 regularisation does not see a rotation, and there are often fewer
    # cycles than dimensions.
    u, s, rotation = svd((embeddings - mean) / deviation, full_matrices=False)
    # Of two classes, without margins, the logit of the second alone is fitted.
    two = len(there) == 2 and quality is None
    rows = there[1:] if two else there
    heads = []
    for strength in strengths:
        model = LogisticRegression(
            C=strength,
            class_weight="balanced" if balanced else None,
            max_iter=MOST_ITERATIONS,
        ).fit(u * s, codes)
        weight, bias = constant.weight.copy(), constant.bias.copy()
        rotated, intercept = model.coef_, model.intercept_
        if quality is not None:
            from qlung_plugin.training.margin_head import add_margins

            if len(there) == 2:
                rotated = np.vstack([-rotated, rotated]) / 2
                intercept = np.concatenate([-intercept, intercept]) / 2
            rotated, intercept = add_margins(
                rotated,
                intercept,
                u * s,
                np.searchsorted(there, codes),
                strength,
                np.asarray(quality, dtype=float),
            )
        weight[rows] = rotated @ rotation / deviation
        bias[rows] = intercept - weight[rows] @ mean
        heads.append(LinearHead(weight, bias))
    return heads


def choose_head(
    embeddings: npt.ArrayLike,
    codes: npt.ArrayLike,
    patients: npt.ArrayLike,
    classes: int,
    balanced: bool = False,
    seed: int = 0,
    quality: npt.ArrayLike | None = None,
) -> ChosenHead:
    """The head on all cycles, with the strength that is best by patient.

    That is the one of :data:`STRENGTHS` with the least cross entropy on patients
    that were held out in turn. Of a single patient it is :data:`UNCHOSEN`, and
    nothing is held out: what it says is of what it learned from.
    """
    embeddings, codes = np.asarray(embeddings, dtype=float), np.asarray(codes)
    if len(np.unique(patients)) < 2:
        head = fit_head(embeddings, codes, classes, UNCHOSEN, balanced, quality)
        return ChosenHead(head, UNCHOSEN, head.probabilities(embeddings))
    held_out = np.zeros((len(STRENGTHS), len(codes), classes))
    for train, test in patient_folds(codes, patients, seed):
        heads = fit_heads(
            embeddings[train],
            codes[train],
            classes,
            STRENGTHS,
            balanced,
            _of(quality, train),
        )
        for place, head in enumerate(heads):
            held_out[place, test] = head.probabilities(embeddings[test])
    likelihood = held_out[:, np.arange(len(codes)), codes]
    weights = compute_sample_weight("balanced" if balanced else None, codes)
    losses = -np.log(np.maximum(likelihood, TINY)) @ weights
    best = int(losses.argmin())
    strength = STRENGTHS[best]
    head = fit_head(embeddings, codes, classes, strength, balanced, quality)
    return ChosenHead(head, strength, held_out[best])


def judge_head(
    embeddings: npt.ArrayLike,
    codes: npt.ArrayLike,
    patients: npt.ArrayLike,
    classes: int,
    balanced: bool = False,
    seed: int = 0,
    quality: npt.ArrayLike | None = None,
) -> Iterator[tuple[np.ndarray, ChosenHead]]:
    """Nested cross-validation: which rows to judge by which head.

    Each head is chosen on the patients of the other folds alone, see
    :func:`choose_head`; every row comes once.
    """
    embeddings, codes = np.asarray(embeddings, dtype=float), np.asarray(codes)
    patients = np.asarray(patients)
    for train, test in patient_folds(codes, patients, seed):
        yield (
            test,
            choose_head(
                embeddings[train],
                codes[train],
                patients[train],
                classes,
                balanced,
                seed,
                _of(quality, train),
            ),
        )


def _of(quality: npt.ArrayLike | None, rows: np.ndarray) -> np.ndarray | None:
    """The quality of some rows, if there is any."""
    return None if quality is None else np.asarray(quality)[rows]
