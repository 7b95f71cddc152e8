"""Features that do not depend on how loud, and with what, was recorded.

A stethoscope multiplies what it hears by a gain and by a frequency response of
its own. Both are the same throughout a recording, and so can be measured in it
and taken out.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import cast

import torch
from torch import nn

from qlung_plugin.lobes.features.base import FrontEnd
from qlung_plugin.processing.band_level import (
    band_power,
    sounding_frames,
    sounding_pieces,
)
from qlung_plugin.processing.cycles import resample


def _check_band(name: str, f_min: float, f_max: float) -> None:
    if not 0 <= f_min < f_max:
        raise ValueError(
            f"{name}: f_min has to be below f_max, and neither negative, not"
            f" {f_min:g} and {f_max:g} Hz"
        )


class RecordingLevel(nn.Module):
    """Brings each recording, not each cycle, to one level in a band.

    The level is the root mean square between two frequencies, since what lies
    outside is of the device more than of the lungs, and not all databases have
    it; runs of digital silence are left out. Cycles keep their levels relative
    to each other.

    Arguments
    ---------
    rms_db : float
        The level of all recordings, in dB relative to full scale.
    f_min : float
        Lowest frequency of the band, in Hz.
    f_max : float
        Highest frequency of the band, in Hz.

    Raises
    ------
    ValueError
        If there is no such band.

    Example
    -------
    >>> level = RecordingLevel(rms_db=-20.0)
    >>> tone = torch.sin(2 * torch.pi * 500 * torch.arange(8000) / 8000)
    >>> level(level.power(tone[None], 8000))  # 0.1 / sqrt(0.5)
    tensor([0.1414])
    """

    not_in_speechbrain = "it is a part of NormalisedFeatures"

    def __init__(
        self,
        rms_db: float = -20.0,
        f_min: float = 150.0,
        f_max: float = 2000.0,
    ) -> None:
        super().__init__()
        _check_band("RecordingLevel", f_min, f_max)
        self.rms_db, self.f_min, self.f_max = rms_db, f_min, f_max

    def power(self, waveforms: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """Mean square in the band, ``[batch]``, of ``[batch, time]``."""
        return band_power(waveforms, sample_rate, self.f_min, self.f_max)

    def forward(self, power: torch.Tensor) -> torch.Tensor:
        """The gain of recordings of a mean square; 1 of those without sound."""
        rms = torch.where(power > 0, power, 1.0).sqrt()
        return torch.where(power > 0, 10 ** (self.rms_db / 20) / rms, 1.0)


class MelBand(nn.Module):
    """Makes mel bands outside of a range of frequencies 0.

    What lies there is of the recording device, or missing: ICBHI's recordings
    at 4 kHz hold nothing above 2 kHz. With the recording's spectral mean
    subtracted, 0 is the mean.

    Arguments
    ---------
    f_min : float
        Lowest frequency of a mel band that is kept, in Hz.
    f_max : float
        Highest frequency of a mel band that is kept, in Hz.

    Raises
    ------
    ValueError
        If there is no such band.

    Example
    -------
    >>> from qlung_plugin.lobes.features import EfficientATFeatures
    >>> int(MelBand(150.0, 2000.0).kept(EfficientATFeatures()).sum())
    48
    """

    not_in_speechbrain = "it is a part of NormalisedFeatures"

    def __init__(self, f_min: float = 150.0, f_max: float = 2000.0) -> None:
        super().__init__()
        _check_band("MelBand", f_min, f_max)
        self.f_min, self.f_max = f_min, f_max

    def kept(self, log_mel: FrontEnd) -> torch.Tensor:
        """Which of a front end's mel bands are inside, boolean ``[mel]``."""
        frequencies = log_mel.band_frequencies()
        kept = (frequencies >= self.f_min) & (frequencies <= self.f_max)
        if not kept.any():
            raise ValueError(
                f"band: no mel band of {type(log_mel).__name__} lies between"
                f" {self.f_min:g} and {self.f_max:g} Hz"
            )
        return kept


