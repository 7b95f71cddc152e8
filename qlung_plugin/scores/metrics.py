"""The figures by which predictions are judged, a row of one table each.

Whatever writes or shows figures reads :data:`METRICS`: the results of a run in
JSON and as text, the comparison of configurations, the page and the model card.
To add a figure, add its row.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

UNDEFINED = "n/a"  # as it is printed
# Where metrics are shown. Each place shows those of the places after it, too.
PLACES = ("report", "intervals", "tables", "strata")


class Metric(NamedTuple):
    """A figure in percent, the higher the better."""

    name: str  # in a report
    heading: str  # of a column
    rule: str  # how it is counted, in words
    # From counts [..., class, class], rows truth, columns prediction, class 0
    # normal, as floats, to [...] in percent; NaN where it is undefined.
    compute: Callable[[np.ndarray], np.ndarray]
    # In the report of a run; with intervals, there and in results.csv; in a
    # column where runs are side by side; or even of parts of the cycles.
    shown: str


def _specificity(confusion: np.ndarray) -> np.ndarray:
    return 100 * confusion[..., 0, 0] / confusion[..., 0, :].sum(-1)


def _sensitivity(confusion: np.ndarray) -> np.ndarray:
    right = np.trace(confusion[..., 1:, 1:], 0, -2, -1)
    return 100 * right / confusion[..., 1:, :].sum((-2, -1))


def _sensitivity_two_class(confusion: np.ndarray) -> np.ndarray:
    abnormal = confusion[..., 1:, :].sum((-2, -1))
    return 100 * confusion[..., 1:, 1:].sum((-2, -1)) / abnormal


def _score(confusion: np.ndarray) -> np.ndarray:
    return (_specificity(confusion) + _sensitivity(confusion)) / 2


def _score_two_class(confusion: np.ndarray) -> np.ndarray:
    return (_specificity(confusion) + _sensitivity_two_class(confusion)) / 2


def _macro_f1(confusion: np.ndarray) -> np.ndarray:
    either = confusion.sum(-1) + confusion.sum(-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    # Over the classes that occur.
    f1 = np.where(either > 0, 2 * right / either, 0)
    return 100 * f1.sum(-1) / (either > 0).sum(-1)


# The rules for sensitivity that are in use differ by 5 to 9 points: the rule is
# printed beside the figure. (A third one, the macro average of the recalls, is
# not among them.)
METRICS = {
    "sp": Metric(
        name="specificity",
        heading="Sp",
        rule="normal cycles called normal",
        compute=_specificity,
        shown="strata",
    ),
    "se": Metric(
        name="sensitivity",
        heading="Se",
        rule="exact class (an abnormal cycle must be given its own class)",
        compute=_sensitivity,
        shown="strata",
    ),
    "score": Metric(
        name="score, their mean",
        heading="Score",
        rule="mean of Sp and Se",
        compute=_score,
        shown="strata",
    ),
    "se_two_class": Metric(
        name="sensitivity, two-class",
        heading="Two-class Se",
        rule="any abnormal class (which one does not matter)",
        compute=_sensitivity_two_class,
        shown="intervals",
    ),
    "score_two_class": Metric(
        name="score with it",
        heading="Two-class Score",
        rule="mean of Sp and two-class Se",
        compute=_score_two_class,
        shown="tables",
    ),
    "macro_f1": Metric(
        name="macro F1",
        heading="Macro F1",
        rule="mean F1 of the classes that occur",
        compute=_macro_f1,
        shown="report",
    ),
}


def metrics_in(place: str) -> dict[str, Metric]:
    """The metrics, by key, that are shown in one of :data:`PLACES`.

    Example
    -------
    >>> [metric.heading for metric in metrics_in("tables").values()]
    ['Sp', 'Se', 'Score', 'Two-class Score']
    """
    places = PLACES[PLACES.index(place) :]
    return {key: m for key, m in METRICS.items() if m.shown in places}


def metrics_of(
    confusion: npt.ArrayLike, place: str = "report"
) -> dict[str, np.ndarray]:
    """The metrics of confusion matrices that are shown in a place.

    Of counts ``[..., class, class]`` of two classes or more (rows truth, columns
    prediction, class 0 normal) arrays ``[...]`` in percent, by the keys of
    :data:`METRICS`; NaN where undefined. Another shape is a ValueError.

    Example
    -------
    >>> metrics = metrics_of([[8, 1, 1], [2, 3, 1], [0, 2, 2]])
    >>> [f"{name} {value:.0f}" for name, value in metrics.items()][:4]
    ['sp 80', 'se 50', 'score 65', 'se_two_class 80']
    """
    confusion = np.asarray(confusion, dtype=float)
    shape = confusion.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 2:
        raise ValueError(
            "a confusion matrix must be [..., class, class] with two classes "
            f"or more, got the shape {list(shape)}"
        )
    with np.errstate(invalid="ignore"):  # 0 / 0 is the documented NaN
        return {
            key: metric.compute(confusion)
            for key, metric in metrics_in(place).items()
        }


def always_normal() -> dict[str, float]:
    """The metrics, in percent, of calling every cycle normal: not all are."""
    metrics = metrics_of([[1, 0], [1, 0]])
    return {key: float(value) for key, value in metrics.items()}


def format_number(value: float | None, style: str = ".2f") -> str:
    """A figure to print; what is undefined, None or NaN, is not available.

    Example
    -------
    >>> format_number(62.437), format_number(None)
    ('62.44', 'n/a')
    """
    if value is None or math.isnan(value):
        return UNDEFINED
    return f"{value:{style}}"
