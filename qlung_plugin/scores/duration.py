"""What the duration of a cycle tells of its class, without a sound of it.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from qlung_plugin.dataio.labels import has_normal
from qlung_plugin.scores.icbhi_score import label_codes
from qlung_plugin.scores.metrics import format_number
from qlung_plugin.scores.roc import area_interval


def duration_alone(
    predictions: pd.DataFrame, labels: Sequence[str]
) -> dict[str, Any] | None:
    """AUROC of abnormal against normal cycles by their duration alone.

    Annotators draw events more tightly than breaths, and some databases hold other
    durations of each class. What a model gets that could see the duration (how
    often a cycle was repeated, say) has to be set beside this.

    Arguments
    ---------
    predictions : pandas.DataFrame
        With ``duration`` in seconds, ``label`` and ``patient``.
    labels : list of str
        The classes, normal first.

    Returns
    -------
    dict or None
        ``auroc`` in percent with its 95 % ``interval`` over patients, and which
        cycles are taken for ``abnormal``, the ``longer`` or the ``shorter``
        ones: what suits these cycles. None if durations, or a normal class, are
        not known, or one of the two sides is not there.

    Example
    -------
    >>> table = pd.DataFrame(
    ...     {
    ...         "duration": [2.0, 1.5, 0.5, 1.0],
    ...         "label": ["normal", "normal", "wheeze", "wheeze"],
    ...         "patient": ["1", "2", "1", "2"],
    ...     }
    ... )
    >>> figures = duration_alone(table, ["normal", "wheeze"])
    >>> figures["auroc"], figures["abnormal"]
    (100.0, 'shorter')
    """
    known = "duration" in predictions and predictions["duration"].notna().all()
    if not known or not has_normal(labels):
        return None
    abnormal = label_codes(predictions["label"], labels) > 0
    if abnormal.all() or not abnormal.any():
        return None
    found = area_interval(
        predictions["duration"], abnormal, predictions["patient"]
    )
    percent = 100 * np.array([found["area"], *found["interval"]])
    longer = percent[0] >= 50
    if not longer:
        percent = 100 - percent[[0, 2, 1]]
    return {
        "auroc": float(percent[0]),
        "interval": percent[1:].tolist(),
        "abnormal": "longer" if longer else "shorter",
    }


def describe_duration(figures: Mapping[str, Any] | None) -> str:
    """What :func:`duration_alone` says, as text.

    Example
    -------
    >>> describe_duration(
    ...     {"auroc": 88.4, "interval": [84.9, 91.4], "abnormal": "shorter"}
    ... )
    'AUROC 88.40 (84.90 to 91.40), the shorter ones taken for abnormal'
    """
    if figures is None:
        return "not known"
    low, high = map(format_number, figures["interval"])
    return (
        f"AUROC {format_number(figures['auroc'])} ({low} to {high}), the"
        f" {figures['abnormal']} ones taken for abnormal"
    )
