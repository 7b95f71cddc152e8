"""Figures of comparisons of configurations.

Authors
-------
 * qlung_plugin contributors
"""

import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qlung_plugin.figures.style import COLORS, make_figure
from qlung_plugin.training.selection import CHECKPOINTS

# Shift, colour and filling of each checkpoint. Hollow: chosen by a test set.
STYLES = {
    "selected": (-0.24, COLORS[0], True),
    "last": (0.0, COLORS[1], True),
    "test_selected": (0.24, COLORS[2], False),
}
FLOOR = ('always "normal"', 50.0)


def scores_figure(
    table: pd.DataFrame,
    floors: Mapping[Any, tuple[str, float]] | None = None,
    heading: str = "Score",
) -> Figure:
    """Draws the score of every run, and the mean of each configuration.

    The table is that of :func:`qlung_plugin.runs.comparison.results_table`, of
    a row or more. It has a panel per database and partition, with a row per
    configuration, from top to bottom in the order of the table. Undefined
    scores are not drawn. Floors, by database and partition, are what giving every
    cycle one class is called, and its score. The heading is what the score is
    called.
    """
    if table.empty:
        raise ValueError("there is no result to draw")
    panels = list(table.groupby(["database", "partition"], sort=False))
    names = list(table["configuration"].unique())
    height = 1.0 + 0.55 * len(names)
    size = (7.6, 1.4 + height * len(panels))
    figure, *axes = make_figure(
        size, f"{heading} of each seed", (len(panels), 1)
    )
    legend: dict[str, Line2D] = {}
    lines: dict[str, Line2D] = {}
    for axis, ((database, partition), rows) in zip(axes, panels):
        for checkpoint, (shift, color, filled) in STYLES.items():
            runs = rows[rows["checkpoint"] == checkpoint]
            # Of no row it would stay a text.
            places = runs["configuration"].map(names.index).astype(float)
            places += shift
            [dots] = axis.plot(
                runs["score"],
                places,
                color=color,
                marker="o",
                markersize=6,
                markerfacecolor=color if filled else "none",
                linestyle="none",
                alpha=0.7,
            )
            means = runs["score"].groupby(places).mean()
            axis.plot(
                means,
                means.index,
                color=color,
                marker="|",
                markersize=14,
                markeredgewidth=2.5,
                linestyle="none",
            )
            if len(runs):
                legend.setdefault(CHECKPOINTS[checkpoint].legend, dots)
        name, value = (floors or {}).get((database, partition), FLOOR)
        floor = axis.axvline(value, color="grey", linestyle=":", zorder=0)
        lines[name] = floor
        axis.set_title(
            textwrap.fill(f"{database}: {partition}", 80),
            loc="left",
            fontsize=11,
        )
        axis.grid(axis="x", alpha=0.3)
    # All panels share their axes.
    axes[-1].set_yticks(range(len(names)), names)
    axes[-1].set_ylim(len(names) - 0.5, -0.5)
    axes[-1].set_xlabel(f"{heading} (%); a dot per seed, a bar at their mean")
    legend |= lines
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="outside lower center",
        ncols=len(legend),
        frameon=False,
    )
    return figure
