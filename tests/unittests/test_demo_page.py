"""What the page shows, without a browser.

Authors
 * qlung_plugin contributors
"""

import asyncio
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile

from qlung_plugin.cli import demo
from qlung_plugin.cli.main import main
from qlung_plugin.demo import page
from qlung_plugin.demo.page import (
    analyse,
    build,
    describe,
    describe_model,
    tabulate,
)
from qlung_plugin.inference.classifier import (
    Classification,
)
from qlung_plugin.inference.recordings import Recording
from qlung_plugin.utils import cycle_figures
from qlung_plugin.utils.cycle_figures import HATCHES, cycles_figure
from qlung_plugin.utils.figures import COLORS
from qlung_plugin.utils.metric_stats import LABELS
from tests.unittests.recording_checks import make_model

RATE = 4000


@pytest.fixture(scope="module")
def model():
    return make_model(LABELS)


@pytest.fixture
def sound(tmp_path):
    """Writes noise of some seconds, and returns its path."""

    def write(seconds=20.0, rate=RATE, name="a b.wav"):
        noise = np.random.default_rng(0).normal(size=round(seconds * rate))
        soundfile.write(tmp_path / name, 0.1 * noise, rate)
        return tmp_path / name

    return write


def table(times, predictions=None, quality=0.5):
    """Cycles, such as a classification has."""
    cycles = pd.DataFrame(times, columns=["start", "end"], dtype=float)
    cycles["prediction"] = predictions or ["normal"] * len(cycles)
    cycles["quality"] = quality
    for label in LABELS:
        cycles[f"p_{label}"] = (cycles["prediction"] == label).astype(float)
    return cycles


def classification(cycles, **summary):
    """A classification with these cycles."""
    abnormal = (cycles["prediction"] != "normal").mean()
    worst = cycles["quality"].min()
    return Classification(
        cycles,
        {
            "duration": 20.0,
            "sample_rate": 44100,
            "channels": 1,
            "cycle_source": "windows of 8 s every 4 s",
            "confidence": None,
            "abnormal_fraction": None if cycles.empty else abnormal,
            "worst_quality": None if pd.isna(worst) else worst,
            **summary,
        },
    )


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_page_says_what_the_model_says(model, sound):
    path = sound()
    summary, figure, shown = analyse(model, path, "windows")
    cycles = model.classify_file(path, "windows").cycles
    assert list(shown.columns) == [
        *("cycle", "start (s)", "end (s)", "class"),
        *(f"{label} (%)" for label in LABELS),
        "quality",
    ]
    assert list(shown["class"]) == list(cycles["prediction"])
    assert list(shown["start (s)"]) == ["0.00", "4.00", "8.00", "12.00"]
    shares = shown[[f"{label} (%)" for label in LABELS]].astype(float)
    expected = 100 * cycles[[f"p_{label}" for label in LABELS]]
    assert np.allclose(shares, expected, atol=0.5 + 1e-6)
    abnormal = (cycles["prediction"] != "normal").sum()
    assert summary.startswith(f"### {abnormal} of 4 cycles")
    assert [text.split()[1] for text in texts(figure.axes[1])] == list(
        cycles["prediction"]
    )


def test_cycles_without_a_class_are_told_and_drawn(model, tmp_path):
    path = tmp_path / "half.wav"
    samples = np.zeros(16 * 4000)
    samples[: 8 * 4000] = np.random.default_rng(0).normal(0, 0.1, 8 * 4000)
    soundfile.write(path, samples, 4000)
    (tmp_path / "a.csv").write_text("start,end\n0,4\n9,12\n")
    summary, figure, shown = analyse(model, path, tmp_path / "a.csv")
    assert " of 1 cycle (" in summary
    assert "1 cycle without sound, or too short, got no class." in summary
    assert shown["class"][1] == "unusable"
    assert set(shown[[f"{label} (%)" for label in LABELS]].iloc[1]) == {"-"}
    assert texts(figure.axes[1])[1] == "2 unusable"
    soundfile.write(path, 0 * samples, 4000)
    summary, _, _ = analyse(model, path, tmp_path / "a.csv")
    assert summary.startswith("### No usable cycle\n\n2 cycles without sound")


