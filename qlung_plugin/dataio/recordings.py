"""Audio files as they come: any rate, channels and sample format, in pieces.

Authors
 * qlung_plugin contributors
"""

import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from qlung_plugin.dataio.channels import ChannelComparison
from qlung_plugin.dataio.decoders import (
    VALUES,
    BrokenSound,
    Decoder,
    open_decoder,
)
from qlung_plugin.dataio.headers import TOLERANCE, Extent, read_extent
from qlung_plugin.dataio.stretches import Excerpt, Stretches
from qlung_plugin.processing.cycles import resampling_margin
from qlung_plugin.processing.segmentation import LOWEST_RATE

HIGHEST_RATE = 192_000  # Hz; resampling from odd ones takes the more memory

LOOKS = 60  # stretches of a long recording in which its channels are compared
LOOK = 1.0  # s, of each
BLOCK = 2**16  # samples that are looked at together for a sound

logger = logging.getLogger(__name__)


class Recording:
    """A recording, of which stretches are read as one channel.

    Any file that soundfile reads, and what PyAV reads where it is installed
    (``pip install "qlung_plugin[media]"``). Its length is what can be read, not
    what its header says: where the samples are not stored one by one, as in
    MP3 or FLAC, the file is decoded once for it, in small blocks.

    Several channels are averaged, but for silent ones: those of a stethoscope's
    stereo file are copies of each other, and which of two microphones is the
    better one is not ours to guess. They are compared first, in the whole of a
    compressed recording, else in a minute that is spread over it.

    Arguments
    ---------
    path : str or Path
        The file.
    channel : int, optional
        The only one to read, from 1.
    allow_truncated : bool
        Whether a file that holds less than its header says is read as far as
        it goes.

    Attributes
    ----------
    chosen : list of int
        The channels that are averaged, from 0.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is no audio, holds no sample, is sampled at less than 800 Hz or
        more than 192 kHz, is truncated or damaged, has not this channel, or
        has channels that cancel each other.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> soundfile.write(path, [[0.5, 0.25], [0.0, 0.0]] * 4000, 4000)
    >>> recording = Recording(path)
    >>> recording.duration, recording.channels
    (2.0, 2)
    >>> recording.read(1.5, 2.0)[:2]
    tensor([0.3750, 0.0000])
    >>> Recording(path, channel=2).read(1.5, 2.0)[:2]
    tensor([0.2500, 0.0000])
    """

    def __init__(
        self,
        path: Path | str,
        channel: int | None = None,
        allow_truncated: bool = False,
    ):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path} is no file")
        with open_decoder(self.path) as decoder:
            self.sample_rate = decoder.sample_rate
            self.channels = decoder.channels
            self._check_rate()
            if channel is not None and not 1 <= channel <= self.channels:
                raise ValueError(
                    f"{path} has no channel {channel}: it has {self.channels}"
                )
            comparison = None
            if self.channels > 1 and channel is None:
                comparison = ChannelComparison(self.channels)
            extent = read_extent(path)
            self.frames = self._count_frames(
                decoder, comparison, extent, allow_truncated
            )
            seekable = decoder.frames is not None
        if self.frames == 0:
            raise ValueError(
                f"{path} holds no sample, says its header, of"
                f" {self.path.stat().st_size:,} bytes"
            )
        self.chosen = [0] if channel is None else [channel - 1]
        if comparison is not None:
            self._choose_channels(comparison)
        self._warn_of_more(extent.behind)
        # What cannot be read from everywhere stays open.
        self._stream = None if seekable else self._open()

    def _check_rate(self) -> None:
        if self.sample_rate < LOWEST_RATE:
            raise ValueError(
                f"{self.path} has {self.sample_rate} Hz, and breath sounds need"
                f" {LOWEST_RATE} Hz: is its header right?"
            )
        if self.sample_rate > HIGHEST_RATE:
            raise ValueError(
                f"{self.path} has {self.sample_rate} Hz, when {HIGHEST_RATE} is"
                " the limit: is its header right?"
            )

    def _count_frames(
        self,
        decoder: Decoder,
        comparison: ChannelComparison | None,
        extent: Extent,
        allow_truncated: bool,
    ) -> int:
        """The true number of frames; the comparison gets to see channels."""
        block = max(1, VALUES // self.channels)
        frames, broken = decoder.frames, None
        if frames is None:
            frames = 0
            try:
                while len(samples := decoder.read(block)):
                    frames += len(samples)
                    if comparison is not None:
                        comparison.add(samples)
            except BrokenSound as error:
                broken = error
        elif comparison is not None:
            length = min(round(LOOK * self.sample_rate), block)
            count = min(LOOKS, -(-frames // length))
            for first in np.linspace(0, max(frames - length, 0), count):
                decoder.seek(round(first))
                comparison.add(decoder.read(length))
        there = frames / self.sample_rate
        # What the header says, or what is there, if it says less or none.
        self.promised = max(decoder.promised or 0, extent.frames(frames))
        promised = self.promised / self.sample_rate
        short = promised - there > TOLERANCE
        self.truncated = short or extent.cut or broken is not None
        if not self.truncated or (allow_truncated and frames):
            return frames
        if short:
            problem = (
                f"is truncated or damaged: its header says {promised:,.6g} s,"
                f" and {there:,.6g} s can be read"
            )
        elif extent.cut:
            problem = (
                "is truncated: it ends within a page of Ogg, and"
                f" {there:,.6g} s can be read"
            )
        else:
            problem = f"is damaged after {there:,.6g} s"
        if broken is not None:
            problem += f" ({broken})"
        if frames:
            problem += (
                "; --allow-truncated (allow_truncated=True) takes what there is"
            )
        raise ValueError(f"{self.path} {problem}")

    def _choose_channels(self, comparison: ChannelComparison) -> None:
        self.chosen = comparison.sounding()
        complaint = comparison.complaint()
        if complaint is None:
            return
        message = (
            f"{self.path}: {complaint}; choose one by --channel N (channel=N),"
            f" from 1 to {self.channels}, or write it to a file of its own"
        )
        if comparison.cancelled():
            raise ValueError(message)
        logger.warning("%s", message)

    def _warn_of_more(self, behind: int) -> None:
        before = self.path.stat().st_size - behind
        seconds = self.duration * behind / before
        if seconds > TOLERANCE:
            logger.warning(
                "%s: %s bytes, some %.3g s, follow the end of its sound, and"
                " are not read: is its header out of date, or are these several"
                " files?",
                *(self.path, f"{behind:,}", seconds),
            )

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.frames / self.sample_rate

    @cached_property
    def silent(self) -> bool:
        """Whether all samples are alike; they are read as far as to a sound."""
        with self._open() as stretches:
            first = stretches.samples(0, 1)
            for start in range(0, self.frames, BLOCK):
                stop = min(start + BLOCK, self.frames)
                if (stretches.samples(start, stop) != first).any():
                    return False
        return True

    def locate(self, start: float, end: float) -> tuple[int, int]:
        """The samples of a stretch in seconds, clipped to the recording.

        First sample, and the one after the last. The preparation of a database and
        whoever uses a recording have their cycles from here.
        """
        first, stop = (
            round(min(max(time, 0.0), self.duration) * self.sample_rate)
            for time in (start, end)
        )
        return first, stop

    def excess(self, end: float) -> float:
        """How far a time lies past the end, in seconds; 0 up to half a sample."""
        excess = end - self.duration
        return excess if excess * self.sample_rate > 0.5 else 0.0

    def read(self, start: float, end: float) -> torch.Tensor:
        """Reads a stretch in seconds, ``[time]`` in float32, full scale at 1.

        Of what can only be read from its start, the file stays open, and stretches
        in their order are read in one go. Samples that are missing, damaged, not
        finite, or beyond all scales are a ValueError.
        """
        return self.excerpt(start, end, self.sample_rate).waveform

    def excerpt(self, start: float, end: float, sample_rate: int) -> Excerpt:
        """As :meth:`read`, with what resampling to a rate in Hz needs besides."""
        first, stop = self.locate(start, end)
        if stop <= first:
            raise ValueError(
                f"{self.path} has nothing from {start:g} to {end:g} s: it is"
                f" {self.duration:g} s long"
            )
        margin = resampling_margin(self.sample_rate, sample_rate)
        if self._stream is not None:
            return self._stream.excerpt(first, stop, margin)
        with self._open() as stretches:
            return stretches.excerpt(first, stop, margin)

    def blocks(self, samples: int) -> Iterator[torch.Tensor]:
        """Reads everything, so many samples at a time, as :meth:`read` does."""
        with self._open() as stretches:
            for first in range(0, self.frames, samples):
                yield stretches.read(first, min(first + samples, self.frames))

    def _open(self) -> Stretches:
        return Stretches(self.path, self.frames, self.chosen)
