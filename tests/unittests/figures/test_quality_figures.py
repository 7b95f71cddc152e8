"""Figures and reports on quality show what was found."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc

from qlung_plugin.figures.quality import (
    degradation_figure,
    quality_and_errors_figure,
    quality_roc_figure,
)
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.quality_report import (
    format_quality_analysis,
    write_quality_analysis,
)
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.quality_analysis import (
    compare_with_errors,
    compare_with_experts,
    risk_coverage,
)

ABOUT = {
    "data": "Generated",
    "partition": "test",
    "selection": "best validation score (epoch 3)",
}


@pytest.fixture(name="table")
def fixture_table():
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


def draw(figure):
    """Renders a figure, which is when matplotlib finds most faults."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert len(np.unique(pixels.view(np.uint32))) > 10  # not a blank sheet


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
    draw(figure)
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
    draw(figure)
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
    draw(figure)
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


def test_unknown_degradation_has_no_panel(degradations):
    degradations.loc[1, "degradation"] = "reverberation"
    with pytest.raises(KeyError, match="reverberation"):
        degradation_figure(degradations, ["quality_flatness"], "Study")


# Files


def test_written_analysis_is_complete(table, tmp_path):
    analysis = write_quality_analysis(table, RunFolder(tmp_path), ABOUT)
    written = json.loads((tmp_path / "quality_analysis.json").read_text())
    assert list(written) == [
        "quality",
        "quality_snr",
        "quality_none",
        "confidence",
    ]
    assert written["quality"] == analysis["quality"]
    assert written["quality_none"]["area"] is None
    assert written["quality_snr"]["missing"] == 20
    assert (tmp_path / "figures" / "quality_and_errors.png").stat().st_size > 0
    text = (tmp_path / "quality_analysis.txt").read_text()
    assert text == format_quality_analysis(analysis, ABOUT)


def test_report_says_what_it_is_of_and_all_figures(table):
    analysis = compare_with_errors(table, n_resamples=50)
    text = format_quality_analysis(analysis, ABOUT)
    for key, value in ABOUT.items():
        assert f"{key}: {value}\n" in text
    found = analysis["quality"]
    low, high = found["interval"]
    row = next(
        line for line in text.splitlines() if line.split()[:1] == ["quality"]
    )
    assert row.split()[:7] == [
        "quality",
        "120",
        "0",
        str(found["patients"]),
        f"{found['error']:.2f}",
        f"{found['aurc']:.2f}",
        f"{found['gain']:.2f}",
    ]
    assert f"{found['area']:.2f} ({low:.2f} to {high:.2f})" in row
    assert f"{found['spearman']:.3f}" in row
    # The quality was made to go with being right: a p value of no more digits.
    assert row.endswith("<0.001")
    assert "independent" in text
    assert "nan" not in text
    # A line per measure and quartile.
    quartiles = text.split("\n\n")[-2].splitlines()[1:]
    assert len(quartiles) == 4 * len(analysis)


def test_equal_tables_give_equal_files(table, tmp_path):
    for name in ("a", "b"):
        write_quality_analysis(table, RunFolder(tmp_path / name), ABOUT)
    for name in ("quality_analysis.json", "quality_analysis.txt"):
        first, second = (tmp_path / k / name for k in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
