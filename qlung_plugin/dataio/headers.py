"""What the header of a sound file promises, against what the file holds.

libsndfile corrects such a header without a word: of a recording of 20 s whose
copy was interrupted it reads the 3 s that are there.

Authors
 * qlung_plugin contributors
"""

import os
import re
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

# In seconds. What a file lacks of the length that its header says, and what an
# annotation goes beyond the end, is no error up to here: times are rounded, and
# the last frame of a lossy format, of 72 ms at most, is counted differently.
TOLERANCE = 0.1

# Who writes to a pipe cannot come back to fill in the size. What stands there
# is the largest number or a little less: ffmpeg leaves 2**32 - 1, arecord
# 2**31, SoX 0x7FFFF000.
LARGEST = (2**31, 2**32, 2**63, 2**64)
LITTLE_LESS = 2**16
MOST_CHUNKS = 10_000  # before the sound; more are no recording

ID3, INFO_WITHIN = b"ID3", 4096  # bytes, from the start of the first MP3 frame
LARGEST_PAGE = 27 + 255 + 255 * 255  # bytes, of Ogg
SDS_HEADER, SDS_BLOCK = 21, 127  # bytes


class Extent(NamedTuple):
    """How far the sound of a file is to go, and goes."""

    # Bytes of sound that the header says, and those that are there; None if it
    # says none, or gives a number because it does not know.
    promised: int | None = None
    held: int | None = None
    # Frames that the header says, of formats in which it counts them.
    counted: int | None = None
    # Whether it ends within a page of Ogg, which says no length.
    cut: bool = False
    # Bytes that follow its end and may be more of it, as of several files one
    # after the other, or of a recorder that failed before it brought its header
    # up to date. libsndfile reads none of them.
    behind: int = 0
    # Whether, if it is MP3, it does not say how many frames it has. libsndfile
    # then estimates it from the first one and reads no further.
    estimated: bool = False

    def frames(self, there: int) -> float:
        """The frames that the header promises, if these can be read."""
        if self.promised and self.held:
            return there * self.promised / self.held
        return max(self.counted or 0, there)


class _Layout(NamedTuple):
    """How a format writes its chunks."""

    start: int  # of the first chunk, in bytes
    sound: bytes  # the name of the chunk with the samples
    order: Literal["little", "big"] = "little"
    name: int = 4  # bytes of a chunk's name
    size: int = 4  # bytes of its size, which follows
    counted: int = 0  # bytes of both that the size counts
    align: int = 1  # to which chunks are padded
    before: int = 0  # bytes in the chunk before the samples


_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_RIFF = _Layout(12, b"data", align=2)
_IFF = _RIFF._replace(order="big")
# What a file begins with, and its layout.
_LAYOUTS = (
    (rb"(RIFF|RF64|BW64)....WAVE", _RIFF),
    (rb"RIFX....WAVE", _IFF),
    (rb"FORM....AIF[FC]", _IFF._replace(sound=b"SSND", before=8)),
    (rb"FORM....(8SVX|16SV)", _IFF._replace(sound=b"BODY")),
    (rb"caff", _Layout(8, b"data", "big", size=8, before=4)),
    (
        rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0",
        _Layout(40, _W64_DATA, name=16, size=8, counted=24, align=8),
    ),
    # The sound of VOC is a block of kind 1, with two bytes before it, or of
    # kind 9, with twelve.
    (
        rb"Creative Voice File\x1a\x1a\0",
        _Layout(26, b"\1\x09", name=1, size=3, before=2),
    ),
)
# Headers that count frames, in the order of bytes that is given: AVR, MPC2K,
# WVE, MAT4 and MAT5, and in words NIST.
_COUNTS: tuple[tuple[bytes, Literal["little", "big"] | None], ...] = (
    (rb"2BIT.{22}(....)", "big"),
    (rb"\x01\x04.{28}(....)", "little"),
    (rb"ALawSoundFile\*\*.{3}(....)", "big"),
    (rb"(?:\0{4}\x01\0|MATLAB 5.{118}IM).*?(....).{8}wavedata", "little"),
    (rb"(?:\0\0\x03\xe8|MATLAB 5.{118}MI).*?(....).{8}wavedata", "big"),
    (rb"NIST_1A\n.*?sample_count -i (\d{1,18})", None),
)
HEAD = 1024  # bytes, in which all of these are


