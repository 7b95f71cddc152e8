"""Synthetic chest sounds: breathing, crackles, wheezes, heart beats, noise.

They imitate what the definitions of respiratory sounds describe, for
demonstrations and tests. They are no model of a lung, and no score on them
is a result.

Loudness is relative: 1 is the RMS of breathing at the peak of inspiration. A
duration is in seconds, a rate, corner or pitch in Hz, and what is returned is a
waveform ``[samples]``.

Sources
 * Sovijärvi et al. 2000, "Definition of terms for applications of respiratory
   sounds", Eur Respir Rev 10:77 (CORSA): crackles fine or coarse by a
   two-cycle duration below or above 10 ms, wheezes above 100 ms and 100 Hz.
 * American Thoracic Society 1977: mean initial deflection and two-cycle
   duration of 0.7 and 5 ms (fine), 1.5 and 10 ms (coarse).
 * Kiyokawa et al. 2001, "Auditory detection of simulated crackles in breath
   sounds", Chest 119: the waveform of a crackle.
 * Gavriely et al. 1995, "Spectral characteristics of chest wall breath sounds
   in normal subjects", Thorax 50: the slopes of the breathing spectra, 12.7 to
   15.2 dB per octave in inspiration and 13.4 to 20.3 in expiration.

Authors
 * qlung_plugin contributors
"""

from typing import NamedTuple

import numpy as np
from scipy import fft, signal

INHALE = 0.4  # inspiration's share of a breath
SLOPES = (13.5, 16.0)  # dB per octave, of inspiration and expiration


class Device(NamedTuple):
    """A recording device."""

    sample_rate: int  # Hz
    subtype: str  # as soundfile names sample formats
    band: tuple[float, float]  # Hz, edges at -3 dB
    level: float  # dB of full scale, mean RMS of its recordings


class CrackleKind(NamedTuple):
    """Ranges in seconds, a peak, a count, and onsets in the inspiration."""

    two_cycle: tuple[float, float]
    deflection_ratio: float  # initial deflection width / two-cycle duration
    peak: float
    number: tuple[int, int]
    onset: tuple[float, float]  # fractions of the inspiration


# Fine ones are short, soft, many, and late in inspiration; coarse ones are
# long, loud, few, and start early (CORSA). Both ranges hold the ATS mean.
CRACKLE_KINDS = {
    "fine": CrackleKind((0.004, 0.006), 0.14, 2.0, (6, 14), (0.45, 1.0)),
    "coarse": CrackleKind((0.010, 0.015), 0.15, 5.0, (3, 8), (0.05, 0.75)),
}


