"""Figures of an evaluation and its training.

Each function returns a :class:`matplotlib.figure.Figure`; save it with
:func:`qlung_plugin.utils.files.write_figure`.

Authors
-------
 * qlung_plugin contributors
"""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qlung_plugin.figures.style import (
    COLORS,
    N_BINS,
    draw_distribution,
    draw_shares,
    make_figure,
)
from qlung_plugin.scores.icbhi_score import LABELS, label_codes

LONGEST_NAME = 12  # characters of a class in a line
CURVES = {
    "train loss": (0, COLORS[0], "-"),
    "valid loss": (0, COLORS[1], "--"),
    "valid score": (1, COLORS[1], "--"),
    "test score": (1, COLORS[2], ":"),
}


def confusion_matrix_figure(
    confusion: npt.ArrayLike,
    labels: Sequence[str] = LABELS,
    title: str = "Confusion matrix",
) -> Figure:
    """Draws counts ``[class, class]``, and the share of each true class.

    Rows are the truth, columns the prediction. A matrix that does not fit the
    labels is a ValueError.
    """
    confusion = np.asarray(confusion)
    if confusion.shape != (len(labels), len(labels)):
        raise ValueError(
            f"the confusion matrix is {list(confusion.shape)}, but there are "
            f"{len(labels)} labels"
        )
    counts = confusion.sum(1)
    with np.errstate(invalid="ignore"):  # a class without a cycle has no share
        shares = 100 * confusion / counts[:, None]
    side = 2.4 + 1.0 * len(labels)
    figure, axes = make_figure((side + 1.2, side), title)
    colors = matplotlib.colormaps["Blues"].with_extremes(bad="#eeeeee")
    image = axes.imshow(shares, cmap=colors, vmin=0, vmax=100)
    for row, column in np.ndindex(confusion.shape):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{confusion[row, column]:,}\n"
            + ("no cycle" if np.isnan(share) else f"{share:.1f} %"),
            ha="center",
            va="center",
            color=_readable_on(image.cmap(image.norm(share))),
            fontsize=12,
        )
    places = range(len(labels))
    # Long names would run into each other.
    wrapped = [textwrap.fill(name, LONGEST_NAME) for name in labels]
    axes.set_xticks(places, wrapped)
    axes.set_yticks(
        places, [f"{name}\n(n = {n:,})" for name, n in zip(wrapped, counts)]
    )
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=25)
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    return figure


def quality_histogram_figure(
    quality: npt.ArrayLike,
    label: npt.ArrayLike,
    labels: Sequence[str] = LABELS,
    title: str = "Quality of the cycles of each class",
) -> Figure:
    """Draws the distribution of the quality in each class, beside that of all.

    Quality ``[item]`` is in [0, 1], or it is a ValueError; NaN is counted below
    the axis. A class without a measured item has no panel.
    """
    quality = np.asarray(quality, dtype=float)
    codes = label_codes(label, labels)
    if quality.shape != codes.shape:
        raise ValueError(
            f"{list(quality.shape)} qualities, but {len(codes)} labels"
        )
    if ((quality < 0) | (quality > 1)).any():
        raise ValueError(
            "the quality must be in [0, 1], got "
            f"{np.nanmin(quality):.3f} to {np.nanmax(quality):.3f}"
        )
    measured = ~np.isnan(quality)
    missing = int((~measured).sum())
    classes = [k for k in range(len(labels)) if (measured & (codes == k)).any()]
    rows = max(len(classes), 1)
    figure, *axes = make_figure((7.2, 1.2 + 1.3 * rows), title, (rows, 1))
    for axis, code in zip(axes, classes):
        color = COLORS[code % len(COLORS)]
        values = quality[measured & (codes == code)]
        about = f"n = {len(values):,}, "
        draw_distribution(axis, values, color, labels[code], about)
        draw_shares(axis, quality[measured], color="black", linewidth=1)
    note = "filled: the class, dashed: its median, black line: all classes"
    if missing:
        note += f"; {missing:,} not measured"
    axes[-1].set_xlabel(f"quality (0 worst, 1 best)\n{note}")
    figure.supylabel(f"share per bin of {1 / N_BINS:g} (%)", fontsize=12)
    return figure


def training_curves_figure(
    history: pd.DataFrame, title: str = "Training"
) -> Figure:
    """Draws the losses and the scores of each epoch.

    The table has a row per epoch, with ``epoch`` and any of :data:`CURVES`
    (scores in percent), or it is a ValueError; the names may have underscores.
    There is a panel for the losses and one for the scores, where there are any.
    The best epoch by the validation score is marked.
    """
    history = history.rename(columns=lambda name: name.replace("_", " "))
    curves = [name for name in CURVES if name in history]
    if "epoch" not in history or not curves:
        raise ValueError(
            f"need the column epoch and one of {list(CURVES)}, got "
            f"{list(history.columns)}"
        )
    panels = sorted({CURVES[name][0] for name in curves})
    size = (5.4 * len(panels) + 0.4, 4.2)
    figure, *axes = make_figure(size, title, (1, len(panels)))
    panel = dict(zip(panels, axes))
    marker = "o" if len(history) == 1 else ""  # one epoch makes no line
    for name in curves:
        place, color, style = CURVES[name]
        panel[place].plot(
            history["epoch"],
            history[name],
            color=color,
            linestyle=style,
            marker=marker,
            linewidth=2,
            label=name.split()[0],
        )
        panel[place].set_ylabel("score (%)" if place else "loss")
    if "valid score" in history and history["valid score"].notna().any():
        # The last of equal ones, which is the one that SpeechBrain keeps.
        best = history.iloc[::-1]
        best = best.iloc[np.nanargmax(best["valid score"])]
        panel[1].plot(
            best["epoch"],
            best["valid score"],
            color=CURVES["valid score"][1],
            linestyle="none",
            marker="*",
            markersize=15,
            label=f"best valid: {best['valid score']:.2f} % "
            f"in epoch {best['epoch']:.0f}",
        )
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(
            MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    return figure


def _readable_on(color: Sequence[float]) -> str:
    """Black or white, whichever has more contrast with an RGBA colour."""
    rgb = np.array(color[:3])
    linear = np.where(
        rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
    )
    # The contrast is (lighter + 0.05) / (darker + 0.05), as WCAG 2 defines it.
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return "black" if luminance + 0.05 > (1.05 * 0.05) ** 0.5 else "white"
