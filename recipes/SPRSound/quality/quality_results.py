"""What the learned quality score is written to: coefficients and a report.

Authors
 * qlung_plugin contributors
"""

import itertools
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from qlung_plugin.lobes.quality import LearnedQualityScore
from qlung_plugin.scores.quality_analysis import measure_name
from qlung_plugin.scores.roc import format_area
from qlung_plugin.utils.markdown import markdown_table

REPORTED = 15  # single measurements; metrics.json has all
DIGITS = 6  # significant ones, of the coefficients
RANGE = (1, 99)  # percentiles: what lies outside is unlike the recordings
TOLERANCE = 1e-4  # of the probability with so many digits
FOLDERS = ("data_folder", "output_folder", "cache_folder")


def measurement_ranges(table, names):
    """The percentiles of :data:`RANGE` over the recordings, by measurement.

    The poor ones are included, the degraded copies are not.
    """
    recordings = table.loc[~table["degraded"], names]
    return recordings.quantile([end / 100 for end in RANGE]).T


def coefficients_content(coefficients, ranges, intercept, limit, provenance):
    """The file that :class:`LearnedQualityScore` reads.

    ``coefficients`` has ``mean``, ``scale``, ``coefficient``, ``low`` and ``high`` by
    measurement; ``intercept`` is of the logit of being usable.
    """
    ordered = coefficients.sort_values("coefficient", key=lambda c: -c.abs())
    return {
        "measurements": {
            row.Index: {
                "mean": rounded(row.mean),
                "scale": rounded(row.scale),
                "coefficient": rounded(row.coefficient),
                "interval": [rounded(row.low), rounded(row.high)],
                "range": [rounded(end) for end in ranges.loc[row.Index]],
            }
            for row in ordered.itertuples()
        },
        "intercept": rounded(intercept),
        "limit": limit,
        "provenance": provenance,
    }


def rounded(value):
    """A number of :data:`DIGITS` digits."""
    return float(f"{value:.{DIGITS}g}")


def describe_command(hparams_file, overrides):
    """The command without the names of this machine's folders."""
    words = ["python", "train.py", f"hparams/{Path(hparams_file).name}"]
    words += ["--data_folder", "/path/to/SPRSound"]
    for line in overrides.splitlines():
        key, _, value = line.partition(": ")
        if key not in FOLDERS:
            words += [f"--{key}", value]
    return shlex.join(words)


def check_coefficients(path, table, expected, sample_rate):
    """Refuses a file that does not give the scores of the fitted model.

    ``expected`` is the probability of being usable by recording, which may differ
    by :data:`TOLERANCE`.
    """
    score = LearnedQualityScore(sample_rate, path)
    values = table[list(score.measurements.names)]
    found = score.score(torch.tensor(values.to_numpy())).numpy()
    measured = values.notna().any(axis=1)  # the score of nothing is 0
    difference = np.abs(found - expected)[measured].max()
    if difference > TOLERANCE:
        raise ValueError(
            f"{path} gives probabilities that differ by {difference:.1e} from"
            " those of the fitted model"
        )


def format_report(
    areas, singles, cuts, groups, coefficients, fitted, brier, about
):
    """The report in Markdown.

    ``areas`` are of models and measures, ``singles`` of single measurements and
    ``cuts`` of cut recordings, all with ``average_precision``; ``groups`` are of
    :func:`quality_learning.group_differences`, ``coefficients`` of the final model
    ``fitted``; ``about`` says what the data are.
    """
    number, regularisation = fitted.setting
    first = dict(itertools.islice(singles.items(), REPORTED))
    by_group = pd.DataFrame(
        {
            "annotation": list(groups),
            "recordings": [found["recordings"] for found in groups.values()],
            "mean quality": [
                f"{found['mean']:.2f}" for found in groups.values()
            ],
            "difference (95 % interval)": [
                format_area({**found, "area": found["difference"]})
                for found in groups.values()
            ],
        }
    )
    ordered = coefficients.sort_values("coefficient", key=lambda c: -c.abs())
    by_measurement = pd.DataFrame(
        {
            "measurement": map(measure_name, ordered.index),
            "coefficient (95 % interval)": [
                format_area({"area": c, "interval": [low, high]})
                for c, low, high in ordered[
                    ["coefficient", "low", "high"]
                ].to_numpy()
            ],
            "chosen in": [f"{100 * c:.0f} %" for c in ordered["chosen"]],
        }
    )
    return (
        f"{about}\n\n{area_table('model or measure', areas)}\n\n"
        "Area under the ROC curve, and average precision, of finding the poor"
        " recordings by a low score, by models and measures that were chosen,"
        " calibrated and fitted without the recording's patient (nested"
        " cross-validation); intervals by bootstrap over the patients.\n\n"
        f"## Single measurements\n\n{area_table('measurement', first)}\n\n"
        f"The first {len(first)} of {len(singles)}; the sign of each is"
        " learned. The best of so many is better by chance, too.\n\n"
        f"## Quality by annotation\n\n{markdown_table(by_group)}\n\n"
        "Of the logistic model, out of fold.\n"
        f"Brier score: {brier:.4f} (0 is best).\n\n"
        f"## Cut recordings\n\n{area_table('duration', cuts)}\n\n"
        "Of the same model on a part of each recording, wherever it lies; the"
        " expert judged the whole.\n\n"
        f"## The final model\n\n{markdown_table(by_measurement)}\n\n"
        f"Chosen by cross-validation: {number} measurements,"
        f" C = {regularisation}. A coefficient is the change of the logit of"
        " being usable per standard deviation. Its interval is by bootstrap"
        " over the patients, choosing measurements anew every time; one that"
        " is not chosen has a coefficient of 0.\n"
    )


def area_table(kind, areas):
    """Areas of several scores as a table in Markdown.

    ``areas`` are of
    :func:`qlung_plugin.scores.quality_analysis.compare_with_experts`, perhaps with
    ``average_precision``; ``kind`` says what the scores are.
    """
    rows = areas.values()
    table = {kind: [measure_name(name) for name in areas]}
    for key in ("recordings", "poor", "patients"):
        table[key] = [found[key] for found in rows]
    table["area (95 % interval)"] = map(format_area, rows)
    if all("average_precision" in found for found in rows):
        table["average precision"] = [
            f"{found['average_precision']:.2f}" for found in rows
        ]
    return markdown_table(pd.DataFrame(table))
