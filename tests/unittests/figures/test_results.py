"""Figures say what they were given, and leave no global state."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot, rcParams
from matplotlib.colors import to_rgb

from qlung_plugin.figures.results import (
    confusion_matrix_figure,
    quality_histogram_figure,
    training_curves_figure,
)
from qlung_plugin.figures.style import COLORS
from qlung_plugin.scores.icbhi_score import LABELS

CONFUSION = np.array(
    [[1234, 200, 100, 45], [300, 280, 40, 29], [0, 0, 0, 0], [0, 1, 2, 140]]
)
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "train loss": [1.3, 1.1, 0.9, 0.8],
        "valid loss": [1.2, 1.0, 1.1, 1.3],
        "valid score": [50.0, 58.25, 57.0, 55.0],
        "test score": [48.0, 50.0, 56.0, 51.0],
    }
)


def luminance(color):
    """Relative luminance of a colour, after WCAG 2."""
    channels = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in color
    ]
    return np.dot(channels, [0.2126, 0.7152, 0.0722])


def draw(figure):
    """Renders a figure, which is when matplotlib finds most faults."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert len(np.unique(pixels.view(np.uint32))) > 10  # not a blank sheet
    return pixels


# Confusion matrix


def test_confusion_cells_hold_counts_and_row_percentages():
    figure = confusion_matrix_figure(CONFUSION, LABELS, "ICBHI, test")
    draw(figure)
    cells = figure.axes[0].texts
    assert len(cells) == 16
    for cell in cells:
        column, row = (round(place) for place in cell.get_position())
        count, share = cell.get_text().split("\n")
        assert int(count.replace(",", "")) == CONFUSION[row, column]
        total = CONFUSION[row].sum()
        if total:
            share = float(share.removesuffix(" %"))
            expected = 100 * CONFUSION[row, column] / total
            assert share == pytest.approx(expected, abs=0.051)
        else:
            assert share == "no cycle"


def test_confusion_axes_and_title():
    figure = confusion_matrix_figure(CONFUSION, LABELS, "ICBHI, test")
    axes = figure.axes[0]
    columns = [tick.get_text() for tick in axes.get_xticklabels()]
    rows = [tick.get_text() for tick in axes.get_yticklabels()]
    assert columns == list(LABELS)
    assert [row.split("\n")[0] for row in rows] == list(LABELS)
    assert rows[0].endswith("(n = 1,579)")
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class"
    # Row 0 is on top, as in the text of the same matrix.
    assert axes.yaxis_inverted()
    assert figure.get_suptitle() == "ICBHI, test"


@pytest.mark.parametrize("share", [0, 50, 100])
def test_confusion_text_can_be_read_on_its_cell(share):
    figure = confusion_matrix_figure([[share, 100 - share], [0, 0]], "ab")
    image = figure.axes[0].images[0]
    background = image.cmap(image.norm(image.get_array()))
    for cell in figure.axes[0].texts:
        column, row = (round(place) for place in cell.get_position())
        pair = sorted(
            luminance(color)
            for color in (background[row, column, :3], to_rgb(cell.get_color()))
        )
        # 4.5 is what WCAG asks for.
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def test_confusion_that_does_not_fit_its_labels():
    with pytest.raises(ValueError, match=r"\[4, 4\], but there are 2 labels"):
        confusion_matrix_figure(CONFUSION, ("normal", "abnormal"))


# Quality


def test_quality_histograms_are_the_shares_of_each_class():
    rng = np.random.default_rng(0)
    quality = rng.uniform(size=300)
    quality[:2] = 0, 1
    label = rng.choice(["normal", "both"], 300)
    figure = quality_histogram_figure(quality, label, LABELS, "AQS of ICBHI")
    draw(figure)
    assert figure.get_suptitle() == "AQS of ICBHI"
    for axes, name in zip(figure.axes, ("normal", "both"), strict=True):
        assert axes.get_xlim() == (0, 1)
        title = axes.get_title(loc="left")
        values = quality[label == name]
        assert title.startswith(f"{name} (n = {len(values)}, median ")
        of_class, of_all = (patch.get_data() for patch in axes.patches)
        for shares, expected in ((of_class, values), (of_all, quality)):
            assert shares.values.sum() == pytest.approx(100)
            for height, low, high in zip(
                shares.values, shares.edges[:-1], shares.edges[1:]
            ):
                inside = (expected >= low) & (expected < high)
                if high == 1:
                    inside |= expected == 1
                share = 100 * inside.sum() / len(expected)
                assert height == pytest.approx(share)


def test_quality_that_was_not_measured_is_counted():
    figure = quality_histogram_figure([0.5, np.nan, np.nan], ["both"] * 3)
    assert "2 not measured" in figure.axes[-1].get_xlabel()
    assert "n = 1" in figure.axes[0].get_title(loc="left")
    nothing = quality_histogram_figure([np.nan], ["both"])
    assert "1 not measured" in nothing.axes[0].get_xlabel()
    assert len(nothing.axes[0].patches) == 0


