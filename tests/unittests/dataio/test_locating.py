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
from qlung_plugin.dataio.locating import locate_cycles, read_headers
from qlung_plugin.dataio.recordings import Recording
from tests.unittests.recording_checks import breaths

SECONDS = 4.5


def located(path, times):
    """The cycles that a preparation makes of times."""
    cycles = [
        {"wav": path, "start": start, "end": end, "where": "", "label": ""}
        for start, end in times
    ]
    recordings = read_headers([path], False, [])
    return locate_cycles(cycles, recordings, False, [])


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("rate", [4000, 11025, 44100])
def test_training_and_use_cut_alike(tmp_path, suffix, rate):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, breaths(SECONDS, rate), rate)
    random = np.random.default_rng(rate)
    times = [tuple(sorted(pair)) for pair in random.uniform(0, 4.5, (10, 2))]
    # Between two samples, the end, and past it.
    times += [(0.0, 1.5 / rate), (1.0, SECONDS), (2.0, 4.53), (3.0, 4.59)]
    recording = Recording(path)
    cycles = located(path, times)
    assert len(cycles) == len(times)
    for cycle, time in zip(cycles, find_cycles(recording, times).times):
        wav = {key: cycle[key] for key in ("start", "stop")}
        trained_on = read_cycle({"file": str(path), **wav})
        assert torch.equal(trained_on, recording.read(*time))
        assert cycle["sample_rate"] == recording.sample_rate
    assert [cycle["stop"] for cycle in cycles[-3:]] == [recording.frames] * 3


def test_what_ends_within_a_page_is_counted(tmp_path):
    """Ogg says no length that it could be short of."""
    path, warnings = tmp_path / "a.wav", []
    soundfile.write(path, breaths(9, 8000), 8000, format="OGG")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    recording = read_headers([path], False, warnings)[path]
    assert recording.truncated and recording.frames < 9 * 8000
    (warning,) = warnings
    assert f"{path} ({recording.duration:.4g}" in warning
    assert "truncated" in warning
    with pytest.raises(ValueError, match="1 recordings truncated"):
        read_headers([path], True, [])


@pytest.mark.parametrize("rate", [400, 200_000])
def test_rates_of_no_stethoscope_are_refused(tmp_path, rate):
    """As they are in use: a model trained on them could never be used."""
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(1, rate), rate)
    with pytest.raises(ValueError, match=f"{path} has {rate} Hz"):
        read_headers([path], False, [])
