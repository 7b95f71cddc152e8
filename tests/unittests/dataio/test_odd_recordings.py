"""Recordings as users have them: any format, any rate, any level.

Each has a defined result, or an error that names the file. Those that are broken
are in test_broken_recordings.py.

Authors
 * qlung_plugin contributors
"""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.cycle_sources import BLOCK
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.inference.classifier import UNUSABLE
from qlung_plugin.inference.quality import measure_recording
from tests.unittests.recording_checks import Checks, breaths

# Per format, how far a sample may be from what was written; None: lossy.
FORMATS = {
    ("wav", "PCM_U8"): 2**-7,
    ("wav", "PCM_16"): 2**-15,
    ("wav", "PCM_24"): 2**-23,
    ("wav", "PCM_32"): 2**-23,
    ("wav", "FLOAT"): 2**-23,
    ("wav", "DOUBLE"): 2**-23,
    ("wav", "ULAW"): 0.02,
    ("wav", "ALAW"): 0.02,
    ("flac", "PCM_S8"): 2**-7,
    ("flac", "PCM_16"): 2**-15,
    ("flac", "PCM_24"): 2**-23,
    ("aiff", "PCM_16"): 2**-15,
    ("aiff", "FLOAT"): 2**-23,
    ("au", "PCM_16"): 2**-15,
    ("caf", "PCM_24"): 2**-23,
    ("w64", "PCM_16"): 2**-15,
    ("rf64", "PCM_16"): 2**-15,
    ("ogg", "VORBIS"): None,
    ("ogg", "OPUS"): None,
    ("mp3", "MPEG_LAYER_III"): None,
}


@pytest.fixture(scope="module")
def check():
    return Checks()


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(800, 9), (801, 1), (4000, 1), (11025, 9), (44101, 1), (192000, 9)],
)
def test_any_rate(check, tmp_path, rate, seconds):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(seconds, rate), rate)
    assert Recording(path).duration == seconds
    check.classified(path, "windows")
    check.measured(path)


@pytest.mark.parametrize("rate", [1, 50, 799, 192001, 10**7 + 19, 2**31 - 1])
def test_rates_that_no_sound_has(check, tmp_path, rate):
    """From ten million hertz, a prime, resampling would take ten gigabytes."""
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(9, 799), rate)
    check.refused(path, f"has {rate} Hz")


@pytest.mark.parametrize("rate", [4000, 22050, 44100])
def test_breaths_at_the_usual_rates(check, tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(15, rate), rate)
    table = check.classified(path, "segmentation")
    assert 4 <= len(table) <= 9
    rows = measure_recording(check.measures, path, "cycle")
    assert [row["start"] for row in rows] == list(table["start"])


@pytest.mark.parametrize(("suffix", "subtype"), FORMATS)
def test_any_format(check, tmp_path, suffix, subtype):
    written = breaths(10, 8000)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, written, 8000, subtype=subtype)
    recording = Recording(path)
    assert recording.sample_rate == 8000
    read = recording.read(0.0, recording.duration).numpy()
    tolerance = FORMATS[suffix, subtype]
    if tolerance is None:  # padded, perhaps, and of another phase
        assert np.abs(len(read) - len(written)) <= 2500
        assert read.std() == pytest.approx(written.std(), rel=0.2)
    else:
        assert np.abs(read - written).max() <= tolerance
    check.classified(path, "segmentation")
    check.measured(path)


@pytest.mark.parametrize(("suffix", "subtype"), FORMATS)
def test_pieces_are_those_of_the_whole(tmp_path, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, breaths(10, 8000), 8000, subtype=subtype)
    recording = Recording(path)
    whole = recording.read(0.0, recording.duration)
    blocks = torch.cat(list(recording.blocks(7777)))
    part = recording.read(3.21, 4.56)
    first, stop = recording.locate(3.21, 4.56)
    for piece, same in ((blocks, whole), (part, whole[first:stop])):
        if FORMATS[suffix, subtype] is None:
            # A frame decoded from elsewhere is not the same to the bit.
            assert (piece - same).square().mean() < 1e-6
        else:
            assert torch.equal(piece, same)


