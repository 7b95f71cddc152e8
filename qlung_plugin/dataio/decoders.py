"""Decoders of sound: every format, read on from its start in small blocks.

soundfile reads WAV, FLAC, MP3, Ogg and more; PyAV, where it is installed, what
phones and browsers write. Neither is believed how long a recording is: what
they say may be missing, estimated, or wrong.

Authors
 * qlung_plugin contributors
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from io import UnsupportedOperation
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from qlung_plugin.dataio.headers import read_extent

if TYPE_CHECKING:
    from av import AudioStream

VALUES = 2**18  # in a block, of all channels together: a megabyte
FINE = 64  # frames that are read at a time where a file is broken

# Bytes of a sample, in formats in which it is found by multiplication.
SAMPLE_BYTES = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    **{"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}

# What phones, recorders and browsers write, and PyAV decodes.
MEDIA = frozenset(
    ".3g2 .3ga .3gp .aac .ac3 .amr .ape .asf .awb .m4a .m4b .mka .mkv .mov .mp4"
    " .tta .weba .webm .wma .wmv .wv".split()
)
# PyAV is to open no other file and no address that a file may name: playlists
# are not among these.
DEMUXERS = (
    "3g2,3gp,aac,ac3,aiff,amr,ape,asf,caf,m4a,matroska,mj2,mov,mp4,ogg,tta,wav,"
    "webm,wv"
)
# Of PyAV's formats, those that know how long they are.
MEASURED = ("mov", "matroska", "asf", "caf", "wav")

# Formats of which only the maker's program makes sound.
PROPRIETARY = {
    ".e4k": "3M Littmann's Sound Analysis Software",
    ".zsa": "3M Littmann's StethAssist (Zargis)",
}


class BrokenSound(Exception):
    """A decoder cannot go on; says why."""


class Decoder(ABC):
    """A file of sound, read on from its start; closed by ``with``."""

    sample_rate: int  # Hz
    channels: int
    # Frames that the file is to have, None if unknown.
    promised: int | None
    # Those that it surely has, None if they have to be counted.
    frames: int | None = None

    @abstractmethod
    def read(self, frames: int) -> np.ndarray:
        """The next ones ``[frame, channel]`` in float32, fewer at the end.

        If none can be read, and it is not the end, there is a BrokenSound.
        """

    def seek(self, frame: int) -> None:
        """Goes to a frame, where it is known how many there are.

        A decoder that does not know it is read from its start only.
        """
        raise UnsupportedOperation("this sound can be read on, not gone to")

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_decoder(path: Path) -> Decoder:
    """Opens a file with whichever decoder reads it.

    If none does, there is a ValueError, which says what would.
    """
    try:
        return SoundfileDecoder(path)
    except soundfile.LibsndfileError as error:
        extent = read_extent(path)
        reason = error.error_string
        promised, held = extent.promised, extent.held
        if promised is not None and held is not None and held < promised:
            reason = (
                f"it is truncated: its header says {promised:,} bytes of"
                f" sound, and {held:,} are there"
            )
        cause = error
    suffix = path.suffix.lower()
    try:
        return MediaDecoder(path)
    except ModuleNotFoundError:
        if suffix in MEDIA:
            reason = (
                'it needs a decoder: pip install "qlung_plugin[media]", or save'
                " it as WAV"
            )
    except BrokenSound as error:
        if suffix in MEDIA:
            reason = str(error)
    if suffix == ".raw":
        reason = "it has no header that says its rate: save it as WAV"
    if suffix in PROPRIETARY:
        reason = (
            f"only {PROPRIETARY[suffix]} opens such files: export it as WAV"
            " there"
        )
    raise ValueError(f"{path} is not readable as audio ({reason})") from cause


class _Forward(soundfile.SoundFile):
    """Reads on; soundfile would seek after each block, which not all can."""

    def seekable(self) -> bool:
        return False

    @classmethod
    def of(cls, path: Path) -> "_Forward":
        """Opens a file."""
        if path.suffix.lower() == ".raw":
            # soundfile goes by this name, and asks for the rate.
            return cls(os.open(path, os.O_RDONLY))
        # In bytes: soundfile takes no name that is no text.
        return cls(os.fsencode(path))


class _Endless:
    """A file that claims to be much longer than it is.

    libsndfile stops where the length of an MP3 file makes it expect the end.
    The last bytes are there, too, and zero: a tag is looked for in them.
    """

    TIMES, TAG = 1024, 128

    def __init__(self, path: Path):
        self._file = open(path, "rb")
        self._place, self._size = 0, os.path.getsize(path)
        self._end = self._size * self.TIMES

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_CUR: self._place, os.SEEK_END: self._end}
        self._place = start.get(whence, 0) + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        if self._place < self._end - self.TAG:
            self._file.seek(self._place)
            count = self._file.readinto(buffer)
        else:
            count = max(min(self._end - self._place, len(buffer)), 0)
            buffer[:count] = bytes(count)
        self._place += count
        return count

    read = write = None  # which soundfile does not need to read

    def close(self) -> None:
        self._file.close()


class SoundfileDecoder(Decoder):
    """What soundfile reads."""

    def __init__(self, path: Path):
        self._path = path
        self._place = 0
        self._source: _Endless | None = None
        self._file = file = _Forward.of(path)
        if file.format == "MP3" and read_extent(path).estimated:
            file.close()
            self._source = _Endless(path)
            file = self._file = _Forward(self._source)
        self.sample_rate, self.channels = file.samplerate, file.channels
        width = SAMPLE_BYTES.get(file.subtype)
        exact = (
            width is not None
            and file.format != "FLAC"
            and file.frames * file.channels * width <= os.path.getsize(path)
        )
        self.frames = file.frames if exact else None
        # Without an end, libsndfile says 2**63 - 1.
        sure = self._source is None and file.frames < 2**62
        self.promised = file.frames if sure else None
        self._end: int | None = None  # of what is not made up
        if file.format == "SDS" and (extent := read_extent(path)).promised:
            # What is missing of it, libsndfile makes up.
            self._end = file.frames * extent.held // extent.promised
            self.frames = None

    def read(self, frames: int) -> np.ndarray:
        if self._end is not None:
            frames = min(frames, self._end - self._place)
        try:
            block = self._read(frames)
        except soundfile.LibsndfileError:
            # The good part of a block is lost with the rest.
            block = self._good_part(frames)
        self._place += len(block)
        return block

    def _read(self, frames: int) -> np.ndarray:
        return self._file.read(frames, dtype="float32", always_2d=True)

    def _good_part(self, frames: int) -> np.ndarray:
        self._reopen()
        parts = []
        try:
            for start in range(0, frames, FINE):
                parts.append(self._read(min(FINE, frames - start)))
        except soundfile.LibsndfileError as error:
            if not parts:
                raise BrokenSound(error.error_string) from error
        return np.concatenate(parts)

    def _reopen(self) -> None:
        self._file.close()
        if self._source is not None:
            self._source.seek(0)
        source = self._source
        self._file = _Forward(source) if source else _Forward.of(self._path)
        left, most = self._place, max(1, VALUES // self.channels)
        while left:
            block = self._read(min(left, most))
            if not len(block):
                raise BrokenSound("it has changed")
            left -= len(block)

    def seek(self, frame: int) -> None:
        self._file.seek(frame)
        self._place = frame

    def close(self) -> None:
        self._file.close()
        if self._source is not None:
            self._source.close()


class MediaDecoder(Decoder):
    """What PyAV reads.

    Where it is not installed, there is a ModuleNotFoundError. A file that
    cannot be read, or has no sound, is a BrokenSound.
    """

    def __init__(self, path: Path):
        import av

        self._broken: BrokenSound | None = None
        # Tags may be in any encoding, as PyAV takes them by itself since 19.
        before = int(av.__version__.split(".")[0]) < 19
        tags: Any = {"metadata_errors": "replace"} if before else {}
        self._file = open(path, "rb")
        try:
            self._container = av.open(
                self._file,
                "r",
                options={"format_whitelist": DEMUXERS},
                **tags,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            self._file.close()
            raise _broken(error) from error
        streams = self._container.streams.audio
        self._blocks = self._decoded(streams[0], av) if streams else iter(())
        try:
            first = next(self._blocks, None)
            if first is None:
                raise BrokenSound("it has no sound")
        except BrokenSound:
            self.close()
            raise
        self._rest: np.ndarray = first
        self.channels = first.shape[1]
        self.promised = None
        stream = streams[0]
        if (
            stream.duration
            and stream.time_base
            and self._container.format.name.split(",")[0] in MEASURED
        ):
            seconds = float(stream.duration * stream.time_base)
            self.promised = round(seconds * self.sample_rate)

    def _decoded(
        self, stream: "AudioStream", av: ModuleType
    ) -> Iterator[np.ndarray]:
        """Yields blocks ``[frame, channel]``."""
        if stream.codec_context is None:  # PyAV before 18 crashes on it
            raise BrokenSound("Decoder not found")
        resampler = av.AudioResampler(format="fltp")
        try:
            for frame in self._container.decode(stream):
                # The header's may be half of it, where AAC is extended.
                self.sample_rate = frame.sample_rate
                for part in resampler.resample(frame):
                    yield part.to_ndarray().T
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _broken(error) from error

    def read(self, frames: int) -> np.ndarray:
        parts, count = [self._rest], len(self._rest)
        try:
            while (
                count < frames
                and (block := next(self._blocks, None)) is not None
            ):
                parts.append(block)
                count += len(block)
        except BrokenSound as error:
            self._broken = error
        if self._broken and not count:
            raise self._broken
        whole = np.concatenate(parts)
        self._rest = whole[frames:]
        return whole[:frames]

    def close(self) -> None:
        self._container.close()
        self._file.close()


def _broken(error: Exception) -> BrokenSound:
    """What is wrong, in the words of the library."""
    return BrokenSound(getattr(error, "strerror", None) or error)