def read_extent(path: Path | str) -> Extent:
    """Reads how far the sound of a file is to go, and goes.

    What says nothing of a length, of any kind, is complete.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(HEAD)
        if head[:4] == b"OggS":
            return Extent(
                cut=_within_page(file, size),
                behind=size - _end_of_ogg(file, size),
            )
        for pattern, order in _COUNTS:
            if match := re.match(pattern, head, re.DOTALL):
                count = match[1]
                return Extent(
                    counted=int.from_bytes(count, order)
                    if order
                    else int(count)
                )
        sound = _locate_sound(file, head, size)
        if sound is None:
            return _extent_of_mp3(file, size)
        layout, start, promised = sound
        behind = _bytes_behind_chunks(file, layout, start + promised, size)
    held = max(size - start, 0)
    unknown = any(0 <= most - promised <= LITTLE_LESS for most in LARGEST)
    if promised <= 0 or (unknown and promised > held):
        return Extent(behind=behind)
    return Extent(promised, min(promised, held), behind=behind)


def _locate_sound(
    file: BinaryIO, head: bytes, size: int
) -> tuple[_Layout, int, int] | None:
    """Layout, where the sound starts, and its bytes."""
    plain = _Layout(0, b"")
    if head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        order: Literal["little", "big"] = "little"
        if head[:4] == b".snd":
            order = "big"
        start, promised = (
            int.from_bytes(head[i : i + 4], order) for i in (4, 8)
        )
        return plain, start, promised
    if (
        head[:2] == b"\xf0\x7e"
        and head[3:4] == b"\1"
        and len(head) > SDS_HEADER
    ):
        # Blocks of 120 bytes, of seven bits each.
        samples = 120 // max(-(-head[6] // 7), 1)
        count = sum(byte << 7 * i for i, byte in enumerate(head[10:13]))
        return plain, SDS_HEADER, -(-count // samples) * SDS_BLOCK
    for pattern, layout in _LAYOUTS:
        if re.match(pattern, head, re.DOTALL):
            place = _find_sound_chunk(file, layout, size)
            return (layout, *place) if place else None
    return None


def _find_sound_chunk(
    file: BinaryIO, layout: _Layout, size: int
) -> tuple[int, int] | None:
    """Where the sound starts and how many bytes it is to have, or None."""
    place, large = layout.start, None
    for _ in range(MOST_CHUNKS):
        chunk = _read_chunk(file, layout, place)
        if chunk is None:
            return None
        name, promised = chunk
        if name == b"ds64":  # of RF64: sizes that do not fit into 32 bits
            large = int.from_bytes(file.read(16)[8:], "little")
        place += layout.name + layout.size
        if name in layout.sound:
            if promised == 2**32 - 1 and large is not None:
                promised = large
            return place + layout.before, promised - layout.before
        place += max(promised, 0)
        place += -place % layout.align
        if place >= size:
            return None
    return None


def _read_chunk(
    file: BinaryIO, layout: _Layout, place: int
) -> tuple[bytes, int] | None:
    """Name and size of the chunk there, or None at the end."""
    file.seek(place)
    header = file.read(layout.name + layout.size)
    if len(header) < layout.name + layout.size:
        return None
    size = int.from_bytes(header[layout.name :], layout.order)
    return header[: layout.name], size - layout.counted


def _bytes_behind_chunks(
    file: BinaryIO, layout: _Layout, place: int, size: int
) -> int:
    """How much at the end of a file is no chunk with a name."""
    if layout.align != 2:
        return 0
    for _ in range(MOST_CHUNKS):
        place += -place % layout.align
        # A size of 64 bits may lie beyond what can be sought.
        chunk = _read_chunk(file, layout, place) if place < size else None
        if chunk is None:
            break
        name, length = chunk
        # A file that was appended begins like a chunk.
        other = name in (b"RIFF", b"FORM", b"RF64")
        if other or not (name.isascii() and name.decode().isprintable()):
            break
        place += 8 + length
    return max(size - place, 0)


def _within_page(file: BinaryIO, size: int) -> bool:
    """Whether an Ogg file ends within a page."""
    file.seek(max(size - LARGEST_PAGE, 0))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return True
    segments = page[27 : 27 + page[26]]
    return len(page) < 27 + page[26] + sum(segments)


def _end_of_ogg(file: BinaryIO, size: int) -> int:
    """Where the first streams of an Ogg file end, and others begin."""
    place, begun = 0, False
    while place < size:
        file.seek(place)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return size  # damaged, which is another matter
        starts = bool(head[5] & 2)
        if starts and begun:
            return place
        begun = not starts
        place += 27 + head[26] + sum(file.read(head[26]))
    return size


def _extent_of_mp3(file: BinaryIO, size: int) -> Extent:
    file.seek(0)
    while (head := file.read(10))[:3] == ID3 and len(head) == 10:
        # Seven bits of each byte; the cover picture may be in there.
        length = sum(
            (byte & 127) << 7 * i for i, byte in enumerate(head[:5:-1])
        )
        file.seek(length, os.SEEK_CUR)
    start = file.tell() - len(head)
    first = head + file.read(INFO_WITHIN)
    # Flags, number of frames, of bytes.
    info = re.search(rb"(?:Xing|Info)(.{,12})", first, re.DOTALL)
    fields = info[1] if info else b""
    estimated = len(fields) < 4 or not fields[3] & 1
    if len(fields) < 12 or fields[3] & 3 != 3:
        return Extent(estimated=estimated)
    end = start + int.from_bytes(fields[8:12], "big")
    file.seek(end)
    follows = file.read(3)
    more = follows == ID3 or (follows[:1] == b"\xff" and follows[1:] >= b"\xe0")
    return Extent(estimated=estimated, behind=(size - end) * more)
