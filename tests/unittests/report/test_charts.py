"""Charts of a page fit it, in light and dark.

Authors
 * qlung_plugin contributors
"""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd

from qlung_plugin.figures.quality import quality_and_errors_figure
from qlung_plugin.figures.results import (
    quality_histogram_figure,
    training_curves_figure,
)
from qlung_plugin.report.charts import stack_panels, svg
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.quality_analysis import compare_with_errors
from tests.unittests.report_runs import make_manifest, make_table


def test_a_chart_is_text_without_black_or_white():
    figure = quality_histogram_figure(
        np.linspace(0, 1, 20), ["normal", "both"] * 10, title="A long title"
    )
    element = svg(stack_panels(figure), "one")
    root = ElementTree.fromstring(str(element))
    assert root.tag.endswith("svg") and "width" not in root.attrib
    texts = [
        "".join(node.itertext())
        for node in root.iter()
        if node.tag.endswith("text")
    ]
    assert "normal (n = 10, median 0.47)" in texts
    assert "A long title" not in texts
    assert "#000000" not in element and "#ffffff" not in element
    assert "currentColor" in element
    assert "metadata" not in element
    other = svg(figure, "two")
    names = [
        {
            n.attrib["id"]
            for n in ElementTree.fromstring(str(e)).iter()
            if "id" in n.attrib
        }
        for e in (element, other)
    ]
    assert names[0] and not names[0] & names[1]


def test_panels_are_stacked_and_no_legend_covers_a_curve():
    history = pd.DataFrame(
        {"epoch": range(1, 101), "train_loss": 1.0, "valid_score": 50.0}
    )
    figure = stack_panels(training_curves_figure(history))
    figure.draw_without_rendering()
    upper, lower = (axes.get_position() for axes in figure.axes)
    assert upper.y0 > lower.y1
    assert upper.width > 0.6
    assert figure.get_size_inches()[0] < 5
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.get_window_extent().y1
        assert legend.x1 <= figure.bbox.x1


def test_the_legend_of_many_measures_fits_a_narrow_page():
    table = make_table(make_manifest(), 1, list(LABELS))
    for name in ("a", "some_longer_name", "b", "c", "d"):
        table[f"quality_{name}"] = table["quality"]
    analysis = compare_with_errors(table, LABELS)
    figure = stack_panels(quality_and_errors_figure(table, analysis, ""))
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert len(legend.get_texts()) == len(analysis) + 1
    extent = legend.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1
    assert all(extent.y1 <= a.get_window_extent().y0 for a in figure.axes)
