"""Tests of where cycles lie: alike in training and in use.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.cycle_sources import find_cycles
from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.folders import Warnings
from qlung_plugin.dataio.locating import locate_cycles, read_headers
from qlung_plugin.dataio.manifests import make_manifest
from qlung_plugin.dataio.recordings import Recording
from tests.unittests.recording_checks import breaths

SECONDS, RATE = 4.5, 4000


@pytest.fixture
def wav(tmp_path):
    """A recording of four seconds."""
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(4, RATE), RATE)
    return path


def locate(path, times, strict=False):
    """The cycles that a preparation makes of times, and labels, and warnings."""
    warnings = Warnings(strict)
    cycles = [
        {"wav": path, "start": start, "end": end, "where": f"a.txt:{line}"}
        | {"label": label[0] if label else "normal"}
        for line, (start, end, *label) in enumerate(times, start=1)
    ]
    recordings = read_headers([path], warnings)
    return locate_cycles(cycles, recordings, warnings), warnings


def stretches(cycles):
    return [(c["start"] / RATE, c["stop"] / RATE) for c in cycles]


@pytest.mark.parametrize(
    "suffix, rate", [("wav", 4000), ("flac", 11025), ("wav", 44100)]
)
def test_training_and_use_cut_alike(tmp_path, suffix, rate):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, breaths(SECONDS, rate), rate)
    random = np.random.default_rng(rate)
    times = [tuple(sorted(pair)) for pair in random.uniform(0, 4.5, (10, 2))]
    # Between two samples, the end, and past it.
    times += [(0.0, 1.5 / rate), (1.0, SECONDS), (2.0, 4.53), (3.0, 4.59)]
    recording = Recording(path)
    cycles, _ = locate(path, times)
    assert len(cycles) == len(times)
    for cycle, time in zip(cycles, find_cycles(recording, times).times):
        wav = {key: cycle[key] for key in ("start", "stop")}
        trained_on = read_cycle({"file": str(path), **wav})
        assert torch.equal(trained_on, recording.read(*time))
        assert cycle["sample_rate"] == recording.sample_rate
    assert [cycle["stop"] for cycle in cycles[-3:]] == [recording.frames] * 3


def test_what_ends_within_a_page_is_counted(tmp_path):
    """Ogg says no length that it could be short of."""
    path, warnings = tmp_path / "a.wav", Warnings()
    soundfile.write(path, breaths(9, 8000), 8000, format="OGG")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    recording = read_headers([path], warnings)[path]
    assert recording.truncated and recording.frames < 9 * 8000
    (warning,) = warnings
    assert f"truncated or damaged: {path} ({recording.duration:.4g}" in warning


@pytest.mark.parametrize("levels", [(1, 0.5), (1, 0, 0.5), (0, 0, 1)])
def test_channels_are_those_of_use(wav, levels):
    """Training reads the same mean of several as whoever classifies."""
    soundfile.write(wav, np.outer(breaths(4, RATE), levels), RATE)
    cycles, warnings = locate(wav, [(0.5, 1.75)])
    entry = make_manifest([{**cycles[0], "id": "a"}], wav.parent, ())["a"]
    recording = Recording(wav)
    assert entry["wav"]["channels"] == list(np.flatnonzero(levels))
    read = read_cycle(entry["wav"], wav.parent)
    assert torch.equal(read, recording.read(0.5, 1.75)) and not warnings


def test_what_cannot_be_used_is_named(wav):
    sound = breaths(4, RATE)
    soundfile.write(wav, np.stack([sound, -sound], 1), RATE)
    with pytest.raises(ValueError, match=f"{wav}: its channels cancel"):
        read_headers([wav], Warnings())
    wav.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=f"{wav} is not readable as audio"):
        read_headers([wav], Warnings())


def test_a_cycle_past_the_end_is_clipped_and_reported(wav):
    # 0.0001 s are less than half a sample at 4 kHz: nothing is lost.
    times = [(1, 4.002), (2, 4.0001), (3, 4.1234)]
    cycles, (warning,) = locate(wav, times)
    assert warning == (
        "2 cycles clipped that end past the end of their recording, by up to"
        " 123.4 ms (a.txt:3)"
    )
    assert stretches(cycles) == [(1, 4), (2, 4), (3, 4)]


def test_cycles_without_length_are_left_out_and_reported(wav):
    times = [
        (0, 1),
        (1, 1),  # no length
        (2, 1),  # ends before it starts
        (1, 1.0001),  # less than half a sample
        (4, 5),  # starts at the end
        (9, 1e300),  # starts past the end
        (1, 2),
    ]
    cycles, (warning,) = locate(wav, times)
    assert warning.startswith("5 cycles left out") and "a.txt:2" in warning
    assert stretches(cycles) == [(0, 1), (1, 2)]


def test_a_stretch_that_is_annotated_twice_is_there_once(wav):
    times = [(0, 1), (0, 2), (0, 1), (1, 2), (0, 1.0001)]
    cycles, (warning,) = locate(wav, times)
    assert "2 cycles left out, being a stretch that" in warning
    assert "a.txt:3, a.txt:5" in warning
    assert stretches(cycles) == [(0, 1), (0, 2), (1, 2)]
    with pytest.raises(ValueError, match="2 cycles left out, being a stretch"):
        locate(wav, times, strict=True)


def test_a_stretch_with_two_labels_has_none(wav):
    times = [(0, 1), (1, 2), (0, 1, "crackle")]
    cycles, (twice, contrary) = locate(wav, times)
    assert "1 cycles left out, being" in twice and "a.txt:3" in twice
    assert "1 cycles left out, whose" in contrary and "a.txt:1" in contrary
    assert stretches(cycles) == [(1, 2)]


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_recordings_without_sound_are_left_out(wav, value):
    soundfile.write(wav, np.full(4 * RATE, value), RATE)
    cycles, (silent, left_out) = locate(wav, [(0, 1), (1, 2)])
    assert f"1 recordings without sound, all samples being alike: {wav}" in (
        silent
    )
    assert "2 cycles left out, their recordings being" in left_out
    assert cycles == []
    with pytest.raises(ValueError, match="1 recordings without sound"):
        read_headers([wav], Warnings(strict=True))
    # A sound somewhere is enough.
    samples = np.full(30 * RATE, value)
    samples[-1] = 0.5
    soundfile.write(wav, samples, RATE)
    cycles, warnings = locate(wav, [(0, 1)])
    assert len(cycles) == 1 and warnings == []


def test_truncated_recordings_are_counted(wav):
    """Of what they still hold, the cycles are used."""
    content = wav.read_bytes()
    wav.write_bytes(content[: 44 + 2 * round(2.5 * RATE)])
    cycles, warnings = locate(wav, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert stretches(cycles) == [(0, 1), (1, 2), (2, 2.5)]
    truncated, clipped, left_out = warnings
    assert "1 recordings truncated, shorter than" in truncated
    assert f"{wav} (2.5 of 4 s)" in truncated
    assert "1 cycles clipped" in clipped and "1 cycles left" in left_out
    with pytest.raises(ValueError, match="1 recordings truncated"):
        locate(wav, [(0, 1)], strict=True)
    wav.write_bytes(content[:-2])  # as of times that were rounded
    assert locate(wav, [(0, 1)])[1] == []
