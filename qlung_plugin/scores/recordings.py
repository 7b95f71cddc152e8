"""Recordings called abnormal by the share of their cycles that are.

Authors
 * qlung_plugin contributors
"""

import math
from typing import Any

import pandas as pd

from qlung_plugin.dataio.labels import TWO_CLASSES
from qlung_plugin.scores.icbhi_score import table_metrics
from qlung_plugin.scores.intervals import bootstrap_interval, patient_outcomes
from qlung_plugin.scores.operating_point import choose_offset

SHARE = "abnormal_share"  # of a table: of the windows of its rows
NORMAL, ABNORMAL = TWO_CLASSES


def by_recording(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row per recording, of a table of predictions of its cycles.

    It is abnormal if any of its cycles is labelled so. ``p_abnormal`` is the
    share of them that is called abnormal, whichever class; of what was judged in
    windows, the share of these, :data:`SHARE`. A recording that is not named is
    a ValueError.
    """
    unnamed = int(predictions["recording"].isna().sum())
    if unnamed:
        raise ValueError(f"{unnamed} predictions do not name their recording")
    share = predictions["prediction"] != NORMAL
    if SHARE in predictions:
        share = predictions[SHARE]
    rows = predictions.assign(
        abnormal=predictions["label"] != NORMAL, share=share.astype(float)
    ).groupby("recording")
    found = rows.agg(
        patient=("patient", "first"),
        label=("abnormal", "any"),
        p_abnormal=("share", "mean"),
    )
    found["label"] = found["label"].map({False: NORMAL, True: ABNORMAL})
    found["p_normal"] = 1 - found["p_abnormal"]
    return found.reset_index()


def choose_share(predictions: pd.DataFrame) -> float | None:
    """Over which share of abnormal cycles to call a recording abnormal.

    It is the threshold of the highest Score over the recordings of a table of
    predictions, which were made out of fold; of several, the one closest to a
    half. None where all recordings are normal, or none is.

    Example
    -------
    >>> table = pd.DataFrame(
    ...     {
    ...         "recording": ["a"] * 4 + ["b"] * 4,
    ...         "patient": "1",
    ...         "label": ["normal"] * 4 + ["crackle"] * 4,
    ...         "prediction": ["wheeze"] + ["normal"] * 4 + ["wheeze"] * 3,
    ...     }
    ... )
    >>> choose_share(table)
    0.5
    """
    recordings = by_recording(predictions)
    offset = choose_offset(
        recordings[["p_normal", "p_abnormal"]],
        recordings["label"] == ABNORMAL,
    )
    # Abnormal is where log p_abnormal > log p_normal + offset.
    return None if offset is None else 1 / (1 + math.exp(-offset))


def call_recordings(
    predictions: pd.DataFrame, threshold: float
) -> pd.DataFrame:
    """:func:`by_recording`, abnormal where the share is over a threshold."""
    if not 0 <= threshold < 1:
        raise ValueError(f"abnormal_share is {threshold}, not in [0, 1)")
    table = by_recording(predictions)
    over = table["p_abnormal"] > threshold
    return table.assign(prediction=over.map({False: NORMAL, True: ABNORMAL}))


def recording_metrics(
    predictions: pd.DataFrame, threshold: float
) -> dict[str, Any]:
    """The figures of recordings, called as in :func:`call_recordings`.

    Those of :func:`qlung_plugin.scores.icbhi_score.table_metrics` of two classes,
    with their intervals over patients; the AUROC is that of the share.
    """
    table = call_recordings(predictions, threshold)
    interval = bootstrap_interval(patient_outcomes([table], TWO_CLASSES))
    return {
        "abnormal_share": threshold,
        **table_metrics(table, TWO_CLASSES),
        "patients": int(table["patient"].nunique()),
        "interval": {name: list(ends) for name, ends in interval.items()},
    }
