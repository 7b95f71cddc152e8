"""Figures of recordings, to look at what a quality score says of them.

Authors
 * qlung_plugin contributors
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.signal import spectrogram

from qlung_plugin.figures.style import COLORS, make_figure

COLUMNS = 4
WINDOW = 0.032  # of the spectrogram, in seconds
F_MAX = 2000.0  # shown, in Hz
DYNAMICS = 80.0  # shown, in dB


def spectrogram_figure(panels: list[dict[str, Any]], title: str) -> Figure:
    """Draws spectrograms, up to 2 kHz, side by side.

    A panel, of which there is one or more, has ``waveform`` ``[time]``,
    ``sample_rate`` in Hz, and ``title``.
    """
    if not panels:
        raise ValueError("there is no recording to draw")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (3.2 * columns, 1.7 * rows + 0.6)
    figure, *cells = make_figure(size, title, (rows, columns))
    for axes in cells[len(panels) :]:
        axes.remove()
    for axes, panel in zip(cells, panels):
        rate = panel["sample_rate"]
        window = round(WINDOW * rate)
        waveform = np.asarray(panel["waveform"], dtype=float)
        waveform = np.pad(waveform, (0, max(0, window - len(waveform))))
        frequencies, times, power = spectrogram(
            waveform, rate, nperseg=window, noverlap=window // 2
        )
        shown = frequencies <= F_MAX
        decibels = 10 * np.log10(power[shown] + np.finfo(float).tiny)
        axes.pcolormesh(
            times,
            frequencies[shown] / 1000,
            decibels,
            vmin=decibels.max() - DYNAMICS,
            vmax=decibels.max(),
            cmap="magma",
            rasterized=True,
        )
        axes.set_title(panel["title"], fontsize=7)
        axes.tick_params(labelsize=6)
        axes.set_xlabel("s", fontsize=6)
        axes.set_ylabel("kHz", fontsize=6)
    return figure


def quality_groups_figure(
    table: pd.DataFrame, group: str, title: str
) -> Figure:
    """Draws how ``quality`` in [0, 1] is spread in each value of a column."""
    members = {
        f"{name} ({len(rows)})": rows["quality"].to_numpy()
        for name, rows in table.groupby(group, sort=True)
    }
    figure, axes = make_figure((2 + 1.4 * len(members), 4), title)
    boxes = axes.boxplot(
        list(members.values()),
        whis=(5, 95),
        widths=0.6,
        patch_artist=True,
        flierprops={"marker": ".", "markersize": 3},
        medianprops={"color": "black"},
    )
    for box in boxes["boxes"]:
        box.set_facecolor(COLORS[0])
    axes.set_xticklabels(list(members))
    axes.set(ylim=(-0.02, 1.02), ylabel="quality")
    return figure
