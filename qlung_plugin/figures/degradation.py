"""The figure of how quality and a model bear degradations.

Authors
 * qlung_plugin contributors
"""

import math

import pandas as pd
from matplotlib.figure import Figure

from qlung_plugin.figures.style import legend_below, line_style, make_figure
from qlung_plugin.processing.degradations import DEGRADATIONS
from qlung_plugin.scores.quality_analysis import measure_name

MOST_PANELS = 5  # side by side


def degradation_figure(
    table: pd.DataFrame, measures: list[str], title: str
) -> Figure:
    """Draws how quality measures and a model's Score move with degradations.

    The table has a row per condition: ``degradation`` (a key of
    :data:`qlung_plugin.processing.degradations.DEGRADATIONS`, or ``none``
    once), ``degree``, a column of quality in [0, 1] per measure, and of a study
    with a model ``score`` in percent. There is a panel per kind, which gets
    worse to the right; of a gain, the highest is on the left.
    """
    none = table["degradation"] == "none"
    kinds = table["degradation"][~none].unique()
    lines = math.ceil(len(kinds) / MOST_PANELS)
    columns = math.ceil(len(kinds) / lines)
    size = (2.9 * max(columns, 2) + 0.6, 3.6 * lines + 1.8)
    figure, *panels = make_figure(size, title, (1, len(kinds)))
    # In one row when they were made, so that each has degrees of its own.
    grid = figure.add_gridspec(lines, columns)
    for place, (kind, axes) in enumerate(zip(kinds, panels)):
        axes.set_subplotspec(grid[place])
        rows = table[none | (table["degradation"] == kind)]
        known = DEGRADATIONS[kind]
        degrees = rows["degree"].astype(float).fillna(known.harmless)
        rows = rows.assign(degree=degrees).sort_values(
            "degree", key=known.severity, kind="stable"
        )
        places = range(len(rows))
        for number, name in enumerate(measures):
            axes.plot(
                places,
                rows[name],
                marker="o",
                markersize=4,
                label=f"median quality: {measure_name(name)}",
                **line_style(number),
            )
        if "score" in rows:
            axes.plot(
                places,
                rows["score"] / 100,
                color="black",
                marker="s",
                linewidth=2,
                label="the model's Score / 100",
            )
        ticks = [
            "none" if unspoilt else f"{degree:g}"
            for unspoilt, degree in zip(
                rows["degradation"] == "none", rows["degree"]
            )
        ]
        axes.set_xticks(places, ticks, fontsize=9)
        axes.set(ylim=(-0.02, 1.02), xlabel=known.unit)
        axes.set_title(kind.replace("_", " "), loc="left", fontsize=11)
        axes.grid(alpha=0.3)
    legend_below(panels[0], 3)
    return figure
