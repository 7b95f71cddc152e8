"""Odd recordings are classified and measured, or refused: never NaN for an answer.

Authors
 * qlung_plugin contributors
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qlung_plugin.dataio.cycle_sources import BLOCK
from qlung_plugin.inference.classification import UNUSABLE
from qlung_plugin.inference.quality import measure_recording
from tests.unittests.recording_checks import Checks, breaths


@pytest.fixture(scope="module")
def check():
    return Checks()


@pytest.mark.parametrize("rate", [800, 4000, 44101, 192000])
def test_any_rate(check, tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(2, rate), rate)
    check.classified(path, "windows")
    table = check.classified(path, "segmentation")
    check.measured(path)
    rows = measure_recording(check.measures, path, "cycle")
    assert [row["start"] for row in rows] == list(table["start"])


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("cycles", ["windows", "segmentation"])
def test_silence_and_direct_current(check, tmp_path, value, cycles):
    path = tmp_path / "constant.wav"
    soundfile.write(path, np.full(80000, value), 4000, subtype="FLOAT")
    table = check.classified(path, cycles)
    assert (table["prediction"] == UNUSABLE).all()
    row = check.measured(path, silent=True)
    if value == 0:
        assert (table["quality"] == 0).all()
        assert row["audio_quality"] == row["snr_quality"] == 0


@pytest.mark.parametrize("rate", [800, 192000])
@pytest.mark.parametrize("samples", [1, 2, None])
def test_very_short(check, tmp_path, rate, samples):
    """A few samples, or a millisecond."""
    path = tmp_path / "short.wav"
    content = breaths(0.001, rate) + 0.1
    if samples is not None:
        content = np.full(samples, 0.5)
    soundfile.write(path, content, rate, subtype="FLOAT")
    for cycles in ("windows", "segmentation", [(0, 0.001)]):
        table = check.classified(path, cycles)
        assert (table["prediction"] == UNUSABLE).all()
    check.measured(path, silent=True)


def test_cycles_of_a_sample(check, tmp_path):
    path, rate = tmp_path / "a.wav", 44101
    soundfile.write(path, breaths(2, rate), rate)
    one = [(i / rate, (i + 1) / rate) for i in (0, 1, 1234, 2 * rate - 1)]
    assert len(check.classified(path, one)) == 4


def test_clipping(check, tmp_path):
    path = tmp_path / "clipped.wav"
    clipped = np.clip(20 * breaths(10, 8000), -1, 1)
    soundfile.write(path, clipped, 8000)
    check.classified(path, "segmentation")
    row = check.measured(path)
    assert row["clipping_ratio"] > 0.3
    soundfile.write(path, breaths(10, 8000), 8000)
    assert row["clipping_quality"] < check.measured(path)["clipping_quality"]


@pytest.mark.parametrize("gain", [2.0**31, 1e-6, 1e-44])
def test_far_too_loud_and_hardly_anything(check, tmp_path, gain):
    path = tmp_path / "loud.wav"
    soundfile.write(path, gain * breaths(10, 8000), 8000, subtype="FLOAT")
    for cycles in ("windows", "segmentation"):
        check.classified(path, cycles)
    check.measured(path, silent=gain < 1)


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_all_entrances_refuse_what_is_no_sample(check, tmp_path, value):
    path = tmp_path / "hole.wav"
    soundfile.write(path, [*breaths(10, 4000), value], 4000, subtype="FLOAT")
    for entrance in (
        lambda: check.model.classify_file(path, "windows"),
        lambda: check.model.classify_file(path, "segmentation"),
        lambda: measure_recording(check.measures, path),
        lambda: measure_recording(check.measures, path, "cycle"),
    ):
        with pytest.raises(ValueError, match=f"{path} holds"):
            entrance()


MEMORY = """\
import resource, sys
from tests.unittests.recording_checks import make_model
from qlung_plugin.inference.quality import make_measures, measure_recording
path, cycles = sys.argv[1:]
if cycles == "quality":
    result = measure_recording(make_measures(), path)
else:
    result = make_model().classify_file(path, cycles).cycles
print(len(result), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(path, cycles):
    """Number of rows, and the peak of a process's memory in MiB."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), cycles],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    rows, kilobytes = run.stdout.split()[-2:]
    return int(rows), int(kilobytes) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("cycles", ["windows", "segmentation", "quality"])
def test_hours_in_bounded_memory(tmp_path, cycles):
    """Three hours are held in no more than what two minutes take.

    The samples alone, as floats, would be 330 MiB at 8 kHz.
    """
    rate, hours = 8000, 3
    minute = breaths(BLOCK, rate)
    for name, minutes in (("short.flac", 2), ("long.flac", 60 * hours)):
        with soundfile.SoundFile(tmp_path / name, "w", rate, 1) as file:
            for _ in range(minutes):
                file.write(minute)
    _, little = peak(tmp_path / "short.flac", cycles)
    rows, much = peak(tmp_path / "long.flac", cycles)
    assert rows == 1 if cycles == "quality" else rows > 600 * hours
    assert much - little < 120
