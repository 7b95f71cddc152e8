"""Quality from the short-time power spectrum.

Authors
 * qlung_plugin contributors
"""

import math

import torch

from qlung_plugin.processing.quality.frames import mean_over_frames


def spectral_entropy(
    power: torch.Tensor,
    frames: torch.Tensor,
    bins: torch.Tensor,
    average: str = "frames",
) -> torch.Tensor:
    """Normalised spectral entropy: 0 for a pure tone, 1 for a flat spectrum.

    ``H = -sum_k p_k log p_k / log K`` with ``p_k`` the share of bin ``k`` in
    the power of the ``K`` bins. Source: H. Misra et al., "Spectral entropy
    based feature for robust ASR", ICASSP 2004. By ``average``, it is the mean
    of the ``frames``' entropies or the entropy of the mean ``spectrum``.

    Example
    -------
    >>> power = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    >>> frames, bins = torch.ones(1, 2).bool(), torch.ones(1, 4).bool()
    >>> spectral_entropy(power, frames, bins)
    tensor([0.5000])
    >>> spectral_entropy(power, frames, bins, average="spectrum")
    tensor([1.])
    """
    if average == "spectrum":
        power = mean_over_frames(power, frames).unsqueeze(1)
        frames = frames.any(dim=-1, keepdim=True)
    elif average != "frames":
        raise ValueError(f"average={average!r} is neither frames nor spectrum")
    entropy = entropy_of_frames(power, bins)
    return mean_over_frames(entropy, frames & ~entropy.isnan())


def entropy_of_frames(power: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Normalised spectral entropy of every frame.

    Arguments
    ---------
    power : torch.Tensor
        ``[batch, frame, bin]``; see
        :func:`qlung_plugin.processing.quality.power_frames`.
    bins : torch.Tensor
        Which bins count, boolean ``[batch, bin]``.

    Returns
    -------
    torch.Tensor
        ``[batch, frame]`` in [0, 1]; see :func:`spectral_entropy`. NaN for a
        frame without energy in the bins.

    Example
    -------
    >>> power = torch.tensor([[[1.0, 1.0, 5.0], [2.0, 0.0, 5.0]]])
    >>> entropy_of_frames(power, torch.tensor([[True, True, False]]))
    tensor([[1., 0.]])
    """
    power = _in_band(power, bins)
    total = power.sum(dim=-1, keepdim=True)
    share = power / total.clamp(min=torch.finfo(power.dtype).tiny)
    entropy = torch.special.entr(share).sum(dim=-1)
    entropy = entropy / bins.sum(dim=-1, keepdim=True).log()
    return entropy.where(total.squeeze(-1) > 0, math.nan)


def spectral_flatness(
    power: torch.Tensor, frames: torch.Tensor, bins: torch.Tensor
) -> torch.Tensor:
    """Geometric over arithmetic mean of the mean power spectrum, in [0, 1].

    1 for a flat spectrum. Source: A. Gray and J. Markel, "A spectral-flatness
    measure for studying the autocorrelation method of linear prediction of
    speech analysis", IEEE Trans. ASSP 1974.

    Example
    -------
    >>> power = torch.tensor([[[1.0, 4.0]]])
    >>> spectral_flatness(
    ...     power, torch.ones(1, 1).bool(), torch.ones(1, 2).bool()
    ... )
    tensor([0.8000])
    """
    spectrum = mean_over_frames(power, frames)
    spectrum = torch.where(bins, spectrum, 0.0)
    count = bins.sum(dim=-1)
    mean = spectrum.sum(dim=-1) / count
    tiny = torch.finfo(power.dtype).tiny
    log_mean = torch.where(bins, spectrum.clamp(min=tiny).log(), 0.0)
    return (log_mean.sum(dim=-1) / count).exp() / mean.clamp(min=tiny)


def blind_snr(
    power: torch.Tensor,
    frames: torch.Tensor,
    bins: torch.Tensor,
    quantile: float = 0.2,
    floor: float = -20.0,
    ceiling: float = 60.0,
) -> torch.Tensor:
    """Signal-to-noise ratio with the noise estimated from the quietest frames.

    In every bin the noise power is taken from a low ``quantile`` of the frames'
    power, corrected for the bias that this quantile has for stationary
    Gaussian noise, whose power is exponentially distributed: the quantile
    ``q`` of such a power is ``-log(1 - q)`` of its mean. What exceeds the
    noise is signal. Breathing and its sounds come and go; a stationary
    background stays. Source of the idea: R. Martin, "Noise power spectral
    density estimation based on optimal smoothing and minimum statistics", IEEE
    Trans. SAP 2001. In dB, between ``floor`` and ``ceiling``.

    Example
    -------
    >>> noise = torch.ones(1, 50, 3)
    >>> noise[:, 40:] = 31.0  # a fifth of the frames hold signal, 30 on top
    >>> frames, bins = torch.ones(1, 50).bool(), torch.ones(1, 3).bool()
    >>> level = -math.log(1 - 0.2)
    >>> bias = 10 * math.log10((0.2 * 31 + 0.8 - 1 / level) * level)
    >>> torch.allclose(blind_snr(noise, frames, bins), torch.tensor([bias]))
    True
    """
    power = _in_band(power, bins)
    mean = mean_over_frames(power, frames).sum(dim=-1)
    ordered = power.masked_fill(~frames.unsqueeze(-1), math.inf).sort(dim=1)[0]
    rank = (quantile * (frames.sum(dim=-1) - 1).clamp(min=0)).long()
    rank = rank.view(-1, 1, 1).expand(-1, 1, ordered.shape[-1])
    low = ordered.gather(1, rank).squeeze(1)
    noise = low.sum(dim=-1) / -math.log(1 - quantile)
    tiny = torch.finfo(power.dtype).tiny
    ratio = (mean - noise).clamp(min=tiny) / noise.clamp(min=tiny)
    decibels = 10 * ratio.clamp(min=tiny).log10()
    return decibels.clamp(floor, ceiling)


def _in_band(power: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    return torch.where(bins.unsqueeze(1), power, 0.0)
