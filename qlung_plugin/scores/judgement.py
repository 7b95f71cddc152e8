"""What to expect of new patients: figures with intervals, beside no model at all.

Authors
 * qlung_plugin contributors
"""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from qlung_plugin.scores.intervals import patient_outcomes
from qlung_plugin.scores.metrics import (
    CLASS_METRICS,
    METRICS,
    always_normal,
    metrics_of,
)
from qlung_plugin.scores.roc import percentile_interval

OF_NORMAL = ("score", "sp", "se", "auroc")  # need to know which class is normal
FEW_PATIENTS = 10  # below, an interval says little

logger = logging.getLogger(__name__)


def judge(
    predictions: pd.DataFrame,
    labels: Sequence[str],
    normal: bool = True,
    n_resamples: int = 10000,
    seed: int = 0,
) -> pd.DataFrame:
    """Judges predictions, with 95 % intervals by resampling patients.

    Arguments
    ---------
    predictions : pandas.DataFrame
        With ``label``, ``prediction``, ``patient`` and ``p_<label>``.
    labels : sequence of str
        The classes, each of which occurs.
    normal : bool
        Whether the first one is normal: if so, Score, Sp, Se and AUROC of
        abnormal against normal are among the figures.
    n_resamples : int
        How often patients are drawn.
    seed : int
        Of that.

    Returns
    -------
    pandas.DataFrame
        A row per figure, called as in reports, in percent: ``value``, ``low``
        and ``high`` (NaN of one patient), and ``always``, that of calling all
        by the first label if that is normal, or by any one. Resamples without
        a class are left out of what is undefined in them, which a warning
        counts.

    Example
    -------
    >>> table = pd.DataFrame(
    ...     {
    ...         "label": ["normal", "wheeze"] * 2,
    ...         "prediction": ["normal", "wheeze", "normal", "normal"],
    ...         "patient": ["a", "a", "b", "b"],
    ...         "p_normal": [0.9, 0.2, 0.8, 0.6],
    ...         "p_wheeze": [0.1, 0.8, 0.2, 0.4],
    ...     }
    ... )
    >>> judge(table, ["normal", "wheeze"])["value"].round().tolist()
    [75.0, 100.0, 50.0, 100.0, 75.0, 100.0]
    """
    confusions, (ranking,), _ = patient_outcomes([predictions], labels)
    count = confusions.shape[1]
    draw = np.random.default_rng(seed).multinomial
    # The first set is that of all patients.
    drawn = draw(count, np.full(count, 1 / count), n_resamples)
    weights = np.vstack([np.ones((1, count)), drawn])
    sums = np.tensordot(weights, confusions[0].astype(float), 1)
    values, always = {}, {}
    if normal:
        scores = metrics_of(sums, "report", area=ranking.area(weights))
        for key in OF_NORMAL:
            values[METRICS[key].heading] = scores[key]
            always[METRICS[key].heading] = always_normal()[key]
    with np.errstate(invalid="ignore"):  # a class that was not drawn
        values["Macro recall"] = CLASS_METRICS["recall"].compute(sums).mean(-1)
        macro = METRICS["auroc_macro"]
        values[macro.heading] = macro.compute(ranking.areas(weights))
    always |= {"Macro recall": 100 / len(labels), macro.heading: 50.0}
    undefined = int(np.isnan(values["Macro recall"][1:]).sum())
    if undefined:
        logger.warning(
            "%d of %d resamples of %d patients lack a class and are left out of"
            " the intervals of what needs it",
            *(undefined, n_resamples, count),
        )
    known = count > 1
    return pd.DataFrame(
        {
            name: (
                scores[0],
                *(
                    percentile_interval(scores[1:], 0.95)
                    if known
                    else (np.nan, np.nan)
                ),
                always[name],
            )
            for name, scores in values.items()
        },
        index=["value", "low", "high", "always"],
    ).T
