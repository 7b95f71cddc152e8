"""What all measures of quality have in common.

Authors
 * qlung_plugin contributors
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from qlung_plugin.processing.cycles import resample
from qlung_plugin.processing.quality import (
    SHORTEST_SILENCE,
    SILENCE,
    average_with_silence,
    constant_runs,
    remove_dc,
    resample_mask,
    rms_level,
    sample_mask,
)


def find_silence(
    waveforms: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Marks samples that stay exactly the same for 20 ms: they are no signal.

    Of waveforms ``[batch, time]`` and, if given, their numbers of valid samples,
    ``[batch]``, to a boolean ``[batch, time]``.
    """
    batch, time = waveforms.shape
    if lengths is None:
        lengths = torch.full((batch,), time, device=waveforms.device)
    shortest = max(2, round(SHORTEST_SILENCE * sample_rate))
    return constant_runs(waveforms, lengths, shortest)


# How measurements are brought into a range: as the formula says, or learned.
NORMALISATIONS = ("absolute", "fitted")


def fitted_values(measure: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """What a measure has learned, or a RuntimeError before it has."""
    if values.isnan().any():
        raise RuntimeError(
            f"{type(measure).__name__}(normalisation='fitted') is not fitted:"
            " call fit on the measurements of the training set, or load a"
            " checkpoint"
        )
    return values


class Supervision(TypedDict):
    """What a measure was learned from."""

    database: str
    patients: list[str]


class Signal(NamedTuple):
    """Waveforms that were checked, as they are measured."""

    waveforms: torch.Tensor  # as they came, [batch, time]
    centred: torch.Tensor  # without DC, 0 in the padding and in silence
    lengths: torch.Tensor  # number of valid samples, [batch]
    native_rates: torch.Tensor | None  # in Hz, [batch]
    silent: torch.Tensor | None  # which samples hold no signal; None: none

    def with_silence(self, values: torch.Tensor, worst: float) -> torch.Tensor:
        """Values of the signal, ``[batch]``, averaged with that of silence."""
        return average_with_silence(values, worst, self.lengths, self.silent)


class Measurements(nn.Module, ABC):
    """Base class of what measures waveforms; :meth:`measure_valid` does it.

    Subclasses may have ``names``, a tuple: what their measurements are called,
    for those who read them. Measurements without names are not shown.

    Arguments
    ---------
    sample_rate : int
        Rate at which the analysis is made and waveforms are expected, in Hz.
        It belongs to the measurement and is independent of any backbone's
        rate.
    """

    names: tuple[str, ...] = ()

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def measure_recorded(
        self, waveforms: Sequence[torch.Tensor], native_rates: Sequence[int]
    ) -> torch.Tensor:
        """Measures waveforms ``[time]`` as they were recorded, each at its rate.

        Silence is looked for before they are resampled, which blurs it.
        """
        rate = self.sample_rate
        pairs = list(zip(waveforms, native_rates))
        resampled = [
            resample(waveform, native, rate) for waveform, native in pairs
        ]
        padded = pad_sequence(resampled, batch_first=True)
        lengths = torch.tensor([len(w) for w in resampled], dtype=torch.double)
        masks = [
            find_silence(wave.unsqueeze(0), native) for wave, native in pairs
        ]
        if any(mask.any() for mask in masks):
            silent = pad_sequence(
                [
                    resample_mask(mask[0], native, rate)
                    for mask, (_, native) in zip(masks, pairs)
                ],
                batch_first=True,
            )
        else:  # as in most recordings: none to be resampled
            silent = torch.zeros_like(padded[:, :1], dtype=torch.bool)
        return self.measure(
            padded,
            (lengths / max(padded.shape[1], 1)).to(padded.device),
            torch.tensor(native_rates, device=padded.device),
            silent,
        )

    def measure(
        self,
        waveforms: torch.Tensor,
        relative_lengths: torch.Tensor | None = None,
        native_rates: torch.Tensor | None = None,
        silent: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Measures waveforms.

        Arguments
        ---------
        waveforms : torch.Tensor
            ``[batch, time]``, full scale at 1.
        relative_lengths : torch.Tensor, optional
            Valid share of each waveform, ``[batch]`` in [0, 1]; all of it if
            not given.
        native_rates : torch.Tensor, optional
            The rate at which each waveform was recorded, in Hz, ``[batch]``.
            It tells which bands a recording cannot have, so that a 4 kHz
            recording does not look cleaner for its empty upper band.
        silent : torch.Tensor, optional
            Which samples hold no signal, boolean ``[batch, time]``; found in
            the waveforms if not given, see :func:`find_silence`.

        Returns
        -------
        torch.Tensor
            ``[batch, measurement]``, float32; NaN where there is nothing to
            measure: silence or no sample.

        Raises
        ------
        ValueError
            If a shape is wrong, a length lies outside [0, 1] or a valid sample
            is not finite.
        """
        if waveforms.dim() != 2:
            raise ValueError(
                f"waveforms must be [batch, time], not {list(waveforms.shape)}"
            )
        batch, time = waveforms.shape
        for name, tensor in (
            ("relative_lengths", relative_lengths),
            ("native_rates", native_rates),
        ):
            if tensor is not None and tuple(tensor.shape) != (batch,):
                raise ValueError(
                    f"{name} must be [{batch}], not {list(tensor.shape)}"
                )
        if relative_lengths is None:
            lengths = torch.full((batch,), time, device=waveforms.device)
        elif ((relative_lengths >= 0) & (relative_lengths <= 1)).all():
            lengths = (relative_lengths.double() * time).round().long()
        else:
            raise ValueError("relative_lengths must lie in [0, 1]")
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.float()
            if silent is None:
                silent = find_silence(waveforms, self.sample_rate, lengths)
            if not silent.any():
                silent = None  # as in most recordings: no work for nothing
            # Silence is padding that goes all the way: one case, not two.
            centred = remove_dc(waveforms, lengths, silent)
            level = rms_level(centred, lengths)
            # The level tells it, much faster, unless it overflows.
            if not level.isfinite().all():
                valid = sample_mask(waveforms, lengths)
                if (valid & ~waveforms.isfinite()).any():
                    raise ValueError("a waveform holds NaN or infinite samples")
            audible = level > SILENCE
            values = self.measure_valid(
                Signal(waveforms, centred, lengths, native_rates, silent)
            )
            return torch.where(audible.unsqueeze(-1), values, torch.nan)

    @abstractmethod
    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """The measurements ``[batch, measurement]``, to be overridden."""


class QualityMeasure(Measurements):
    """Base class of the quality scores.

    A recording does not get better by a gap of digital silence: what is
    measured is its signal, and silence counts as the worst for its share of the
    time.

    Subclasses override ``measure_valid`` (of a :class:`Signal` the measurements,
    ``[batch, measurement]``) and :meth:`score`, :meth:`fit` where something is
    learned from the training set, and :meth:`measure_entries` where no waveforms
    are needed to tell of cycles. ``supervision`` is None, or says what database
    and patients the measure was learned from before; ``of_waveforms``, whether it
    can measure waveforms at all.
    """

    # Its own rate, whatever the backbone's is.
    yaml_values: dict[str, object] = {"sample_rate": 16000}
    # A tap hands it the waveforms of the recipe.
    speechbrain_values: dict[str, object] = {
        "sample_rate": "!ref <sample_rate>"
    }

    supervision: Supervision | None = None
    of_waveforms = True  # False: waveforms cannot be measured

    def forward(
        self,
        waveforms: torch.Tensor,
        relative_lengths: torch.Tensor | None = None,
        native_rates: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores waveforms; arguments and errors are those of ``measure``.

        Returns
        -------
        torch.Tensor
            ``[batch]`` in [0, 1], float32.
        """
        return self.score(
            self.measure(waveforms, relative_lengths, native_rates)
        )

    @property
    def parts(self) -> "tuple[QualityMeasure, ...]":
        """The measures whose measurements, beside each other, are its own.

        Itself, unless overridden. Each is measured and stored for itself.
        """
        return (self,)

    def measure_entries(
        self, entries: Mapping[str, Mapping]
    ) -> torch.Tensor | None:
        """Measures a manifest's cycles, entries by id, without waveforms.

        ``[cycle, measurement]``; None, unless overridden: the waveforms have to
        be measured.
        """
        return None

    @abstractmethod
    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """Turns ``[batch, measurement]`` into scores, to be overridden.

        They are ``[batch]`` in [0, 1]; 0 where there was nothing to measure.
        """

    def fit(self, measurements: torch.Tensor) -> None:
        """Learns from the unaugmented training set, if overridden.

        The measurements are ``[cycle, measurement]``.
        """

    def check_fitted(self) -> None:
        """Checks what was fitted; nothing, unless overridden.

        If it has to be and was not, or was given what no training set has, it is
        a ValueError, which begins with the name of the buffer.
        """
