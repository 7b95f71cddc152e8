"""The frames of an auscultation recording that its quality is measured on.

Every function takes ``lengths``, the number of valid samples of each waveform,
and gives the same value whatever lies in the padding behind them.

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


def sample_mask(waveforms, lengths):
    """Marks the valid samples of a padded batch.

    Arguments
    ---------
    waveforms : torch.Tensor
        ``[batch, time]``.
    lengths : torch.Tensor
        Number of valid samples, ``[batch]``.

    Returns
    -------
    torch.Tensor
        Boolean, ``[batch, time]``.

    Example
    -------
    >>> sample_mask(torch.zeros(2, 3), torch.tensor([3, 1]))
    tensor([[ True,  True,  True],
            [ True, False, False]])
    """
    positions = torch.arange(waveforms.shape[-1], device=waveforms.device)
    return positions < lengths.unsqueeze(-1)


def clear_padding(waveforms, lengths):
    """Zeroes the padding.

    Arguments
    ---------
    waveforms : torch.Tensor
        ``[batch, time]``; anything in the padding, NaN included.
    lengths : torch.Tensor
        Number of valid samples, ``[batch]``.

    Returns
    -------
    torch.Tensor
        ``[batch, time]``; the waveforms themselves where none is padded.

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


def remove_dc(waveforms, lengths):
    """Subtracts the mean of the valid samples and zeroes the padding.

    Arguments
    ---------
    waveforms : torch.Tensor
        ``[batch, time]``.
    lengths : torch.Tensor
        Number of valid samples, ``[batch]``.

    Returns
    -------
    torch.Tensor
        ``[batch, time]``.

    Example
    -------
    >>> remove_dc(torch.tensor([[1.0, 3.0, 7.0]]), torch.tensor([2]))
    tensor([[-1.,  1.,  0.]])
    """
    total = clear_padding(waveforms, lengths).sum(dim=-1, keepdim=True)
    mean = total / lengths.clamp(min=1).unsqueeze(-1)
    return clear_padding(waveforms - mean, lengths)


def power_frames(waveforms, lengths, window, hop_length, n_fft):
    """Short-time power spectra of the valid samples.

    Frames are not centred, and only those that lie wholly within the valid
    samples count, so that padding cannot enter one. A waveform shorter than a
    window gives one frame, zero-padded.

    Arguments
    ---------
    waveforms : torch.Tensor
        ``[batch, time]``; see :func:`remove_dc`.
    lengths : torch.Tensor
        Number of valid samples, ``[batch]``.
    window : torch.Tensor
        Analysis window, ``[window]``.
    hop_length : int
        Samples between the starts of two frames.
    n_fft : int
        FFT size, at least the length of the window.

    Returns
    -------
    power : torch.Tensor
        ``[batch, frame, bin]``, normalised by the energy of the window: a
        white noise has its variance in every bin.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``. A frame without energy
        does not.

    Example
    -------
    >>> power, frames = power_frames(
    ...     torch.randn(2, 400), torch.tensor([400, 150]), torch.ones(100), 50, 128
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
    audible = power.mean(dim=-1) > SILENCE**2
    return power, (index < count.unsqueeze(-1)) & audible


def band_bins(n_fft, sample_rate, f_min, f_max, native_rates=None):
    """Which FFT bins a recording can have content in.

    Arguments
    ---------
    n_fft : int
        FFT size.
    sample_rate : int
        Rate of the analysed waveforms, in Hz.
    f_min : float
        Lowest frequency of the band, in Hz.
    f_max : float
        Highest frequency of the band, in Hz; bounded by the Nyquist frequency.
    native_rates : torch.Tensor, optional
        The rate at which each waveform was recorded, in Hz, ``[batch]``. Bins
        above 0.9 of a recording's own Nyquist frequency are left out, where a
        resampler has its transition band.

    Returns
    -------
    torch.Tensor
        Boolean, ``[1, bin]`` or ``[batch, bin]``.

    Raises
    ------
    ValueError
        If fewer than two bins are left.

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


def mean_over_frames(values, frames):
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
    >>> mean_over_frames(torch.tensor([[1.0, 3.0, 8.0]]), torch.tensor([[1, 1, 0]]) > 0)
    tensor([2.])
    """
    frames = frames.view(*frames.shape, *(1,) * (values.dim() - 2))
    # 0 / 0 is the documented NaN.
    return torch.where(frames, values, 0.0).sum(dim=1) / frames.sum(dim=1)


def quantile_over_frames(values, frames, share):
    """Quantile over the frames that count, interpolated between two of them.

    Arguments
    ---------
    values : torch.Tensor
        ``[batch, frame]``; anything in the frames that do not count.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    share : float
        Of the frames below the quantile, in [0, 1].

    Returns
    -------
    torch.Tensor
        ``[batch]``; NaN where no frame counts.

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
