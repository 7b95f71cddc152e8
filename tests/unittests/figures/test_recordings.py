"""Tests of the figures of recordings.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.figures.recordings import (
    quality_groups_figure,
    spectrogram_figure,
)

RATE = 8000


def tone(frequency, seconds=2.0):
    return np.sin(2 * np.pi * frequency * np.arange(seconds * RATE) / RATE)


def panel(waveform, title="a recording"):
    return {"waveform": waveform, "sample_rate": RATE, "title": title}


def drawn(axes):
    """Levels ``[frequency, time]`` of a panel and its frequencies, in kHz."""
    mesh = axes.collections[0]
    levels = np.ma.filled(mesh.get_array(), np.nan)
    corners = mesh.get_coordinates()[:, 0, 1]
    return levels, (corners[1:] + corners[:-1]) / 2


def test_a_tone_is_a_line_at_its_frequency():
    figure = spectrogram_figure([panel(tone(250))], "A tone")
    levels, frequencies = drawn(figure.axes[0])
    strongest = frequencies[levels.mean(axis=1).argmax()]
    assert strongest == pytest.approx(0.25, abs=0.02)
    assert frequencies.max() <= 2.02


@pytest.mark.parametrize("count", [1, 5])
def test_a_panel_per_recording(count):
    panels = [panel(tone(100 * i + 100), f"no. {i}") for i in range(count)]
    figure = spectrogram_figure(panels, "Many")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"no. {i}" for i in range(count)]


@pytest.mark.parametrize("samples", [0, 1])
def test_the_shortest_recordings_are_drawn(samples):
    figure = spectrogram_figure([panel(np.ones(samples))], "Short")
    assert np.isfinite(drawn(figure.axes[0])[0]).all()


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no recording"):
        spectrogram_figure([], "None")


def test_a_box_per_group_shows_its_quartiles():
    table = pd.DataFrame(
        {
            "device": ["B"] * 5 + ["A"] * 3,
            "quality": [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9],
        }
    )
    axes = quality_groups_figure(table, "device", "Two devices").axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["A (3)", "B (5)"]
    low, high = (box.get_path().get_extents() for box in axes.patches)
    assert [low.y0, low.y1] == pytest.approx([0.75, 0.85])
    assert [high.y0, high.y1] == pytest.approx([0.2, 0.4])