class Chest:
    """A source of chest sounds, at a sample rate and with its own chance."""

    def __init__(self, sample_rate: int, rng: np.random.Generator):
        self.sample_rate, self.rng = sample_rate, rng

    def noise(self, samples: int, corner: float, slope: float) -> np.ndarray:
        """Gaussian noise whose spectrum is flat to a corner and falls from there.

        By ``slope`` dB per octave beyond ``corner``, where it is at -3 dB. Its
        RMS is 1.
        """
        padded = fft.next_fast_len(samples, real=True)
        frequencies = fft.rfftfreq(padded, 1 / self.sample_rate)
        exponent = 2 * slope / (20 * np.log10(2))
        gain = (1 + (frequencies / corner) ** exponent) ** -0.5
        # White noise has a white Gaussian spectrum, so it is drawn as one.
        spectrum = self.rng.standard_normal((2, len(frequencies)))
        spectrum = (spectrum[0] + 1j * spectrum[1]) * gain
        spectrum[0] = 0.0
        noise = fft.irfft(spectrum, padded)[:samples]
        return noise / np.sqrt(np.mean(noise**2))

    def breathing(self, duration: float, corner: float = 100.0) -> np.ndarray:
        """One breath: the noise of an inspiration and of a softer expiration.

        Loudness follows the flow: half a sine in inspiration, a quick rise and
        a slow fall in expiration, then a pause of a tenth of the breath. The
        spectrum falls from ``corner`` on, which is higher in children.
        """
        samples = round(duration * self.sample_rate)
        turn, stop = round(INHALE * samples), round(0.9 * samples)
        inspiration = np.sin(np.pi * np.linspace(0, 1, turn))
        expiration = np.sin(np.pi * np.sqrt(np.linspace(0, 1, stop - turn)))
        sound = np.zeros(samples)
        for start, flow, slope in zip(
            (0, turn), (inspiration, 0.5 * expiration), SLOPES
        ):
            noise = self.noise(len(flow), corner, slope)
            sound[start : start + len(flow)] = flow * noise
        return sound

    def crackles(self, duration: float, kind: str) -> np.ndarray:
        """The crackles of one breath, of a kind of ``CRACKLE_KINDS``."""
        of, rng = CRACKLE_KINDS[kind], self.rng
        sound = np.zeros(round(duration * self.sample_rate))
        fewest, most = of.number
        for _ in range(rng.integers(fewest, most + 1)):
            two_cycle = rng.uniform(*of.two_cycle)
            deflection = of.deflection_ratio * two_cycle
            burst = crackle(two_cycle, deflection, self.sample_rate)
            onset = rng.uniform(*of.onset) * INHALE * duration
            # Vyshedskiy et al. 2009, Chest 135: 76 % of inspiratory ones are so.
            polarity = -1 if rng.random() < 0.75 else 1
            loudness = of.peak * rng.lognormal(0.0, 0.3)
            start = round(onset * self.sample_rate)
            add_at(sound, polarity * loudness * burst, start)
        return sound

    def wheeze(
        self,
        duration: float,
        fundamental: float,
        harmonics: int = 3,
        drift: float = 0.1,
    ) -> np.ndarray:
        """A wheeze: a harmonic tone whose pitch drifts slowly.

        By up to ``drift``, as a fraction of its mean. The k-th of the partials,
        of which the fundamental is the first, has an amplitude of 1/k^2; those
        beyond the Nyquist frequency are left out.
        """
        samples, rng = round(duration * self.sample_rate), self.rng
        # Half a turn at most: the pitch glides, it does not tremble.
        turn = np.pi * np.linspace(0, 1, samples) + rng.uniform(0, 2 * np.pi)
        pitch = fundamental * (1 + drift * np.cos(turn))
        phase = 2 * np.pi * np.cumsum(pitch) / self.sample_rate
        sound = np.zeros(samples)
        for partial in range(1, harmonics + 1):
            if partial * pitch.max() < self.sample_rate / 2:
                offset = rng.uniform(0, 2 * np.pi)
                sound += np.sin(partial * phase + offset) / partial**2
        return sound * signal.windows.tukey(samples, 0.3)

    def breath(
        self,
        duration: float,
        crackle_kind: str | None,
        wheeze_pitch: float | None,
        strength: float,
        corner: float,
    ) -> np.ndarray:
        """One breath with the adventitious sounds that it is asked to have.

        Crackles, and an expiratory wheeze, of a loudness of ``strength``;
        ``corner`` as for :meth:`breathing`.
        """
        sound = self.breathing(duration, corner)
        if crackle_kind is not None:
            sound += strength * self.crackles(duration, crackle_kind)
        if wheeze_pitch is not None:
            share = self.rng.uniform(0.5, 0.8) * (1 - INHALE)
            tone = self.wheeze(max(0.15, share * duration), wheeze_pitch)
            onset = (INHALE + 0.05) * duration
            start = round(onset * self.sample_rate)
            add_at(sound, strength * (0.5 * tone), start)
        return sound

    def heart_beats(self, duration: float, rate: float) -> np.ndarray:
        """Heart beats, ``rate`` a minute: two low thumps, the second softer."""
        sound = np.zeros(round(duration * self.sample_rate))
        period = 60 / rate
        onset = self.rng.uniform(0, period)
        while onset < duration:
            # Systole takes about a third of a beat.
            thumps = ((0.0, 1.0, 45.0), (0.35 * period, 0.6, 60.0))
            for delay, loudness, pitch in thumps:
                loudness *= self.rng.uniform(0.8, 1.2)
                start = round((onset + delay) * self.sample_rate)
                beat = loudness * thump(pitch, self.sample_rate)
                add_at(sound, beat, start)
            onset += period * self.rng.uniform(0.95, 1.05)
        return sound

    def room(self, duration: float) -> np.ndarray:
        """Noise of room and rubbing, swelling and falling slowly by 3 dB.

        Its spectrum falls by 6 dB per octave above 50 Hz, more slowly than that
        of breathing, so it masks the high partials first.
        """
        samples = round(duration * self.sample_rate)
        noise = self.noise(samples, 50.0, 6.0)
        turns = self.rng.uniform(0, 1) + self.rng.uniform(0.2, 0.5) * (
            np.arange(samples) / self.sample_rate
        )
        return noise * 10 ** (3 * np.sin(2 * np.pi * turns) / 20)

    def record(
        self,
        lungs: np.ndarray,
        snr: float,
        pulse: tuple[float, float],
        device: Device,
    ) -> np.ndarray:
        """What a device records of lungs: with room, heart and muscles.

        The lungs are ``snr`` dB above the room, the heart beats at a rate within
        ``pulse``, a minute. A recording departs from the device's level by up
        to 4 dB, and is clipped at 1.
        """
        duration = len(lungs) / self.sample_rate
        room = self.room(duration)
        # Muscles and the hand: strong below 60 Hz in most real recordings.
        rumble = self.noise(len(lungs), 30.0, 24.0)
        heart = self.heart_beats(duration, self.rng.uniform(*pulse))
        chest = mix_at_snr(lungs, room, snr)
        chest += rumble + self.rng.uniform(2, 6) * heart
        recorded = band_limit(chest, self.sample_rate, device.band)
        level = device.level + self.rng.uniform(-4, 4)
        recorded *= 10 ** (level / 20) / recorded.std()
        # Real ones clip, too.
        return np.clip(recorded, -1, 1)


