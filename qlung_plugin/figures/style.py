"""The style of all figures, drawn without a display and without global state.

A figure is a :class:`matplotlib.figure.Figure`; save it with
:func:`qlung_plugin.utils.files.write_figure`.

Authors
-------
 * qlung_plugin contributors
"""

import textwrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

# Okabe and Ito's colours, told apart in all common forms of colour blindness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.")
N_BINS = 40


class PlainFigure(Figure):
    """A figure whose texts are what they say: no ``$`` begins a formula.

    Names of classes, devices and data may hold one, and what is no formula
    stops matplotlib.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        FigureCanvasAgg(self)  # attaches itself

    def draw(self, renderer: RendererBase) -> None:
        """Draws the figure; some of its texts are only made meanwhile."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        with matplotlib.rc_context({"text.parse_math": False}):
            super().draw(renderer)


def make_figure(
    size: tuple[float, float], title: str, grid: tuple[int, int] = (1, 1)
) -> tuple[Any, ...]:
    """A figure of the common style, followed by its axes, row by row.

    The size is in inches; the title is broken into lines where it is too long;
    axes of a column of the grid share their abscissa and their ordinate.
    """
    figure = PlainFigure(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(8 * size[0])), fontsize=13)
    axes = figure.subplots(*grid, squeeze=False, sharex="col", sharey="col")
    axes = axes.ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=11)
        axis.xaxis.label.set_size(12)
        axis.yaxis.label.set_size(12)
    return figure, *axes


def draw_shares(
    axis: Axes, values: np.ndarray, fill: bool = False, **style: Any
) -> None:
    """Draws the share of values ``[item]`` in bins of [0, 1], in percent."""
    counts, edges = np.histogram(values, N_BINS, range=(0, 1))
    axis.stairs(100 * counts / len(values), edges, fill=fill, **style)
    axis.set(xlim=(0, 1))


def draw_distribution(
    axis: Axes, values: np.ndarray, color: str, name: str, about: str = ""
) -> None:
    """Fills what :func:`draw_shares` draws, with a line at the median."""
    text = "no value"
    if len(values):
        draw_shares(axis, values, fill=True, color=color, alpha=0.5)
        axis.axvline(np.median(values), color=color, linestyle="--")
        text = f"{about}median {np.median(values):.2f}"
    axis.set_title(f"{name} ({text})", loc="left", fontsize=11)


def line_style(number: int) -> dict[str, Any]:
    """Colour and line of a curve; together they are unlike all others."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": STYLES[number % len(STYLES)],
        "linewidth": 1.8,
    }


def legend_below(
    axes: Axes, ncols: int, fontsize: int = 10, title: str | None = None
) -> None:
    """A legend of what axes show, below all of their figure."""
    axes.figure.legend(
        *axes.get_legend_handles_labels(),
        title=title,
        loc="outside lower center",
        ncols=ncols,
        frameon=False,
        fontsize=fontsize,
    )
