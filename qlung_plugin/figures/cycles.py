"""A recording to look at: what was heard, and what is said of its cycles.

Authors
 * qlung_plugin contributors
"""

import html
import io
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch, Rectangle

from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.figures.spectrograms import RATE, mel, mel_levels
from qlung_plugin.figures.style import COLORS, PlainFigure

# A second cue beside the colour, in the order of the classes.
HATCHES = ("", "////", "....", "xxxx", "----", "oooo")


class Shape(NamedTuple):
    """How a recording is broken into rows."""

    width: float  # inches
    row: float  # s of a recording side by side
    rows: int  # at most: of a longer recording, a row shows more


WIDE = Shape(10.0, 30.0, 20)
NARROW = Shape(3.7, 10.0, 60)  # of a phone

# Inches: of a row, of what is around the rows, and what a class in the legend
# and a letter in a bar need.
ROW_HEIGHT, LEFT, RIGHT, HEADER, FOOTER = 2.3, 0.72, 0.12, 0.45, 0.45
ENTRY, LETTER = 0.9, 0.075
# Stands for the colour of the text around a picture, dark or light.
INK = "#010203"

HOP = 128  # samples: a frame of the spectrogram every 16 ms
DYNAMICS = 70.0  # dB that are shown
TICKS = (100, 250, 500, 1000, 2000, 4000)  # Hz


def cycles_figure(
    recording: Recording,
    cycles: pd.DataFrame,
    labels: list[str],
    shape: Shape = WIDE,
) -> Figure:
    """Draws a recording's log-mel spectrogram, and below it its cycles.

    What is long is broken into rows, as text is; a row of it is in memory at a
    time. A cycle (``start``, ``end``, ``prediction``, ``quality``) is a bar in
    the colour and the hatching of its class, with its number in the table and
    its class where there is room; bars of cycles that overlap lie above each
    other. The lines below the bars are the quality. The ground is transparent,
    and what is not a colour of its own is in :data:`INK`.

    Example
    -------
    >>> import pandas as pd, soundfile
    >>> from qlung_plugin.dataio.recordings import Recording
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
    length, rows = _rows(recording.duration, shape)
    # What got no class has a name of its own.
    shown = [*labels, *sorted(set(cycles["prediction"]) - set(labels))]
    lines = -(-len(shown) // int(shape.width // ENTRY))
    header = HEADER + 0.2 * (lines - 1)
    height = header + rows * ROW_HEIGHT + FOOTER
    figure = PlainFigure(
        figsize=(shape.width, height), dpi=150, facecolor="none"
    )
    figure.legend(
        handles=[
            tuple(Patch(**look) for look in _looks(labels, name))
            for name in shown
        ],
        labels=shown,
        handler_map={tuple: HandlerTuple(ndivide=1)},
        loc="upper center",
        bbox_to_anchor=(0.5, 1),
        ncols=-(-len(shown) // lines),
        columnspacing=1,
        handlelength=1.5,
        fontsize=8.5,
        labelcolor=INK,
        frameon=False,
    )
    lanes = _lanes(cycles)
    grid = figure.add_gridspec(
        rows,
        1,
        left=LEFT / shape.width,
        right=1 - RIGHT / shape.width,
        top=1 - header / height,
        bottom=FOOTER / height,
        hspace=0.28,
    )
    room = (shape.width - LEFT - RIGHT) / length  # inches of a second
    # Nothing of the spectrograms but the loudest level is kept between rows.
    images, f_max = [], min(RATE / 2, max(recording.sample_rate / 2, 500.0))
    for row in range(rows):
        start = row * length
        end = start + length
        panels = grid[row].subgridspec(
            3, 1, height_ratios=(5, 1.6, 1.2), hspace=0.08
        )
        sound, classes, quality = panels.subplots(
            sharex=True, squeeze=False
        ).ravel()
        images.append(_draw_sound(sound, recording, start, end, f_max))
        edges = {*cycles["start"], *cycles["end"]}
        sound.vlines(
            [edge for edge in edges if start < edge < end],
            *sound.get_ylim(),
            "white",
            linewidth=1,
            alpha=0.6,
        )
        _draw_classes(classes, cycles, lanes, labels, start, end, room)
        _draw_quality(quality, cycles, start, end)
        sound.set_xlim(start, end)
        for axes in (sound, classes, quality):
            _ink(axes)
    quality.set_xlabel("time (s)", fontsize=9)
    loudest = max(image.get_clim()[1] for image in images)
    for image in images:
        image.set_clim(loudest - DYNAMICS, loudest)
    return figure


def picture(figure: Figure, about: str) -> str:
    """A figure as SVG within a page, in the colours of the text around it.

    It has no scripts, all texts in it are text, and ``about`` is for those who
    do not see it.

    Example
    -------
    >>> figure = PlainFigure()
    >>> text = figure.text(0, 0, "<b>", color=INK)
    >>> code = picture(figure, "a text")
    >>> code[:35], "currentcolor" in code.lower(), "&lt;b&gt;" in code
    ('<svg role="img" aria-label="a text"', True, True)
    """
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    code = file.getvalue().decode()
    code = code[code.index("<svg") :].replace(INK, "currentColor")
    # Its style is for itself, not for the page.
    code = code.replace('<style type="text/css">*{', "<style>.cycles *{")
    start = f'<svg role="img" aria-label="{html.escape(about)}" class="cycles"'
    return code.replace("<svg", start, 1)


def _rows(duration: float, shape: Shape) -> tuple[float, int]:
    """Length of a row in seconds, and the number of rows."""
    length = min(duration, max(shape.row, duration / shape.rows))
    return length, max(1, int(np.ceil(duration / length - 1e-6)))


def _looks(
    labels: list[str], name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How a class is drawn: its ground and, above, its lines.

    In one, SVG would draw the hatching as pale as the ground. What has no class
    is grey.
    """
    color, hatch = "0.5", ""
    if name in labels:
        number = labels.index(name)
        color = COLORS[number % len(COLORS)]
        hatch = HATCHES[number % len(HATCHES)]
    pale = matplotlib.colors.to_rgba(color, 0.35)
    return (
        {"facecolor": pale, "linewidth": 0},
        {"facecolor": "none", "edgecolor": color, "hatch": hatch},
    )


