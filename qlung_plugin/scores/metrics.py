"""The figures by which predictions are judged, a row of one table each.

Whatever writes or shows figures reads :data:`METRICS`: the results of a run in
JSON and as text, the comparison of configurations, the page and the model card.
To add a figure, add its row. Labels without a normal class, see
:func:`qlung_plugin.dataio.labels.has_normal`, have those of
:data:`WITHOUT_NORMAL`.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qlung_plugin.dataio.labels import LABELS, has_normal

UNDEFINED = "n/a"  # as it is printed
# Where metrics are shown. Each place shows those of the places after it, too.
PLACES = ("report", "intervals", "tables", "strata")


class Metric(NamedTuple):
    """A figure in percent, the higher the better."""

    name: str  # in a report
    heading: str  # of a column
    rule: str  # how it is counted, in words
    # From what it is of to [...] in percent; NaN where it is undefined.
    compute: Callable[[np.ndarray], np.ndarray]
    # In the report of a run; with intervals, there and in results.csv; in a
    # column where runs are side by side; or even of parts of the cycles.
    shown: str
    # "confusion": counts [..., class, class], rows truth, columns prediction,
    # class 0 normal, as floats. Or what a Ranking of the probabilities gives, in
    # [0, 1]: "area" [...] of abnormal against normal, "areas" and "precisions"
    # [..., class] of each class against the rest.
    of: str = "confusion"


class ClassMetric(NamedTuple):
    """A figure of each class in percent."""

    heading: str
    compute: Callable[[np.ndarray], np.ndarray]  # to [..., class]
    of: str = "confusion"


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


def _macro(values: np.ndarray) -> np.ndarray:
    # Over the classes that occur at all: where one of them lacks, as in some
    # resamples, it is undefined, not the mean of others.
    occurs = ~np.isnan(values).all(tuple(range(values.ndim - 1)))
    return 100 * values[..., occurs].sum(-1) / occurs.sum()


def _percent(values: np.ndarray) -> np.ndarray:
    return 100 * values


def _recall(confusion: np.ndarray) -> np.ndarray:
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return 100 * right / confusion.sum(-1)


def _macro_recall(confusion: np.ndarray) -> np.ndarray:
    return _macro(_recall(confusion) / 100)


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
    "auroc": Metric(
        name="AUROC, abnormal against normal",
        heading="AUROC",
        rule="abnormal against normal cycles by 1 - p(normal), no threshold",
        compute=_percent,
        shown="strata",
        of="area",
    ),
    "auroc_macro": Metric(
        name="AUROC, macro",
        heading="Macro AUROC",
        rule="mean over the classes that occur, each against the rest",
        compute=_macro,
        shown="intervals",
        of="areas",
    ),
    "average_precision_macro": Metric(
        name="average precision, macro",
        heading="Macro AP",
        rule="mean average precision of the classes that occur",
        compute=_macro,
        shown="intervals",
        of="precisions",
    ),
}


# Where no class is normal. The score is what selects and compares, here too.
WITHOUT_NORMAL = {
    "score": Metric(
        name="macro recall",
        heading="Macro recall",
        rule="mean recall of the classes that occur, none of which is normal",
        compute=_macro_recall,
        shown="strata",
    ),
    "macro_f1": METRICS["macro_f1"]._replace(shown="tables"),
    "auroc_macro": METRICS["auroc_macro"]._replace(shown="strata"),
    "average_precision_macro": METRICS["average_precision_macro"],
}

CLASS_METRICS = {
    "recall": ClassMetric("recall (%)", _recall),
    "class_auroc": ClassMetric("AUROC (%)", _percent, "areas"),
    "class_average_precision": ClassMetric(
        "average precision (%)", _percent, "precisions"
    ),
}

# What is there without probabilities, and in results of older versions.
OF_DECISIONS = {
    *(key for key, metric in METRICS.items() if metric.of == "confusion"),
    *(key for key, metric in CLASS_METRICS.items() if metric.of == "confusion"),
}


def metrics_of_labels(labels: Sequence[str]) -> dict[str, Metric]:
    """The metrics, by key, of labels with or without a normal class."""
    return METRICS if has_normal(labels) else WITHOUT_NORMAL


def metrics_in(place: str, labels: Sequence[str] = LABELS) -> dict[str, Metric]:
    """The metrics, by key, of labels that are shown in one of :data:`PLACES`.

    Example
    -------
    >>> [metric.heading for metric in metrics_in("tables").values()]
    ['Sp', 'Se', 'Score', 'Two-class Score', 'AUROC']
    >>> [m.heading for m in metrics_in("tables", ["S1", "S2"]).values()]
    ['Macro recall', 'Macro F1', 'Macro AUROC']
    """
    places = PLACES[PLACES.index(place) :]
    known = metrics_of_labels(labels).items()
    return {key: m for key, m in known if m.shown in places}


def metrics_of(
    confusion: npt.ArrayLike,
    place: str = "report",
    labels: Sequence[str] = LABELS,
    **ranked: np.ndarray,
) -> dict[str, np.ndarray]:
    """The metrics of confusion matrices that are shown in a place.

    Those of the probabilities are among them if what they are computed from,
    such as ``area`` of a :class:`qlung_plugin.scores.roc.Ranking`, is given.

    Of counts ``[..., class, class]`` of two classes or more (rows truth, columns
    prediction, class 0 normal, if one of the labels is) arrays ``[...]`` in
    percent, by the keys of :data:`METRICS`; NaN where undefined. Another shape is
    a ValueError.

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
    known = {"confusion": confusion, **ranked}
    with np.errstate(invalid="ignore"):  # 0 / 0 is the documented NaN
        return {
            key: metric.compute(known[metric.of])
            for key, metric in metrics_in(place, labels).items()
            if metric.of in known
        }


def ranks_in(place: str, labels: Sequence[str] = LABELS) -> list[str]:
    """What of a ranking the metrics of a place are computed from."""
    known = {metric.of for metric in metrics_in(place, labels).values()}
    return sorted(known - {"confusion"})


def always_normal() -> dict[str, float]:
    """The metrics, in percent, of calling every cycle normal: not all are."""
    # All cycles are alike then: half of the pairs are in the right order.
    metrics = metrics_of([[1, 0], [1, 0]], area=np.array(0.5))
    return {key: float(value) for key, value in metrics.items()}


def always_the_same(
    counts: Mapping[str, int],
) -> tuple[str, dict[str, float]]:
    """What giving every cycle one class is called, and gets, in percent.

    That is the normal class, or any that occurs where there is none. Counts are
    those of the cycles by label, in order.

    Example
    -------
    >>> name, metrics = always_the_same({"S1": 7, "S2": 3, "S3": 0})
    >>> name, metrics["score"]
    ('always one class', 50.0)
    """
    if has_normal(list(counts)):
        return 'always "normal"', always_normal()
    # What depends on how many cycles each class has is not known.
    floor = dict.fromkeys(WITHOUT_NORMAL, math.nan)
    occurring = sum(count > 0 for count in counts.values())
    floor |= {"score": 100 / occurring, "auroc_macro": 50.0}
    return "always one class", floor


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