def test_breaths_are_found(model, sound):
    summary, _, shown = analyse(model, sound(), "segmentation")
    assert "Cycles: segmentation, with a confidence of " in summary
    assert len(shown) > 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "0.5\t2\t0\t1\n2\t20.1\t1\t0\n"),
        ("a.csv", "start,end\n0.5,2\n2,20.1\n"),
        (
            "a.json",
            json.dumps(
                {
                    "recording_annotation": "Normal",
                    "event_annotation": [
                        {"start": "500", "end": "2000", "type": "Normal"},
                        {"start": "2000", "end": "20100", "type": "Rhonchi"},
                    ],
                }
            ),
        ),
    ],
)
def test_annotations_of_all_kinds(model, sound, tmp_path, name, text):
    annotation = tmp_path / name
    annotation.write_text(text)
    summary, _, shown = analyse(model, sound(), annotation)
    assert f"Cycles: {name}." in summary and str(tmp_path) not in summary
    assert shown[["start (s)", "end (s)"]].to_numpy().tolist() == [
        ["0.50", "2.00"],
        ["2.00", "20.00"],
    ]


def test_the_rule_is_stated_and_the_worst_cycle_named():
    cycles = table(
        [(0, 2), (2, 3), (3, 4)], ["normal", "both", "normal"], [0.5, 0.9, 0.2]
    )
    text = describe(classification(cycles, channels=2))
    assert text.startswith("### 1 of 3 cycles (33 %) not normal\n")
    assert "counts as not normal if the most probable class is another" in text
    assert "Worst quality: **0.20**, of cycle 3 " in text
    assert "20.0 s at 44,100 Hz, 2 channels, averaged" in text
    sure = classification(cycles, cycle_source="segmentation", confidence=0.625)
    assert "segmentation, with a confidence of 0.62 " in describe(sure)
    assert "not whether they are right" in describe(sure)


def test_without_cycles_or_quality():
    text = describe(classification(table([]), cycle_source="/x/y.txt"))
    assert text.startswith("### No cycle\n\nCycles: y.txt.")
    assert tabulate(table([]), LABELS).empty
    unmeasured = table([(0, 2)], quality=np.nan)
    assert "measures no quality" in describe(classification(unmeasured))
    assert list(tabulate(unmeasured, LABELS)["quality"]) == ["-"]


def test_too_long_is_told_before_anything_is_decoded(sound, monkeypatch):
    def read(*arguments):
        raise AssertionError("decoded")

    monkeypatch.setattr(Recording, "read", read)
    path = sound(601, 800)
    with pytest.raises(ValueError, match="a b.wav is 10.0 minutes long: .* 10"):
        analyse(None, path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not readable"), (b"I am a text.", "not readable as audio")],
)
def test_no_audio(content, reason, tmp_path):
    path = tmp_path / "text.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"text.wav.* {reason}"):
        analyse(None, path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number(model, tmp_path, value):
    samples = np.zeros(RATE)
    samples[7] = value
    path = tmp_path / "hole.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match="hole.wav holds NaN or infinite"):
        analyse(model, path, "windows")


@pytest.mark.parametrize("number", range(4))
def test_a_class_has_its_colour_hatching_and_name(sound, number):
    label = LABELS[number]
    cycles = table([(1, 5)], [label])
    axes = cycles_figure(Recording(sound()), cycles, list(LABELS)).axes[1]
    (bar,) = axes.patches
    assert bar.get_hatch() == HATCHES[number]
    assert bar.get_edgecolor()[:3] == pytest.approx(
        [int(COLORS[number][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    )
    assert (bar.get_x(), bar.get_width()) == (1, 4)
    assert texts(axes) == [f"1 {label}"]


def test_what_overlaps_lies_above_each_other(sound):
    times = [(0, 8), (4, 12), (8, 16), (12, 20), (13, 14)]
    axes = cycles_figure(Recording(sound()), table(times), list(LABELS)).axes[1]
    assert [int(bar.get_y()) for bar in axes.patches] == [0, 1, 0, 1, 2]


def test_quality_is_a_line_per_cycle(sound):
    cycles = table([(0, 5), (5, 9)], quality=[0.25, 1.0])
    axes = cycles_figure(Recording(sound()), cycles, list(LABELS)).axes[2]
    lines = [line.tolist() for line in axes.collections[0].get_segments()]
    assert lines == [[[0, 0.25], [5, 0.25]], [[5, 1], [9, 1]]]


@pytest.mark.parametrize("frequency", [200, 1000])
@pytest.mark.parametrize("rate", [4000, 44101])
def test_a_tone_is_at_its_frequency(tmp_path, rate, frequency):
    path = tmp_path / "tone.wav"
    time = np.arange(2 * rate) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency * time), rate)
    axes = cycles_figure(Recording(path), table([]), list(LABELS)).axes[0]
    (image,) = axes.images
    low, high = image.get_extent()[2:]
    levels = np.asarray(image.get_array())
    loudest = levels.mean(axis=1).argmax()
    mel = low + (loudest + 0.5) / len(levels) * (high - low)
    # O'Shaughnessy's formula
    assert 700 * (10 ** (mel / 2595) - 1) == pytest.approx(frequency, rel=0.12)


def test_what_is_long_is_in_rows_and_a_row_at_a_time(sound, monkeypatch):
    longest = 0
    read = Recording.read

    def watched(self, start, end):
        nonlocal longest
        longest = max(longest, end - start)
        return read(self, start, end)

    monkeypatch.setattr(Recording, "read", watched)
    path = sound(600, 1000)
    cycles = table([(i, i + 3) for i in range(0, 600, 3)])
    figure = cycles_figure(Recording(path), cycles, list(LABELS))
    assert longest <= cycle_figures.ROW
    assert len(figure.axes) == 3 * 20
    found = [text for axes in figure.axes[1::3] for text in texts(axes)]
    assert found == [f"{i + 1} normal" for i in range(200)]
    width, height = figure.canvas.get_width_height()
    assert width * height < 2e7  # pixels


def test_what_is_longer_has_no_more_rows(sound):
    path = sound(20 * 60, 800)
    figure = cycles_figure(Recording(path), table([]), list(LABELS))
    assert len(figure.axes) == 3 * cycle_figures.ROWS


@pytest.mark.parametrize(
    ("samples", "rate"), [(1, 44100), (3, 800), (5000, 192000)]
)
def test_the_oddest_recordings_are_drawn(tmp_path, samples, rate):
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.zeros(samples), rate)
    times = [(0.0, samples / rate)]
    figure = cycles_figure(Recording(path), table(times), list(LABELS))
    figure.savefig(tmp_path / "odd.png", dpi=30)
    assert len(figure.axes) % 3 == 0


@pytest.fixture
def event_loops(monkeypatch):
    """Closes the event loops that Gradio makes and leaves to the collector.

    Wherever that comes by, in a test that takes warnings for errors, it fails.
    """
    made, make = [], asyncio.new_event_loop

    def new_event_loop():
        made.append(make())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new_event_loop)
    yield
    asyncio.set_event_loop(None)
    for loop in made:
        loop.close()


