"""Figures by device, each held out of training, and their mean.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from qlung_plugin.scores.icbhi_score import table_metrics
from qlung_plugin.scores.intervals import bootstrap_scores, patient_outcomes

MACRO = "macro mean"


def device_figures(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """AUROC of abnormal against normal, and Score, by device, in percent.

    Each device counts alike in the last row, the mean; the first class is the
    normal one. A device without normal or abnormal cycles is a ValueError, as is
    a cycle of an unknown one.

    Example
    -------
    >>> table = pd.DataFrame(
    ...     {
    ...         "device": ["A", "A", "B", "B"],
    ...         "label": ["normal", "abnormal"] * 2,
    ...         "prediction": ["normal", "abnormal", "normal", "normal"],
    ...         "p_normal": [0.9, 0.2, 0.7, 0.8],
    ...         "p_abnormal": [0.1, 0.8, 0.3, 0.2],
    ...     }
    ... )
    >>> device_figures(table, ["normal", "abnormal"])["auroc"].to_dict()
    {'A': 100.0, 'B': 0.0, 'macro mean': 50.0}
    """
    normal = labels[0]
    if table["device"].isna().any():
        count = int(table["device"].isna().sum())
        raise ValueError(f"of {count} cycles the device is unknown")
    figures = {}
    for device, rows in table.groupby("device"):
        abnormal = rows["label"] != normal
        if abnormal.nunique() < 2:
            raise ValueError(
                f"device {device} has {int(abnormal.sum())} abnormal of"
                f" {len(rows)} cycles, so that its AUROC is undefined"
            )
        metrics = table_metrics(rows, labels)
        figures[device] = {key: metrics[key] for key in ("auroc", "score")}
    found = pd.DataFrame.from_dict(figures, orient="index")
    found.loc[MACRO] = found.mean()
    return found.rename_axis("device")


def bootstrap_macro_auroc(
    tables: Sequence[pd.DataFrame],
    labels: Sequence[str],
    n_resamples: int = 10000,
    seed: int = 0,
) -> np.ndarray:
    """The macro mean of the AUROC in resamples ``[resample]``, in percent.

    The tables are of runs on the same cycles. Patients and runs are drawn for
    each device by itself, as
    :func:`~qlung_plugin.scores.intervals.bootstrap_scores` draws them, so that
    the devices stay those that there are: it tells what other patients and seeds
    would change, not what another device would. Configurations judged on the
    same cycles are drawn alike: a difference is that of their resamples.

    Example
    -------
    >>> row = {"prediction": "normal", "p_normal": 0.5, "p_abnormal": 0.5}
    >>> table = pd.DataFrame(
    ...     {"device": d, "label": label, "patient": patient, **row}
    ...     for d in "AB"
    ...     for patient in "123"
    ...     for label in ("normal", "abnormal")
    ... )
    >>> bootstrap_macro_auroc([table], ["normal", "abnormal"], 3).tolist()
    [50.0, 50.0, 50.0]
    """
    devices = [
        [rows for _, rows in table.groupby("device")] for table in tables
    ]
    resamples = [
        bootstrap_scores(
            patient_outcomes(runs, labels), n_resamples, seed=seed + number
        )["auroc"]
        for number, runs in enumerate(zip(*devices))
    ]
    return np.mean(resamples, axis=0)