class RecordingReference(nn.Module):
    """What the cycles of a recording are normalised by, measured in all of it.

    Called with a recording ``[time]`` and its rate in Hz; :meth:`measure` takes
    it in blocks. It gives ``[1 + mel]``, the gain and the mean of each mel band,
    or ``[1]`` where no mean is asked for; the gain is 1 where no level is.
    """

    def __init__(
        self,
        log_mel: FrontEnd,
        level: RecordingLevel | None,
        spectral_mean: bool,
    ) -> None:
        super().__init__()
        self.log_mel, self.level = log_mel, level
        self.spectral_mean = spectral_mean

    def forward(self, waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """The reference of a recording ``[time]``."""
        return self.measure([waveform], sample_rate)

    @torch.no_grad()
    def measure(
        self, blocks: Iterable[torch.Tensor], sample_rate: int
    ) -> torch.Tensor:
        """The reference of a recording in blocks, which are gone through twice."""
        tensors = chain(self.log_mel.parameters(), self.log_mel.buffers())
        device = next(tensors, torch.empty(0)).device
        parts = [torch.ones(1, device=device)]
        level = self.level
        if level is not None:
            power = _mean_over_pieces(
                lambda piece: level.power(piece[None], sample_rate),
                sounding_pieces(blocks, sample_rate),
            )
            if power is not None:
                parts = [level(power)]
        if self.spectral_mean:
            mean = _mean_over_pieces(
                lambda piece: self._mean(parts[0] * piece, sample_rate),
                sounding_pieces(blocks, sample_rate),
            )
            if mean is None:  # all is silence
                silence = torch.zeros(sample_rate, device=device)
                mean = self._mean(silence, sample_rate)
            parts.append(mean)
        return torch.cat(parts)

    def _mean(self, waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        resampled = resample(waveform, sample_rate, self.log_mel.sample_rate)
        return self.log_mel(resampled[None])[0].mean(dim=0)


def _mean_over_pieces(
    measure: Callable[[torch.Tensor], torch.Tensor],
    pieces: Iterable[tuple[torch.Tensor, int]],
) -> torch.Tensor | None:
    """Mean of what is measured in pieces, by their lengths; None of none."""
    total, samples = torch.zeros(1, dtype=torch.float64), 0
    for piece, count in pieces:
        total = total.to(piece.device) + measure(piece).double() * count
        samples += count
    return (total / samples).float() if samples else None


class NormalisedFeatures(FrontEnd):
    """A front end whose features are normalised by the recording.

    The recording is brought to a level, mel bands are masked, and its spectral
    mean is subtracted: of log-mel features that takes out the frequency response
    of the device. Any of these may be left out; with none, features are those of
    the front end. Source of the mean's subtraction: B. S. Atal, "Effectiveness of
    linear prediction characteristics of the speech wave for automatic speaker
    identification and verification", JASA 55, 1974.

    Arguments
    ---------
    log_mel : torch.nn.Module
        The front end, from ``[batch, time]`` to ``[batch, time, mel]``.
    level : RecordingLevel, optional
        To what level a recording is brought, before all else.
    band : MelBand, optional
        Outside of which mel bands are 0.
    spectral_mean : bool
        Whether the mean of each mel band over the recording is subtracted.
    after : torch.nn.Module, optional
        What features are given to then, such as the frozen first blocks of a
        backbone.

    Raises
    ------
    ValueError
        If a front end from elsewhere does not tell its rate, or its mel bands,
        and is to be normalised by them.

    Example
    -------
    >>> from qlung_plugin.lobes.features import EfficientATFeatures
    >>> features = NormalisedFeatures(
    ...     EfficientATFeatures(), RecordingLevel(), MelBand(), True
    ... )
    >>> recording = torch.randn(4 * 32000)
    >>> reference = features.reference([recording], 32000)
    >>> reference.shape
    torch.Size([129])
    >>> cycles, references = recording.view(2, -1), reference.expand(2, -1)
    >>> normalised = features(cycles, references)
    >>> louder = features.reference([8 * recording], 32000).expand(2, -1)
    >>> torch.allclose(features(8 * cycles, louder), normalised, atol=1e-4)
    True
    """

    yaml_key = "compute_features"
    yaml_values = {
        "log_mel": "!ref <log_mel>",
        "level": "!new:RecordingLevel",
        "band": "!new:MelBand",
        "spectral_mean": True,
    }
    not_in_speechbrain = "its scripts do not tell what recording a cycle is of"

    inside: torch.Tensor

    def __init__(
        self,
        log_mel: nn.Module,
        level: RecordingLevel | None = None,
        band: MelBand | None = None,
        spectral_mean: bool = False,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        # Or what is called alike, which need not tell as much of itself.
        self.log_mel = cast(FrontEnd, log_mel)
        self.level, self.after = level, after
        self.spectral_mean = spectral_mean
        if hasattr(log_mel, "sample_rate"):
            self.sample_rate = self.log_mel.sample_rate
        elif self.recording_reference is not None:
            raise ValueError(
                "level and spectral_mean need a log_mel with a sample_rate, as"
                " those of qlung_plugin.lobes.features have it, and not a"
                f" {type(log_mel).__name__}"
            )
        self.masks = band is not None
        if band is not None:
            if not isinstance(log_mel, FrontEnd):
                raise ValueError(
                    "band: one of qlung_plugin.lobes.features is needed as"
                    f" log_mel, whose mel bands are known, not a"
                    f" {type(log_mel).__name__}"
                )
            # Not persistent: it follows from the settings.
            self.register_buffer("inside", band.kept(log_mel), persistent=False)

    @property
    def recording_reference(self) -> RecordingReference | None:
        """What measures a recording's reference; None if none is needed."""
        if self.level is None and not self.spectral_mean:
            return None
        return RecordingReference(self.log_mel, self.level, self.spectral_mean)

    def reference(
        self, blocks: Iterable[torch.Tensor], sample_rate: int
    ) -> torch.Tensor:
        """What :meth:`forward` needs to know of a recording.

        Arguments
        ---------
        blocks : iterable of torch.Tensor
            The whole recording in its order, ``[time]`` each; gone through twice,
            so that a list is good, and a generator is not.
        sample_rate : int
            Of the blocks, in Hz.

        Returns
        -------
        torch.Tensor
            ``[1 + mel]``: the gain, and the spectral mean if it is subtracted.
        """
        return RecordingReference(
            self.log_mel, self.level, self.spectral_mean
        ).measure(blocks, sample_rate)

    def forward(
        self,
        waveforms: torch.Tensor,
        reference: torch.Tensor | None = None,
        partial: bool = False,
    ) -> torch.Tensor:
        """Features ``[batch, time, mel]``, or what comes ``after``.

        Arguments
        ---------
        waveforms : torch.Tensor
            Of cycles, ``[batch, time]``, at the front end's rate.
        reference : torch.Tensor, optional
            ``[batch, 1 + mel]``: for each cycle what :meth:`reference` said of
            its recording. Without it each waveform is its own recording.
        partial : bool
            Whether the reference may have NaN, for what is the waveform's own.
        """
        features = self.normalise(waveforms, reference, partial)
        return features if self.after is None else self.after(features)

    def normalise(
        self,
        waveforms: torch.Tensor,
        reference: torch.Tensor | None = None,
        partial: bool = False,
    ) -> torch.Tensor:
        """Features before what comes ``after``; see :meth:`forward`."""
        gain = mean = None
        if reference is not None:
            gain, mean = reference[:, :1], reference[:, 1:]
        with torch.autocast(waveforms.device.type, enabled=False):
            if self.level is not None:
                if gain is None or partial:
                    gain = _filled(gain, self._own_gain(waveforms))
                waveforms = gain * waveforms.float()
            features = self.log_mel(waveforms)
            if self.spectral_mean:
                if mean is None or partial:
                    mean = _filled(mean, _own_mean(features, waveforms))
                features = features - mean.unsqueeze(1)
            if self.masks:
                features = torch.where(self.inside, features, 0.0)
            return features

    def _own_gain(self, waveforms: torch.Tensor) -> torch.Tensor:
        """``[batch, 1]`` of waveforms that are recordings of their own."""
        assert self.level is not None
        power = self.level.power(waveforms.float(), self.log_mel.sample_rate)
        stretches = -(-100 * waveforms.shape[-1] // self.log_mel.sample_rate)
        share = sounding_frames(waveforms, stretches).float().mean(dim=-1)
        return self.level(power / share.clamp(min=1 / stretches)).unsqueeze(1)


def _own_mean(features: torch.Tensor, waveforms: torch.Tensor) -> torch.Tensor:
    """``[batch, mel]``, over the frames that are not of digital silence."""
    sounding = sounding_frames(waveforms, features.shape[1])
    counted = sounding | ~sounding.any(dim=-1, keepdim=True)
    shares = counted / counted.sum(dim=-1, keepdim=True)
    return torch.matmul(shares.unsqueeze(1), features).squeeze(1)


def _filled(given: torch.Tensor | None, own: torch.Tensor) -> torch.Tensor:
    return own if given is None else torch.where(given.isnan(), own, given)