def _lanes(cycles: pd.DataFrame) -> list[int]:
    """A lane for each cycle, in which it overlaps with no other."""
    ends: list[float] = []
    lanes = {}
    for index in np.argsort(cycles["start"].to_numpy(), kind="stable"):
        start, end = cycles["start"].iloc[index], cycles["end"].iloc[index]
        lane = next(
            (i for i, taken in enumerate(ends) if taken <= start + 1e-6),
            len(ends),
        )
        ends[lane : lane + 1] = [end]
        lanes[index] = lane
    return [lanes[index] for index in range(len(cycles))]


def _ink(axes: Axes) -> None:
    """Makes axes transparent, and their lines and letters of one colour."""
    axes.set_facecolor("none")
    axes.tick_params(colors=INK)
    for line in axes.spines.values():
        line.set_color(INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)


def _draw_sound(
    axes: Axes, recording: Recording, start: float, end: float, f_max: float
) -> AxesImage:
    end = min(end, recording.duration)
    waveform = recording.read(start, end)
    levels = mel_levels(waveform, recording.sample_rate, HOP, f_max=f_max)
    image = axes.imshow(
        levels.numpy(),
        origin="lower",
        aspect="auto",
        extent=(start, end, 0, float(mel(f_max))),
        cmap="magma",
    )
    ticks = [tick for tick in TICKS if tick <= f_max]
    axes.set_yticks(mel(ticks), [f"{tick:,}" for tick in ticks])
    axes.set_ylabel("Hz (mel)", fontsize=8)
    axes.tick_params(labelsize=8, labelbottom=False)
    return image


def _draw_classes(
    axes: Axes,
    cycles: pd.DataFrame,
    lanes: list[int],
    labels: list[str],
    start: float,
    end: float,
    room: float,
) -> None:
    axes.set(ylim=(0, max(lanes, default=0) + 1), yticks=[])
    axes.set_ylabel("class", fontsize=8, rotation=0, ha="right", va="center")
    axes.tick_params(labelbottom=False)
    columns = (cycles[name] for name in ("start", "end", "prediction"))
    for number, (lane, begin, stop, name) in enumerate(
        zip(lanes, *columns), start=1
    ):
        first, last = max(begin, start), min(stop, end)
        if last <= first:
            continue
        for look in _looks(labels, name):
            corner = (begin, lane + 0.06)
            axes.add_patch(Rectangle(corner, stop - begin, 0.88, **look))
        texts = (f"{number} {name}", str(number))
        # Some room to its neighbours
        letters = room * (last - first) / LETTER - 1
        text = next((text for text in texts if len(text) <= letters), None)
        if text is not None:
            axes.text(
                (first + last) / 2,
                lane + 0.5,
                text,
                ha="center",
                va="center",
                fontsize=8,
                color="0.1",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )


def _draw_quality(
    axes: Axes, cycles: pd.DataFrame, start: float, end: float
) -> None:
    axes.set(ylim=(-0.08, 1.08), yticks=[0, 1])
    axes.set_ylabel("quality", fontsize=8, rotation=0, ha="right", va="center")
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.4)
    shown = cycles[(cycles["end"] > start) & (cycles["start"] < end)]
    axes.hlines(
        shown["quality"], shown["start"], shown["end"], INK, linewidth=2
    )