@pytest.mark.parametrize("value", [0.0, 0.3, -1.0])
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


@pytest.mark.parametrize("rate", [800, 4000, 192000])
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


@pytest.mark.parametrize("rate", [4000, 44101])
def test_cycles_of_a_sample(check, tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(2, rate), rate)
    one = [(i / rate, (i + 1) / rate) for i in (0, 1, 1234, 2 * rate - 1)]
    assert len(check.classified(path, one)) == 4
    empty = [(1000 / rate, 1000.1 / rate)]
    with pytest.raises(ValueError, match="cycle 1.* no sample") as raised:
        check.model.classify_file(path, empty)
    assert str(path) in str(raised.value)


def test_clipping(check, tmp_path):
    path = tmp_path / "clipped.wav"
    clipped = np.clip(20 * breaths(10, 8000), -1, 1)
    soundfile.write(path, clipped, 8000)
    check.classified(path, "segmentation")
    row = check.measured(path)
    assert row["clipping_ratio"] > 0.3
    soundfile.write(path, breaths(10, 8000), 8000)
    assert row["clipping_quality"] < check.measured(path)["clipping_quality"]


@pytest.mark.parametrize("gain", [4.0, 2.0**31])
@pytest.mark.parametrize("cycles", ["windows", "segmentation"])
def test_floats_beyond_full_scale(check, tmp_path, gain, cycles):
    path = tmp_path / "loud.wav"
    soundfile.write(path, gain * breaths(10, 8000), 8000, subtype="FLOAT")
    check.classified(path, cycles)
    check.measured(path)


@pytest.mark.parametrize("gain", [1e15, 1e30, 6e38])
def test_floats_beyond_all_scales(check, tmp_path, gain):
    """Never NaN that looks like an answer."""
    path = tmp_path / "loud.wav"
    soundfile.write(path, gain * breaths(10, 8000), 8000, subtype="FLOAT")
    check.refused(path, "holds samples above")


@pytest.mark.parametrize("gain", [1e-6, 1e-44])
def test_hardly_anything(check, tmp_path, gain):
    path = tmp_path / "faint.wav"
    soundfile.write(path, gain * breaths(10, 8000), 8000, subtype="FLOAT")
    for cycles in ("windows", "segmentation"):
        check.classified(path, cycles)
    check.measured(path, silent=True)


@pytest.mark.parametrize(
    "name",
    [
        "with spaces.wav",
        "Übung – дыхание 呼吸.wav",
        "new\nline.wav",
        "100% {braces} 'quotes' \"and\" $HOME.wav",
        "-dash.wav",
        "no suffix",
        "wrong.txt.gz",
        "UPPER.WAV",
    ],
)
def test_names(check, tmp_path, name):
    path = tmp_path / "sub folder" / name
    path.parent.mkdir()
    soundfile.write(path, breaths(3, 4000), 4000, format="WAV")
    for given in (path, str(path)):
        assert check.model.classify_file(given).summary["recording"] == str(
            path
        )
        check.measured(given)


def sparse(path, rate, seconds):
    """A WAV file of silence that takes no room on the disk."""
    size = 2 * rate * seconds
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE"),
        *(b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16),
        *(b"data", size),
    )
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)


def test_two_gigabytes_at_a_glance(check, tmp_path):
    path = tmp_path / "sparse.wav"
    sparse(path, 44100, 24600)
    assert path.stat().st_size > 2**31
    assert Recording(path).duration == 24600
    table = check.classified(path, [(0, 2), (24590, 24600)])
    assert len(table) == 2
    os.truncate(path, 10**9)
    with pytest.raises(ValueError, match="says 24,600 s, and 11,337.9 s can"):
        Recording(path)


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
