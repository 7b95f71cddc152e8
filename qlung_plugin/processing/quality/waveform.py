"""Quality from the samples of a waveform.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Sequence

import torch

from qlung_plugin.processing.quality.frames import (
    SILENCE,
    clear_padding,
    count_signal,
    sample_mask,
)


def rms_level(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    silent: torch.Tensor | None = None,
) -> torch.Tensor:
    """Root mean square of the signal, relative to full scale; 0 without any.

    Example
    -------
    >>> rms_level(torch.tensor([[3.0, -4.0, 9.0]]), torch.tensor([2]))
    tensor([3.5355])
    """
    waveforms = clear_padding(waveforms, lengths)
    if silent is not None:
        waveforms = waveforms.masked_fill(silent, 0.0)
    energy = waveforms.square().sum(dim=-1)
    return (energy / count_signal(lengths, silent).clamp(min=1)).sqrt()


def clipping_ratio(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    silent: torch.Tensor | None = None,
) -> torch.Tensor:
    """Share of the signal that lies on a plateau at an extreme; 0 for silence.

    A sample is clipped where it is at least 0.98 of half the waveform's range
    away from the middle of it and a neighbour differs by less than 1e-4 of
    that. The first alone would count the crests of low tones, the second alone
    silence. A constant offset changes nothing. A resampler rounds plateaus off:
    the value is exact at the rate of the recording.

    What is constant for long at an extreme is clipped; elsewhere, or at
    exactly 0, it is silence, and not counted at all.

    Example
    -------
    >>> wave = torch.tensor([[0.0, 0.5, 1.0, 1.0, 0.2, -0.9, -1.0, 0.0]])
    >>> clipping_ratio(wave, torch.tensor([8]))
    tensor([0.2500])
    """
    if waveforms.shape[-1] == 0:  # which has no extremes
        return waveforms.new_zeros(len(waveforms))
    mask = sample_mask(waveforms, lengths)
    if silent is not None:
        # Beside a constant offset, 0 would be an extreme.
        mask &= ~(silent & (waveforms == 0))
    high = waveforms.masked_fill(~mask, -math.inf).amax(dim=-1, keepdim=True)
    low = waveforms.masked_fill(~mask, math.inf).amin(dim=-1, keepdim=True)
    peak = (high - low) / 2
    distance = (waveforms - (high + low) / 2).abs()
    at_peak = mask & (distance >= 0.98 * peak) & (peak > SILENCE)
    flat = waveforms.diff(dim=-1).abs() < 1e-4 * peak
    flat = flat & at_peak[:, 1:] & at_peak[:, :-1]
    clipped = torch.nn.functional.pad(flat, (0, 1)) | torch.nn.functional.pad(
        flat, (1, 0)
    )
    if silent is not None:
        mask &= at_peak | ~silent
    return clipped.sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def crest_factor(
    centred: torch.Tensor,
    lengths: torch.Tensor,
    silent: torch.Tensor | None = None,
) -> torch.Tensor:
    """Peak over root mean square, in dB: how impulsive a waveform is.

    3 for a sine.

    Example
    -------
    >>> crest_factor(torch.tensor([[1.0, -1.0, 3.0]]), torch.tensor([2]))
    tensor([0.])
    """
    if centred.shape[-1] == 0:  # which has no peak
        return centred.new_full((len(centred),), math.nan)
    peak = clear_padding(centred, lengths).abs().amax(dim=-1)
    return 20 * (peak / rms_level(centred, lengths, silent)).log10()


def log_kurtosis(
    centred: torch.Tensor,
    lengths: torch.Tensor,
    silent: torch.Tensor | None = None,
) -> torch.Tensor:
    """Natural logarithm of the kurtosis of the samples: log 3 for Gaussian noise.

    Impulses make the distribution of the samples long-tailed; a steady sound of
    many parts is Gaussian. Source: R. Dwyer, "Detection of non-Gaussian signals
    by frequency domain kurtosis estimation", ICASSP 1983.

    Example
    -------
    >>> log_kurtosis(torch.tensor([[1.0, -1.0, 3.0]]), torch.tensor([2]))
    tensor([0.])
    """
    scaled = centred / rms_level(centred, lengths, silent).unsqueeze(-1)
    scaled = clear_padding(scaled, lengths)
    # Squared twice: a power of four is slow.
    fourth = scaled.square().square().sum(dim=-1)
    return (
        fourth / count_signal(lengths, silent)
    ).log()  # NaN without a sample, too


def mains_hum(
    centred: torch.Tensor,
    lengths: torch.Tensor,
    sample_rate: int,
    mains: Sequence[float] = (50.0, 60.0),
) -> torch.Tensor:
    """How far a line at the mains frequency stands out of its surroundings.

    Power of the whole waveform, Hann-windowed, at the frequency, over its mean
    power 4, 6 and 8 Hz to either side, in dB, the larger over the ``mains``.
    Heartbeats have energy there too, but no line. NaN below a second, which
    does not resolve 2 Hz.

    Example
    -------
    >>> time = torch.arange(16000) / 8000
    >>> hum = torch.sin(2 * torch.pi * 50 * time)
    >>> noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    >>> waveforms = torch.stack([hum + noise, noise])
    >>> (mains_hum(waveforms, torch.tensor([16000] * 2), 8000) > 15).tolist()
    [True, False]
    """
    offsets = torch.tensor([0.0, -8.0, -6.0, -4.0, 4.0, 6.0, 8.0])
    frequencies = (torch.tensor(list(mains)).unsqueeze(1) + offsets).view(-1)
    positions = torch.arange(centred.shape[-1], device=centred.device)
    phase = 2 * math.pi * frequencies.to(centred) / sample_rate
    phase = positions.unsqueeze(-1) * phase
    turns = positions / lengths.clamp(min=1).unsqueeze(-1)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * turns)
    window = torch.where(sample_mask(centred, lengths), window, 0.0)
    windowed = torch.where(window > 0, centred, 0.0) * window
    power = (windowed @ phase.cos()).square()
    power = power + (windowed @ phase.sin()).square()
    power = power.view(len(centred), len(mains), len(offsets))
    ratio = power[..., 0] / power[..., 1:].mean(dim=-1)
    hum = 10 * ratio.log10().amax(dim=-1)
    return torch.where(lengths >= sample_rate, hum, math.nan)
