"""What a quality score is worth, as files to read.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from qlung_plugin.dataio.labels import LABELS
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.scores.metrics import (
    UNDEFINED,
    format_number,
    metrics_of_labels,
)
from qlung_plugin.scores.quality_analysis import (
    compare_with_errors,
    measure_name,
)
from qlung_plugin.scores.roc import format_area
from qlung_plugin.utils.files import write_json, write_text
from qlung_plugin.utils.text import printable_lines

ERRORS_NOTE = """\
A prediction is right if it is the exact class. AURC: mean error rate of the
rest over all shares of cycles that are set aside, lowest values first; random
order gives the error rate itself, and the gain is how much less it is. Area:
under the ROC curve of finding right predictions by a high value, 0.5 is
chance, with its 95 % interval by bootstrap over patients. Spearman: rank
correlation with being right; its p takes cycles for independent, which those
of one patient are not, so the interval of the area is what counts. A quality
that differs between classes can go with the errors by their recall alone:
compare the figures of the quartiles.
"""
QUARTILES_NOTE = """\
Quartiles of each measure, 1 the lowest. Cycles of equal value are in one
quartile, that of their mean rank, so that sizes can differ.
"""


def write_quality_analysis(
    table: pd.DataFrame,
    run: RunFolder,
    about: dict[str, str],
    labels: Sequence[str] = LABELS,
) -> dict[str, dict[str, Any]]:
    """Writes, and returns, how the quality measures go with a model's errors."""
    analysis = compare_with_errors(table, labels)
    write_json(analysis, run.quality_analysis)
    write_text(
        printable_lines(format_quality_analysis(analysis, about, labels)),
        run.path / "quality_analysis.txt",
    )
    return analysis


def format_quality_analysis(
    analysis: dict[str, dict[str, Any]],
    about: dict[str, str],
    labels: Sequence[str] = LABELS,
) -> str:
    """The tables of how quality measures go with errors, as text."""
    known = metrics_of_labels(labels)
    measures = pd.DataFrame(
        [
            {
                "measure": measure_name(name),
                "cycles": figures["cycles"],
                "missing": figures["missing"],
                "patients": figures["patients"],
                "error (%)": format_number(figures["error"]),
                "AURC (%)": format_number(figures["aurc"]),
                "gain (%)": format_number(figures["gain"]),
                "area (95 % interval)": format_area(figures),
                "Spearman": format_number(figures["spearman"], ".3f"),
                "p": _p_value(figures["p_value"]),
            }
            for name, figures in analysis.items()
        ]
    )
    quartiles = pd.DataFrame(
        [
            {"measure": measure_name(name), **quartile}
            for name, figures in analysis.items()
            for quartile in figures["quartiles"]
        ]
    ).rename(columns={key: metric.heading for key, metric in known.items()})
    title = "Quality and the model's errors"
    return "\n".join(
        [
            f"{title}\n{'=' * len(title)}\n",
            *(f"{key}: {text}" for key, text in about.items()),
            f"\n{measures.to_string(index=False)}\n",
            ERRORS_NOTE,
            quartiles.to_string(
                index=False, float_format="{:.2f}".format, na_rep=UNDEFINED
            ),
            f"\n{QUARTILES_NOTE}",
        ]
    )


def _p_value(value: float) -> str:
    """Not more of a p value than it is worth."""
    return "<0.001" if value < 0.001 else format_number(value, ".3f")
