"""Figures of a learned quality score.

Authors
 * qlung_plugin contributors
"""

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve

from qlung_plugin.figures.style import (
    COLORS,
    N_BINS,
    legend_below,
    line_style,
    make_figure,
)
from qlung_plugin.scores.quality_analysis import measure_name

RELIABILITY_BINS = 10


def precision_recall_figure(table, precisions, title):
    """Draws how many of the recordings that are found are poor.

    ``table`` has a row per recording: ``poor`` and a column per measure, NaN where it
    was not measured; ``precisions`` is the average precision by measure.
    """
    figure, axes = make_figure((6.4, 7.2), title)
    for number, (name, average) in enumerate(precisions.items()):
        rows = table[table[name].notna()]
        precision, recall, _ = precision_recall_curve(rows["poor"], -rows[name])
        axes.plot(
            100 * recall,
            100 * precision,
            label=f"{measure_name(name)}: {average:.2f}",
            drawstyle="steps-post",
            **line_style(number),
        )
    share = table["poor"].mean()
    axes.axhline(
        100 * share, color="gray", linewidth=1, label=f"chance: {share:.2f}"
    )
    axes.set(
        xlim=(0, 100),
        ylim=(0, 101),
        aspect="equal",
        xlabel="poor recordings below the threshold (%)",
        ylabel="of those below the threshold, poor (%)",
    )
    axes.grid(alpha=0.3)
    legend_below(axes, 2, 9, "average precision")
    return figure


def calibration_figure(table, names, title):
    """Draws how often recordings of a quality are usable.

    In ten parts of equal size; beside it the distribution. ``table`` has a row per
    recording: ``poor`` and columns of quality in [0, 1], without NaN.
    """
    figure, curves, counts = make_figure((10.4, 5.6), title, (1, 2))
    curves.plot([0, 1], [0, 1], color="gray", linewidth=1, label="ideal")
    for number, name in enumerate(names):
        style = line_style(number)
        usable, quality = calibration_curve(
            ~table["poor"],
            table[name],
            n_bins=RELIABILITY_BINS,
            strategy="quantile",
        )
        curves.plot(
            quality, usable, marker="o", label=measure_name(name), **style
        )
        shares, edges = np.histogram(table[name], N_BINS // 2, range=(0, 1))
        counts.stairs(shares, edges, **style)
    curves.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        xlabel="mean quality of a tenth of the recordings",
        ylabel="share of them that experts call usable",
    )
    counts.set(xlim=(0, 1), xlabel="quality", ylabel="recordings per bin")
    for axes in (curves, counts):
        axes.grid(alpha=0.3)
    legend_below(curves, 4)
    return figure


def coefficients_figure(coefficients, title):
    """Draws what each measurement adds to the logit of being usable.

    ``coefficients`` has by measurement ``coefficient``, ``low`` and ``high`` (ends of
    the interval), and ``chosen``, the share of the resamples that chose it.
    """
    rows = coefficients.sort_values("coefficient", kind="stable")
    size = (7.6, 1.8 + 0.32 * len(rows))
    figure, axes = make_figure(size, title)
    places = np.arange(len(rows))
    axes.axvline(0, color="gray", linewidth=1)
    axes.hlines(places, rows["low"], rows["high"], color="gray", linewidth=2)
    axes.scatter(
        rows["coefficient"],
        places,
        color=np.where(rows["coefficient"] > 0, COLORS[0], COLORS[1]),
        zorder=3,
    )
    axes.set_yticks(
        places,
        [
            f"{measure_name(name)} ({share:.0%})".replace("%", " %")
            for name, share in rows["chosen"].items()
        ],
    )
    axes.set_xlabel(
        "logit of being usable, per standard deviation\n"
        "line: 95 % interval over patients\n"
        "in brackets: share of the resamples that chose it"
    )
    axes.grid(axis="x", alpha=0.3)
    return figure
