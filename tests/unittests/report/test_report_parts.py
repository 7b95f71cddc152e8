"""Sounds, pictures, maps and charts of a page, each by itself.

Authors
 * qlung_plugin contributors
"""

import io
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from qlung_plugin.figures.quality import quality_and_errors_figure
from qlung_plugin.figures.results import (
    quality_histogram_figure,
    training_curves_figure,
)
from qlung_plugin.report.charts import stack_panels, svg
from qlung_plugin.report.embeddings import check_method, embed_cycles, project
from qlung_plugin.report.media import (
    encode_picture,
    encode_sound,
    frequency_ticks,
    log_mel,
)
from qlung_plugin.report.recordings import _spread, choose_cycles
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.quality_analysis import compare_with_errors
from tests.unittests.report_runs import (
    CYCLES,
    PATIENTS,
    make_manifest,
    make_table,
)

TOTAL = PATIENTS * CYCLES


def tone(frequency, rate, seconds=1.0, level=0.1):
    time = torch.arange(int(rate * seconds)) / rate
    return level * torch.sin(2 * torch.pi * frequency * time)


@pytest.mark.parametrize("rate", [4000, 8000, 44100])
def test_sound_is_the_cycle_but_louder(rate):
    sound, gain = encode_sound(tone(440, rate), rate)
    wave, decoded_rate = soundfile.read(io.BytesIO(sound))
    assert decoded_rate == 16000 and wave.ndim == 1
    assert gain == pytest.approx(20 * np.log10(0.9 / 0.1), abs=0.1)
    # The encoder adds at most a few frames of silence.
    assert 16000 <= len(wave) < 16000 + 4 * 576
    spectrum = np.abs(np.fft.rfft(wave[2000:14000]))
    assert spectrum.argmax() * 16000 / 12000 == pytest.approx(440, abs=2)
    assert np.abs(wave).max() == pytest.approx(0.9, abs=0.05)
    assert len(sound) < 0.3 * 2 * 16000


def test_silence_is_not_made_louder():
    sound, gain = encode_sound(torch.zeros(4000), 4000)
    assert gain == 0
    assert np.abs(soundfile.read(io.BytesIO(sound))[0]).max() < 1e-3
    picture = Image.open(io.BytesIO(encode_picture(torch.zeros(4000), 4000)))
    assert np.ptp(np.asarray(picture), axis=(0, 1)).max() <= 4  # of 255


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        encode_sound(torch.tensor([0.1, torch.nan]), 4000)


def test_a_sound_library_without_mp3_is_told(monkeypatch):
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": ""})
    with pytest.raises(ValueError, match="writes no MP3"):
        encode_sound(torch.ones(100), 4000)


@pytest.mark.parametrize(("frequency", "height"), frequency_ticks())
def test_a_tone_is_bright_where_its_tick_is(frequency, height):
    frequency = min(frequency, 3900)  # half the rate is at the upper edge
    picture = encode_picture(tone(frequency, 16000, level=0.5), 16000)
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    green = np.asarray(image)[:, 20:-20, 1].mean(axis=1)
    place = 1 - (green.argmax() + 0.5) / len(green)
    assert place == pytest.approx(height, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20000), st.sampled_from([4000, 11025, 44100]))
def test_every_length_can_be_heard_and_seen(samples, rate):
    wave = torch.linspace(-0.5, 0.5, samples)
    sound, _ = encode_sound(wave, rate)
    assert len(soundfile.read(io.BytesIO(sound))[0]) >= samples * 16000 // rate
    level = log_mel(wave, rate)
    assert level.shape[0] == 64
    assert level.max() == 0 and level.min() >= -60
    Image.open(io.BytesIO(encode_picture(wave, rate))).load()


def clusters(count=30, dim=16):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], count // 3)
    centres = 5 * rng.normal(size=(3, dim))
    return centres[label] + rng.normal(size=(count, dim)), label


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_neighbours_stay_neighbours(method):
    if method == "umap":
        pytest.importorskip("umap")
    embeddings, label = clusters()
    places = project(embeddings, method)
    assert places.shape == (30, 2)
    assert places.min() == 0 and places.max() == 1
    score = KNeighborsClassifier(1).fit(places[::2], label[::2])
    assert score.score(places[1::2], label[1::2]) == 1
    np.testing.assert_array_equal(places, project(embeddings, method))
    # The length of an embedding says nothing.
    longer = embeddings * np.linspace(1, 3, 30)[:, None]
    score = KNeighborsClassifier(1).fit(project(longer, method), label)
    assert score.score(project(longer, method), label) == 1


def test_too_few_cycles_make_no_map():
    with pytest.raises(ValueError, match="4 cycles make no map"):
        project(np.eye(4))
    assert project(np.eye(5)).shape == (5, 2)
    with pytest.raises(ValueError, match="not finite"):
        project(np.full((9, 2), np.nan))


def test_equal_embeddings_make_no_map():
    with pytest.raises(ValueError, match="all cycles in one place"):
        project(np.ones((12, 3)))
    # Some of them may be equal, or nothing.
    embeddings = np.repeat(np.eye(4), 5, axis=0)
    embeddings[0] = 0
    assert np.isfinite(project(embeddings)).all()


def test_umap_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"qlung_plugin\[umap\]"):
        check_method("umap")
    check_method("tsne")


