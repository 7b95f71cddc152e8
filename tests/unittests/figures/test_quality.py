"""Figures and reports on quality show what was found."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc

from qlung_plugin.figures.degradation import degradation_figure
from qlung_plugin.figures.quality import (
    quality_and_errors_figure,
    quality_groups_figure,
    quality_roc_figure,
)
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.quality_analysis import (
    compare_with_errors,
    compare_with_experts,
    risk_coverage,
)


def make_table():
    """Predictions with a quality that goes with being right, and others."""
    rng = np.random.default_rng(0)
    n = 120
    table = pd.DataFrame({"label": rng.choice(LABELS, n)})
    table["patient"] = rng.integers(0, 15, n).astype(str)
    table["quality"] = rng.random(n)
    right = rng.random(n) < table["quality"]
    table["prediction"] = np.where(right, table["label"], rng.choice(LABELS, n))
    table[[f"p_{name}" for name in LABELS]] = rng.dirichlet(np.ones(4), n)
    table["quality_snr"] = rng.random(n)
    table.loc[:19, "quality_snr"] = np.nan
    table["quality_none"] = np.nan
    return table


@pytest.fixture(name="table")
def fixture_table():
    return make_table()


@pytest.fixture(name="degradations")
def fixture_degradations():
    rows = [
        ("none", None, 60.0, 0.8),
        ("white_noise", 20, 58.0, 0.7),
        ("white_noise", -5, 50.0, 0.1),
        ("gain", -20, 57.0, 0.8),
        ("gain", 20, 51.0, 0.5),
    ]
    names = ["degradation", "degree", "score", "quality_flatness"]
    return pd.DataFrame(rows, columns=names)


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


# Against experts


def test_roc_curves_have_the_areas_of_their_legend():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient": rng.integers(0, 30, 100).astype(str)})
    table["poor"] = rng.random(100) < 0.3
    table["flatness"] = rng.random(100) - 0.3 * table["poor"]
    table["snr_wide"] = rng.random(100)
    table.loc[:9, "snr_wide"] = np.nan
    areas = compare_with_experts(table, ["flatness", "snr_wide"], 100)
    figure = quality_roc_figure(table, areas, "Two measures")
    figure.canvas.draw()
    assert figure.get_suptitle() == "Two measures"
    *curves, chance = figure.axes[0].lines
    assert chance.get_label() == "chance"
    for curve, name in zip(curves, ("flatness", "snr_wide"), strict=True):
        x, y = curve.get_data()
        area = areas[name]["area"]
        assert auc(x, y) / 1e4 == pytest.approx(area)
        low, high = areas[name]["interval"]
        assert curve.get_label() == (
            f"{name.replace('_', ' ')}: {area:.2f} ({low:.2f} to {high:.2f})"
        )
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [line.get_label() for line in (*curves, chance)]


def test_measure_without_values_has_no_roc_curve():
    table = pd.DataFrame({"patient": ["a", "b"], "poor": [True, False]})
    table["never"] = np.nan
    areas = compare_with_experts(table, ["never"], 10)
    figure = quality_roc_figure(table, areas, "Nothing")
    assert list(lines(figure.axes[0])) == ["chance"]


# Against the model's errors


def test_risk_coverage_curves_and_quartiles_are_drawn_as_found(table):
    analysis = compare_with_errors(table, n_resamples=50)
    figure = quality_and_errors_figure(table, analysis, "Errors")
    figure.canvas.draw()
    curves, quartiles = figure.axes
    drawn = lines(curves)
    assert list(drawn) == ["quality", "snr", "the model's confidence", "random"]
    measured = table[table["quality_snr"].notna()]
    coverage, risk = risk_coverage(
        measured["quality_snr"], measured["label"] == measured["prediction"]
    )
    kept = coverage >= 0.05
    x, y = drawn["snr"].get_data()
    assert x == pytest.approx(100 * (1 - coverage[kept]))
    assert y == pytest.approx(100 * risk[kept])
    error = 100 * (table["label"] != table["prediction"]).mean()
    assert drawn["random"].get_ydata() == pytest.approx([error, error])
    # All cycles are kept on the left.
    x, y = drawn["quality"].get_data()
    assert (x[-1], y[-1]) == (0, pytest.approx(error))
    scores = [line.get_ydata() for line in quartiles.lines]
    expected = [
        [quartile["score"] for quartile in analysis[name]["quartiles"]]
        for name in ("quality", "quality_snr", "confidence")
    ]
    np.testing.assert_array_equal(scores, expected)


def test_lines_of_many_measures_are_all_different(table):
    for number in range(9):
        table[f"quality_{number}"] = table["quality"]
    analysis = compare_with_errors(table, n_resamples=10)
    figure = quality_and_errors_figure(table, analysis, "Many")
    styles = {
        (line.get_color(), line.get_linestyle())
        for line in figure.axes[0].lines
        if line.get_label() != "random"
    }
    assert len(styles) == 2 + 9 + 1


# Degradations


def test_degrees_are_in_order_around_the_undegraded(degradations):
    figure = degradation_figure(degradations, ["quality_flatness"], "Study")
    figure.canvas.draw()
    noise, gain = figure.axes
    ticks = [
        [tick.get_text() for tick in axes.get_xticklabels()]
        for axes in (noise, gain)
    ]
    assert ticks == [["none", "20", "-5"], ["20", "none", "-20"]]
    assert noise.get_title(loc="left") == "white noise"
    quality, score = noise.lines
    assert quality.get_ydata().tolist() == [0.8, 0.7, 0.1]
    assert score.get_ydata().tolist() == [0.6, 0.58, 0.5]
    quality, score = gain.lines
    assert quality.get_ydata().tolist() == [0.5, 0.8, 0.8]
    assert score.get_ydata().tolist() == [0.51, 0.6, 0.57]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["median quality: flatness", "the model's Score / 100"]


def test_many_kinds_are_drawn_in_two_rows():
    kinds = ["white_noise", "babble", "crying", "clipping", "gain", "dropouts"]
    rows = [("none", None, 0.5), *((kind, 0.1, 0.4) for kind in kinds)]
    medians = pd.DataFrame(rows, columns=["degradation", "degree", "snr"])
    figure = degradation_figure(medians, ["snr"], "Study")
    figure.canvas.draw()
    corners = [axes.get_position() for axes in figure.axes]
    assert len({round(corner.x0, 2) for corner in corners}) == 3
    assert len({round(corner.y0, 2) for corner in corners}) == 2
    for kind, axes in zip(kinds, figure.axes):
        assert axes.get_title(loc="left") == kind.replace("_", " ")
        ticks = [tick.get_text() for tick in axes.get_xticklabels()]
        first = ["0.1", "none"] if kind == "gain" else ["none", "0.1"]
        assert ticks == first


def test_a_box_per_group_shows_its_quartiles():
    table = pd.DataFrame(
        {
            "device": ["B"] * 5 + ["A"] * 3,
            "quality": [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9],
        }
    )
    axes = quality_groups_figure(table, "device", "Two devices").axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["A (3)", "B (5)"]
    low, high = (box.get_path().get_extents() for box in axes.patches)
    assert [low.y0, low.y1] == pytest.approx([0.75, 0.85])
    assert [high.y0, high.y1] == pytest.approx([0.2, 0.4])
