"""Stretches of a recording: the one way in which samples are read for use.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence
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

    def samples(self, first: int, stop: int) -> np.ndarray:
        """As :meth:`read`, but as an array and whatever their values."""
        try:
            self._go_to(first)
            self._read_on(first, stop)
        except BrokenSound as error:
            raise ValueError(
                f"{self.path} is damaged after"
                f" {self._place / self.decoder.sample_rate:g} s ({error})"
            ) from error
        if self._place < stop:
            raise ValueError(
                f"{self.path} ends before sample {stop}: has it changed?"
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
