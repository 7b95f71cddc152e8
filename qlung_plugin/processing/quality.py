"""No-reference measurements of the quality of an auscultation recording.

Pure functions from a batch of waveforms or power spectra to one number per
waveform. Nothing here is normalised or learned: what turns a measurement into
a score between 0 and 1 is in :mod:`qlung_plugin.lobes.quality`.

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
    mask = sample_mask(waveforms, lengths)
    total = torch.where(mask, waveforms, 0.0).sum(dim=-1, keepdim=True)
    mean = total / lengths.clamp(min=1).unsqueeze(-1)
    return torch.where(mask, waveforms - mean, 0.0)


def rms_level(waveforms, lengths):
    """Root mean square of the valid samples.

    Arguments
    ---------
    waveforms : torch.Tensor
        ``[batch, time]``, full scale at 1.
    lengths : torch.Tensor
        Number of valid samples, ``[batch]``.

    Returns
    -------
    torch.Tensor
        ``[batch]``, relative to full scale; 0 where there is no sample.

    Example
    -------
    >>> rms_level(torch.tensor([[3.0, -4.0, 9.0]]), torch.tensor([2]))
    tensor([3.5355])
    """
    mask = sample_mask(waveforms, lengths)
    energy = torch.where(mask, waveforms, 0.0).square().sum(dim=-1)
    return (energy / lengths.clamp(min=1)).sqrt()


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
    mask = sample_mask(waveforms, lengths)
    waveforms = torch.where(mask, waveforms, 0.0)
    missing = window_length - waveforms.shape[-1]
    waveforms = torch.nn.functional.pad(waveforms, (0, max(missing, 0)))
    window = window / window.square().sum().sqrt()
    framed = waveforms.unfold(-1, window_length, hop_length) * window
    if len(framed) == 0:  # which the FFT refuses
        power = framed.new_zeros(0, framed.shape[1], n_fft // 2 + 1)
    else:
        spectrum = torch.fft.rfft(framed, n=n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
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
        upper = (0.45 * native_rates.float()).clamp(max=upper.item())
    bins = (frequencies >= f_min) & (frequencies <= upper.unsqueeze(-1))
    if (bins.sum(dim=-1) < 2).any():
        raise ValueError(
            f"fewer than two of the {n_fft // 2 + 1} bins lie between {f_min}"
            f" and {upper.min().item():g} Hz: widen the band"
        )
    return bins


def spectral_entropy(power, frames, bins, average="frames"):
    """Normalised spectral entropy: 0 for a pure tone, 1 for a flat spectrum.

    ``H = -sum_k p_k log p_k / log K`` with ``p_k`` the share of bin ``k`` in
    the power of the ``K`` bins. Source: H. Misra et al., "Spectral entropy
    based feature for robust ASR", ICASSP 2004.

    Arguments
    ---------
    power : torch.Tensor
        ``[batch, frame, bin]``; see :func:`power_frames`.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    bins : torch.Tensor
        Which bins count, boolean ``[batch, bin]``; see :func:`band_bins`.
    average : str
        ``frames``: the mean of the frames' entropies. ``spectrum``: the entropy
        of the mean spectrum.

    Returns
    -------
    torch.Tensor
        ``[batch]`` in [0, 1]; NaN where no frame counts.

    Example
    -------
    >>> power = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    >>> frames, bins = torch.ones(1, 2).bool(), torch.ones(1, 4).bool()
    >>> spectral_entropy(power, frames, bins)
    tensor([0.5000])
    >>> spectral_entropy(power, frames, bins, average="spectrum")
    tensor([1.])
    """
    power = _in_band(power, bins)
    if average == "spectrum":
        power = _mean_over_frames(power, frames).unsqueeze(1)
        frames = frames.any(dim=-1, keepdim=True)
    elif average != "frames":
        raise ValueError(f"average={average!r} is neither frames nor spectrum")
    total = power.sum(dim=-1, keepdim=True)
    share = power / total.clamp(min=torch.finfo(power.dtype).tiny)
    entropy = torch.special.entr(share).sum(dim=-1)
    entropy = entropy / bins.sum(dim=-1, keepdim=True).log()
    return _mean_over_frames(entropy, frames & (total.squeeze(-1) > 0))


def spectral_flatness(power, frames, bins):
    """Geometric over arithmetic mean of the mean power spectrum.

    Source: A. Gray and J. Markel, "A spectral-flatness measure for studying
    the autocorrelation method of linear prediction of speech analysis", IEEE
    Trans. ASSP 1974.

    Arguments
    ---------
    power : torch.Tensor
        ``[batch, frame, bin]``; see :func:`power_frames`.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    bins : torch.Tensor
        Which bins count, boolean ``[batch, bin]``.

    Returns
    -------
    torch.Tensor
        ``[batch]`` in [0, 1], 1 for a flat spectrum; NaN where no frame counts.

    Example
    -------
    >>> power = torch.tensor([[[1.0, 4.0]]])
    >>> spectral_flatness(power, torch.ones(1, 1).bool(), torch.ones(1, 2).bool())
    tensor([0.8000])
    """
    spectrum = _mean_over_frames(_in_band(power, bins), frames)
    count = bins.sum(dim=-1)
    mean = spectrum.sum(dim=-1) / count
    tiny = torch.finfo(power.dtype).tiny
    log_mean = torch.where(bins, spectrum.clamp(min=tiny).log(), 0.0)
    return (log_mean.sum(dim=-1) / count).exp() / mean.clamp(min=tiny)


def blind_snr(power, frames, bins, quantile=0.2, floor=-20.0, ceiling=60.0):
    """Signal-to-noise ratio with the noise estimated from the quietest frames.

    In every bin the noise power is taken from a low quantile of the frames'
    power, corrected for the bias that this quantile has for stationary
    Gaussian noise, whose power is exponentially distributed: the quantile
    ``q`` of such a power is ``-log(1 - q)`` of its mean. What exceeds the
    noise is signal. Breathing and its sounds come and go; a stationary
    background stays. Source of the idea: R. Martin, "Noise power spectral
    density estimation based on optimal smoothing and minimum statistics", IEEE
    Trans. SAP 2001.

    Arguments
    ---------
    power : torch.Tensor
        ``[batch, frame, bin]``; see :func:`power_frames`.
    frames : torch.Tensor
        Which frames count, boolean ``[batch, frame]``.
    bins : torch.Tensor
        Which bins count, boolean ``[batch, bin]``.
    quantile : float
        The quantile over frames.
    floor, ceiling : float
        Bounds of the result, in dB.

    Returns
    -------
    torch.Tensor
        ``[batch]``, in dB; NaN where no frame counts.

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
    mean = _mean_over_frames(power, frames).sum(dim=-1)
    ordered = power.masked_fill(~frames.unsqueeze(-1), math.inf).sort(dim=1)[0]
    rank = (quantile * (frames.sum(dim=-1) - 1).clamp(min=0)).long()
    rank = rank.view(-1, 1, 1).expand(-1, 1, ordered.shape[-1])
    low = ordered.gather(1, rank).squeeze(1)
    noise = low.sum(dim=-1) / -math.log(1 - quantile)
    tiny = torch.finfo(power.dtype).tiny
    ratio = (mean - noise).clamp(min=tiny) / noise.clamp(min=tiny)
    decibels = 10 * ratio.clamp(min=tiny).log10()
    return decibels.clamp(floor, ceiling)


