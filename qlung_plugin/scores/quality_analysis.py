"""Whether a quality score means anything: to experts, and for the errors.

Pure functions on tables. Two questions are asked of a quality measure. Does a
low quality find the recordings that experts called poor? And is a model wrong
more often where the quality is low? Both are answered by an area under the
ROC curve, 0.5 being chance, with an interval over patients.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import spearmanr

from qlung_plugin.dataio.labels import LABELS, NORMAL
from qlung_plugin.scores.icbhi_score import table_metrics
from qlung_plugin.scores.metrics import metrics_in
from qlung_plugin.scores.roc import area_interval

QUARTILES = 4
CONFIDENCE_MEASURE = "confidence"  # of the model, beside the quality measures


def measure_name(column: str) -> str:
    """How a column of quality is called in figures and tables.

    Example
    -------
    >>> measure_name("quality_aqs_fitted"), measure_name("quality")
    ('aqs fitted', 'quality')
    """
    return column.removeprefix("quality_").replace("_", " ")


def compare_with_experts(
    table: pd.DataFrame,
    measures: Sequence[str],
    n_resamples: int = 10000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """How well a low quality finds the recordings that experts called poor.

    The table has a row per recording: ``patient``, ``poor`` (boolean, what the
    experts said) and a column per measure, high is good, NaN where it was not
    measured.

    Per measure there are ``recordings``, ``poor`` and ``patients``, all of the
    measured; ``missing``, recordings that are not; ``area``, in [0, 1], 0.5
    being chance, and its 95 % ``interval`` over patients.
    """
    comparison = {}
    for name in measures:
        rows = table[table[name].notna()]
        comparison[name] = {
            "recordings": len(rows),
            "poor": int(rows["poor"].sum()),
            "patients": int(rows["patient"].nunique()),
            "missing": len(table) - len(rows),
            **area_interval(
                -rows[name],
                rows["poor"],
                rows["patient"],
                n_resamples,
                seed=seed,
            ),
        }
    return comparison


def risk_coverage(
    score: npt.ArrayLike, correct: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Error rate of the rest when the lowest scores are set aside.

    Rows of equal score are kept or set aside in random order; the expected
    error rate is given, so that a constant score does as well as chance. A
    missing score is a ValueError. Given are coverage, the share of the rows that
    is kept, from 1 / rows to 1, and risk, the error rate among them, ``[row]``
    each. The mean risk is the area under the curve, AURC (Geifman et al.,
    "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019).

    Example
    -------
    >>> coverage, risk = risk_coverage([0.9, 0.2, 0.6], [True, False, True])
    >>> coverage.round(2).tolist(), risk.round(2).tolist()
    ([0.33, 0.67, 1.0], [0.0, 0.0, 0.33])
    """
    rows = pd.DataFrame({"score": score, "error": ~np.asarray(correct, bool)})
    if rows["score"].isna().any():
        raise ValueError("a score is missing: leave the row out")
    error = rows.groupby("score")["error"].transform("mean")
    kept = np.arange(1, len(rows) + 1)
    order = np.argsort(-rows["score"].to_numpy(), kind="stable")
    return kept / len(rows), error.to_numpy()[order].cumsum() / kept


def quality_quartile(quality: pd.Series) -> pd.Series:
    """Which quarter of the rows each row is in by its quality, 1 the worst.

    Rows of equal quality are in one quartile, that of their mean rank. So with
    many ties quartiles differ in size, and some are empty. NaN is none.
    """
    share_below = (quality.rank(method="average") - 0.5) / len(quality)
    return (QUARTILES * share_below).astype(int) + 1


