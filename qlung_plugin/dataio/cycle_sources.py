"""Where the cycles of a recording are: annotated, in windows, or segmented.

Authors
 * qlung_plugin contributors
"""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import torch

from qlung_plugin.dataio.annotations import (
    annotation_beside,
    annotation_in,
    read_times,
)
from qlung_plugin.dataio.cycle_tables import CycleRows
from qlung_plugin.dataio.headers import TOLERANCE
from qlung_plugin.dataio.label_tracks import Label
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.processing.segmentation import (
    breath_envelope,
    segment_envelope,
)

WINDOW = 5.0  # s, what the recipes' backbones see, or less
HOP = 2.5  # s, so that every moment but the first and last is seen twice
LONGEST = 60.0  # s, of a cycle: longer is a recording, not a breath
BLOCK = 60.0  # s of a recording in memory at a time

logger = logging.getLogger(__name__)


class Cycles(NamedTuple):
    """The cycles of a recording."""

    times: Sequence[tuple[float, float]]  # start and end, in seconds
    source: str  # where they come from, in words
    confidence: float | None = None  # of the segmentation, in [0, 1]


# What find_cycles takes.
Source = str | Path | CycleRows | Iterable[Sequence[float]]


def find_cycles(recording: Recording, cycles: Source | None = None) -> Cycles:
    """Finds the cycles of a recording.

    Arguments
    ---------
    recording : qlung_plugin.dataio.recordings.Recording
        The recording.
    cycles : str, Path, CycleRows or list, optional
        * None or ``auto``: the annotation that lies beside the recording and
          has its name, with the suffix ``.txt``, ``.json`` or ``.csv``, if its
          content is one; without one, ``segmentation``.
        * ``segmentation``: breaths, as
          :mod:`qlung_plugin.processing.segmentation` finds them.
        * ``windows``: of 5 s, every 2.5 s.
        * A file: the annotation of ICBHI (``.txt``) or SPRSound (``.json``) of
          this recording, or its labels by Audacity or Raven (``.txt``); or a
          ``.csv`` with the columns ``start`` and ``end`` in seconds, and
          ``recording`` (file name or path, see
          :meth:`qlung_plugin.dataio.cycle_tables.CycleTable.assign`) if it
          is of several recordings.
        * A folder: of such files, each called like its recording, in folders
          like its own, directly in it, or at any depth.
        * The rows of a ``.csv`` that is read already, as CycleRows.
        * A list of tuples of start and end, in seconds.

    Returns
    -------
    Cycles
        In the order given. One that ends up to 0.1 s past the end of the
        recording is clipped to it; of a recording that is known to be
        truncated, all are, and what lies beyond is left out with a warning. An
        annotation may hold none.

    Raises
    ------
    FileNotFoundError
        If the file, or the recording's annotation in the folder, is not there.
    ValueError
        If an annotation cannot be read, a folder has several of a recording,
        or a cycle has no length, is longer than 60 s, or ends more than
        0.1 s past the end of the recording.

    Example
    -------
    >>> import soundfile
    >>> from qlung_plugin.dataio.recordings import Recording
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.0] * 40000, 4000)
    >>> recording = Recording(path)
    >>> list(find_cycles(recording, "windows").times)
    [(0.0, 5.0), (2.5, 7.5), (5.0, 10.0)]
    >>> _ = path.with_suffix(".csv").write_text("start,end\\n0.5,2\\n2,10.1\\n")
    >>> find_cycles(recording).times
    [(0.5, 2.0), (2.0, 10.0)]
    """
    if cycles is None:
        cycles = "auto"
    if isinstance(cycles, CycleRows):
        times = check_times(cycles.times(), recording, cycles.path)
        return Cycles(times, str(cycles.path))
    if not isinstance(cycles, (str, Path)):
        times = check_times(cycles, recording, "the cycles given")
        return Cycles(times, "given")
    if cycles == "auto":
        cycles = annotation_beside(recording.path) or "segmentation"
    if cycles == "segmentation":
        return segment_recording(recording)
    if cycles == "windows":
        source = f"windows of {WINDOW:g} s every {HOP:g} s"
        return Cycles(Windows(recording.duration), source)
    path = Path(cycles)
    if path.is_dir():
        path = annotation_in(path, recording.path)
    elif not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: cycles are a file, a folder, auto,"
            " segmentation or windows"
        )
    times = read_times(path, recording.path)
    return Cycles(check_times(times, recording, path), str(path))


