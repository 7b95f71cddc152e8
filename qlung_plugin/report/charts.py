"""The project's figures as SVG that fits a page: narrow, light and dark.

Authors
 * qlung_plugin contributors
"""

import io
import math
import re
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.legend import Legend

WIDTH = 4.6  # inches: a telephone's screen, at the size of its text
PANEL = 2.6  # inches
LEGEND = 0.3  # inches per line
COLUMNS = 2  # of a legend
LABEL = 10.5  # points


def stack_panels(figure: Figure, panel_height: float = PANEL) -> Figure:
    """Puts the panels of a figure below each other, without its title."""
    figure.suptitle("").set_in_layout(False)
    height = panel_height * len(figure.axes)
    for legend in list(figure.legends):
        count = len(legend.get_texts())
        height += LEGEND * math.ceil(count / COLUMNS)
        _replace(legend, figure, loc="outside lower center")
    grid = figure.add_gridspec(len(figure.axes), 1)
    for place, axes in enumerate(figure.axes):
        axes.set_subplotspec(grid[place])
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_fontsize(LABEL)
        inside = axes.get_legend()
        if inside:  # above, where it covers no curve
            _replace(inside, axes, loc="lower left", bbox_to_anchor=(-0.02, 1))
    if figure.get_supylabel():
        figure.supylabel(figure.get_supylabel(), fontsize=LABEL)
    figure.set_size_inches(WIDTH, height)
    return figure


def _replace(legend: Legend, parent: Any, **layout: Any) -> None:
    """Makes a legend anew: its columns are laid out when it is made."""
    labels = [text.get_text() for text in legend.get_texts()]
    handles = legend.legend_handles
    legend.remove()
    style = {"frameon": False, "fontsize": 9, "ncols": COLUMNS}
    parent.legend(handles, labels, **style, **layout)


def svg(figure: Figure, name: str) -> Markup:
    """A figure as an SVG element of a page, in the page's colours of text.

    The name is unlike those of the other figures of the page.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # Its own names must not meet those of another figure.
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    # The page says how large it is.
    text = re.sub(r'<svg ([^>]*?)\s*width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)\s*height="[^"]*"', r"<svg \1", text, count=1)
    for black in ("#000000", "black"):
        text = text.replace(f"fill: {black}", "fill: currentColor")
        text = text.replace(f"stroke: {black}", "stroke: currentColor")
    return Markup(text.strip())
