"""Recordings that are cut: told by their header, in every format there is.

Authors
 * qlung_plugin contributors
"""

import os
import re

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.headers import read_extent
from qlung_plugin.dataio.recordings import Recording
from tests.unittests.recording_checks import breaths

RATE, SECONDS = 8000, 6
# Headers in which no length is said, as libsndfile writes them.
WITHOUT_LENGTH = {"IRCAM", "PAF", "PVF", "SD2", "XI"}
UNWRITTEN = {  # which libsndfile lists, and does not write
    ("AIFF", "DWVW_12"),
    ("MP3", "MPEG_LAYER_I"),
    ("MP3", "MPEG_LAYER_II"),
    ("WAV", "MPEG_LAYER_III"),
}
WRITTEN = [
    (kind, subtype)
    for kind in soundfile.available_formats()
    if kind != "RAW"  # which has no header
    for subtype in soundfile.available_subtypes(kind)
    if (kind, subtype) not in UNWRITTEN
]
# The most channels of some formats.
CHANNELS = {"AU": 3, "AVR": 2, "MAT4": 3, "MAT5": 3, "MPC2K": 2, "NIST": 3}
CHANNELS |= {"SVX": 1, "VOC": 2, "WAV": 3}


def write(path, channels=1, **options):
    samples = np.repeat(breaths(SECONDS, RATE)[:, None], channels, axis=1)
    soundfile.write(path, samples, RATE, **options)
    return path.read_bytes()


def cut(path, content, share):
    path.write_bytes(content[: round(share * len(content))])


@pytest.mark.parametrize(("kind", "subtype"), WRITTEN)
def test_every_format(tmp_path, kind, subtype):
    path = tmp_path / "a.sound"
    content = write(path, subtype=subtype, format=kind)
    intact = Recording(path)
    assert not intact.truncated
    for share in (0.25, 0.9):
        cut(path, content, share)
        if kind in WITHOUT_LENGTH:
            assert Recording(path).duration < 0.95 * intact.duration
            continue
        message = f"{path} is (truncated|not readable as audio)"
        with pytest.raises(ValueError, match=message) as raised:
            Recording(path)
        if "can be read" in str(raised.value) and share > 0.25:
            assert "allow_truncated=True" in str(raised.value)
            rest = Recording(path, allow_truncated=True)
            assert rest.truncated
            assert rest.duration < 0.95 * intact.duration
            assert len(torch.cat(list(rest.blocks(7777)))) == rest.frames


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
@pytest.mark.parametrize(
    ("kind", "channels"),
    [(kind, n) for kind, most in CHANNELS.items() for n in {1, most}],
)
def test_channels_and_byte_orders(tmp_path, kind, channels, endian):
    path = tmp_path / "a.sound"
    options = {"format": kind, "subtype": "PCM_16", "endian": endian}
    if not soundfile.check_format(*options.values()):
        options["endian"] = "FILE"
    content = write(path, channels, **options)
    assert Recording(path).duration == SECONDS
    cut(path, content, 0.5)
    with pytest.raises(ValueError, match="is truncated") as raised:
        Recording(path)
    times = re.findall(r"([\d.]+) s\b", str(raised.value))
    # Of an odd number of bytes, and headers that are counted as sound.
    expected = (SECONDS, SECONDS / 2)
    assert [float(time) for time in times] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_what_is_missing_is_not_made_up(tmp_path, subtype):
    """libsndfile has zeros where blocks of SDS are missing."""
    path = tmp_path / "a.sds"
    content = write(path, subtype=subtype)
    whole = Recording(path).read(0, SECONDS)
    cut(path, content, 0.5)
    rest = Recording(path, allow_truncated=True)
    assert rest.duration == pytest.approx(SECONDS / 2, abs=0.02)
    assert torch.equal(rest.read(0, SECONDS), whole[: rest.frames])


def pages(content):
    """Where the pages of an Ogg file start."""
    places = [content.index(b"OggS")]
    while (place := content.find(b"OggS", places[-1] + 1)) >= 0:
        places.append(place)
    return places


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("more", [5, 27, -1])
def test_ogg_that_ends_within_a_page(tmp_path, subtype, more):
    path = tmp_path / "a.ogg"
    content = write(path, subtype=subtype)
    place = pages(content)[-1]
    path.write_bytes(content[: place + more] if more > 0 else content[:more])
    with pytest.raises(ValueError, match="is truncated: it ends within a page"):
        Recording(path)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_an_end(tmp_path, subtype):
    """Android's recorders do not mark the last page as such."""
    path = tmp_path / "a.ogg"
    content = write(path, subtype=subtype)
    path.write_bytes(content[: pages(content)[-1]])
    recording = Recording(path)
    assert not recording.truncated and recording.duration > SECONDS / 2


@pytest.mark.parametrize("suffix", ["wav", "aiff"])
@pytest.mark.parametrize("size", [2**31 + 100_000, 2**32 - 100_000])
def test_more_than_two_gigabytes(tmp_path, suffix, size):
    """As a recorder leaves them that wrote the header first."""
    path = tmp_path / f"a.{suffix}"
    content = write(path, subtype="PCM_16")
    order = "little" if suffix == "wav" else "big"
    before = 8 if suffix == "aiff" else 0  # which its size counts
    old, new = (
        (count + before).to_bytes(4, order)
        for count in (2 * RATE * SECONDS, size)
    )
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    assert read_extent(path).promised == size
    with pytest.raises(ValueError, match="is truncated") as raised:
        Recording(path)
    assert f"header says {size / 2 / RATE:,.6g} s" in str(raised.value)


@pytest.mark.parametrize("size", [5 * 2**30, 2**63 + 2**40])
def test_more_than_four_gigabytes(tmp_path, size):
    path = tmp_path / "a.rf64"
    content = write(path, subtype="PCM_16")
    old = (2 * RATE * SECONDS).to_bytes(8, "little")
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, size.to_bytes(8, "little")))
    extent = read_extent(path)
    assert extent.promised == size and extent.held < len(content)
    with pytest.raises(ValueError, match=r"a\.rf64 "):
        Recording(path)


@pytest.mark.parametrize("name", ["a.raw", "a.RAW"])
def test_samples_without_a_header(tmp_path, name):
    path = tmp_path / name
    write(path, subtype="PCM_16", format="RAW")
    with pytest.raises(ValueError, match=r"\.(raw|RAW) .* save it as WAV"):
        Recording(path)
    content = write(tmp_path / "a.wav")
    path.write_bytes(content)
    before = len(os.listdir("/proc/self/fd"))
    recording = Recording(path)
    assert len(recording.read(1, 2)) == RATE
    assert len(os.listdir("/proc/self/fd")) == before
