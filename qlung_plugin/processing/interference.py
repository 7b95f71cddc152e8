"""What is heard beside a chest: noise, voices, a crying child, handling.

Pure functions that make such sounds, ``[time]``, and that add them at a known
level to waveforms, ``[..., time]``. They imitate what disturbs a recording as
far as a study of degradations needs it.

All chance comes from the ``generator`` given, and what it draws does not depend
on the degree: the disturbances of one seed differ by their scale, or the
stronger one has everything that the weaker one has, and more.

Authors
 * qlung_plugin contributors
"""

import math

import torch
from scipy.signal import butter, sosfilt
from scipy.special import diric

# Seconds, Hz, and shares of the recording's peak.
SYLLABLE = (0.15, 0.35)
VOICES = (100.0, 300.0)
SPEECH_BAND = (100.0, 500.0)
CRY = (0.7, 1.2)
BREATH = (0.2, 0.5)
CRY_LOWEST, CRY_RISE = (350.0, 430.0), (60.0, 120.0)
RUB, KNOCK = (0.1, 0.4), (0.01, 0.03)
RUB_CORNER, KNOCK_PITCH = 200.0, (30.0, 120.0)
HANDLING_PEAK = (0.5, 1.5)


def scale_to_snr(
    sound: torch.Tensor, waveform: torch.Tensor, snr: float
) -> torch.Tensor:
    """Brings a sound to a given level below a waveform, which it can join then.

    The power of the waveform is ``snr`` dB above that of the sound, both less any
    DC. It holds exactly, not only on average. Silence asks for silence.

    Example
    -------
    >>> scale_to_snr(torch.tensor([5.0, 1.0]), torch.tensor([1.0, -1.0]), 20)
    tensor([ 0.1000, -0.1000])
    """
    sound = sound.to(waveform)
    sound = sound - sound.mean(dim=-1, keepdim=True)
    centred = waveform - waveform.mean(dim=-1, keepdim=True)
    level = centred.square().mean(dim=-1, keepdim=True).sqrt()
    sound_level = sound.square().mean(dim=-1, keepdim=True).sqrt()
    tiny = torch.finfo(waveform.dtype).tiny  # a single sample has no level
    return level / sound_level.clamp(min=tiny) * 10 ** (-snr / 20) * sound


def babble(
    samples: int, sample_rate: int, generator: torch.Generator, talkers: int = 6
) -> torch.Tensor:
    """Several voices at once, of which no word is understood.

    Each voice is a sequence of syllables, about four a second, most of them
    voiced, the others hissed. The spectrum is about the mean one of speech, see
    Byrne et al., "An international comparison of long-term average speech
    spectra", JASA 1994: from 500 Hz on it falls by 6 dB per octave. The level is
    any.

    Example
    -------
    >>> babble(8000, 8000, torch.Generator()).shape
    torch.Size([8000])
    """
    voices = torch.zeros(samples, dtype=torch.double)
    for _ in range(talkers):
        voices += _talk(samples, sample_rate, generator)
    band = butter(1, SPEECH_BAND, "bandpass", fs=sample_rate, output="sos")
    return torch.from_numpy(sosfilt(band, voices.numpy()))


