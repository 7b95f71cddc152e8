"""What spoils a recording, in known degrees.

Pure functions on the last dimension of a waveform ``[..., time]``, full scale
at 1, at the rate at which it was recorded, in Hz. They answer how a quality
score and a model move when the quality is lowered on purpose, where no expert
has to be asked. What a device does is here, what is heard beside the chest in
:mod:`qlung_plugin.processing.interference`.

Authors
 * qlung_plugin contributors
"""

import math
from typing import NamedTuple

import torch
from scipy.signal import butter, sosfilt

from qlung_plugin.processing.interference import (
    babble,
    crying,
    handling,
    scale_to_snr,
)

DROPOUT = (0.02, 0.2)  # seconds
SENSOR_SNR = 40.0  # dB


def low_pass(
    waveform: torch.Tensor, cutoff: float, sample_rate: int, order: int = 8
) -> torch.Tensor:
    """Butterworth low-pass filter, as the poorer band of a device.

    At -3 dB at the cutoff, in Hz, and with 6 dB per octave for each order. From
    the Nyquist frequency on nothing is left to be removed, and the waveform is
    returned as it is.

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


def clip(waveform: torch.Tensor, share: float) -> torch.Tensor:
    """Cuts off what exceeds a share of the waveform's own peak.

    The share is of the largest magnitude, in (0, 1].

    Example
    -------
    >>> clip(torch.tensor([0.0, 0.2, -0.4, 0.8]), 0.25)
    tensor([ 0.0000,  0.2000, -0.2000,  0.2000])
    """
    _check("share", share, 0 < share <= 1, "in (0, 1]")
    limit = share * waveform.abs().amax(dim=-1, keepdim=True)
    return waveform.clamp(-limit, limit)


def gain(waveform: torch.Tensor, decibels: float) -> torch.Tensor:
    """Changes the level; what comes to exceed full scale is cut off there.

    Example
    -------
    >>> gain(torch.tensor([0.01, -0.2]), 20)
    tensor([ 0.1000, -1.0000])
    """
    return (waveform * 10 ** (decibels / 20)).clamp(-1, 1)


def quantise(waveform: torch.Tensor, bits: float) -> torch.Tensor:
    """Rounds to the values that samples of so many bits can have.

    The sign is included in the bits, a whole number.

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


def dropouts(
    waveform: torch.Tensor,
    sample_rate: int,
    share: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Sets short stretches to zero, as a bad cable or radio link does.

    The share is of the time, in [0, 1], and exceeded by less than one stretch.
    The stretches take 20 to 200 ms each; neighbours can merge. Those of a
    smaller share are among those of a larger one.

    Example
    -------
    >>> lost = dropouts(torch.ones(8000), 8000, 0.25, torch.Generator()) == 0
    >>> 2000 <= int(lost.sum()) < 3600
    True
    """
    _check("share", share, 0 <= share <= 1, "in [0, 1]")
    samples = waveform.shape[-1]
    shortest, longest = (round(ends * sample_rate) for ends in DROPOUT)
    count = math.ceil(samples / shortest)
    lengths = torch.randint(
        shortest, longest + 1, (count,), generator=generator
    )
    # All of the time is laid out in stretches, which are lost in random order.
    stretch = torch.arange(count).repeat_interleave(lengths)[:samples]
    order = torch.randperm(count, generator=generator)
    sizes = torch.bincount(stretch, minlength=count)[order]
    lost_before = sizes.cumsum(dim=0) - sizes
    lost = torch.isin(stretch, order[lost_before < share * samples])
    return waveform.masked_fill(lost.to(waveform.device), 0.0)


def lost_contact(
    waveform: torch.Tensor, share: float, generator: torch.Generator
) -> torch.Tensor:
    """Leaves nothing but the sensor's own noise from some time on.

    That is a share of the time, in [0, 1], at the end. The noise is Gaussian and
    white, 40 dB below the waveform.

    Example
    -------
    >>> tone = torch.sin(torch.arange(8000.0))
    >>> left = lost_contact(tone, 0.25, torch.Generator())
    >>> bool(left[:6000].equal(tone[:6000]) and left[6000:].abs().max() < 0.1)
    True
    """
    _check("share", share, 0 <= share <= 1, "in [0, 1]")
    noise = torch.randn(waveform.shape, generator=generator)
    noise = scale_to_snr(noise, waveform, SENSOR_SNR)
    noise = noise + waveform.mean(dim=-1, keepdim=True)  # no step of the DC
    kept = round((1 - share) * waveform.shape[-1])
    return torch.cat([waveform[..., :kept], noise[..., kept:]], dim=-1)


class Degradation(NamedTuple):
    """What a study has to know of a kind of degradation."""

    unit: str  # of the degree
    harmless: float  # the degree that changes nothing
    higher_is_worse: bool = False

    def severity(self, degree: float) -> float:
        """The degree with a sign that makes it grow as it gets worse."""
        return degree if self.higher_is_worse else -degree


DEGRADATIONS = {
    "white_noise": Degradation("dB SNR", math.inf),
    "babble": Degradation("dB SNR", math.inf),
    "crying": Degradation("dB SNR", math.inf),
    "handling": Degradation("bursts/s", 0.0, True),
    "low_pass": Degradation("Hz", math.inf),
    "clipping": Degradation("of the peak", 1.0),
    "gain": Degradation("dB", 0.0),
    "bit_depth": Degradation("bit", math.inf),
    "dropouts": Degradation("of the time", 0.0, True),
    "lost_contact": Degradation("of the time", 0.0, True),
}


def degrade(
    waveform: torch.Tensor,
    sample_rate: int,
    kind: str,
    degree: float,
    seed: int = 0,
) -> torch.Tensor:
    """Degrades a waveform by a kind of ``DEGRADATIONS``, to a degree in its unit.

    What is drawn is drawn from the seed. An unknown kind, or an impossible
    degree, is a ValueError.

    Example
    -------
    >>> degrade(torch.tensor([0.1, -0.2]), 8000, "gain", 6.02).round(decimals=2)
    tensor([ 0.2000, -0.4000])
    """
    generator = torch.Generator().manual_seed(seed)
    samples = waveform.shape[-1]
    if kind == "white_noise":
        noise = torch.randn(waveform.shape, generator=generator)
        return waveform + scale_to_snr(noise, waveform, degree)
    if kind == "babble":
        voices = babble(samples, sample_rate, generator)
        return waveform + scale_to_snr(voices, waveform, degree)
    if kind == "crying":
        cries = crying(samples, sample_rate, generator)
        return waveform + scale_to_snr(cries, waveform, degree)
    if kind == "handling":
        bursts = handling(samples, sample_rate, degree, generator)
        peak = waveform.abs().amax(dim=-1, keepdim=True)
        return waveform + peak * bursts.to(waveform)
    if kind == "low_pass":
        return low_pass(waveform, degree, sample_rate)
    if kind == "clipping":
        return clip(waveform, degree)
    if kind == "gain":
        return gain(waveform, degree)
    if kind == "bit_depth":
        return quantise(waveform, degree)
    if kind == "dropouts":
        return dropouts(waveform, sample_rate, degree, generator)
    if kind == "lost_contact":
        return lost_contact(waveform, degree, generator)
    raise ValueError(
        f"degradation {kind!r} is none of {', '.join(DEGRADATIONS)}"
    )


def _check(name: str, value: float, valid: bool, wanted: str) -> None:
    if not valid:
        raise ValueError(f"{name} must be {wanted}, got {value}")
