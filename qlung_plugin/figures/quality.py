"""Figures of what a quality score is worth.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from qlung_plugin.figures.style import (
    COLORS,
    draw_distribution,
    legend_below,
    line_style,
    make_figure,
)
from qlung_plugin.scores.quality_analysis import (
    CONFIDENCE_MEASURE,
    QUARTILES,
    measure_name,
    risk_coverage,
    with_confidence,
)
from qlung_plugin.scores.roc import format_area

# With fewer cycles left the error rate is an accident of single ones.
LEAST_COVERAGE = 0.05


def quality_roc_figure(
    table: pd.DataFrame, areas: dict[str, dict[str, Any]], title: str
) -> Figure:
    """Draws how well each measure finds the recordings that experts call poor.

    The table has a row per recording, with ``poor`` (boolean) and a column per
    measure; the areas are what
    :func:`qlung_plugin.scores.quality_analysis.compare_with_experts` says of
    it.
    """
    # Here, because trainings draw other figures, and it takes half a second.
    from sklearn.metrics import roc_curve

    figure, axes = make_figure((6.4, 7.6), title)
    for number, (name, figures) in enumerate(areas.items()):
        if math.isnan(figures["area"]):
            continue  # no curve; the table says why
        label = f"{measure_name(name)}: {format_area(figures)}"
        rows = table[table[name].notna()]
        false_alarms, found_poor, _ = roc_curve(rows["poor"], -rows[name])
        axes.plot(
            100 * false_alarms,
            100 * found_poor,
            label=label,
            **line_style(number),
        )
    axes.plot([0, 100], [0, 100], color="gray", linewidth=1, label="chance")
    axes.set(
        xlim=(0, 100),
        ylim=(0, 100),
        aspect="equal",
        xlabel="other recordings below the threshold (%)",
        ylabel="poor recordings below the threshold (%)",
    )
    axes.grid(alpha=0.3)
    legend_below(axes, 2, 9, "area (95 % interval over patients)")
    return figure


def score_histograms_figure(
    scores: Mapping[str, npt.ArrayLike], title: str
) -> Figure:
    """Draws how scores in [0, 1] are spread over recordings, a panel each."""
    figure, *axes = make_figure(
        (7.2, 1.2 + 1.3 * len(scores)), title, (len(scores), 1)
    )
    for number, (axis, name) in enumerate(zip(axes, scores)):
        values = np.asarray(scores[name], dtype=float)
        color = COLORS[number % len(COLORS)]
        draw_distribution(axis, values, color, measure_name(name))
    axes[-1].set_xlabel("score (0 worst, 1 best); dashed: the median")
    figure.supylabel("share per bin (%)", fontsize=12)
    return figure


def quality_and_errors_figure(
    table: pd.DataFrame,
    analysis: dict[str, dict[str, Any]],
    title: str,
    heading: str = "Score",
) -> Figure:
    """Draws the errors that remain when poor cycles are set aside.

    Beside it, the score by quartile of the quality, under what it is called. The
    table is of predictions, and the analysis what
    :func:`qlung_plugin.scores.quality_analysis.compare_with_errors` says of it.
    """
    table = with_confidence(table)
    figure, curves, quartiles = make_figure((11.0, 6.0), title, (1, 2))
    measured = {
        k: figures for k, figures in analysis.items() if figures["cycles"]
    }
    number = 0
    for name, figures in measured.items():
        if name == CONFIDENCE_MEASURE:
            label = "the model's confidence"
            style = {"color": "black", "linewidth": 2}
        else:
            label, style = measure_name(name), line_style(number)
            number += 1
        rows = table[table[name].notna()]
        coverage, risk = risk_coverage(
            rows[name], rows["label"] == rows["prediction"]
        )
        drawn = coverage >= LEAST_COVERAGE
        curves.plot(
            100 * (1 - coverage[drawn]), 100 * risk[drawn], label=label, **style
        )
        scores = [quartile["score"] for quartile in figures["quartiles"]]
        quartiles.plot(range(1, QUARTILES + 1), scores, marker="o", **style)
    error = 100 * (table["label"] != table["prediction"]).mean()
    curves.axhline(error, color="gray", linewidth=1, label="random")
    curves.set(
        xlim=(0, 100),
        xlabel="cycles set aside, lowest first (%)",
        ylabel="error rate of the rest (%)",
    )
    quartiles.set_xticks(
        range(1, QUARTILES + 1), ["1\nlowest", "2", "3", "4\nhighest"]
    )
    quartiles.set(xlabel="quartile", ylabel=f"{heading} in the quartile (%)")
    for axes in (curves, quartiles):
        axes.grid(alpha=0.3)
    legend_below(curves, 4)
    return figure


def quality_groups_figure(
    table: pd.DataFrame, group: str, title: str
) -> Figure:
    """Draws how ``quality`` in [0, 1] is spread in each value of a column."""
    members = {
        f"{name} ({len(rows)})": rows["quality"].to_numpy()
        for name, rows in table.groupby(group, sort=True)
    }
    figure, axes = make_figure((2 + 1.4 * len(members), 4), title)
    boxes = axes.boxplot(
        list(members.values()),
        whis=(5, 95),
        widths=0.6,
        patch_artist=True,
        flierprops={"marker": ".", "markersize": 3},
        medianprops={"color": "black"},
    )
    for box in boxes["boxes"]:
        box.set_facecolor(COLORS[0])
    axes.set_xticklabels(list(members))
    axes.set(ylim=(-0.02, 1.02), ylabel="quality")
    return figure
