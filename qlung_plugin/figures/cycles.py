"""A recording to look at: what was heard, and what is said of its cycles.

It is SVG of a page, written here: matplotlib takes ten seconds of computing for
ten minutes of sound, and twenty megabytes.

Authors
 * qlung_plugin contributors
"""

import base64
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from PIL import Image

from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.figures.spectrograms import RATE, mel, mel_levels
from qlung_plugin.figures.style import COLORS
from qlung_plugin.figures.svg import line, tag, text

# A second cue beside the colour, in the order of the classes: 6 by 6 points.
HATCHES = (
    "",
    '<path d="M-1 1 1 -1M0 6 6 0M5 7 7 5"/>',
    '<path d="M1 1h1M4 1h1M1 4h1M4 4h1"/>',
    '<path d="M0 6 6 0M0 0 6 6"/>',
    '<path d="M0 1.5h6M0 4.5h6"/>',
    '<circle cx="3" cy="3" r="1.8"/>',
)


class Shape(NamedTuple):
    """How a recording is broken into rows."""

    name: str
    width: float  # points
    row: float  # s of a recording side by side
    rows: int  # at most: of a longer recording, a row shows more


WIDE = Shape("wide", 720.0, 30.0, 20)
NARROW = Shape("narrow", 266.4, 10.0, 60)  # of a phone

# Points: of a row and what is around the rows, of a line of the legend, and
# what a letter needs.
ROW, GAP, LEFT, RIGHT, HEADER, FOOTER = 165.6, 0.28, 52.0, 9.0, 32.0, 32.0
LINE, LETTER = 14.0, 5.4
# Of a row: where its three panels begin and how high they are.
SOUND, CLASS, QUALITY = (0.0, 0.609), (0.634, 0.195), (0.854, 0.146)

HOP = 128  # samples: a frame of the spectrogram every 16 ms
DYNAMICS = 70.0  # dB that are shown
TICKS = (100, 250, 500, 1000, 2000, 4000)  # Hz
MAGMA = matplotlib.colormaps["magma"](np.arange(256), bytes=True)[:, :3]

STYLE = """\
.cycles text { font: 8px 'DejaVu Sans', Verdana, sans-serif; fill: currentColor; }
.cycles .frame, .cycles .tick { fill: none; stroke: currentColor; stroke-width: 0.8; }
.cycles .middle { text-anchor: middle; }
.cycles .end { text-anchor: end; }
.cycles .edge { stroke: white; stroke-opacity: 0.6; }
.cycles .grid { stroke: #b0b0b0; stroke-opacity: 0.4; }
.cycles .quality { stroke: currentColor; stroke-width: 2; }
.cycles .name { fill: #1a1a1a; stroke: white; stroke-width: 4; stroke-linejoin: round; paint-order: stroke; }
"""


class Row(NamedTuple):
    """A row of a recording: its times in seconds, its place in points."""

    start: float
    end: float
    top: float
    width: float
    height: float

    def x(self, time: float) -> float:
        """Where a time is."""
        share = (time - self.start) / (self.end - self.start)
        return LEFT + self.width * share

    def panel(self, place: tuple[float, float]) -> tuple[float, float]:
        """Where a panel begins, and its height."""
        return self.top + place[0] * self.height, place[1] * self.height


