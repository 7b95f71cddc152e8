"""The frames of an auscultation recording that its quality is measured on.

Authors
 * qlung_plugin contributors
"""

import math

import torch

# Below this level, relative to full scale, there is nothing to measure: it is
# 30 dB under the least significant bit of a 16-bit recording.
SILENCE = 1e-6

# Of its sample rate, up to here a recording has content: 0.9 of the Nyquist
# frequency, where a resampler has its transition band.
USABLE = 0.45


def sample_mask(waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Marks the valid samples of a padded batch, boolean ``[batch, time]``.

    Example
    -------
    >>> sample_mask(torch.zeros(2, 3), torch.tensor([3, 1]))
    tensor([[ True,  True,  True],
            [ True, False, False]])
    """
    positions = torch.arange(waveforms.shape[-1], device=waveforms.device)
    return positions < lengths.unsqueeze(-1)


def clear_padding(
    waveforms: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Zeroes the padding, whatever it holds, NaN included.

    Where none is padded, the waveforms themselves are returned.

    Example
    -------
    >>> clear_padding(torch.ones(2, 3), torch.tensor([3, 1]))
    tensor([[1., 1., 1.],
            [1., 0., 0.]])
    """
    # Single cycles have none, and a mask would be a good part of all the work.
    # To look at the lengths is free here, where it does not wait for a GPU.
    time = waveforms.shape[-1]
    if lengths.is_cpu and all(length == time for length in lengths.tolist()):
        return waveforms
    return torch.where(sample_mask(waveforms, lengths), waveforms, 0.0)


def count_signal(
    lengths: torch.Tensor, silent: torch.Tensor | None = None
) -> torch.Tensor:
    """Number of the valid samples that are signal.

    Example
    -------
    >>> count_signal(torch.tensor([2]), torch.tensor([[True, False, False]]))
    tensor([1])
    """
    return lengths if silent is None else lengths - silent.sum(dim=-1)


def average_with_silence(
    values: torch.Tensor,
    in_silence: float,
    lengths: torch.Tensor,
    silent: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over time of what was measured on the signal, and of silence.

    The latter counts as ``in_silence``: the worst, or a recording would look
    the better for its gaps.

    Example
    -------
    >>> silent = torch.tensor([[True, False, False, False]])
    >>> average_with_silence(
    ...     torch.tensor([0.2]), 1.0, torch.tensor([4]), silent
    ... )
    tensor([0.4000])
    """
    if silent is None:
        return values
    share = count_signal(lengths, silent) / lengths.clamp(min=1)
    return share * values + (1 - share) * in_silence


def remove_dc(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    silent: torch.Tensor | None = None,
) -> torch.Tensor:
    """Subtracts the mean of the signal, and zeroes padding and silence.

    Silence has no part in the mean, which would be left in it.

    Example
    -------
    >>> remove_dc(torch.tensor([[1.0, 3.0, 7.0]]), torch.tensor([2]))
    tensor([[-1.,  1.,  0.]])
    """
    signal = clear_padding(waveforms, lengths)
    if silent is not None:
        signal = signal.masked_fill(silent, 0.0)
    count = count_signal(lengths, silent).clamp(min=1)
    mean = signal.sum(dim=-1, keepdim=True) / count.unsqueeze(-1)
    centred = clear_padding(waveforms - mean, lengths)
    return centred if silent is None else centred.masked_fill(silent, 0.0)


def power_frames(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    window: torch.Tensor,
    hop_length: int,
    n_fft: int,
    silent: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Short-time power spectra of the signal, and which of their frames count.

    Frames are not centred, and only those that lie wholly within the valid
    samples and outside silence count, so that neither padding nor the edge of a
    gap can enter one; a frame without energy does not count either. A waveform
    shorter than the ``window`` gives one frame, zero-padded. The power is
    normalised by the energy of the window: a white noise has its variance in
    every bin.

    Example
    -------
    >>> power, frames = power_frames(
    ...     torch.randn(2, 400),
    ...     torch.tensor([400, 150]),
    ...     torch.ones(100),
    ...     50,
    ...     128,
    ... )
    >>> power.shape, frames.sum(dim=1)
    (torch.Size([2, 7, 65]), tensor([7, 2]))
    """
    window_length = len(window)
    waveforms = clear_padding(waveforms, lengths)
    missing = window_length - waveforms.shape[-1]
    if missing > 0:  # else it would be a copy
        waveforms = torch.nn.functional.pad(waveforms, (0, missing))
    window = window / window.square().sum().sqrt()
    framed = waveforms.unfold(-1, window_length, hop_length) * window
    if len(framed) == 0:  # which the FFT refuses
        power = framed.new_zeros(0, framed.shape[1], n_fft // 2 + 1)
    else:
        spectrum = torch.fft.rfft(framed, n=n_fft)
        power = spectrum.real.square().add_(spectrum.imag.square())
    count = (lengths - window_length).clamp(min=0) // hop_length + 1
    count = torch.where(lengths > 0, count, 0)
    index = torch.arange(power.shape[1], device=power.device)
    # By Parseval, the mean over the bins is the mean energy of the frame.
    frames = power.mean(dim=-1) > SILENCE**2
    frames &= index < count.unsqueeze(-1)
    if silent is not None:
        silent = torch.nn.functional.pad(silent, (0, max(missing, 0)))
        frames &= ~silent.unfold(-1, window_length, hop_length).any(dim=-1)
    return power, frames


def band_bins(
    n_fft: int,
    sample_rate: int,
    f_min: float,
    f_max: float,
    native_rates: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which FFT bins a recording can have content in, ``[1 or batch, bin]``.

    Those between ``f_min`` and ``f_max``, in Hz. With ``native_rates``, the
    rates at which the waveforms were recorded, bins above 0.9 of a recording's
    own Nyquist frequency are left out, where a resampler has its transition
    band. That fewer than two bins are left is a ValueError.

    Example
    -------
    >>> band_bins(8, 8000, 0.0, 4000.0, torch.tensor([8000, 4000]))
    tensor([[ True,  True,  True,  True, False],
            [ True,  True, False, False, False]])
    """
    frequencies = torch.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    upper = torch.tensor([min(f_max, sample_rate / 2)])
    if native_rates is not None:
        frequencies = frequencies.to(native_rates.device)
        upper = (USABLE * native_rates.float()).clamp(max=upper.item())
    bins = (frequencies >= f_min) & (frequencies <= upper.unsqueeze(-1))
    if (bins.sum(dim=-1) < 2).any():
        raise ValueError(
            f"fewer than two of the {n_fft // 2 + 1} bins lie between {f_min}"
            f" and {upper.min().item():g} Hz: widen the band"
        )
    return bins


def mean_over_frames(
    values: torch.Tensor, frames: torch.Tensor
) -> torch.Tensor:
    """Mean over the frames that count.

    Arguments
    ---------
    values : torch.Tensor
        ``[batch, frame, ...]``; anything in the frames that do not count.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.

    Returns
    -------
    torch.Tensor
        ``[batch, ...]``; NaN where no frame counts.

    Example
    -------
    >>> mean_over_frames(
    ...     torch.tensor([[1.0, 3.0, 8.0]]), torch.tensor([[1, 1, 0]]) > 0
    ... )
    tensor([2.])
    """
    frames = frames.view(*frames.shape, *(1,) * (values.dim() - 2))
    # 0 / 0 is the documented NaN.
    return torch.where(frames, values, 0.0).sum(dim=1) / frames.sum(dim=1)


def quantile_over_frames(
    values: torch.Tensor, frames: torch.Tensor, share: float
) -> torch.Tensor:
    """Quantile over the frames that count, interpolated between two of them.

    Of values ``[batch, frame]``; ``share`` is that of the frames below it.

    Example
    -------
    >>> levels = torch.tensor([[30.0, 10.0, 20.0, 99.0]])
    >>> quantile_over_frames(levels, levels < 50, 0.25)
    tensor([15.])
    """
    ordered = values.masked_fill(~frames, math.inf).sort(dim=1)[0]
    count = frames.sum(dim=1)
    position = share * (count - 1).clamp(min=0)
    below = position.long()
    above = torch.minimum(below + 1, (count - 1).clamp(min=0))
    low = ordered.gather(1, below.unsqueeze(1)).squeeze(1)
    high = ordered.gather(1, above.unsqueeze(1)).squeeze(1)
    quantile = low + (position - below) * (high - low)
    return torch.where(count > 0, quantile, math.nan)