def clipping_ratio(waveforms, lengths):
    """Share of the valid samples that lie on a plateau at an extreme.

    A sample is clipped where it is at least 0.98 of half the waveform's range
    away from the middle of it and a neighbour differs by less than 1e-4 of
    that. The first alone would count the crests of low tones, the second alone
    silence. A constant offset changes nothing.

    Arguments
    ---------
    waveforms : torch.Tensor
        ``[batch, time]``. A resampler rounds plateaus off: the value is exact
        at the rate of the recording.
    lengths : torch.Tensor
        Number of valid samples, ``[batch]``.

    Returns
    -------
    torch.Tensor
        ``[batch]`` in [0, 1]; 0 for silence.

    Example
    -------
    >>> wave = torch.tensor([[0.0, 0.5, 1.0, 1.0, 0.2, -0.9, -1.0, 0.0]])
    >>> clipping_ratio(wave, torch.tensor([8]))
    tensor([0.2500])
    """
    if waveforms.shape[-1] == 0:  # which has no extremes
        return waveforms.new_zeros(len(waveforms))
    mask = sample_mask(waveforms, lengths)
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
    return clipped.sum(dim=-1) / lengths.clamp(min=1)


def _in_band(power, bins):
    return torch.where(bins.unsqueeze(1), power, 0.0)


def _mean_over_frames(values, frames):
    """Mean over the frames that count, ``[batch, frame, ...]``; NaN if none."""
    frames = frames.view(*frames.shape, *(1,) * (values.dim() - 2))
    total = torch.where(frames, values, 0.0).sum(dim=1)
    count = frames.sum(dim=1)
    return torch.where(count > 0, total / count, math.nan)
