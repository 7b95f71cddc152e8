"""Stretches of a recording: the one way in which samples are read for use.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from qlung_plugin.dataio.decoders import (
    VALUES,
    BrokenSound,
    Decoder,
    open_decoder,
)
from qlung_plugin.dataio.samples import check_samples
from qlung_plugin.processing.cycles import resample_within


@dataclass(frozen=True)
class Excerpt:
    """A cycle, and a moment of its recording on either side.

    Arguments
    ---------
    samples : torch.Tensor
        ``[time]``, with what lies around the cycle.
    before, after : int
        How many samples lie before and after it.
    sample_rate : int
        In Hz.

    Example
    -------
    >>> excerpt = Excerpt(torch.arange(6.0), 2, 1, 4000)
    >>> excerpt.waveform
    tensor([2., 3., 4.])
    >>> excerpt.resampled(8000).shape
    torch.Size([6])
    """

    samples: torch.Tensor
    before: int
    after: int
    sample_rate: int

    @property
    def waveform(self) -> torch.Tensor:
        """The cycle as it was recorded, ``[time]``."""
        return self.samples[self.before : len(self.samples) - self.after]

    def resampled(
        self, sample_rate: int, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """The cycle at another rate, ``[time]``, as if the recording had it."""
        return resample_within(
            self.samples.to(device),
            self.before,
            self.after,
            self.sample_rate,
            sample_rate,
        )


class Stretches:
    """A file of sound, open to read stretches of it as one channel.

    It is opened when it is read, or by ``with``. ``frames`` is its length in
    samples, or how much of it is to be read; of the ``chosen`` channels, from 0,
    the mean is read. Where nothing can be looked for, what was read of the last
    stretch is kept: the next one may overlap it.
    """

    def __init__(
        self, path: Path | str, frames: int, chosen: Sequence[int] = (0,)
    ):
        self.path, self.frames = Path(path), frames
        self._chosen = list(chosen)
        self._decoder: Decoder | None = None
        self._begin()

    @property
    def decoder(self) -> Decoder:
        """What reads the file, which is opened if it is not yet."""
        return self._decoder or self._open()

    def __enter__(self) -> "Stretches":
        self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._decoder is not None:
            self._decoder.close()

    def _open(self) -> Decoder:
        self.__exit__()
        self._decoder = open_decoder(self.path)
        self._begin()
        return self._decoder

    def _begin(self, place: int = 0) -> None:
        """Keeps nothing; goes on from a sample."""
        self._kept: list[np.ndarray] = []
        self._first = self._place = place

    def read(self, first: int, stop: int) -> torch.Tensor:
        """Samples ``[time]`` of a stretch, float32, full scale at 1."""
        waveform = torch.from_numpy(self.samples(first, stop))
        check_samples(waveform, self.path, first, self.decoder.sample_rate)
        return waveform

    def excerpt(self, first: int, stop: int, margin: int) -> Excerpt:
        """A stretch with so many samples on either side, or what there is."""
        start = max(first - margin, 0)
        end = min(stop + margin, self.frames)
        samples = torch.from_numpy(self.samples(start, end, least=stop))
        rate = self.decoder.sample_rate
        check_samples(samples, self.path, start, rate)
        after = start + len(samples) - stop
        return Excerpt(samples, first - start, after, rate)

    def samples(
        self, first: int, stop: int, least: int | None = None
    ) -> np.ndarray:
        """As :meth:`read`, but as an array and whatever their values.

        It may end before ``stop``, if it has all samples before ``least``.
        """
        least = stop if least is None else least
        try:
            self._go_to(first)
            self._read_on(first, stop)
        except BrokenSound as error:
            if self._place < least:
                raise ValueError(
                    f"{self.path} is damaged after"
                    f" {self._place / self.decoder.sample_rate:g} s ({error})"
                ) from error
        if self._place < least:
            raise ValueError(
                f"{self.path} ends before sample {least}: has it changed?"
            )
        kept = np.concatenate(self._kept)
        return kept[first - self._first :][: stop - first]

    def _go_to(self, first: int) -> None:
        decoder = self.decoder
        if decoder.frames is not None:
            place = min(first, decoder.frames)
            decoder.seek(place)
            self._begin(place)
        elif first < self._first:
            self._open()

    def _read_on(self, first: int, stop: int) -> None:
        most = max(1, VALUES // self.decoder.channels)
        self._forget(first)
        while self._place < stop:
            # No further than what was found to be good.
            count = min(most, self.frames - self._place)
            if self.decoder.frames is not None:
                count = min(count, stop - self._place)
            samples = self.decoder.read(count)
            if not len(samples):
                return
            if self.decoder.channels > 1:
                # Taking the mean of one channel is a copy, too, so that a block
                # of many channels is not kept for it.
                samples = samples[:, self._chosen].mean(axis=1)
            self._kept.append(samples.reshape(-1))
            self._place += len(samples)
            self._forget(first)

    def _forget(self, first: int) -> None:
        """Drops blocks that end before a sample."""
        while self._kept and self._first + len(self._kept[0]) <= first:
            self._first += len(self._kept.pop(0))
        if not self._kept:
            self._first = self._place
