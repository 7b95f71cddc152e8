"""What a quality score is worth, as files to read.

Authors
 * qlung_plugin contributors
"""

import math

import pandas as pd

from qlung_plugin.dataio.labels import LABELS
from qlung_plugin.figures.quality import (
    measure_name,
    quality_and_errors_figure,
)
from qlung_plugin.scores.quality_analysis import compare_with_errors
from qlung_plugin.scores.roc import format_area
from qlung_plugin.utils.files import write_figure, write_json, write_text
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
compare Sp and Se of the quartiles.
"""
QUARTILES_NOTE = """\
Quartiles of each measure, 1 the lowest. Cycles of equal value are in one
quartile, that of their mean rank, so that sizes can differ.
"""


def write_quality_analysis(table, run, about, labels=LABELS):
    """Writes how the quality measures go with a model's errors.

    ``quality_analysis.json`` has all figures, ``quality_analysis.txt`` the
    tables to read, ``figures/quality_and_errors.png`` the curves.

    Arguments
    ---------
    table : pandas.DataFrame
        Predictions; see
        :func:`qlung_plugin.scores.quality_analysis.compare_with_errors`.
    run : qlung_plugin.runs.folder.RunFolder
        Where to.
    about : dict
        Texts that say what the figures are of: ``data``, ``partition`` and
        ``selection`` (of the model) at least.
    labels : sequence of str
        All classes, in order, normal first.

    Returns
    -------
    dict
        What was written to ``quality_analysis.json``.
    """
    analysis = compare_with_errors(table, labels)
    write_json(analysis, run.path / "quality_analysis.json")
    write_text(
        printable_lines(format_quality_analysis(analysis, about)),
        run.path / "quality_analysis.txt",
    )
    title = (
        f"Quality and errors: {about['data']}, {about['partition']},"
        f" {about['selection']}"
    )
    figure = quality_and_errors_figure(table, analysis, title)
    write_figure(figure, run.figure("quality_and_errors"))
    return analysis


def format_quality_analysis(analysis, about):
    """The tables of how quality measures go with errors, as text.

    Arguments
    ---------
    analysis : dict
        From :func:`qlung_plugin.scores.quality_analysis.compare_with_errors`.
    about : dict
        Texts that say what the figures are of.

    Returns
    -------
    str
        Several lines.
    """
    measures = pd.DataFrame(
        [
            {
                "measure": measure_name(name),
                "cycles": found["cycles"],
                "missing": found["missing"],
                "patients": found["patients"],
                "error (%)": _number(found["error"]),
                "AURC (%)": _number(found["aurc"]),
                "gain (%)": _number(found["gain"]),
                "area (95 % interval)": format_area(found),
                "Spearman": _number(found["spearman"], 3),
                "p": _p_value(found["p_value"]),
            }
            for name, found in analysis.items()
        ]
    )
    quartiles = pd.DataFrame(
        [
            {"measure": measure_name(name), **quartile}
            for name, found in analysis.items()
            for quartile in found["quartiles"]
        ]
    )
    title = "Quality and the model's errors"
    return "\n".join(
        [
            f"{title}\n{'=' * len(title)}\n",
            *(f"{key}: {text}" for key, text in about.items()),
            f"\n{measures.to_string(index=False)}\n",
            ERRORS_NOTE,
            quartiles.to_string(
                index=False, float_format="{:.2f}".format, na_rep="n/a"
            ),
            f"\n{QUARTILES_NOTE}",
        ]
    )


def _number(value, decimals=2):
    return "n/a" if math.isnan(value) else f"{value:.{decimals}f}"


def _p_value(value):
    """Not more of a p value than it is worth."""
    return "<0.001" if value < 0.001 else _number(value, 3)
