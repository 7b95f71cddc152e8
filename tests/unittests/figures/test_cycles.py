"""The picture of a recording and its cycles, read as the SVG that it is.

Authors
 * qlung_plugin contributors
"""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.figures.cycles import HATCHES, NARROW, WIDE, draw_cycles
from qlung_plugin.figures.style import COLORS
from qlung_plugin.scores.icbhi_score import LABELS

RATE = 4000
NAME = "{http://www.w3.org/2000/svg}"
LEFT, RIGHT = 52, 711  # of a row, in points


@pytest.fixture
def sound(tmp_path):
    """A recording of noise of some seconds."""

    def write(seconds=20.0, rate=RATE):
        noise = np.random.default_rng(0).normal(size=round(seconds * rate))
        soundfile.write(tmp_path / "a.wav", 0.1 * noise, rate)
        return Recording(tmp_path / "a.wav")

    return write


def table(times, predictions=None, quality=0.5):
    """Cycles, such as a classification has."""
    cycles = pd.DataFrame(times, columns=["start", "end"], dtype=float)
    cycles["prediction"] = predictions or ["normal"] * len(cycles)
    cycles["quality"] = quality
    return cycles


def drawn(recording, cycles, labels=LABELS, shape=WIDE):
    code = draw_cycles(recording, cycles, labels, shape, "a picture")
    return ElementTree.fromstring(code)


def elements(root, name, kind=None):
    """Those of a name, and of a class."""
    return [
        element
        for element in root.iter(NAME + name)
        if kind is None or kind in element.get("class", "").split()
    ]


def numbers(element, *names):
    return [float(element.get(name)) for name in names]


@pytest.mark.parametrize("number", [0, 3])
def test_a_class_has_its_colour_hatching_and_name(sound, number):
    root = drawn(sound(), table([(1, 5)], [LABELS[number]]))
    ground, bar = elements(root, "rect", "bar")
    pattern = elements(root, "pattern")[number]
    assert bar.get("fill") == f"url(#{pattern.get('id')})"
    assert (HATCHES[number] == "") == (len(pattern) == 0)
    color = COLORS[number]
    assert color == pattern.get("stroke") == bar.get("stroke")
    # The ground alone lets what is behind it through.
    assert (ground.get("fill"), ground.get("fill-opacity")) == (color, "0.35")
    width = (RIGHT - LEFT) / 20
    for rect in (ground, bar):
        assert numbers(rect, "x", "width") == pytest.approx(
            [LEFT + width, 4 * width], abs=0.1
        )
    (name,) = elements(root, "text", "name")
    assert name.text == f"1 {LABELS[number]}"


def test_what_overlaps_lies_above_each_other(sound):
    times = [(0, 8), (4, 12), (8, 16), (12, 20), (13, 14)]
    bars = elements(drawn(sound(), table(times)), "rect", "bar")[::2]
    places = [float(bar.get("y")) for bar in bars]
    levels = sorted(set(places), reverse=True)
    assert [levels.index(place) for place in places] == [0, 1, 0, 1, 2]
    assert float(bars[0].get("height")) < levels[0] - levels[1]


def test_quality_is_a_line_per_cycle(sound):
    cycles = table([(0, 5), (5, 9), (9, 10)], quality=[0.25, 1.0, np.nan])
    root = drawn(sound(), cycles)
    lines = [
        numbers(element, "x1", "x2", "y1", "y2")
        for element in elements(root, "line", "quality")
    ]
    best, worst = (
        float(element.get("y1"))
        for element in reversed(elements(root, "line", "grid"))
    )
    second = (RIGHT - LEFT) / 20
    level = worst + 0.25 * (best - worst)
    expected = [
        [LEFT, LEFT + 5 * second, level, level],
        [LEFT + 5 * second, LEFT + 9 * second, best, best],
    ]
    np.testing.assert_allclose(lines, expected, atol=0.1)