class Windows(Sequence[tuple[float, float]]):
    """Overlapping windows of one length, the last of which ends at the end.

    They are computed when they are asked for: a file may claim a length of
    years.

    Arguments
    ---------
    duration : float
        Of the recording, in seconds. One window is all of it if it is shorter
        than a window.
    length : float
        In seconds.
    hop : float
        In seconds.

    Example
    -------
    >>> list(Windows(11))
    [(0.0, 5.0), (2.5, 7.5), (5.0, 10.0), (6.0, 11.0)]
    >>> Windows(11)[1:3]
    [(2.5, 7.5), (5.0, 10.0)]
    """

    def __init__(
        self, duration: float, length: float = WINDOW, hop: float = HOP
    ):
        self.duration, self.hop = float(duration), hop
        self.length = min(length, self.duration)
        self._count = math.ceil((self.duration - self.length) / hop - 1e-9) + 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> tuple[float, float]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[float, float]]: ...

    def __getitem__(
        self, index: int | slice
    ) -> tuple[float, float] | list[tuple[float, float]]:
        numbers = range(self._count)
        if isinstance(index, slice):
            return [self._window(number) for number in numbers[index]]
        return self._window(numbers[index])

    def _window(self, number: int) -> tuple[float, float]:
        start = min(number * self.hop, self.duration - self.length)
        return float(start), float(start + self.length)


def segment_recording(recording: Recording) -> Cycles:
    """The breaths of a recording, read block by block."""
    block = round(BLOCK * recording.sample_rate)
    envelope = torch.cat(
        [
            breath_envelope(waveform, recording.sample_rate)
            for waveform in recording.blocks(block)
        ]
    )
    segmentation = segment_envelope(envelope)
    # The last frame may reach past the last sample.
    times = [
        (start, min(end, recording.duration))
        for start, end in zip(segmentation.starts, segmentation.ends)
    ]
    return Cycles(times, "segmentation", segmentation.confidence)


def is_late(end: float, recording: Recording) -> bool:
    """Whether a time is so far past the end that it is no matter of rounding."""
    # Times are rounded: 10.1 - 10 is more than 0.1.
    return recording.excess(end) > TOLERANCE + 1e-9


def clip_label(label: Label, recording: Recording) -> Label:
    """A label that ends with its recording, or an error that says where it is."""
    if is_late(label.end, recording) or label.start >= recording.duration:
        raise ValueError(
            f"{label.where}: '{label.text}' ends at {label.end:g} s, past the end"
            f" of {recording.path}, which is {recording.duration:g} s long:"
            " correct it, or remove it"
        )
    return label._replace(end=min(label.end, recording.duration))


def check_times(
    times: Iterable[Sequence[float]], recording: Recording, where: Path | str
) -> list[tuple[float, float]]:
    """Cycles, in seconds, clipped to their recording, or an error that says where."""
    checked, lost = [], 0
    for number, cycle in enumerate(times, start=1):
        try:
            start, end = map(float, cycle)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{where}, cycle {number}: {cycle!r} is no start and end in"
                " seconds"
            ) from error
        place = f"{where}, cycle {number}: from {start:g} to {end:g} s"
        if not 0 <= start < end < math.inf:
            raise ValueError(f"{place} is no stretch of time")
        first, stop = recording.locate(start, end)
        if stop <= first:
            if recording.truncated and end > recording.duration:
                lost += 1
                continue
            raise ValueError(
                f"{place} has no sample of {recording.path}, which is"
                f" {recording.duration:g} s long"
            )
        if is_late(end, recording) and not recording.truncated:
            raise ValueError(
                f"{place} ends past the end of {recording.path}, which is"
                f" {recording.duration:g} s long"
            )
        end = min(end, recording.duration)
        if end - start > LONGEST:
            raise ValueError(
                f"{place} is longer than {LONGEST:g} s: that is no breath;"
                " classify it in windows"
            )
        checked.append((start, end))
    if lost:
        logger.warning(
            "%s: %d of %d cycles are left out, which lie after the end of the"
            " truncated recording",
            *(recording.path, lost, lost + len(checked)),
        )
    return checked
