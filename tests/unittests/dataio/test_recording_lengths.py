"""How long a recording is: what can be read, whatever its header says.

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

from qlung_plugin.dataio import stretches
from qlung_plugin.dataio.headers import read_extent
from qlung_plugin.dataio.recordings import Recording
from tests.unittests.recording_checks import breaths

RATE = 8000

# What soundfile reads, but not from everywhere.
UNSEEKABLE = (("wav", "GSM610"), ("wav", "IMA_ADPCM"), ("au", "G721_32"))


def written(folder, suffix, subtype, seconds=12):
    path = folder / f"a.{suffix}"
    soundfile.write(path, breaths(seconds, RATE), RATE, subtype=subtype)
    return path


def read_all(recording):
    return torch.cat(list(recording.blocks(7777)))


# --- truncated ----------------------------------------------------------------


@pytest.mark.parametrize("lacking", [0, 1, 1000])
def test_a_tenth_of_a_second_is_no_truncation(tmp_path, lacking):
    """As of a header that counts itself, too."""
    path = written(tmp_path, "wav", "PCM_16")
    path.write_bytes(path.read_bytes()[: -lacking or None])
    recording = Recording(path)
    assert not recording.truncated
    assert recording.frames == 12 * RATE - -(-lacking // 2)


def test_other_chunks_may_be_cut(tmp_path):
    path = written(tmp_path, "wav", "PCM_16")
    content = path.read_bytes()
    path.write_bytes(content + b"LIST" + struct.pack("<I", 10**6) + b"INFO")
    assert Recording(path).duration == 12
    # But not the sound behind them.
    place = content.index(b"data")
    other = b"note" + struct.pack("<I", 7) + b"x" * 8
    path.write_bytes(content[:place] + 20 * other + content[place:])
    assert Recording(path).duration == 12
    path.write_bytes(path.read_bytes()[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated"):
        Recording(path)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 2**32 - 1])
def test_written_to_a_pipe_is_of_unknown_length(tmp_path, size):
    path = written(tmp_path, "wav", "PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", size or 8)
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    assert read_extent(path).promised is None
    recording = Recording(path)
    assert (recording.duration, recording.truncated) == (12, False)
    # Nor was the size of all filled in.
    content[4:8] = content[place : place + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no sample, .* of 192,044 bytes"):
        Recording(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 20_000,
        b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff",
        b"FORM\0\0\0\0AIFFSSND",
        b".snd\0\0",
        b"caff\0\1\0\0data",
    ],
    ids=lambda content: repr(content[:16]),
)
def test_headers_without_sound(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert read_extent(path).promised is None


# --- more than the header says -------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_16"),
        ("aiff", "PCM_16"),
        ("mp3", "MPEG_LAYER_III"),
        ("ogg", "VORBIS"),
        ("ogg", "OPUS"),
    ],
)
def test_several_files_in_one_are_told(tmp_path, suffix, subtype, caplog):
    """Of which libsndfile reads the first."""
    path = written(tmp_path, suffix, subtype)
    assert Recording(path).duration == 12
    assert not caplog.records
    content = path.read_bytes()
    path.write_bytes(2 * content)
    assert Recording(path).duration == 12
    assert f"{path}: {len(content):,} bytes, some 12 s, follow" in caplog.text


def test_a_header_that_is_out_of_date(tmp_path, caplog):
    path = written(tmp_path, "wav", "PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 2 * RATE)
    path.write_bytes(content)
    assert Recording(path).duration == 1
    assert "some 11 s, follow the end of its sound" in caplog.text


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "ogg"])
def test_what_programs_add_is_no_sound(tmp_path, suffix, caplog):
    path = written(tmp_path, suffix, None)
    more = b"TAG" + bytes(125)
    if suffix == "wav":
        more = b"id3 " + struct.pack("<I", 50_001) + bytes(50_002) + more
    if suffix == "mp3":
        more = b"APETAGEX" + bytes(50_000) + more
    path.write_bytes(path.read_bytes() + more)
    assert Recording(path).duration == pytest.approx(12, abs=0.1)
    assert not caplog.records


# --- what is decoded to be counted --------------------------------------------


def frames_of_mp3(content):
    """The MP3 frames of what libsndfile writes at 8 kHz, without a tag."""
    starts = [0]
    rates = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    while starts[-1] + 4 < len(content):
        head = content[starts[-1] : starts[-1] + 4]
        assert head[0] == 0xFF
        bits = rates[head[2] >> 4] * 1000
        starts.append(starts[-1] + 72 * bits // RATE + (head[2] >> 1 & 1))
    return [content[a:b] for a, b in zip(starts, starts[1:])]


def mp3_without_frame_count(path, quiet, loud):
    """A variable bit rate, of which the first frame tells nothing."""
    samples = np.concatenate(
        [1e-4 * breaths(quiet, RATE), 0.9 * np.sign(breaths(loud, RATE))]
    )
    with soundfile.SoundFile(
        path, "w", RATE, 1, bitrate_mode="VARIABLE", compression_level=0
    ) as file:
        file.write(samples)
    assert not read_extent(path).estimated
    frames = frames_of_mp3(path.read_bytes())
    path.write_bytes(b"".join(frames[1:]))
    assert read_extent(path).estimated


@pytest.mark.parametrize(("quiet", "loud"), [(2, 10), (10, 2)])
def test_all_of_an_mp3_without_frame_count(tmp_path, quiet, loud):
    path = tmp_path / "a.mp3"
    mp3_without_frame_count(path, quiet, loud)
    estimated = soundfile.info(path).duration
    assert abs(estimated - 12) > 0.5
    recording = Recording(path)
    assert recording.duration == pytest.approx(12, abs=0.3)
    assert not recording.truncated
    whole = read_all(recording)
    assert len(whole) == recording.frames
    first, stop = recording.locate(3.0, 11.5)
    assert torch.equal(recording.read(3.0, 11.5), whole[first:stop])


def test_frame_count_behind_a_cover_picture(tmp_path):
    path = written(tmp_path, "mp3", "MPEG_LAYER_III")
    assert not read_extent(path).estimated
    picture = b"ID3\4\0\0" + bytes([0, 0, 100, 5]) + bytes(100 * 128 + 5)
    path.write_bytes(picture + path.read_bytes())
    assert not read_extent(path).estimated
    assert Recording(path).duration == 12


@pytest.mark.parametrize("total", [0, 5, 2**36 - 1, 10**9])
def test_flac_whose_header_knows_no_better(tmp_path, total):
    path = written(tmp_path, "flac", "PCM_16")
    expected = soundfile.read(path, dtype="float32")[0]
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | total >> 32
    content[22:26] = struct.pack(">I", total & 2**32 - 1)
    path.write_bytes(content)
    if total > len(expected):
        with pytest.raises(ValueError, match="header says .* and 12 s can be"):
            Recording(path)
    if total != 5:
        recording = Recording(path, allow_truncated=True)
        assert recording.truncated == (total > 0)
        assert np.array_equal(read_all(recording), expected)


@pytest.mark.parametrize(("suffix", "subtype"), UNSEEKABLE)
def test_what_cannot_be_sought_in_is_read_from_its_start(
    tmp_path, monkeypatch, suffix, subtype
):
    # Less than the file, so that it has to be opened again.
    monkeypatch.setattr(stretches, "VALUES", 2**13)
    path = written(tmp_path, suffix, subtype)
    expected = soundfile.SoundFile(path).read(12 * RATE, dtype="float32")
    recording = Recording(path)
    assert abs(recording.duration - 12) < 0.1
    whole = read_all(recording)
    assert np.array_equal(whole[: len(expected)], expected)
    # On, over the last one, back, and from the start.
    for start, end in [(1, 3), (2, 6), (9, 10), (4, 5), (0, 12), (11.99, 12)]:
        first, stop = recording.locate(start, end)
        assert torch.equal(recording.read(start, end), whole[first:stop])


def test_stretches_in_their_order_are_decoded_once(tmp_path, monkeypatch):
    """Windows that overlap, too."""
    from qlung_plugin.dataio.decoders import SoundfileDecoder

    path = written(tmp_path, "wav", "GSM610", seconds=60)
    recording = Recording(path)
    decoded, read = [], SoundfileDecoder.read

    def counting(self, frames):
        block = read(self, frames)
        decoded.append(len(block))
        return block

    monkeypatch.setattr(SoundfileDecoder, "read", counting)
    for start in range(0, 52, 4):
        recording.read(start, start + 8)
    assert sum(decoded) <= recording.frames


# --- memory -------------------------------------------------------------------


def test_many_channels_are_read_in_small_blocks(tmp_path):
    """Of a file of no size, what is read at a time is no more for it."""
    from qlung_plugin.dataio.decoders import VALUES, SoundfileDecoder

    path = tmp_path / "wide.wav"
    samples = np.repeat(breaths(1, RATE)[:, None], 1000, axis=1)
    soundfile.write(path, samples, RATE, subtype="PCM_U8")
    sizes, read = [], SoundfileDecoder.read

    class Watched(SoundfileDecoder):
        def read(self, frames):
            block = read(self, frames)
            sizes.append(block.size)
            return block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qlung_plugin.dataio.decoders.SoundfileDecoder", Watched)
        recording = Recording(path)
        whole = recording.read(0, 1)
    assert max(sizes) <= VALUES and sum(sizes) > RATE * 1000
    assert np.abs(whole.numpy() - samples[:, 0]).max() < 2**-7


LIMITED = """\
import resource, sys
from qlung_plugin.dataio.recordings import Recording
warm, *paths = sys.argv[1:]
Recording(warm).read(0, 1)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + 150 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in paths:
    recording = Recording(path)
    whole = recording.read(0, recording.duration)
    print(len(whole), sum(map(len, recording.blocks(10**9))))
"""


def test_recordings_are_read_within_a_limit_of_memory(tmp_path):
    """4 KB on the disk, of 32 s in 256 channels: 250 MiB as floats.

    And one whose header knows no length.
    """
    wide, warm = tmp_path / "wide.wav", tmp_path / "warm.wav"
    soundfile.write(warm, np.full((RATE, 8), 0.1), RATE)
    soundfile.write(wide, np.zeros((1, 256)), RATE, subtype="PCM_16")
    content = bytearray(wide.read_bytes())
    place, size = content.index(b"data") + 4, 32 * RATE * 256 * 2
    content[place : place + 4] = struct.pack("<I", size)
    wide.write_bytes(content)
    os.truncate(wide, place + 4 + size)
    endless = written(tmp_path, "flac", "PCM_16")
    content = bytearray(endless.read_bytes())
    content[22:26] = bytes(4)
    endless.write_bytes(content)

    run = subprocess.run(
        [sys.executable, "-c", LIMITED, warm, wide, endless],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    expected = [32 * RATE] * 2 + [12 * RATE] * 2
    assert run.stdout.split() == [*map(str, expected)], run.stderr