def test_the_page_is_built_quietly(model, event_loops):
    pytest.importorskip("gradio")
    built = build(model, "Model: `a`.")
    assert built.analytics_enabled is False
    assert built.delete_cache == (page.CLEANED, page.KEPT)


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert main(["demo", "--model", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        'qlung: the page needs Gradio: pip install "qlung_plugin[demo]"\n'
    )


def test_a_model_that_is_not_there_is_one_line(tmp_path, capsys):
    pytest.importorskip("gradio")
    assert main(["demo", "--model", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert "nowhere" in error and error.count("\n") == 1


@pytest.mark.parametrize("port", ["80", "0", "65536", "http"])
def test_ports_that_are_none(port, capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--model", "x", "--port", port])
    assert f"{port} is no port" in capsys.readouterr().err


def test_the_page_imports_without_gradio():
    code = (
        "import sys; sys.modules['gradio'] = None;import qlung_plugin.demo.page"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gradio_takes_the_figure(model, sound):
    gradio = pytest.importorskip("gradio")
    figure = analyse(model, sound(), "windows").figure
    shown = gradio.Plot(format="png").postprocess(figure)
    assert shown.type == "matplotlib"
    assert shown.plot.startswith("data:image/png;base64,")


def test_the_model_and_its_results_are_named():
    data = {"database": "ICBHI `x`", "subset": None, "protocol": "official"}
    result = {"score": 57.123, "selection": "best\n\n# big", "data": data}
    about = {
        "checkpoint": "selected",
        "epoch": 7,
        "settings": {"seed": 1, "split": "official", "loss": {"class": "a.B"}},
        "results": [{**result, "data": {**data, "partition": "test side"}}],
    }
    text = describe_model("<b>ce</b>", about)
    assert text.startswith(
        "Model: `<b>ce</b>`, selected checkpoint, epoch 7, `split official`,"
        " `seed 1`, `loss B`."
    )
    assert "57.12 % on `ICBHI 'x': test side (official)`" in text
    assert "checkpoint by `best # big`" in text
    assert text.endswith("Its probabilities are not calibrated.")
    about["results"][0]["score"] = 107
    with pytest.raises(ValueError, match=r"results\[0\].score is 107, not"):
        describe_model("ce", about)