@pytest.mark.parametrize("frequency, rate", [(200, 44101), (1000, 4000)])
def test_a_tone_is_at_its_frequency(tmp_path, rate, frequency):
    path = tmp_path / "tone.wav"
    time = np.arange(2 * rate) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency * time), rate)
    root = drawn(Recording(path), table([]))
    (image,) = elements(root, "image")
    data = base64.b64decode(image.get("href").partition(",")[2])
    picture = Image.open(io.BytesIO(data)).convert("L")
    loudest = np.asarray(picture, float).mean(axis=1).argmax()
    top, height = numbers(image, "y", "height")
    place = top + (loudest + 0.5) / picture.height * height
    # Between the marks, which are straight in mel by O'Shaughnessy's formula.
    marks = {
        float(text.text.replace(",", "")): float(text.get("y")) - 3
        for text in elements(root, "text", "end")[:4]
    }
    found = np.interp(-place, *zip(*((-y, f) for f, y in marks.items())))
    assert list(marks)[:3] == [100, 250, 500]
    assert found == pytest.approx(frequency, rel=0.15)


@pytest.mark.parametrize("shape", [WIDE, NARROW])
def test_what_is_long_is_in_rows_and_a_row_at_a_time(sound, monkeypatch, shape):
    longest = 0
    read = Recording.read

    def watched(self, start, end):
        nonlocal longest
        longest = max(longest, end - start)
        return read(self, start, end)

    monkeypatch.setattr(Recording, "read", watched)
    cycles = table([(i, i + 3) for i in range(0, 600, 3)])
    root = drawn(sound(600, 1000), cycles, shape=shape)
    assert longest <= shape.row
    assert len(elements(root, "image")) == 600 / shape.row
    names = [text.text for text in elements(root, "text", "name")]
    if shape is WIDE:
        assert names == [f"{i + 1} normal" for i in range(200)]
    width, height = map(float, root.get("viewBox").split()[2:])
    assert width == shape.width and height < 170 * 600 / shape.row + 100


def test_what_is_longer_has_no_more_rows(sound):
    root = drawn(sound(20 * 60, 800), table([]))
    assert len(elements(root, "image")) == WIDE.rows


@pytest.mark.parametrize(("samples", "rate"), [(1, 44100), (3, 800)])
def test_the_oddest_recordings_are_drawn(tmp_path, samples, rate):
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.zeros(samples), rate)
    root = drawn(Recording(path), table([(0.0, samples / rate)]))
    assert len(elements(root, "rect", "bar")) == 2
    middle = [text.text for text in elements(root, "text", "middle")]
    times = [words for words in middle if re.fullmatch(r"\d[\d.]*", words)]
    assert float(times[0]) == 0 and len(set(times)) == len(times) > 2


def test_names_of_a_phone_fit(sound):
    labels = [*LABELS, "a long one"]
    cycles = table([(0, 8), (9, 12)], ["a long one", "unusable"])
    for shape, rows in ((WIDE, 1), (NARROW, 2)):
        root = drawn(sound(), cycles, labels, shape)
        assert len(elements(root, "image")) == rows
        names = [t for t in elements(root, "text") if not t.get("class")][:6]
        assert [name.text for name in names] == [*labels, "unusable"]
        for name in names:
            x = float(name.get("x"))
            assert 0 < x and x + 5 * len(name.text) < shape.width


def test_the_picture_takes_the_page_s_colours(sound):
    code = draw_cycles(
        sound(), table([(0, 8)], ["<b>&"]), ["<b>&"], WIDE, 'of "a"'
    )
    root = ElementTree.fromstring(code)
    assert code.startswith("<svg ") and root.get("aria-label") == 'of "a"'
    # Its style is for itself alone.
    (style,) = elements(root, "style")
    rules = [line for line in style.text.splitlines() if line]
    assert all(rule.startswith(".cycles ") for rule in rules)
    assert not elements(root, "script")
    letters = {text.text for text in elements(root, "text")}
    assert {"1 <b>&", "<b>&", "time (s)", "quality", "1,000"} <= letters
    # Only a name within white is dark in any theme.
    assert "text { font: 8px" in rules[0] and "fill: currentColor" in rules[0]
    fills = re.findall(r"\.(\w+) {[^}]*fill: #", style.text)
    assert fills == ["name"]
    ground = elements(root, "rect", "frame")
    assert ground and "none" in rules[1]
