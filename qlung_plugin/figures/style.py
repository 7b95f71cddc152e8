"""The style of all figures, drawn without a display and without global state.

A figure is a :class:`matplotlib.figure.Figure`; save it with
:func:`qlung_plugin.utils.files.write_figure`.

Authors
-------
 * qlung_plugin contributors
"""

import textwrap

import matplotlib
import numpy as np
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

    Arguments
    ---------
    *args, **kwargs
        See :class:`matplotlib.figure.Figure`.

    Example
    -------
    >>> figure = PlainFigure()
    >>> text = figure.text(0.5, 0.5, "$x^{$")
    >>> FigureCanvasAgg(figure).draw()
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        FigureCanvasAgg(self)  # attaches itself

    def draw(self, renderer):
        """Draws the figure; some of its texts are only made meanwhile."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        with matplotlib.rc_context({"text.parse_math": False}):
            super().draw(renderer)


def make_figure(size, title, grid=(1, 1)):
    """A figure of the common style, followed by its axes.

    Arguments
    ---------
    size : tuple of float
        Width and height in inches.
    title : str
        Above all; broken into lines where it is too long.
    grid : tuple of int
        Rows and columns of axes. Those of a column share their abscissa and
        their ordinate.

    Returns
    -------
    figure : matplotlib.figure.Figure
        To be written to a file; there is no window.
    *axes : matplotlib.axes.Axes
        Row by row.

    Example
    -------
    >>> figure, left, right = make_figure((6, 3), "Two panels", (1, 2))
    >>> figure.get_suptitle(), len(figure.axes)
    ('Two panels', 2)
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


def draw_shares(axis, values, fill=False, **style):
    """Draws the share of the values in each bin of [0, 1], in percent.

    Arguments
    ---------
    axis : matplotlib.axes.Axes
        Where.
    values : numpy.ndarray
        ``[item]``, one or more.
    fill : bool
        Whether to fill what is below the steps.
    **style
        Of the steps, as ``axis.stairs`` takes it.

    Example
    -------
    >>> _, axis = make_figure((4, 3), "Four values")
    >>> draw_shares(axis, np.array([0.5, 0.51, 0.1, 0.9]))
    >>> float(axis.patches[0].get_data().values.max())
    50.0
    """
    counts, edges = np.histogram(values, N_BINS, range=(0, 1))
    axis.stairs(100 * counts / len(values), edges, fill=fill, **style)
    axis.set(xlim=(0, 1))


def line_style(number):
    """Colour and line of a curve; together they are unlike all others.

    Example
    -------
    >>> line_style(1)
    {'color': '#D55E00', 'linestyle': '--', 'linewidth': 1.8}
    """
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": STYLES[number % len(STYLES)],
        "linewidth": 1.8,
    }


def legend_below(axes, ncols, fontsize=10, title=None):
    """A legend of what axes show, below all of their figure.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        Whose labels it has.
    ncols : int
        Number of columns.
    fontsize : int
        Of the labels.
    title : str, optional
        Above them.

    Example
    -------
    >>> figure, axes = make_figure((4, 3), "A line")
    >>> _ = axes.plot([0, 1], label="line")
    >>> legend_below(axes, 1)
    >>> figure.legends[0].get_texts()[0].get_text()
    'line'
    """
    axes.figure.legend(
        *axes.get_legend_handles_labels(),
        title=title,
        loc="outside lower center",
        ncols=ncols,
        frameon=False,
        fontsize=fontsize,
    )
