"""Audio files as they come: any rate, channels and sample format, in pieces.

Everything that soundfile reads is a recording: WAV with integers of 8 bits to
floats of 64, FLAC, Ogg, MP3 and more.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import soundfile
import torch

from qlung_plugin.dataio.samples import check_samples
from qlung_plugin.processing.segmentation import LOWEST_RATE

# What is looked for in a folder; a file that is named is tried in any case.
SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .w64 .wav"
    " .wave".split()
)

HIGHEST_RATE = 192_000  # Hz; resampling from odd ones takes the more memory


class Recording:
    """A recording, of which stretches are read as one channel.

    Several channels are averaged: those of a stethoscope's stereo file are
    copies of each other, and which of two microphones is the better one is not
    ours to guess. The file is opened for each stretch, so that an object is
    cheap to keep and to send to another process.

    Arguments
    ---------
    path : str or Path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is no audio, holds no sample, or is sampled at less than 800 Hz or
        more than 192 kHz.

    Example
    -------
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> soundfile.write(path, [[0.5, 0.25]] * 8000, 4000)
    >>> recording = Recording(path)
    >>> recording.duration, recording.channels
    (2.0, 2)
    >>> recording.read(1.5, 2.0)[:2]
    tensor([0.3750, 0.3750])
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path} is no file")
        try:
            info = soundfile.info(self.path)
        except soundfile.LibsndfileError as error:
            raise ValueError(
                f"{path} is not readable as audio ({error.error_string})"
            ) from error
        if info.frames == 0:
            raise ValueError(f"{path} holds no sample")
        if info.samplerate < LOWEST_RATE:
            raise ValueError(
                f"{path} has {info.samplerate} Hz, and breath sounds need"
                f" {LOWEST_RATE} Hz: is its header right?"
            )
        if info.samplerate > HIGHEST_RATE:
            raise ValueError(
                f"{path} has {info.samplerate} Hz, when {HIGHEST_RATE} is the"
                " limit: is its header right?"
            )
        self.sample_rate = info.samplerate
        self.frames = info.frames
        self.channels = info.channels

    @property
    def duration(self):
        """In seconds."""
        return self.frames / self.sample_rate

    def locate(self, start, end):
        """The samples of a stretch, clipped to the recording.

        They are rounded as the data preparation of the recipes does.

        Arguments
        ---------
        start, end : float
            In seconds.

        Returns
        -------
        tuple of int
            First sample, and the one after the last.
        """
        return tuple(
            round(min(max(time, 0.0), self.duration) * self.sample_rate)
            for time in (start, end)
        )

    def read(self, start, end):
        """Reads a stretch.

        Arguments
        ---------
        start, end : float
            In seconds.

        Returns
        -------
        torch.Tensor
            ``[time]``, float32, full scale at 1.

        Raises
        ------
        ValueError
            If nothing of it lies in the recording, or samples are missing,
            damaged, not finite, or beyond all scales.
        """
        first, stop = self.locate(start, end)
        if stop <= first:
            raise ValueError(
                f"{self.path} has nothing from {start:g} to {end:g} s: it is"
                f" {self.duration:g} s long"
            )
        with self._open() as file:
            return self._read(file, first, stop)

    def blocks(self, samples):
        """Reads everything, a block at a time.

        Arguments
        ---------
        samples : int
            Length of a block; the last may be shorter.

        Yields
        ------
        torch.Tensor
            ``[time]``, as :meth:`read` returns it, with its errors.
        """
        with self._open() as file:
            for first in range(0, self.frames, samples):
                stop = min(first + samples, self.frames)
                yield self._read(file, first, stop)

    def _open(self):
        try:
            return soundfile.SoundFile(self.path)
        except soundfile.LibsndfileError as error:
            raise ValueError(
                f"{self.path} is not readable as audio any more"
                f" ({error.error_string})"
            ) from error

    def _read(self, file, first, stop):
        try:
            file.seek(first)
            samples = file.read(stop - first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(
                f"{self.path} is damaged after"
                f" {first / self.sample_rate:g} s ({error.error_string})"
            ) from error
        if len(samples) != stop - first:
            raise ValueError(
                f"{self.path} ends at {(first + len(samples))} samples, of"
                f" which it promises {self.frames}"
            )
        one = samples[:, 0] if self.channels == 1 else samples.mean(axis=1)
        waveform = torch.from_numpy(one)
        check_samples(waveform, self.path, first, self.sample_rate)
        return waveform


def find_recordings(paths):
    """The recordings that paths name.

    Arguments
    ---------
    paths : list of str or Path
        Files, which are taken as they are; and folders, in which files are
        looked for by their suffix, at any depth, but for what is hidden.

    Returns
    -------
    list of Path
        In the order of the paths and sorted within a folder, each once.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or a folder has no recording.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / ".trash").mkdir()
    >>> for name in ("b.wav", "a.flac", "a.txt", "._b.wav", ".trash/c.wav"):
    ...     (folder / name).touch()
    >>> [path.name for path in find_recordings([folder])]
    ['a.flac', 'b.wav']
    """
    found = {}
    for path in map(Path, paths):
        if path.is_dir():
            recordings = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in SUFFIXES
                and not any(
                    part.startswith(".")
                    for part in file.relative_to(path).parts
                )
                and file.is_file()
            )
            if not recordings:
                raise FileNotFoundError(
                    f"{path} holds no recording: no file in it ends in"
                    f" {' '.join(sorted(SUFFIXES))}"
                )
        elif path.exists():
            recordings = [path]
        else:
            raise FileNotFoundError(f"{path} does not exist")
        found.update((file.resolve(), file) for file in recordings)
    return list(found.values())
