"""A recording to look at: what was heard, and what is said of its cycles.

Authors
 * qlung_plugin contributors
"""

import matplotlib
import numpy as np
from matplotlib.patches import Patch, Rectangle

from qlung_plugin.utils.figures import COLORS, PlainFigure
from qlung_plugin.utils.spectrograms import RATE, mel, mel_levels

# A second cue beside the colour, in the order of the classes.
HATCHES = ("", "////", "....", "xxxx", "----", "oooo")

ROW = 30.0  # s of a recording side by side
ROWS = 20  # at most: of a longer recording, a row shows more
WIDTH, ROW_HEIGHT, HEADER, FOOTER = 10.0, 2.3, 0.45, 0.5  # inches
NAMED = 0.045  # share of a row that a cycle needs to have its name in it

HOP = 128  # samples: a frame of the spectrogram every 16 ms
DYNAMICS = 70.0  # dB that are shown
TICKS = (100, 250, 500, 1000, 2000, 4000)  # Hz


def cycles_figure(recording, cycles, labels):
    """Draws a recording's log-mel spectrogram, and below it its cycles.

    What is long is broken into rows, as text is. A cycle is a bar in the
    colour and the hatching of its class, with its number in the table and its
    class where there is room; bars of cycles that overlap lie above each other.
    The lines below the bars are the quality.

    Arguments
    ---------
    recording : qlung_plugin.inference.recordings.Recording
        The recording. A row of it is in memory at a time.
    cycles : pandas.DataFrame
        A row per cycle: ``start``, ``end``, ``prediction``, ``quality``; of a
        ``Classification``.
    labels : list of str
        The classes, in order.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the recording is damaged.

    Example
    -------
    >>> import pandas as pd, soundfile
    >>> from qlung_plugin.inference.recordings import Recording
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.random.default_rng(0).normal(size=8000), 4000)
    >>> cycles = pd.DataFrame(
    ...     [[0.5, 2, "wheeze", 0.7]],
    ...     columns=["start", "end", "prediction", "quality"],
    ... )
    >>> figure = cycles_figure(Recording(path), cycles, ["normal", "wheeze"])
    >>> [text.get_text() for text in figure.axes[1].texts]
    ['1 wheeze']
    """
    length, rows = _rows(recording.duration)
    height = HEADER + rows * ROW_HEIGHT + FOOTER
    figure = PlainFigure(figsize=(WIDTH, height), dpi=150)
    patches = [Patch(label=name, **_look(labels, name)) for name in labels]
    figure.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=(0.5, 1),
        ncols=len(labels),
        frameon=False,
    )
    lanes = _lanes(cycles)
    grid = figure.add_gridspec(
        rows,
        1,
        left=0.085,
        right=0.985,
        top=1 - HEADER / height,
        bottom=FOOTER / height,
        hspace=0.28,
    )
    # Nothing of the spectrograms but the loudest level is kept between rows.
    images, f_max = [], min(RATE / 2, max(recording.sample_rate / 2, 500.0))
    for row in range(rows):
        start = row * length
        end = start + length
        panels = grid[row].subgridspec(
            3, 1, height_ratios=(5, 1.6, 1.2), hspace=0.08
        )
        sound, classes, quality = panels.subplots(sharex=True)
        images.append(_draw_sound(sound, recording, start, end, f_max))
        edges = {*cycles["start"], *cycles["end"]}
        sound.vlines(
            [edge for edge in edges if start < edge < end],
            *sound.get_ylim(),
            "white",
            linewidth=1,
            alpha=0.6,
        )
        _draw_classes(classes, cycles, lanes, labels, start, end)
        _draw_quality(quality, cycles, start, end)
        sound.set_xlim(start, end)
    quality.set_xlabel("time (s)", fontsize=9)
    loudest = max(image.get_array().max() for image in images)
    for image in images:
        image.set_clim(loudest - DYNAMICS, loudest)
    return figure


def _rows(duration):
    """Length of a row in seconds, and the number of rows."""
    length = min(duration, max(ROW, duration / ROWS))
    return length, max(1, int(np.ceil(duration / length - 1e-6)))


def _look(labels, name):
    """How a class is drawn; what has none is grey."""
    if name not in labels:
        return {"facecolor": "0.9", "edgecolor": "0.5"}
    number = labels.index(name)
    color = COLORS[number % len(COLORS)]
    return {
        "facecolor": matplotlib.colors.to_rgba(color, 0.35),
        "edgecolor": color,
        "hatch": HATCHES[number % len(HATCHES)],
    }


def _lanes(cycles):
    """A lane for each cycle, in which it overlaps with no other.

    Returns
    -------
    list of int
    """
    ends, lanes = [], {}
    for index in np.argsort(cycles["start"].to_numpy(), kind="stable"):
        start, end = cycles["start"].iloc[index], cycles["end"].iloc[index]
        lane = next(
            (i for i, taken in enumerate(ends) if taken <= start + 1e-6),
            len(ends),
        )
        ends[lane : lane + 1] = [end]
        lanes[index] = lane
    return [lanes[index] for index in range(len(cycles))]


def _draw_sound(axes, recording, start, end, f_max):
    end = min(end, recording.duration)
    waveform = recording.read(start, end)
    levels = mel_levels(waveform, recording.sample_rate, HOP, f_max=f_max)
    image = axes.imshow(
        levels.numpy(),
        origin="lower",
        aspect="auto",
        extent=(start, end, 0, mel(f_max)),
        cmap="magma",
    )
    ticks = [tick for tick in TICKS if tick <= f_max]
    axes.set_yticks(mel(ticks), [f"{tick:,}" for tick in ticks])
    axes.set_ylabel("Hz (mel)", fontsize=8)
    axes.tick_params(labelsize=8, labelbottom=False)
    return image


def _draw_classes(axes, cycles, lanes, labels, start, end):
    axes.set(ylim=(0, max(lanes, default=0) + 1), yticks=[])
    axes.set_ylabel("class", fontsize=8, rotation=0, ha="right", va="center")
    axes.tick_params(labelbottom=False)
    for number, (lane, cycle) in enumerate(
        zip(lanes, cycles.itertuples()), start=1
    ):
        first, last = max(cycle.start, start), min(cycle.end, end)
        if last <= first:
            continue
        axes.add_patch(
            Rectangle(
                (cycle.start, lane + 0.06),
                cycle.end - cycle.start,
                0.88,
                **_look(labels, cycle.prediction),
            )
        )
        room = (last - first) / (end - start)
        text = f"{number} {cycle.prediction}"
        if room < NAMED * len(text) / 5:
            text = str(number)
        if room > 0.02:
            axes.text(
                (first + last) / 2,
                lane + 0.5,
                text,
                ha="center",
                va="center",
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )


def _draw_quality(axes, cycles, start, end):
    axes.set(ylim=(-0.08, 1.08), yticks=[0, 1])
    axes.set_ylabel("quality", fontsize=8, rotation=0, ha="right", va="center")
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.4)
    shown = cycles[(cycles["end"] > start) & (cycles["start"] < end)]
    axes.hlines(
        shown["quality"], shown["start"], shown["end"], "black", linewidth=2
    )