def test_embeddings_are_those_of_each_cycle_by_itself():
    torch.manual_seed(0)

    class Classifier(torch.nn.Linear):
        def forward(self, embeddings):
            return super().forward(embeddings), None

    model = {
        "backbone": torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5)
        ),
        "classifier": Classifier(5, 2),
    }
    features = {str(i): torch.randn(2, 3).half() for i in range(37)}
    found, probabilities = embed_cycles(model, features, list(features))
    assert found.shape == (37, 5) and probabilities.shape == (37, 2)
    for place, value in enumerate(features.values()):
        embedding = model["backbone"](value[None].float())
        logits = model["classifier"](embedding)[0]
        np.testing.assert_allclose(
            found[place], embedding[0].detach(), atol=1e-5
        )
        np.testing.assert_allclose(
            probabilities[place], logits.softmax(-1)[0].detach(), atol=1e-5
        )


def test_a_chart_is_text_without_black_or_white():
    figure = quality_histogram_figure(
        np.linspace(0, 1, 20), ["normal", "both"] * 10, title="A long title"
    )
    element = svg(stack_panels(figure), "one")
    root = ElementTree.fromstring(str(element))
    assert root.tag.endswith("svg") and "width" not in root.attrib
    texts = [
        "".join(node.itertext())
        for node in root.iter()
        if node.tag.endswith("text")
    ]
    assert "normal (n = 10, median 0.47)" in texts
    assert "A long title" not in texts
    assert "#000000" not in element and "#ffffff" not in element
    assert "currentColor" in element
    assert "metadata" not in element
    other = svg(figure, "two")
    names = [
        {
            n.attrib["id"]
            for n in ElementTree.fromstring(str(e)).iter()
            if "id" in n.attrib
        }
        for e in (element, other)
    ]
    assert names[0] and not names[0] & names[1]


def test_panels_are_stacked_and_no_legend_covers_a_curve():
    history = pd.DataFrame(
        {"epoch": range(1, 101), "train_loss": 1.0, "valid_score": 50.0}
    )
    figure = stack_panels(training_curves_figure(history))
    figure.draw_without_rendering()
    upper, lower = (axes.get_position() for axes in figure.axes)
    assert upper.y0 > lower.y1
    assert upper.width > 0.6
    assert figure.get_size_inches()[0] < 5
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.get_window_extent().y1
        assert legend.x1 <= figure.bbox.x1


def test_the_legend_of_many_measures_fits_a_narrow_page():
    table = make_table(make_manifest(), 1, list(LABELS))
    for name in ("a", "some_longer_name", "b", "c", "d"):
        table[f"quality_{name}"] = table["quality"]
    analysis = compare_with_errors(table, LABELS)
    figure = stack_panels(quality_and_errors_figure(table, analysis, ""))
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert len(legend.get_texts()) == len(analysis) + 1
    extent = legend.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1
    assert all(extent.y1 <= a.get_window_extent().y0 for a in figure.axes)


@given(st.lists(st.integers(), max_size=40, unique=True))
def test_each_beginning_of_a_spread_is_spread(items):
    spread = _spread(items)
    assert sorted(spread) == sorted(items)
    if len(items) >= 8:
        places = sorted(items.index(one) for one in spread[:3])
        assert places[0] < len(items) / 3 < places[1] < 2 * len(items) / 3
        assert places[2] > 2 * len(items) / 3 - 1


def predicted(name, seed):
    """A run with predictions, which is all that the choice looks at."""
    table = make_table(make_manifest(), seed, list(LABELS))
    return SimpleNamespace(name=name, predictions=table)


@pytest.mark.parametrize("count", [0, 1, 9, 30, TOTAL - 1, TOTAL, 10**6])
def test_sounds_are_chosen_by_the_rule(count):
    runs = [predicted("ce/1", seed=1), predicted("qlung/1", seed=2)]
    tables = {run.name: run.predictions.set_index("id") for run in runs}
    chosen = choose_cycles(runs, count, set(runs[0].predictions["id"]))
    assert len(chosen) == len(set(chosen)) == min(count, TOTAL)
    mistakes = {}
    for name, table in tables.items():
        sure = table.filter(like="p_").max(axis=1)
        wrong = table["label"] != table["prediction"]
        mistakes[name] = sure[wrong].sort_values(ascending=False)
    any_wrong = set().union(*(found.index for found in mistakes.values()))
    right = [key for key in chosen if key not in any_wrong]
    all_right = TOTAL - len(any_wrong)
    assert len(right) == min(
        all_right, max(count // 3, count - len(any_wrong)), len(chosen)
    )
    # No mistake is left out of which a run is surer than of one that is there.
    for found in mistakes.values():
        there = found.index.isin(chosen)
        least = len(chosen) - len(right)
        assert there[: least // 2].all()
    # As many of each class, unless there are no more of it.
    labels = tables["ce/1"]["label"]
    of_class = labels[right].value_counts()
    there = labels[~labels.index.isin(any_wrong)].value_counts()
    for label, number in of_class.items():
        assert number >= min(of_class.max() - 1, there[label])


def test_chosen_right_cycles_are_spread_over_the_confidence():
    runs = [predicted("ce/1", seed=1)]
    table = runs[0].predictions.set_index("id")
    ids = table.index[table["label"] == table["prediction"]]
    chosen = choose_cycles(runs, len(ids) // 2, set(ids))
    confidence = table.filter(like="p_").max(axis=1)
    middle = confidence[ids].quantile([0.33, 0.67])
    of_chosen = confidence[chosen]
    assert (of_chosen < middle.iloc[0]).any()
    assert (of_chosen > middle.iloc[1]).any()
