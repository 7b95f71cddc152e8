"""A linear probe: what a line through embeddings tells of new patients.

Authors
 * qlung_plugin contributors
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from tqdm import tqdm

FOLDS = 5  # of patients, each of which is judged once
INNER_FOLDS = 3  # of the others, that choose the regularisation
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # scikit-learn's C
FEWEST_PATIENTS = 3  # one to judge, two to choose by


def probe(
    embeddings: npt.ArrayLike,
    classes: npt.ArrayLike,
    patients: Sequence[object],
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts each row by a logistic regression on other patients alone.

    The embeddings are standardised, and the classes weigh the same. Patients are
    split into folds with classes as alike as can be; of each fold, the
    regularisation is the one by whose predictions the others, split again, have
    the lowest cross entropy, in which the classes weigh the same, too.

    Arguments
    ---------
    embeddings : array
        ``[row, dim]``, finite.
    classes : array
        Numbers ``[row]`` from 0, of which there are two or more.
    patients : sequence
        Whose each row is, ``[row]``.
    seed : int
        Of the folds.

    Returns
    -------
    probabilities : array
        ``[row, class]``. A class that no other patient has gets 0.
    folds : array
        ``[row]``, from 0: which one it was judged in.

    Raises
    ------
    ValueError
        If there is one class alone, fewer than three patients, or a number is
        not finite.

    Example
    -------
    >>> classes = np.tile([0, 1], 20)
    >>> embeddings = classes[:, None] + np.linspace(0, 0.5, 40)[:, None]
    >>> probabilities, folds = probe(embeddings, classes, np.arange(40) // 4)
    >>> float((probabilities.argmax(1) == classes).mean())
    1.0
    """
    embeddings = np.asarray(embeddings, dtype=float)
    classes = np.asarray(classes)
    groups = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings have to be finite: leave such rows out")
    if len(np.unique(classes)) < 2:
        raise ValueError("all rows are of one class: there is nothing to tell")
    count = groups.max() + 1
    if count < FEWEST_PATIENTS:
        raise ValueError(
            f"{count} patients are too few: a probe learns from some, and is"
            f" judged on others; at least {FEWEST_PATIENTS} are needed"
        )
    size = classes.max() + 1
    probabilities = np.zeros((len(classes), size))
    folds = np.zeros(len(classes), dtype=int)
    parts = split_patients(classes, groups, FOLDS, seed)
    for fold, (train, test) in enumerate(
        tqdm(parts, unit="fold", disable=None)
    ):
        x, y, own = embeddings[train], classes[train], groups[train]
        strength = _choose_strength(x, y, own, size, seed)
        probabilities[test] = _fit(x, y, strength, embeddings[test], size)
        folds[test] = fold
    return probabilities, folds


def split_patients(
    classes: np.ndarray, groups: np.ndarray, most: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows to judge, of folds of patients, if there are two.

    Classes are as alike as can be.
    """
    count = min(most, len(np.unique(groups)))
    if count < 2:
        return []
    names = np.unique(classes, return_inverse=True)[1]
    folds: StratifiedGroupKFold | GroupKFold
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    if np.bincount(names).max() < count:  # which that refuses
        folds = GroupKFold(count)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        parts = list(folds.split(classes, names, groups))
    return [(train, test) for train, test in parts if len(train) and len(test)]


def _choose_strength(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, size: int, seed: int
) -> float:
    parts = split_patients(y, groups, INNER_FOLDS, seed)
    weights = compute_sample_weight("balanced", y)
    losses = []
    for strength in STRENGTHS:
        shares = np.zeros((len(y), size))
        for train, test in parts:
            shares[test] = _fit(x[train], y[train], strength, x[test], size)
        # A class that a part lacks costs all strengths the same.
        shares = np.maximum(shares, 1e-6)
        shares /= shares.sum(1, keepdims=True)
        losses.append(
            log_loss(y, shares, sample_weight=weights, labels=range(size))
        )
    return STRENGTHS[int(np.argmin(losses))]


def _fit(
    x: np.ndarray, y: np.ndarray, strength: float, new: np.ndarray, size: int
) -> np.ndarray:
    """Probabilities ``[row, class]`` of new rows."""
    shares = np.zeros((len(new), size))
    if len(np.unique(y)) == 1:
        shares[:, y[0]] = 1
        return shares
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=strength, class_weight="balanced", max_iter=1000),
    )
    model.fit(x, y)
    shares[:, model[-1].classes_] = model.predict_proba(new)
    return shares