@pytest.mark.parametrize(
    "quality, label, message",
    [
        ([0.5, 1.01], ["normal", "both"], r"\[0, 1\], got 0.500 to 1.010"),
        ([0.5], ["normal", "both"], "2 labels"),
        ([0.5], ["rhonchi"], "rhonchi"),
    ],
)
def test_bad_quality(quality, label, message):
    with pytest.raises(ValueError, match=message):
        quality_histogram_figure(quality, label)


# Training


def lines_of(axes):
    """Label and points of the lines of axes."""
    return {
        line.get_label().split(":")[0]: line.get_xydata().tolist()
        for line in axes.lines
    }


@pytest.mark.parametrize("separator", [" ", "_"])
def test_training_curves_are_the_columns(separator):
    history = HISTORY.rename(columns=lambda c: c.replace(" ", separator))
    figure = training_curves_figure(history, "QLung, seed 0")
    draw(figure)
    loss, score = figure.axes
    assert (loss.get_ylabel(), score.get_ylabel()) == ("loss", "score (%)")
    assert loss.get_xlabel() == score.get_xlabel() == "epoch"
    for axes, kind in ((loss, "loss"), (score, "score")):
        for name, points in lines_of(axes).items():
            if name != "best valid":
                column = HISTORY[["epoch", f"{name} {kind}"]]
                assert points == column.to_numpy().tolist()
    assert set(lines_of(loss)) == {"train", "valid"}
    assert set(lines_of(score)) == {"valid", "test", "best valid"}


def test_best_epoch_is_that_of_the_validation_score():
    # Of equal ones the last, as SpeechBrain keeps the newest checkpoint.
    history = HISTORY.assign(**{"valid score": [np.nan, 58.25, 58.25, 55.0]})
    history.index = [0, 0, 0, 0]
    score = training_curves_figure(history).axes[1]
    assert lines_of(score)["best valid"] == [[3, 58.25]]
    labels = [text.get_text() for text in score.get_legend().get_texts()]
    assert "best valid: 58.25 % in epoch 3" in labels


@pytest.mark.parametrize(
    "columns, expected",
    [
        (["test score"], ["score (%)"]),
        (["train loss", "test score"], ["loss", "score (%)"]),
    ],
)
def test_missing_columns_are_left_out(columns, expected):
    figure = training_curves_figure(HISTORY[["epoch", *columns]])
    draw(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == expected
    assert "best valid" not in lines_of(figure.axes[-1])


def test_one_epoch_is_visible():
    figure = training_curves_figure(HISTORY.iloc[:1])
    colors = draw(figure)[..., :3].reshape(-1, 3)
    train = np.round(255 * np.array(to_rgb(COLORS[0])))
    loss = figure.axes[0]
    assert loss.lines[0].get_marker() == "o"
    assert (colors == train).all(1).sum() > 20
    assert [tick for tick in loss.get_xticks() if tick % 1] == []


@pytest.mark.parametrize("columns", [["epoch"], ["train loss"]])
def test_no_curve_to_draw(columns):
    with pytest.raises(ValueError, match="need the column epoch"):
        training_curves_figure(HISTORY[columns])


# Style


def test_titles_and_labels_stay_inside_the_figure():
    title = (
        "QLung on EfficientAT, ICBHI 2017, official test side, selected " * 2
    )
    figures = (
        confusion_matrix_figure(CONFUSION, LABELS, title),
        quality_histogram_figure([0.2, np.nan], ["both"] * 2, title=title),
        training_curves_figure(HISTORY, title),
    )
    for figure in figures:
        figure.canvas.draw()
        needed = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert needed.x0 >= 0 and needed.y0 >= 0
        assert needed.x1 <= width and needed.y1 <= height
        assert figure._suptitle.get_fontsize() >= 12


def test_no_global_state():
    before = dict(rcParams)
    confusion_matrix_figure(CONFUSION)
    quality_histogram_figure([0.2], ["both"])
    training_curves_figure(HISTORY)
    assert pyplot.get_fignums() == []
    assert dict(rcParams) == before


# Names of strangers


@pytest.mark.parametrize("name", ["$x^{$", "5 $ to 10 $"])
def test_what_looks_like_a_formula_is_text(name):
    labels = ["normal", name]
    for figure in (
        confusion_matrix_figure([[9, 1], [2, 3]], labels, f"Of {name}"),
        quality_histogram_figure([0.2, 0.4], labels, labels, name),
        training_curves_figure(HISTORY, name),
    ):
        with pyplot.rc_context({"svg.fonttype": "none"}):
            figure.savefig(file := io.StringIO(), format="svg")
        assert f">{name}" in file.getvalue() or f"Of {name}" in file.getvalue()
    assert rcParams["text.parse_math"]  # of others' figures