def draw_cycles(
    recording: Recording,
    cycles: pd.DataFrame,
    labels: Sequence[str],
    shape: Shape,
    about: str,
) -> str:
    """A recording's log-mel spectrogram, and below it its cycles, as SVG.

    What is long is broken into rows, as text is; a row of its sound is in memory
    at a time. A cycle (``start``, ``end``, ``prediction``, ``quality``) is a bar
    in the colour and the hatching of its class, with its number in the table and
    its class where there is room; bars of cycles that overlap lie above each
    other. The lines below the bars are the quality. The ground is transparent,
    and what has no colour of its own has that of the text around. It has no
    scripts, all texts in it are text, and ``about`` is for those who do not see
    it.
    """
    length, count = _rows(recording.duration, shape)
    # What got no class has a name of its own.
    shown = [*labels, *sorted(set(cycles["prediction"]) - set(labels))]
    entry = 24 + LETTER * max(map(len, shown))
    lines = math.ceil(len(shown) / max(1, int(shape.width // entry)))
    top = HEADER + LINE * (lines - 1)
    height = ROW * count / (count + GAP * (count - 1))
    width = shape.width - LEFT - RIGHT
    rows = [
        Row(i * length, (i + 1) * length, y, width, height)
        for i, y in enumerate(
            top + i * height * (1 + GAP) for i in range(count)
        )
    ]
    looks = {name: _look(labels, name, shape) for name in shown}
    lanes = _lanes(cycles)
    parts = [
        tag("style", STYLE),
        *(_pattern(labels, number, shape) for number in range(len(labels))),
        *_legend(looks, lines, entry, shape),
        *_draw_sound(rows, recording, cycles),
    ]
    for row in rows:
        parts += [*_draw_classes(row, cycles, lanes, looks)]
        parts += [*_draw_quality(row, cycles)]
    bottom = top + ROW * count
    middle = LEFT + width / 2
    parts.append(text("time (s)", middle, bottom + 24, class_="middle"))
    return tag(
        "svg",
        *parts,
        class_="cycles",
        role="img",
        aria_label=about,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {shape.width:g} {bottom + FOOTER:g}",
    )


def _frame(row: Row, place: tuple[float, float]) -> str:
    """A panel's box."""
    y, height = row.panel(place)
    return tag(
        "rect", class_="frame", x=LEFT, y=y, width=row.width, height=height
    )


def _rows(duration: float, shape: Shape) -> tuple[float, int]:
    """Length of a row in seconds, and the number of rows."""
    length = min(duration, max(shape.row, duration / shape.rows))
    return length, max(1, math.ceil(duration / length - 1e-6))


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _pattern(labels: Sequence[str], number: int, shape: Shape) -> str:
    """The hatching of a class, for its bars to refer to."""
    return tag(
        "pattern",
        HATCHES[number % len(HATCHES)],
        id=f"{shape.name}-{number}",
        width="6",
        height="6",
        patternUnits="userSpaceOnUse",
        fill="none",
        stroke=_color(number),
    )


def _look(
    labels: Sequence[str], name: str, shape: Shape
) -> tuple[dict[str, float | str], dict[str, float | str]]:
    """How a class is drawn: its ground and, above, its hatching.

    What has no class is grey.
    """
    if name not in labels:
        grey = "#808080"
        return {"fill": grey, "fill_opacity": 0.35}, {
            "fill": "none",
            "stroke": grey,
        }
    number = labels.index(name)
    color = _color(number)
    return {"fill": color, "fill_opacity": 0.35}, {
        "fill": f"url(#{shape.name}-{number})",
        "stroke": color,
    }


def _legend(
    looks: dict, lines: int, entry: float, shape: Shape
) -> Iterator[str]:
    columns = math.ceil(len(looks) / lines)
    left = (shape.width - columns * entry) / 2
    for number, (name, styles) in enumerate(looks.items()):
        x = left + entry * (number // lines)
        y = 8 + LINE * (number % lines)
        for style in styles:
            yield tag("rect", x=x, y=y, width=13, height=6, **style)
        yield text(name, x + 18, y + 6)


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


def _draw_sound(
    rows: Iterable[Row], recording: Recording, cycles: pd.DataFrame
) -> Iterator[str]:
    f_max = min(RATE / 2, max(recording.sample_rate / 2, 500.0))
    levels = []
    for row in rows:
        waveform = recording.read(row.start, min(row.end, recording.duration))
        levels.append(
            mel_levels(waveform, recording.sample_rate, HOP, f_max=f_max)
        )
    loudest = max(part.max().item() for part in levels)
    edges = sorted({*cycles["start"], *cycles["end"]})
    for row, part in zip(rows, levels):
        y, height = row.panel(SOUND)
        shares = (part.numpy()[::-1] - loudest) / DYNAMICS + 1
        yield tag(
            "image",
            href=_png((255 * shares.clip(0, 1)).astype(np.uint8)),
            preserveAspectRatio="none",
            x=LEFT,
            y=y,
            width=row.x(min(row.end, recording.duration)) - LEFT,
            height=height,
        )
        for edge in edges:
            if row.start < edge < row.end:
                x = row.x(edge)
                yield line(x, y, x, y + height, "edge")
        yield _frame(row, SOUND)
        for tick in TICKS:
            if tick <= f_max:
                at = y + height * (1 - mel(tick) / mel(f_max))
                yield line(LEFT - 3.5, at, LEFT, at, "tick")
                yield text(f"{tick:,}", LEFT - 7, at + 3, class_="end")
        middle = y + height / 2
        yield text(
            "Hz (mel)",
            16,
            middle,
            class_="middle",
            transform=f"rotate(-90 16 {middle:.2f})",
        )


def _png(levels: np.ndarray) -> str:
    """The address of a picture of levels from 0 to 255."""
    image = Image.fromarray(levels, "P")
    image.putpalette(MAGMA.tobytes())
    file = io.BytesIO()
    image.save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _draw_classes(
    row: Row, cycles: pd.DataFrame, lanes: Sequence[int], looks: dict
) -> Iterator[str]:
    y, height = row.panel(CLASS)
    lane_height = height / (max(lanes, default=0) + 1)
    yield _frame(row, CLASS)
    yield text("class", LEFT - 4, y + height / 2 + 3, class_="end")
    columns = (cycles[name] for name in ("start", "end", "prediction"))
    for number, (lane, start, end, name) in enumerate(
        zip(lanes, *columns), start=1
    ):
        first, last = max(start, row.start), min(end, row.end)
        if last <= first:
            continue
        top = y + height - (lane + 0.94) * lane_height
        left, width = row.x(first), row.x(last) - row.x(first)
        box = {
            "x": left,
            "y": top,
            "width": width,
            "height": 0.88 * lane_height,
        }
        for style in looks[name]:
            yield tag("rect", class_="bar", **box, **style)
        # Some room to its neighbours
        letters = width / LETTER - 1
        for words in (f"{number} {name}", str(number)):
            if len(words) <= letters:
                middle = top + 0.44 * lane_height + 3
                yield text(
                    words, left + width / 2, middle, class_="middle name"
                )
                break


def _draw_quality(row: Row, cycles: pd.DataFrame) -> Iterator[str]:
    y, height = row.panel(QUALITY)
    yield _frame(row, QUALITY)
    yield text("quality", LEFT - 16, y + height / 2 + 3, class_="end")

    def at(quality: float) -> float:
        return y + height * (1.08 - quality) / 1.16

    for tick in (0, 1):
        yield line(LEFT, at(tick), LEFT + row.width, at(tick), "grid")
        yield line(LEFT - 3.5, at(tick), LEFT, at(tick), "tick")
        yield text(str(tick), LEFT - 7, at(tick) + 3, class_="end")
    shown = cycles[(cycles["end"] > row.start) & (cycles["start"] < row.end)]
    shown = shown.dropna(subset="quality")
    for start, end, quality in zip(
        shown["start"], shown["end"], shown["quality"]
    ):
        left, right = max(start, row.start), min(end, row.end)
        level = at(quality)
        yield line(row.x(left), level, row.x(right), level, "quality")
    ticks = MaxNLocator(min(9, int(row.width // 40)), steps=[1, 2, 2.5, 5, 10])
    times = ticks.tick_values(row.start, row.end)
    step = f"{times[1] - times[0]:.9f}".rstrip("0")
    digits = len(step.partition(".")[2])
    bottom = y + height
    for time in times:
        if row.start - 1e-6 <= time <= row.end + 1e-6:
            x = row.x(time)
            yield line(x, bottom, x, bottom + 3.5, "tick")
            label = f"{time:.{digits}f}"
            yield text(label, x, bottom + 12, class_="middle")
