"""Spectrograms side by side.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest

from qlung_plugin.figures.spectrograms import spectrogram_figure

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
