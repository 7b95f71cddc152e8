"""Reading the cycles of a manifest and what is computed from them.

A cycle's way from the file to the model has two branches: its quality is
measured as it is, at the quality score's own rate (:mod:`qlung_plugin.dataio.quality`);
and it is resampled, brought to a fixed length and turned into the backbone's
features. Neither changes between epochs: :mod:`qlung_plugin.dataio.store` keeps the
results.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.dataio.stretches import Excerpt, Stretches
from qlung_plugin.processing.cycles import (
    fix_length,
    resample,
    resampling_margin,
)

BLOCK = 10  # s of a recording, in memory at a time


def read_cycle(
    wav: Mapping[str, Any], data_root: Path | str = ""
) -> torch.Tensor:
    """Reads one cycle of a recording, ``[time]``, full scale at 1.

    Arguments
    ---------
    wav : dict
        ``file``, ``start`` and ``stop`` (exclusive), in samples at the file's
        own rate, and of a file of several ``channels``, from 0, those whose mean
        is read.
    data_root : str
        Replaces ``{data_root}`` in the file name.

    Returns
    -------
    torch.Tensor
        ``[time]``.

    Raises
    ------
    OSError, ValueError
        If the file is no recording that holds such a cycle, or has several
        channels, and it is not said which.
    """
    return read_excerpt(wav, None, data_root).waveform


def read_excerpt(
    wav: Mapping[str, Any], sample_rate: int | None, data_root: Path | str = ""
) -> Excerpt:
    """As :func:`read_cycle`, with what resampling to a rate in Hz needs besides."""
    path = wav["file"].replace("{data_root}", str(data_root))
    first, stop = wav["start"], wav["stop"]
    if not 0 <= first < stop:
        raise ValueError(f"{path} has no cycle from sample {first} to {stop}")
    chosen = wav.get("channels", [0])
    with Stretches(path, stop, chosen) as stretches:
        decoder = stretches.decoder
        channels = decoder.channels
        if not chosen or max(chosen) >= channels:
            raise ValueError(f"{path} has {channels} channels, not {chosen}")
        if channels != 1 and "channels" not in wav:
            raise ValueError(
                f"{path} has {channels} channels, and its manifest does not say"
                " which are meant: prepare it anew"
            )
        margin = 0
        if sample_rate is not None:
            margin = resampling_margin(decoder.sample_rate, sample_rate)
        stretches.frames = min(stop + margin, decoder.frames or stop + margin)
        return stretches.excerpt(first, stop, margin)


class CycleResampler(nn.Module):
    """A cycle at the backbone's rate, of its own length.

    Arguments
    ---------
    sample_rate : int
        The backbone's rate, in Hz.

    Example
    -------
    >>> import torch
    >>> CycleResampler(32000)(torch.zeros(4000), 4000).shape
    torch.Size([32000])
    """

    def __init__(self, sample_rate: int):
        super().__init__()
        self.sample_rate = sample_rate

    @property
    def input_rate(self) -> int:
        """The rate in Hz to give it cycles at, see :func:`input_of`."""
        return self.sample_rate

    def forward(self, waveform: torch.Tensor, native_rate: int) -> torch.Tensor:
        """Resamples ``[time]`` from ``native_rate`` in Hz."""
        return resample(waveform, native_rate, self.sample_rate)


def input_of(
    process: nn.Module, excerpt: Excerpt, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, int]:
    """What a process is given of a cycle: ``[time]`` and its rate in Hz.

    That is the cycle as it was recorded; or, if the process has an ``input_rate``,
    at that rate, resampled with what lies around it.

    Example
    -------
    >>> excerpt = Excerpt(torch.zeros(4000), 0, 0, 4000)
    >>> input_of(CycleResampler(32000), excerpt)[0].shape
    torch.Size([32000])
    >>> input_of(nn.Identity(), excerpt)[0].shape
    torch.Size([4000])
    """
    rate = getattr(process, "input_rate", None)
    if rate is None:
        return excerpt.waveform.to(device), excerpt.sample_rate
    return excerpt.resampled(rate, device), rate


class FixedLength(nn.Module):
    """Cyclic padding to a fixed duration, with fades.

    Arguments
    ---------
    sample_rate : int
        Rate of the waveforms, in Hz.
    duration : float
        Duration to return, in seconds.
    fade : float
        Length of the linear fades at both ends, in seconds.
    fade_first : bool
        Whether the cycle is faded before it is repeated, instead of after.
    fade_in : bool
        Whether the beginning is faded, too, or the end alone.

    Example
    -------
    >>> import torch
    >>> FixedLength(8000)(torch.ones(100)).shape
    torch.Size([64000])
    """

    def __init__(
        self,
        sample_rate: int,
        duration: float = 8.0,
        fade: float = 0.0625,
        fade_first: bool = False,
        fade_in: bool = True,
    ):
        super().__init__()
        self.sample_rate = sample_rate
        self.length = round(duration * sample_rate)
        self.fade_samples = round(fade * sample_rate)
        self.fade_first, self.fade_in = fade_first, fade_in

    def target(self, samples: int) -> int:
        """How many samples become of a cycle of so many."""
        return self.length

    def forward(
        self, waveform: torch.Tensor, length: int | None = None
    ) -> torch.Tensor:
        """Brings ``[..., time]`` to its :meth:`target`, or another length."""
        return fix_length(
            waveform,
            self.target(waveform.shape[-1]) if length is None else length,
            self.fade_samples,
            self.fade_first,
            self.fade_in,
        )


class OwnLength(FixedLength):
    """Cyclic padding to the next whole step, so that short cycles stay short.

    Nothing is padded with zeros, so that no pooling needs a mask, and a model says
    of a cycle the same alone and in a batch: the recipes make batches of cycles that
    became equally long, see :func:`qlung_plugin.dataio.lengths.equal_lengths`.

    Arguments
    ---------
    sample_rate : int
        Rate of the waveforms, in Hz.
    step : float
        Durations are multiples of it, in seconds.
    duration : float
        The longest, in seconds, a number of steps; what is longer is cut.
    fade, fade_first, fade_in
        See :class:`FixedLength`.

    Example
    -------
    >>> import torch
    >>> own_length = OwnLength(8000, step=1.0, duration=8.0)
    >>> [len(own_length(torch.ones(n))) // 8000 for n in (100, 8001, 99999)]
    [1, 2, 8]
    """

    def __init__(
        self,
        sample_rate: int,
        step: float = 1.0,
        duration: float = 8.0,
        fade: float = 0.0625,
        fade_first: bool = False,
        fade_in: bool = True,
    ):
        super().__init__(sample_rate, duration, fade, fade_first, fade_in)
        self.step = round(step * sample_rate)
        if self.step < 1 or self.length % self.step:
            raise ValueError(
                f"duration must be a number of steps, not {duration} s in steps"
                f" of {step}"
            )

    def target(self, samples: int) -> int:
        """How many samples become of a cycle of so many."""
        return min(-(-samples // self.step) * self.step, self.length)


class CycleFeatures(nn.Module):
    """The backbone's features of a cycle, in half precision.

    Half precision, because the features of the full database are kept, and
    because features that are kept and features that are computed on the spot
    have to be the same.

    Arguments
    ---------
    resampler : CycleResampler
        To the backbone's rate.
    fix_length : FixedLength
        To the input length.
    compute_features : nn.Module
        From waveforms ``[batch, time]`` to features ``[batch, time, mel]``.

    Example
    -------
    >>> from qlung_plugin.lobes.features import EfficientATFeatures
    >>> import torch
    >>> features = CycleFeatures(
    ...     CycleResampler(32000), FixedLength(32000), EfficientATFeatures()
    ... )
    >>> features(torch.randn(4000), 4000).shape
    torch.Size([800, 128])
    """

    def __init__(
        self,
        resampler: CycleResampler,
        fix_length: FixedLength,
        compute_features: nn.Module,
    ):
        super().__init__()
        self.resampler = resampler
        self.fix_length = fix_length
        self.compute_features = compute_features

    @property
    def input_rate(self) -> int:
        """See :class:`CycleResampler`."""
        return self.resampler.input_rate

    @property
    def recording_reference(self) -> "RecordingReference | None":
        """What measures a whole recording, if that is needed for its cycles."""
        return getattr(self.compute_features, "recording_reference", None)

    def forward(
        self,
        waveform: torch.Tensor,
        native_rate: int,
        reference: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Features of a cycle ``[time]`` recorded at ``native_rate`` in Hz.

        The ``reference`` is what :attr:`recording_reference` says of its
        recording; without one, a cycle is its own recording.
        """
        inputs = self.prepare(waveform, native_rate, reference)
        return self.compute_features(*inputs)[0].half()

    def prepare(
        self,
        waveform: torch.Tensor,
        native_rate: int,
        reference: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """What ``compute_features`` is given of a cycle, as a batch of one."""
        waveform = self.fix_length(self.resampler(waveform, native_rate))
        inputs = [waveform] if reference is None else [waveform, reference]
        return [part.unsqueeze(0) for part in inputs]


class RecordingReference(Protocol):
    """What measures recordings for the features of their cycles.

    Its class, in :mod:`qlung_plugin.lobes.features.normalised`, is a floor above.
    """

    def measure(
        self, blocks: Iterable[torch.Tensor], sample_rate: int
    ) -> torch.Tensor: ...


class RecordingBlocks:
    """A recording from its start, in blocks, as often as it is asked for them.

    So that one of hours is measured in bounded memory.
    """

    def __init__(
        self, recording: Recording, device: torch.device | str = "cpu"
    ):
        self.recording, self.device = recording, device

    def __iter__(self) -> Iterator[torch.Tensor]:
        for block in self.recording.blocks(BLOCK * self.recording.sample_rate):
            yield block.to(self.device)


def measure_recording(
    process: nn.Module, recording: Recording, device: torch.device | str = "cpu"
) -> torch.Tensor | None:
    """The reference of a recording for the features of its cycles, if any.

    It is what the ``recording_reference`` of the process says; training,
    evaluation and use have it from here.
    """
    measure = getattr(process, "recording_reference", None)
    if measure is None:
        return None
    blocks = RecordingBlocks(recording, device)
    return measure.measure(blocks, recording.sample_rate)
