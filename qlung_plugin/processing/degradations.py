"""What spoils a recording, in known degrees.

Pure functions on the last dimension of a waveform, full scale at 1, at the rate
at which it was recorded. They answer how a quality score and a model move when
the quality is lowered on purpose, where no expert has to be asked.

Authors
 * qlung_plugin contributors
"""

import math
from typing import NamedTuple

import torch
from scipy.signal import butter, sosfilt


def add_white_noise(waveform, snr, generator):
    """Adds Gaussian white noise of a given level below the waveform.

    Arguments
    ---------
    waveform : torch.Tensor
        ``[..., time]``.
    snr : float
        Power of the waveform, less any DC, over that of the noise, in dB. It
        holds exactly, not only on average. Silence stays silent.
    generator : torch.Generator
        Draws the noise. The noise of one seed differs between levels by its
        scale alone.

    Returns
    -------
    torch.Tensor
        ``[..., time]``.

    Example
    -------
    >>> tone = torch.sin(torch.arange(8000.0))
    >>> noise = add_white_noise(tone, 10, torch.Generator()) - tone
    >>> round(10 * (tone.var() / noise.var()).log10().item(), 3)
    10.0
    """
    noise = torch.randn(waveform.shape, generator=generator).to(waveform)
    noise = noise - noise.mean(dim=-1, keepdim=True)
    centred = waveform - waveform.mean(dim=-1, keepdim=True)
    level = centred.square().mean(dim=-1, keepdim=True).sqrt()
    noise_level = noise.square().mean(dim=-1, keepdim=True).sqrt()
    tiny = torch.finfo(waveform.dtype).tiny  # a single sample has no level
    scale = level / noise_level.clamp(min=tiny) * 10 ** (-snr / 20)
    return waveform + scale * noise


def low_pass(waveform, cutoff, sample_rate, order=8):
    """Butterworth low-pass filter, as the poorer band of a device.

    Arguments
    ---------
    waveform : torch.Tensor
        ``[..., time]``.
    cutoff : float
        Frequency at -3 dB, in Hz. From the Nyquist frequency on nothing is
        left to be removed, and the waveform is returned as it is.
    sample_rate : int
        Rate of the waveform, in Hz.
    order : int
        Order of the filter: 6 dB per octave each.

    Returns
    -------
    torch.Tensor
        ``[..., time]``.

    Example
    -------
    >>> tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 8000)
    >>> bool(low_pass(tone, 500, 8000)[4000:].abs().max() < 0.01)
    True
    """
    _check("cutoff", cutoff, cutoff > 0, "above 0 Hz")
    if cutoff >= sample_rate / 2:
        return waveform
    sections = butter(order, cutoff, fs=sample_rate, output="sos")
    filtered = sosfilt(sections, waveform.double().cpu().numpy())
    return torch.from_numpy(filtered).to(waveform)


def clip(waveform, share):
    """Cuts off what exceeds a share of the waveform's own peak.

    Arguments
    ---------
    waveform : torch.Tensor
        ``[..., time]``.
    share : float
        Of the largest magnitude, in (0, 1].

    Returns
    -------
    torch.Tensor
        ``[..., time]``.

    Example
    -------
    >>> clip(torch.tensor([0.0, 0.2, -0.4, 0.8]), 0.25)
    tensor([ 0.0000,  0.2000, -0.2000,  0.2000])
    """
    _check("share", share, 0 < share <= 1, "in (0, 1]")
    limit = share * waveform.abs().amax(dim=-1, keepdim=True)
    return waveform.clamp(-limit, limit)


def gain(waveform, decibels):
    """Changes the level; what comes to exceed full scale is cut off there.

    Arguments
    ---------
    waveform : torch.Tensor
        ``[..., time]``.
    decibels : float
        The change.

    Returns
    -------
    torch.Tensor
        ``[..., time]`` in [-1, 1].

    Example
    -------
    >>> gain(torch.tensor([0.01, -0.2]), 20)
    tensor([ 0.1000, -1.0000])
    """
    return (waveform * 10 ** (decibels / 20)).clamp(-1, 1)


def quantise(waveform, bits):
    """Rounds to the values that samples of so many bits can have.

    Arguments
    ---------
    waveform : torch.Tensor
        ``[..., time]``.
    bits : int
        Bits per sample, the sign included.

    Returns
    -------
    torch.Tensor
        ``[..., time]`` in [-1, 1 - 2 ** (1 - bits)].

    Example
    -------
    >>> quantise(torch.tensor([-1.0, 0.1, 0.3, 1.0]), 3)
    tensor([-1.0000,  0.0000,  0.2500,  0.7500])
    """
    _check(
        "bits", bits, bits == int(bits) and bits > 0, "a whole number above 0"
    )
    steps = 2 ** (bits - 1)
    return (waveform * steps).round().clamp(-steps, steps - 1) / steps


class Degradation(NamedTuple):
    """What a study has to know of a kind of degradation."""

    unit: str  # of the degree
    harmless: float  # the degree that changes nothing; higher is better


DEGRADATIONS = {
    "white_noise": Degradation("dB SNR", math.inf),
    "low_pass": Degradation("Hz", math.inf),
    "clipping": Degradation("of the peak", 1.0),
    "gain": Degradation("dB", 0.0),
    "bit_depth": Degradation("bit", math.inf),
}


def degrade(waveform, sample_rate, kind, degree, seed=0):
    """Degrades a waveform by the name of the kind.

    Arguments
    ---------
    waveform : torch.Tensor
        ``[..., time]``.
    sample_rate : int
        Its rate, in Hz.
    kind : str
        A key of ``DEGRADATIONS``.
    degree : float
        In the unit that ``DEGRADATIONS`` names.
    seed : int
        Of what is drawn.

    Returns
    -------
    torch.Tensor
        ``[..., time]``.

    Raises
    ------
    ValueError
        If the kind is unknown, or the degree impossible.

    Example
    -------
    >>> degrade(torch.tensor([0.1, -0.2]), 8000, "gain", 6.02).round(decimals=2)
    tensor([ 0.2000, -0.4000])
    """
    if kind == "white_noise":
        generator = torch.Generator().manual_seed(seed)
        return add_white_noise(waveform, degree, generator)
    if kind == "low_pass":
        return low_pass(waveform, degree, sample_rate)
    if kind == "clipping":
        return clip(waveform, degree)
    if kind == "gain":
        return gain(waveform, degree)
    if kind == "bit_depth":
        return quantise(waveform, degree)
    raise ValueError(
        f"degradation {kind!r} is none of {', '.join(DEGRADATIONS)}"
    )


def _check(name, value, valid, wanted):
    if not valid:
        raise ValueError(f"{name} must be {wanted}, got {value}")