def scores_by_quartile(
    table: pd.DataFrame, measure: str, labels: Sequence[str] = LABELS
) -> list[dict[str, float]]:
    """Accuracy and scores of the quartiles of a quality measure, worst first.

    The measure is a column of predictions without NaN; see
    :func:`quality_quartile` for ties. Each has ``quartile``, ``cycles``,
    ``normal`` (how many of them are), ``lowest`` and ``highest`` quality, and
    in percent ``accuracy`` and the metrics of strata, such as ``sp``, ``se``
    (exact class), ``score`` and ``auroc``, NaN where undefined, or without
    probabilities.
    """
    quartile = quality_quartile(table[measure])
    quartiles = []
    for number in range(1, QUARTILES + 1):
        rows = table[quartile == number]
        shown = metrics_in("strata", labels)
        figures = dict.fromkeys(("accuracy", *shown), np.nan)
        if len(rows):
            metrics = table_metrics(rows, labels)
            figures = {name: metrics.get(name, np.nan) for name in shown}
            figures["accuracy"] = 100 * float(_correct(rows).mean())
        quartiles.append(
            {
                "quartile": number,
                "cycles": len(rows),
                "normal": int((rows["label"] == NORMAL).sum()),
                "lowest": float(rows[measure].min()),
                "highest": float(rows[measure].max()),
                **figures,
            }
        )
    return quartiles


def quality_columns(table: pd.DataFrame) -> list[str]:
    """Names of the columns of quality that a table of predictions has.

    Example
    -------
    >>> quality_columns(pd.DataFrame(columns=["id", "quality", "quality_snr"]))
    ['quality', 'quality_snr']
    """
    return [
        name
        for name in table.columns.astype(str)
        if name == "quality" or name.startswith("quality_")
    ]


def with_confidence(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the model's confidence, its largest probability."""
    probabilities = table.columns[table.columns.str.startswith("p_")]
    confidence = table[probabilities].max(axis=1)
    return table.assign(**{CONFIDENCE_MEASURE: confidence})


def compare_with_errors(
    table: pd.DataFrame,
    labels: Sequence[str] = LABELS,
    n_resamples: int = 10000,
) -> dict[str, dict[str, Any]]:
    """How each quality measure, and the confidence, goes with being right.

    A prediction is right if it is the exact class. The table has a row per
    cycle: ``patient``, ``label``, ``prediction``, ``p_<label>`` per class (what
    lacks them, or any row, is a ValueError), and columns of quality, see
    :func:`quality_columns`.

    Per measure, and for ``confidence``, there are ``cycles`` and ``patients``, of
    the measured; ``missing`` cycles; in percent ``error``, which is the AURC of
    random order too, ``aurc`` (:func:`risk_coverage`) and ``gain``, by how much
    it is lower; ``area`` under the ROC curve of finding the right predictions,
    with its 95 % ``interval`` over patients; ``spearman``, the rank correlation
    with being right, and its ``p_value``, which takes cycles for independent;
    ``quartiles``, see :func:`scores_by_quartile`. Undefined figures are NaN.
    """
    needed = {"patient", "label", "prediction", *(f"p_{k}" for k in labels)}
    lacking = sorted(needed - set(table))
    if lacking or len(table) == 0:
        raise ValueError(
            f"the table of predictions has {len(table)} rows and lacks the"
            f" columns {lacking}"
        )
    table = with_confidence(table)
    comparison = {}
    for name in (*quality_columns(table), CONFIDENCE_MEASURE):
        rows = table[table[name].notna()]
        correct = _correct(rows)
        error = 100 * (1 - float(correct.mean()))
        _, risk = risk_coverage(rows[name], correct)
        aurc = 100 * float(risk.mean()) if len(rows) else np.nan
        correlation = _rank_correlation(rows[name], correct)
        comparison[name] = {
            "cycles": len(rows),
            "patients": int(rows["patient"].nunique()),
            "missing": len(table) - len(rows),
            "error": error,
            "aurc": aurc,
            "gain": error - aurc,
            **area_interval(rows[name], correct, rows["patient"], n_resamples),
            "spearman": correlation[0],
            "p_value": correlation[1],
            "quartiles": scores_by_quartile(rows, name, labels),
        }
    return comparison


def _correct(table: pd.DataFrame) -> pd.Series:
    return table["label"] == table["prediction"]


def _rank_correlation(
    values: pd.Series, correct: pd.Series
) -> tuple[float, float]:
    """Spearman's, NaN where one of the two does not vary."""
    if values.nunique() < 2 or correct.nunique() < 2:
        return np.nan, np.nan
    correlation = spearmanr(values, correct)
    return float(correlation.statistic), float(correlation.pvalue)