def crying(
    samples: int, sample_rate: int, generator: torch.Generator
) -> torch.Tensor:
    """A crying child: bouts of a harmonic sound, pauses for breath.

    The pitch of a bout rises and falls between 350 and 550 Hz; the k-th partial
    has an amplitude of 1/k, and those that could pass the Nyquist frequency are
    left out. The sound begins within a bout. The level is any.

    Example
    -------
    >>> crying(8000, 8000, torch.Generator()).shape
    torch.Size([8000])
    """
    time = torch.arange(samples).double() / sample_rate
    time = time + _uniform((0, CRY[0]), generator)
    count = math.ceil((samples / sample_rate + CRY[0]) / (CRY[0] + BREATH[0]))
    bouts = _uniform(CRY, generator, count)
    pauses = _uniform(BREATH, generator, count)
    lengths = torch.stack([bouts, pauses], dim=1)
    number, share = _place(time, lengths.flatten())
    lowest = _uniform(CRY_LOWEST, generator, count)[number // 2]
    rise = _uniform(CRY_RISE, generator, count)[number // 2]
    swell = (math.pi * share).sin()
    phase = _phase(lowest + rise * swell, sample_rate)
    highest = CRY_LOWEST[1] + CRY_RISE[1]
    partials = range(1, int(sample_rate / 2 / highest) + 1)
    sound = sum((k * phase).sin() / k for k in partials)
    return torch.where(number % 2 == 0, swell.sqrt() * sound, 0.0)


def handling(
    samples: int, sample_rate: int, rate: float, generator: torch.Generator
) -> torch.Tensor:
    """Rubs and knocks of the hand and the tube, low in frequency.

    A rub is a swelling noise, which falls by 6 dB per octave above 200 Hz; a
    knock is a damped oscillation between 30 and 120 Hz. Either is as likely.

    There are ``rate`` bursts per second, those of a lower rate among those of a
    higher one; their number is rounded. The peak of each is 0.5 to 1.5, to be
    scaled by that of a recording. A negative rate is a ValueError.

    Example
    -------
    >>> sound = handling(16000, 8000, 0.5, torch.Generator())
    >>> bool(0.4 < sound.abs().max() < 1.6)
    True
    """
    if rate < 0:
        raise ValueError(f"rate must be at least 0 per second, got {rate}")
    sound = torch.zeros(samples, dtype=torch.double)
    for _ in range(round(rate * samples / sample_rate)):
        start = int(samples * _uniform((0, 1), generator))
        peak = _uniform(HANDLING_PEAK, generator)
        make = _rub if _uniform((0, 1), generator) < 0.5 else _knock
        burst = make(sample_rate, generator)[: samples - start]
        sound[start : start + len(burst)] += peak * burst
    return sound


def _talk(
    samples: int, sample_rate: int, generator: torch.Generator
) -> torch.Tensor:
    """One voice, as loud at any frequency."""
    time = torch.arange(samples).double() / sample_rate
    lengths = _uniform(
        SYLLABLE, generator, math.ceil(samples / sample_rate / SYLLABLE[0]) + 1
    )
    number, share = _place(time, lengths)
    pitches = _uniform(VOICES, generator)
    pitches = pitches * _uniform((0.85, 1.15), generator, len(lengths))
    # All partials of a voice as one pulse per period, of a power of 1.
    partials = 2 * int(sample_rate / 2 / pitches.max()) + 1
    phase = _phase(pitches[number], sample_rate)
    pulses = torch.from_numpy(diric(phase.numpy(), partials))
    hiss = torch.randn(samples, generator=generator, dtype=torch.double)
    voiced = _uniform((0, 1), generator, len(lengths)) < 0.7
    loudness = _uniform((0.3, 1.0), generator, len(lengths))
    sound = torch.where(voiced[number], partials**0.5 * pulses, hiss)
    return loudness[number] * (math.pi * share).sin().square() * sound


def _rub(sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """A stroke over skin or cloth, with a peak of 1."""
    length = round(_uniform(RUB, generator).item() * sample_rate)
    noise = torch.randn(length, generator=generator, dtype=torch.double)
    low = butter(1, RUB_CORNER, fs=sample_rate, output="sos")
    noise = torch.from_numpy(sosfilt(low, noise.numpy()))
    stroke = torch.hann_window(length, dtype=torch.double) * noise
    return stroke / stroke.abs().max()


def _knock(sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """A hit against the chest piece or the tube, with a peak of 1."""
    decay = _uniform(KNOCK, generator)
    time = torch.arange(round(5 * decay.item() * sample_rate)) / sample_rate
    turns = _uniform(KNOCK_PITCH, generator) * time
    hit = (-time / decay).exp() * (2 * math.pi * turns).sin()
    return hit / hit.abs().max()


def _uniform(
    bounds: tuple[float, float], generator: torch.Generator, *size: int
) -> torch.Tensor:
    low, high = bounds
    share = torch.rand(size, generator=generator, dtype=torch.double)
    return low + (high - low) * share


def _place(
    time: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """In which of consecutive stretches each time lies, and how far along."""
    ends = lengths.cumsum(dim=0)
    number = torch.searchsorted(ends, time, right=True)
    return number, 1 - (ends[number] - time) / lengths[number]


def _phase(pitch: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """The phase of an oscillation of a changing pitch, in radians."""
    return 2 * math.pi * pitch.cumsum(dim=0) / sample_rate
