"""Figures of recordings, to look at what a quality score says of them.

Authors
 * qlung_plugin contributors
"""

import numpy as np
from scipy.signal import spectrogram

from qlung_plugin.figures.style import COLORS, make_figure

COLUMNS = 4
WINDOW = 0.032  # of the spectrogram, in seconds
DYNAMICS = 80.0  # shown, in dB


def spectrogram_figure(panels, title, f_max=2000.0):
    """Draws spectrograms side by side.

    Arguments
    ---------
    panels : list of dict
        ``waveform`` ``[time]``, ``sample_rate`` in Hz, and ``title``.
    title : str
        Names the data.
    f_max : float
        Highest frequency to show, in Hz.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no panel.

    Example
    -------
    >>> panel = {"waveform": np.ones(8000), "sample_rate": 8000, "title": "DC"}
    >>> len(spectrogram_figure([panel], "A constant").axes)
    1
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
        shown = frequencies <= f_max
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


def quality_groups_figure(table, group, title):
    """Draws how quality is spread in each group.

    Arguments
    ---------
    table : pandas.DataFrame
        One row per recording or cycle: ``quality`` in [0, 1], and the group.
    group : str
        The column to group by.
    title : str
        Names the data.

    Returns
    -------
    matplotlib.figure.Figure

    Example
    -------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"quality": [0.2, 0.9], "device": ["A", "B"]})
    >>> figure = quality_groups_figure(table, "device", "Two recordings")
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['A (1)', 'B (1)']
    """
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
