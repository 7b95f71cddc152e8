"""What a study of degradations found, of recordings scored in many versions.

A table of such a study has a row per recording and version: ``degradation``,
what was done (``none`` in the version as it was recorded); ``degree``, how much
of it (missing in that version); and a column of scores per quality measure.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from qlung_plugin.processing.degradations import DEGRADATIONS


def median_scores(table: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """The median over the recordings of every version, in order of appearance.

    Columns ``degradation``, ``degree`` and those of the measures.
    """
    versions = table.groupby(
        ["degradation", "degree"], dropna=False, sort=False
    )
    return versions[measures].median().reset_index()


def severity_correlations(
    medians: pd.DataFrame, measures: list[str]
) -> pd.DataFrame:
    """Rank correlation of the median scores with how bad a degradation is.

    Spearman's, a row per kind of degradation (a key of
    :data:`qlung_plugin.processing.degradations.DEGRADATIONS`) and a column per
    measure. The undegraded median counts as the least degree. -1: the median
    falls with every degree. NaN where it is one and the same.
    """
    none = medians["degradation"] == "none"
    correlations = {}
    for kind in medians["degradation"][~none].unique():
        rows = medians[none | (medians["degradation"] == kind)]
        known = DEGRADATIONS[kind]
        degrees = rows["degree"].astype(float).fillna(known.harmless)
        severity = known.severity(degrees)
        correlations[kind] = {
            name: spearmanr(severity, rows[name]).statistic
            if rows[name].nunique() > 1
            else np.nan
            for name in measures
        }
    return pd.DataFrame.from_dict(
        correlations, orient="index", columns=measures
    )


def score_changes(table: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """How far the scores are from those of the same ``recording`` undegraded.

    One row per version but ``none``, in order: ``degradation``, ``degree``,
    the number of ``recordings``, and per measure the median absolute change,
    ``<measure>_median``, and its 95th percentile, ``<measure>_p95``.
    """
    none = table["degradation"] == "none"
    before = table[none].set_index("recording")[measures]
    after = table[~none].set_index(["degradation", "degree", "recording"])
    changes = after[measures].sub(before, level="recording").abs()
    versions = changes.groupby(["degradation", "degree"])
    summary = versions.size().to_frame("recordings")
    for name in measures:
        summary[f"{name}_median"] = versions[name].median()
        summary[f"{name}_p95"] = versions[name].quantile(0.95)
    return summary.reset_index()
