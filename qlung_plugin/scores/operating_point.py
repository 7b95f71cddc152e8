"""Where a model draws the line between normal and abnormal.

The Score weighs normal cycles as a whole against all others, so it depends on how
readily a model calls a cycle normal as much as on how well it tells them apart.
An operating point is what is added to the logarithms of the probabilities before
the largest decides. It is one number, for normal against the rest, which is the
trade that the Score is about: more of them would be fitted to the few cycles of
the rarest class. It is chosen on predictions for held-out patients of the training side
alone: those who validate, or of devices that were held out in turn.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from qlung_plugin.dataio.labels import NORMAL, has_normal
from qlung_plugin.scores.icbhi_score import label_codes

AT_POINT = "prediction_at_operating_point"  # of a table, never of its file
TINY = np.finfo(np.float32).tiny  # what a probability of 0 counts as
SAME = 9  # decimals: offsets that are closer are one
HIGHEST_SCORE = "the highest Score"  # what a point is chosen for, in words
BEYOND = 1.0  # of the last cycle, where all, or none, are called normal


def choose_offset(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike
) -> float | None:
    """What to add to ``log p`` of normal so that the Score is the highest.

    Of probabilities ``[cycle, class]`` and classes ``[cycle]``, 0 normal. Among
    offsets of the highest Score it is the one closest to 0; between two cycles,
    one half between them. None without a normal, or without another, cycle.

    Example
    -------
    >>> choose_offset([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], [0, 1, 1])
    -1.30...
    """
    shares, truth = np.asarray(probabilities, dtype=float), np.asarray(truth)
    normal, abnormal = int((truth == 0).sum()), int((truth > 0).sum())
    if not normal or not abnormal:
        return None
    with np.errstate(divide="ignore"):
        logs = np.log(shares)
    # A cycle is called normal from this offset on.
    needed = (logs[:, 1:].max(1) - logs[:, 0]).round(SAME)
    right = truth == 1 + logs[:, 1:].argmax(1)
    # What the Score gains by it; in whole numbers, so that equal is equal.
    gain = np.where(truth == 0, abnormal, np.where(right, -normal, 0))
    finite = np.isfinite(needed)
    edges, place = np.unique(needed[finite], return_inverse=True)
    if len(edges) == 0:
        return 0.0
    gains = np.bincount(place, gain[finite], len(edges))
    totals = np.concatenate([[0], np.cumsum(gains)])
    middles = (edges[1:] + edges[:-1]) / 2
    ends = edges[0] - BEYOND, edges[-1] + BEYOND
    offsets = np.concatenate([ends[:1], middles, ends[1:]])
    offsets[np.searchsorted(edges, 0, "right")] = 0
    best = offsets[totals == totals.max()]
    return float(best[np.abs(best).argmin()])


def choose_offset_for(
    rate: float,
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    normal: bool = True,
) -> float:
    """What to add to ``log p`` of normal for a wanted share of cycles.

    Of the normal cycles that are called normal, the specificity; or, if not
    ``normal``, of the others that are called anything else, the sensitivity by
    two classes. Between two cycles it is interpolated.

    Example
    -------
    >>> shares = [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]
    >>> round(choose_offset_for(0.5, shares, [0, 0, 0]), 2)
    0.0
    """
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=float), TINY))
    # A cycle is called normal from this offset on.
    needed = logs[:, 1:].max(1) - logs[:, 0]
    of = (np.asarray(truth) == 0) == normal
    return float(np.quantile(needed[of], rate if normal else 1 - rate))


def choose_operating_point(
    predictions: pd.DataFrame, labels: Sequence[str]
) -> dict[str, float] | None:
    """The offset of each label, by the validation predictions of a model.

    See :func:`choose_offset`; all but the first, which is normal, have 0. None if
    no class is normal.
    """
    if not has_normal(labels):
        return None
    shares = predictions[[f"p_{label}" for label in labels]].to_numpy()
    offset = choose_offset(shares, label_codes(predictions["label"], labels))
    return None if offset is None else normal_point(offset, labels)


def normal_point(offset: float, labels: Sequence[str]) -> dict[str, float]:
    """The point of an offset of the first label, which is normal.

    Labels of which none is are a ValueError.

    Example
    -------
    >>> normal_point(1.3, ["normal", "abnormal"])
    {'normal': 1.3, 'abnormal': 0.0}
    """
    if not has_normal(labels):
        raise ValueError(
            f"an operating point moves the normal class, but of {list(labels)}"
            f" none is called {NORMAL}"
        )
    return {**dict.fromkeys(labels, 0.0), labels[0]: float(offset)}


def decide(
    probabilities: npt.ArrayLike, offsets: npt.ArrayLike | None = None
) -> np.ndarray:
    """The class ``[cycle]`` of probabilities ``[cycle, class]`` at a point.

    Offsets are ``[class]``; without them it is the most probable class.

    Example
    -------
    >>> decide([[0.4, 0.6]]).tolist(), decide([[0.4, 0.6]], [1, 0]).tolist()
    ([1], [0])
    """
    shares = np.asarray(probabilities, dtype=float)
    if offsets is None:
        return shares.argmax(-1)
    with np.errstate(divide="ignore"):
        return (np.log(shares) + np.asarray(offsets)).argmax(-1)


def shares_at(
    probabilities: npt.ArrayLike, offsets: npt.ArrayLike | None = None
) -> np.ndarray:
    """Probabilities ``[cycle, class]`` of which the largest decides at a point.

    Example
    -------
    >>> shares_at([[0.5, 0.5]], [np.log(3), 0]).round(2).tolist()
    [[0.75, 0.25]]
    """
    shares = np.asarray(probabilities, dtype=float)
    if offsets is None:
        return shares
    with np.errstate(divide="ignore"):
        return softmax(np.log(shares) + np.asarray(offsets), -1)


def with_operating_point(
    predictions: pd.DataFrame,
    point: Mapping[str, float] | None,
    labels: Sequence[str],
) -> pd.DataFrame:
    """The table with the classes at a point as :data:`AT_POINT`, if it is one."""
    if point is None:
        return predictions
    shares = predictions[[f"p_{label}" for label in labels]].to_numpy()
    codes = decide(shares, [point[label] for label in labels])
    return predictions.assign(**{AT_POINT: np.array(labels)[codes]})


def describe_point(
    point: Mapping[str, float] | None, rule: str | None = None
) -> str:
    """An operating point in words, and what it was chosen for.

    Example
    -------
    >>> describe_point({"normal": -1.3, "wheeze": 0.0})
    'normal -1.30 on the logarithm of its probability, chosen on held-out patients'
    """
    if point is None:
        return "none: no validation set chose one"
    aim = f" for {rule}" if rule else ""
    moved = [f"{name} {value:+.2f}" for name, value in point.items() if value]
    if not moved:
        if rule:
            return f"the most probable class, chosen{aim}"
        return "the most probable class, which is the best on validation"
    return (
        f"{', '.join(moved)} on the logarithm of its probability, chosen{aim} on"
        " held-out patients"
    )