def thump(pitch: float, sample_rate: int) -> np.ndarray:
    """A heart sound: 120 ms of a low tone, swelling and falling. Its peak is 1."""
    time = np.arange(round(0.12 * sample_rate)) / sample_rate - 0.06
    return np.exp(-((time / 0.02) ** 2)) * np.cos(2 * np.pi * pitch * time)


def crackle(
    two_cycle: float, initial_deflection: float, sample_rate: int
) -> np.ndarray:
    """One crackle: two damped cycles that widen, as in Kiyokawa et al. 2001.

    ``sin(4 pi t^a) * (1 + cos(2 pi (sqrt(t) - 1/2))) / 2`` for ``t`` from 0 to
    1 in units of the two-cycle duration, in seconds. ``a = log(1/4) / log(t0)``
    puts the first zero crossing to ``t0 = initial_deflection / two_cycle``. Its
    peak is 1.
    """
    time = np.arange(round(two_cycle * sample_rate)) / (two_cycle * sample_rate)
    power = np.log(0.25) / np.log(initial_deflection / two_cycle)
    damping = (1 + np.cos(2 * np.pi * (np.sqrt(time) - 0.5))) / 2
    burst = damping * np.sin(4 * np.pi * time**power)
    return burst / np.abs(burst).max()


def mix_at_snr(sound: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Adds noise to a sound at a ratio of their mean powers, in dB."""
    ratio = np.mean(sound**2) / np.mean(noise**2)
    return sound + noise * np.sqrt(ratio / 10 ** (snr / 10))


def band_limit(
    sound: np.ndarray, sample_rate: int, band: tuple[float, float]
) -> np.ndarray:
    """What a sensor passes: -3 dB at the edges, 12 dB per octave beyond."""
    sections = signal.butter(2, band, "bandpass", fs=sample_rate, output="sos")
    return signal.sosfilt(sections, sound)


def add_at(track: np.ndarray, sound: np.ndarray, start: int) -> None:
    """Adds a sound to a track from a sample on; what passes its end is cut."""
    stop = min(start + len(sound), len(track))
    track[start:stop] += sound[: max(0, stop - start)]
