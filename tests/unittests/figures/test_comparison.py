"""The figure of configurations side by side shows every run.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from qlung_plugin.figures.comparison import STYLES, scores_figure
from qlung_plugin.runs.comparison import results_table
from tests.unittests.runs.test_comparison import evaluation, random_evaluation


def drawn(figure):
    """Scores and rows of the dots, by panel and colour."""
    figure.canvas.draw()
    return [
        {
            to_rgba(line.get_color()): np.column_stack(line.get_data())
            for line in axis.lines
            if line.get_marker() == "o"
        }
        for axis in figure.axes
    ]


def test_figure_shows_every_run():
    runs = [
        random_evaluation(name, seed, 0.5, **about)
        for name in ("qlung", "ce")
        for seed in ("1", "2")
        for about in (
            {},
            {"checkpoint": "test_selected"},
            {"database": "SPRSound 2022", "partition": "inter"},
        )
    ]
    table = results_table(runs)
    figure = scores_figure(table)
    panels = drawn(figure)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [
        "ICBHI 2017: test side of the official split",
        "SPRSound 2022: inter",
    ]
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["qlung", "ce"]
    assert figure.axes[0].yaxis_inverted()
    for panel, (_, rows) in zip(
        panels, table.groupby("database", sort=False), strict=True
    ):
        for checkpoint, (shift, color, *_) in STYLES.items():
            ones = rows[rows["checkpoint"] == checkpoint]
            results = panel[to_rgba(color)]
            assert results[:, 0] == pytest.approx(ones["score"].to_numpy())
            expected = [names.index(k) + shift for k in ones["configuration"]]
            assert results[:, 1] == pytest.approx(expected)
    [legend] = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [
        "selected on validation",
        "test-selected",
        'always "normal"',
    ]


def test_figure_without_results_and_with_undefined_scores():
    with pytest.raises(ValueError, match="no result"):
        scores_figure(pd.DataFrame())
    one = evaluation("ce", "1", ["normal"] * 2, ["normal"] * 2)
    assert np.isnan(results_table([one])["score"]).all()
    scores_figure(results_table([one])).canvas.draw()
