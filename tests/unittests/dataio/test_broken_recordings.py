"""Recordings that are broken, and none: refused by name, or answered.

Authors
 * qlung_plugin contributors
"""

import os
import struct

import numpy as np
import pytest
import soundfile

from qlung_plugin.dataio.recordings import Recording
from tests.unittests.recording_checks import Checks, breaths


@pytest.fixture(scope="module")
def check():
    return Checks()


@pytest.mark.parametrize(
    ("value", "subtype"),
    [(np.nan, "FLOAT"), (np.inf, "DOUBLE"), (-np.inf, "FLOAT")],
)
def test_what_is_no_number(check, tmp_path, value, subtype):
    path = tmp_path / "hole.wav"
    samples = breaths(10, 4000)
    samples[12345] = value
    soundfile.write(path, samples, 4000, subtype=subtype)
    check.refused(path, "NaN or infinite")


def test_doubles_beyond_single_precision(check, tmp_path):
    path = tmp_path / "huge.wav"
    soundfile.write(path, 1e300 * breaths(10, 4000), 4000, subtype="DOUBLE")
    check.refused(path, "NaN or infinite")


@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
def test_opposite_infinities_of_two_channels(check, tmp_path):
    path = tmp_path / "stereo.wav"
    samples = np.zeros((40000, 2))
    samples[17] = np.inf, -np.inf  # of which the mean is NaN
    soundfile.write(path, samples, 4000, subtype="FLOAT")
    check.refused(path, "NaN or infinite")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 5000,
        b"RIFF",
        b"OggS",
        b"Dear diary, today I breathed.\n" * 200,
        "Ärzte".encode("utf-16"),
        bytes(range(256)) * 100,
    ],
    ids=lambda content: repr(content[:8]),
)
def test_no_audio(check, tmp_path, content):
    path = tmp_path / "named.wav"
    path.write_bytes(content)
    check.refused(path, "not readable as audio")


def test_a_text_called_mp3(check, tmp_path):
    path = tmp_path / "named.mp3"
    path.write_text("Dear diary, today I breathed.\n" * 200)
    check.refused(path, "named.mp3")


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "ogg"])
def test_header_alone(check, tmp_path, suffix):
    path = tmp_path / f"header.{suffix}"
    soundfile.write(path, np.zeros(0), 4000)
    check.refused(path, "holds no sample|not readable")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au"])
@pytest.mark.parametrize("share", [0.1, 0.99])
def test_truncated(check, tmp_path, suffix, share):
    """What remains is classified, or the file refused by its name."""
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, breaths(20, 8000), 8000)
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    check.answered_or_refused(path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("seed", range(2))
def test_damaged(check, tmp_path, suffix, seed):
    """Bits that fell over."""
    path = tmp_path / f"damaged.{suffix}"
    soundfile.write(path, breaths(10, 8000), 8000)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    random = np.random.default_rng(seed)
    places = random.integers(0, len(content), 40)
    content[places] = random.integers(0, 256, len(places))
    path.write_bytes(content.tobytes())
    check.answered_or_refused(path)


@pytest.mark.parametrize("place", [24, 22, 32, 34, 40])
@pytest.mark.parametrize("value", [0, 1, 0xFFFF])
def test_a_header_that_lies(check, tmp_path, place, value):
    """Rate, channels, bytes per frame, bits, and length of a WAV file."""
    path = tmp_path / "lies.wav"
    soundfile.write(path, breaths(2, 4000), 4000)
    content = bytearray(path.read_bytes())
    content[place : place + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    check.answered_or_refused(path)


def test_folder_called_like_a_recording(check, tmp_path):
    path = tmp_path / "x.wav"
    path.mkdir()
    check.refused(path, "is no file", FileNotFoundError)


def test_nothing_there(check, tmp_path):
    path = tmp_path / "x.wav"
    check.refused(path, "is no file", FileNotFoundError)
    path.symlink_to(tmp_path / "y.wav")
    check.refused(path, "is no file", FileNotFoundError)


def test_permission(check, tmp_path):
    path = tmp_path / "secret.wav"
    soundfile.write(path, breaths(3, 4000), 4000)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("whoever runs the tests may read everything")
    check.refused(path, "secret.wav", (ValueError, PermissionError))


def test_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(10, 4000), 4000)
    recording = Recording(path)
    soundfile.write(path, breaths(5, 4000), 4000)
    with pytest.raises(ValueError, match="before sample 40000") as raised:
        recording.read(0, 10)
    assert str(path) in str(raised.value)
    path.unlink()
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        recording.read(0, 10)
    assert str(path) in str(raised.value)
