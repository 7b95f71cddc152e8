"""Recordings as users have them: any format, any rate, or refused by name.

Authors
 * qlung_plugin contributors
"""

import os
import struct

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.recordings import Recording
from tests.unittests.recording_checks import breaths

# Per format, how far a sample may be from what was written; None: lossy.
FORMATS = {
    ("wav", "PCM_U8"): 2**-7,
    ("wav", "PCM_16"): 2**-15,
    ("wav", "PCM_24"): 2**-23,
    ("wav", "FLOAT"): 2**-23,
    ("wav", "DOUBLE"): 2**-23,
    ("wav", "ULAW"): 0.02,
    ("flac", "PCM_S8"): 2**-7,
    ("flac", "PCM_24"): 2**-23,
    ("aiff", "FLOAT"): 2**-23,
    ("au", "PCM_16"): 2**-15,
    ("caf", "PCM_24"): 2**-23,
    ("w64", "PCM_16"): 2**-15,
    ("rf64", "PCM_16"): 2**-15,
    ("ogg", "VORBIS"): None,
    ("ogg", "OPUS"): None,
    ("mp3", "MPEG_LAYER_III"): None,
}


def refused(path, message, error=ValueError):
    """It is refused when it is opened, or read, and named."""
    with pytest.raises(error, match=message) as raised:
        list(Recording(path).blocks(1000))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(("suffix", "subtype"), FORMATS)
def test_any_format(tmp_path, suffix, subtype):
    written = breaths(10, 8000)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, written, 8000, subtype=subtype)
    recording = Recording(path)
    assert recording.sample_rate == 8000
    whole = recording.read(0.0, recording.duration)
    tolerance = FORMATS[suffix, subtype]
    if tolerance is None:  # padded, perhaps, and of another phase
        assert np.abs(len(whole) - len(written)) <= 2500
        assert whole.std().item() == pytest.approx(written.std(), rel=0.2)
    else:
        assert np.abs(whole.numpy() - written).max() <= tolerance
    # Pieces are those of the whole.
    blocks = torch.cat(list(recording.blocks(7777)))
    first, stop = recording.locate(3.21, 4.56)
    part = recording.read(3.21, 4.56)
    for piece, same in ((blocks, whole), (part, whole[first:stop])):
        if tolerance is None:
            # A frame decoded from elsewhere is not the same to the bit.
            assert (piece - same).square().mean() < 1e-6
        else:
            assert torch.equal(piece, same)


@pytest.mark.parametrize("rate", [1, 799, 192001, 2**31 - 1])
def test_rates_that_no_sound_has(tmp_path, rate):
    """From ten million hertz, a prime, resampling would take ten gigabytes."""
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(9, 799), rate)
    refused(path, f"has {rate} Hz")


@pytest.mark.parametrize(
    ("value", "subtype", "message"),
    [
        (np.nan, "FLOAT", "NaN or infinite samples, the first at 3.08625 s"),
        (-np.inf, "DOUBLE", "NaN or infinite"),
        (1e300, "DOUBLE", "NaN or infinite"),
        (1e15, "FLOAT", "holds samples above"),
    ],
)
def test_what_is_no_sample(tmp_path, value, subtype, message):
    path = tmp_path / "hole.wav"
    samples = breaths(10, 4000)
    samples[12345] = value
    soundfile.write(path, samples, 4000, subtype=subtype)
    refused(path, message)


@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
def test_opposite_infinities_of_two_channels(tmp_path):
    path = tmp_path / "stereo.wav"
    samples = np.zeros((40000, 2))
    samples[17] = np.inf, -np.inf  # of which the mean is NaN
    soundfile.write(path, samples, 4000, subtype="FLOAT")
    refused(path, "NaN or infinite")


@pytest.mark.parametrize("name", ["named.wav", "named.mp3"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b"RIFF", b"Dear diary, I breathed.\n" * 200]
)
def test_no_audio(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, "not readable as audio|holds no sample")


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_header_alone(tmp_path, suffix):
    path = tmp_path / f"header.{suffix}"
    soundfile.write(path, np.zeros(0), 4000)
    refused(path, "holds no sample|not readable")


def answered_or_refused(path):
    """All that is promised is read, or the file refused by its name."""
    try:
        recording = Recording(path)
        assert sum(map(len, recording.blocks(5000))) == recording.frames
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("seed", range(3))
def test_damaged(tmp_path, suffix, seed):
    """Bits that fell over."""
    path = tmp_path / f"damaged.{suffix}"
    soundfile.write(path, breaths(10, 8000), 8000)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    random = np.random.default_rng(seed)
    places = random.integers(0, len(content), 40)
    content[places] = random.integers(0, 256, len(places))
    path.write_bytes(content.tobytes())
    answered_or_refused(path)


@pytest.mark.parametrize("place", [24, 22, 32, 34, 40])
@pytest.mark.parametrize("value", [0, 1, 0xFFFF])
def test_a_header_that_lies(tmp_path, place, value):
    """Rate, channels, bytes per frame, bits, and length of a WAV file."""
    path = tmp_path / "lies.wav"
    soundfile.write(path, breaths(2, 4000), 4000)
    content = bytearray(path.read_bytes())
    content[place : place + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    answered_or_refused(path)


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to("nowhere.wav")
    os.mkfifo(tmp_path / "pipe.wav")  # which is not waited for
    for name in ("folder.wav", "link.wav", "pipe.wav", "nothing.wav"):
        refused(tmp_path / name, "is no file", FileNotFoundError)


def test_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(10, 4000), 4000)
    recording = Recording(path)
    soundfile.write(path, breaths(5, 4000), 4000)
    with pytest.raises(ValueError, match=f"{path} ends before sample 40000"):
        recording.read(0, 10)


@pytest.mark.parametrize(
    "name",
    [
        "Übung – 呼吸.wav",
        "new\nline {a} 'b' $HOME.wav",
        "wrong.txt",
        "UPPER.WAV",
    ],
)
def test_names(tmp_path, name):
    path = tmp_path / "sub folder" / name
    path.parent.mkdir()
    soundfile.write(path, breaths(3, 4000), 4000, format="WAV")
    assert Recording(path).duration == Recording(str(path)).duration == 3


def test_two_gigabytes_at_a_glance(tmp_path):
    path = tmp_path / "sparse.wav"  # silence that takes no room on the disk
    rate, size = 44100, 2 * 44100 * 24600
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE"),
        *(b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16),
        *(b"data", size),
    )
    path.write_bytes(header)
    os.truncate(path, len(header) + size)
    recording = Recording(path)
    assert recording.duration == 24600
    assert len(recording.read(24590, 24600)) == 10 * rate
    os.truncate(path, 10**9)
    with pytest.raises(ValueError, match="says 24,600 s, and 11,337.9 s can"):
        Recording(path)
