"""What the header of a sound file promises, against what the file holds.

libsndfile corrects such a header without a word: of a recording of 20 s whose
copy was interrupted it reads the 3 s that are there.

Authors
 * qlung_plugin contributors
"""

import os
import struct
from typing import NamedTuple

# In seconds. What a file lacks of the length that its header says, and what an
# annotation goes beyond the end, is no error up to here: times are rounded, and
# the last frame of a lossy format, of 72 ms at most, is counted differently.
TOLERANCE = 0.1

# From here on a 32-bit size is none. Who writes to a pipe cannot come back to
# fill it in: ffmpeg leaves 2**32 - 1 there, arecord 2**31, SoX 0x7FFFF000.
UNKNOWN_32 = 0x7FFFF000
UNKNOWN_64 = 2**63 - 1
MOST_CHUNKS = 10_000  # before the sound; more are no recording

ID3, INFO_WITHIN = b"ID3", 4096  # bytes, from the start of the first MP3 frame


class _Layout(NamedTuple):
    """How a format writes its chunks."""

    start: int  # of the first chunk, in bytes
    header: str  # of a chunk, for struct: its name and its size
    sound: bytes  # the name of the chunk with the samples
    counted: int = 0  # bytes of its header that its size counts
    align: int = 1  # to which chunks are padded
    before: int = 0  # bytes in the chunk before the samples
    unknown: int = UNKNOWN_32


_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")


def sound_bytes(path):
    """The bytes of sound that a file promises, and those that it holds.

    Arguments
    ---------
    path : str or Path
        The file.

    Returns
    -------
    promised, held : int
        None and None if the format is none of WAV, RF64, W64, AIFF, AU and CAF,
        if no sound is found, or if its size is unknown, as that of what was
        written to a pipe.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.0] * 100, 4000)
    >>> sound_bytes(path)
    (200, 200)
    >>> _ = path.write_bytes(path.read_bytes()[:-50])
    >>> sound_bytes(path)
    (200, 150)
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        layout, start, promised = _sound(file, size)
    if not promised:
        return None, None
    held = max(size - start, 0)
    if promised >= layout.unknown and promised > held:
        return None, None
    return promised, min(promised, held)


def bytes_behind(path):
    """The bytes that follow the end of the sound and may be more of it.

    As of several files one after the other, or of a recorder that failed before
    it brought its header up to date. libsndfile reads none of them.

    Arguments
    ---------
    path : str or Path
        The file.

    Returns
    -------
    int
        0 if all is as it should be, or the format is none of WAV, AIFF, MP3
        with a count of its frames, and Ogg.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.0] * 100, 4000)
    >>> bytes_behind(path)
    0
    >>> _ = path.write_bytes(2 * path.read_bytes())
    >>> bytes_behind(path)
    244
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        layout, start, promised = _sound(file, size)
        if layout is not None:
            return _no_chunks(file, layout, start + promised, size)
        file.seek(0)
        if file.read(4) == b"OggS":
            return size - _end_of_ogg(file, size)
        end = _end_of_mp3(file)
        file.seek(end or size)
        follows = file.read(3)
    more = follows == ID3 or (follows[:1] == b"\xff" and follows[1:] >= b"\xe0")
    return size - end if end and more else 0


def _sound(file, size):
    """Layout, where the sound starts, its bytes; None, 0 and 0 if unknown."""
    head = file.read(40)
    if head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        order = ">" if head[:4] == b".snd" else "<"
        start, promised = struct.unpack(f"{order}II", head[4:12])
        return _Layout(0, "", b""), start, promised
    layout = _layout(head)
    found = layout and _find(file, layout, size)
    return (layout, *found) if found else (None, 0, 0)


def _no_chunks(file, layout, place, size):
    """How much at the end of a file is no chunk with a name."""
    if layout.header not in ("<4sI", ">4sI"):
        return 0
    for _ in range(MOST_CHUNKS):
        place += -place % layout.align
        file.seek(place)
        header = file.read(8)
        if len(header) < 8:
            break
        name, length = struct.unpack(layout.header, header)
        # A file that was appended begins like a chunk.
        other = name in (b"RIFF", b"FORM", b"RF64")
        if other or not (name.isascii() and name.decode().isprintable()):
            break
        place += 8 + length
    return max(size - place, 0)


def _end_of_ogg(file, size):
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


def _layout(head):
    kind, form = head[:4], head[8:12]
    if form == b"WAVE" and kind in (b"RIFF", b"RF64", b"BW64"):
        return _Layout(12, "<4sI", b"data", align=2)
    if form == b"WAVE" and kind == b"RIFX":
        return _Layout(12, ">4sI", b"data", align=2)
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return _Layout(12, ">4sI", b"SSND", align=2, before=8)
    if kind == b"caff":
        return _Layout(8, ">4sQ", b"data", before=4, unknown=UNKNOWN_64)
    if head[:16] == _W64_RIFF:
        return _Layout(*(40, "<16sQ", _W64_DATA, 24, 8), unknown=UNKNOWN_64)
    return None


def _find(file, layout, size):
    """Where the sound starts and how many bytes it is to have, or None."""
    place, large = layout.start, None
    length = struct.calcsize(layout.header)
    for _ in range(MOST_CHUNKS):
        file.seek(place)
        header = file.read(length)
        if len(header) < length:
            return None
        name, promised = struct.unpack(layout.header, header)
        promised -= layout.counted
        if name == b"ds64":  # of RF64: sizes that do not fit into 32 bits
            large = struct.unpack("<Q", file.read(16).ljust(16, b"\0")[8:])[0]
        place += length
        if name == layout.sound:
            if promised == 2**32 - 1 and large is not None:
                promised = large
            return place + layout.before, promised - layout.before
        place += max(promised, 0)
        place += -place % layout.align
        if place >= size:
            return None
    return None


def counts_frames(path):
    """Whether an MP3 file says how many frames it has.

    If not, libsndfile estimates it from the bit rate of the first one and reads
    no further.

    Arguments
    ---------
    path : str or Path
        The file.

    Returns
    -------
    bool
    """
    with open(path, "rb") as file:
        _, fields = _count_of_mp3(file)
    return len(fields) >= 4 and bool(fields[3] & 1)


def _count_of_mp3(file):
    """Where the first frame of an MP3 file starts; the fields of its count."""
    file.seek(0)
    while (head := file.read(10))[:3] == ID3 and len(head) == 10:
        # Seven bits of each byte; the cover picture may be in there.
        size = sum((byte & 127) << 7 * i for i, byte in enumerate(head[:5:-1]))
        file.seek(size, os.SEEK_CUR)
    start = file.tell() - len(head)
    first = head + file.read(INFO_WITHIN)
    for name in (b"Xing", b"Info"):
        place = first.find(name)
        if place >= 0:
            return start, first[place + 4 : place + 16]
    return start, b""


def _end_of_mp3(file):
    """Where an MP3 file ends, by its count of bytes, or None."""
    start, fields = _count_of_mp3(file)
    if len(fields) < 12 or fields[3] & 3 != 3:
        return None
    return start + int.from_bytes(fields[8:12], "big")
