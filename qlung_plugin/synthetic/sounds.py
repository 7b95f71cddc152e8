"""Synthetic chest sounds: breathing, crackles, wheezes, heart beats, noise.

They imitate what the definitions of respiratory sounds describe, for
demonstrations and tests. They are no model of a lung, and no score on them
is a result.

Loudness is relative: 1 is the RMS of breathing at the peak of inspiration. All
chance comes from ``rng``, a :class:`numpy.random.Generator`. What takes a
``duration`` in seconds and a ``sample_rate`` in Hz returns a waveform
``[samples]`` of that length.

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


class CrackleKind(NamedTuple):
    """Ranges in seconds, a peak, a count, and onsets in the inspiration."""

    two_cycle: tuple
    deflection_ratio: float  # initial deflection width / two-cycle duration
    peak: float
    count: tuple
    onset: tuple  # fractions of the inspiration


# Fine ones are short, soft, many, and late in inspiration; coarse ones are
# long, loud, few, and start early (CORSA). Both ranges hold the ATS mean.
CRACKLE_KINDS = {
    "fine": CrackleKind((0.004, 0.006), 0.14, 2.0, (6, 14), (0.45, 1.0)),
    "coarse": CrackleKind((0.010, 0.015), 0.15, 5.0, (3, 8), (0.05, 0.75)),
}


def shaped_noise(samples, sample_rate, rng, corner, slope):
    """Gaussian noise whose spectrum is flat to a corner and falls from there.

    Arguments
    ---------
    samples : int
        Length of the noise.
    sample_rate, rng
        See the module.
    corner : float
        Frequency of -3 dB, in Hz.
    slope : float
        Fall beyond it, in dB per octave.

    Returns
    -------
    numpy.ndarray
        Waveform [samples] with an RMS of 1.

    Example
    -------
    >>> noise = shaped_noise(8000, 4000, np.random.default_rng(0), 100, 12)
    >>> float(noise.std().round(3))
    1.0
    """
    padded = fft.next_fast_len(samples, real=True)
    frequencies = fft.rfftfreq(padded, 1 / sample_rate)
    exponent = 2 * slope / (20 * np.log10(2))
    gain = (1 + (frequencies / corner) ** exponent) ** -0.5
    # White noise has a white Gaussian spectrum, so it is drawn as one.
    spectrum = rng.standard_normal((2, len(frequencies)))
    spectrum = (spectrum[0] + 1j * spectrum[1]) * gain
    spectrum[0] = 0.0
    noise = fft.irfft(spectrum, padded)[:samples]
    return noise / np.sqrt(np.mean(noise**2))


def breathing(duration, sample_rate, rng, corner=100.0):
    """One breath: the noise of an inspiration and of a softer expiration.

    Loudness follows the flow: half a sine in inspiration, a quick rise and a
    slow fall in expiration, then a pause of a tenth of the breath. The spectrum
    falls from ``corner`` Hz on, which is higher in children.
    """
    samples = round(duration * sample_rate)
    turn, stop = round(INHALE * samples), round(0.9 * samples)
    inspiration = np.sin(np.pi * np.linspace(0, 1, turn))
    expiration = np.sin(np.pi * np.sqrt(np.linspace(0, 1, stop - turn)))
    sound = np.zeros(samples)
    for start, flow, slope in zip(
        (0, turn), (inspiration, 0.5 * expiration), SLOPES
    ):
        noise = shaped_noise(len(flow), sample_rate, rng, corner, slope)
        sound[start : start + len(flow)] = flow * noise
    return sound


def crackle(two_cycle, initial_deflection, sample_rate):
    """One crackle: two damped cycles that widen, as in Kiyokawa et al. 2001.

    ``sin(4 pi t^a) * (1 + cos(2 pi (sqrt(t) - 1/2))) / 2`` for ``t`` from 0 to
    1 in units of the two-cycle duration. ``a = log(1/4) / log(t0)`` puts the
    first zero crossing to ``t0 = initial_deflection / two_cycle``.

    Arguments
    ---------
    two_cycle : float
        Two-cycle duration, in seconds.
    initial_deflection : float
        Initial deflection width, in seconds.
    sample_rate
        See the module.

    Returns
    -------
    numpy.ndarray
        Waveform [samples] with a peak of 1.

    Example
    -------
    >>> crackle(0.005, 0.0007, 8000).shape
    (40,)
    """
    time = np.arange(round(two_cycle * sample_rate)) / (two_cycle * sample_rate)
    power = np.log(0.25) / np.log(initial_deflection / two_cycle)
    damping = (1 + np.cos(2 * np.pi * (np.sqrt(time) - 0.5))) / 2
    burst = damping * np.sin(4 * np.pi * time**power)
    return burst / np.abs(burst).max()


def crackles(duration, sample_rate, rng, kind="fine"):
    """The crackles of one breath, of a kind of ``CRACKLE_KINDS``.

    Example
    -------
    >>> sound = crackles(2.0, 4000, np.random.default_rng(0), "coarse")
    >>> bool(sound[:3200].any()), bool(sound[3400:].any())
    (True, False)
    """
    kind = CRACKLE_KINDS[kind]
    sound = np.zeros(round(duration * sample_rate))
    fewest, most = kind.count
    for _ in range(rng.integers(fewest, most + 1)):
        two_cycle = rng.uniform(*kind.two_cycle)
        deflection = kind.deflection_ratio * two_cycle
        burst = crackle(two_cycle, deflection, sample_rate)
        onset = rng.uniform(*kind.onset) * INHALE * duration
        # Vyshedskiy et al. 2009, Chest 135: 76 % of inspiratory ones are so.
        polarity = -1 if rng.random() < 0.75 else 1
        loudness = kind.peak * rng.lognormal(0.0, 0.3)
        add_at(sound, polarity * loudness * burst, round(onset * sample_rate))
    return sound


def wheeze(duration, sample_rate, rng, fundamental, harmonics=3, drift=0.1):
    """A wheeze: a harmonic tone whose pitch drifts slowly.

    Arguments
    ---------
    duration, sample_rate, rng
        See the module. A wheeze lasts more than 0.1 s.
    fundamental : float
        Mean pitch in Hz, 100 to 1000; its amplitude is 1.
    harmonics : int
        Number of partials, the fundamental included; the k-th has an
        amplitude of 1/k^2. Those beyond the Nyquist frequency are left out.
    drift : float
        Largest departure from the mean pitch, as a fraction of it.
    """
    samples = round(duration * sample_rate)
    # Half a turn at most: the pitch glides, it does not tremble.
    turn = np.pi * np.linspace(0, 1, samples) + rng.uniform(0, 2 * np.pi)
    pitch = fundamental * (1 + drift * np.cos(turn))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    sound = np.zeros(samples)
    for partial in range(1, harmonics + 1):
        if partial * pitch.max() < sample_rate / 2:
            offset = rng.uniform(0, 2 * np.pi)
            sound += np.sin(partial * phase + offset) / partial**2
    return sound * signal.windows.tukey(samples, 0.3)


def lung_cycle(
    duration,
    sample_rate,
    rng,
    crackle_kind=None,
    wheeze_pitch=None,
    strength=1.0,
    corner=100.0,
):
    """One breath with the adventitious sounds that it is asked to have.

    Arguments
    ---------
    duration, sample_rate, rng
        See the module.
    crackle_kind : str, optional
        A key of ``CRACKLE_KINDS``; None for no crackles.
    wheeze_pitch : float, optional
        Mean pitch of an expiratory wheeze in Hz; None for no wheeze.
    strength : float
        Loudness of the adventitious sounds.
    corner : float
        Of :func:`breathing`.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> lung_cycle(2.0, 4000, rng, "fine", wheeze_pitch=300.0).shape
    (8000,)
    """
    sound = breathing(duration, sample_rate, rng, corner)
    if crackle_kind is not None:
        sound += strength * crackles(duration, sample_rate, rng, crackle_kind)
    if wheeze_pitch is not None:
        length = max(0.15, rng.uniform(0.5, 0.8) * (1 - INHALE) * duration)
        tone = 0.5 * wheeze(length, sample_rate, rng, wheeze_pitch)
        onset = (INHALE + 0.05) * duration
        add_at(sound, strength * tone, round(onset * sample_rate))
    return sound


def heart_beats(duration, sample_rate, rng, rate=75.0):
    """Heart beats, ``rate`` a minute: two low thumps, the second softer."""
    sound = np.zeros(round(duration * sample_rate))
    period = 60 / rate
    time = np.arange(round(0.12 * sample_rate)) / sample_rate - 0.06
    onset = rng.uniform(0, period)
    while onset < duration:
        # Systole takes about a third of a beat.
        thumps = ((0.0, 1.0, 45.0), (0.35 * period, 0.6, 60.0))
        for delay, loudness, pitch in thumps:
            thump = np.exp(-((time / 0.02) ** 2)) * np.cos(
                2 * np.pi * pitch * time
            )
            start = round((onset + delay) * sample_rate)
            add_at(sound, loudness * rng.uniform(0.8, 1.2) * thump, start)
        onset += period * rng.uniform(0.95, 1.05)
    return sound


def ambient_noise(duration, sample_rate, rng):
    """Noise of room and rubbing, swelling and falling slowly by 3 dB.

    Its spectrum falls by 6 dB per octave above 50 Hz, more slowly than that of
    breathing, so it masks the high partials first.
    """
    samples = round(duration * sample_rate)
    noise = shaped_noise(samples, sample_rate, rng, 50.0, 6.0)
    turns = rng.uniform(0, 1) + rng.uniform(0.2, 0.5) * (
        np.arange(samples) / sample_rate
    )
    return noise * 10 ** (3 * np.sin(2 * np.pi * turns) / 20)


def mix_at_snr(sound, noise, snr):
    """Adds noise to a sound at a ratio of their mean powers, in dB.

    Example
    -------
    >>> mix_at_snr(np.array([1.0, -1.0]), np.array([2.0, 2.0]), 20.0)
    array([ 1.1, -0.9])
    """
    ratio = np.mean(sound**2) / np.mean(noise**2)
    return sound + noise * np.sqrt(ratio / 10 ** (snr / 10))


def band_limit(sound, sample_rate, low, high):
    """What a sensor passes: -3 dB at the edges in Hz, 12 dB per octave beyond.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 1600 * np.arange(8000) / 8000)
    >>> bool(band_limit(tone, 8000, 20, 400).std() < 0.1 * tone.std())
    True
    """
    band = (low, high)
    sections = signal.butter(2, band, "bandpass", fs=sample_rate, output="sos")
    return signal.sosfilt(sections, sound)


def add_at(track, sound, start):
    """Adds a sound to a track from a sample on; what passes the end is cut off.

    Example
    -------
    >>> track = np.zeros(3)
    >>> add_at(track, np.ones(2), 2)
    >>> track
    array([0., 0., 1.])
    """
    stop = min(start + len(sound), len(track))
    track[start:stop] += sound[: max(0, stop - start)]


def record_chest(lungs, sample_rate, rng, snr, pulse, band, level):
    """What a stethoscope records of lungs: with room, heart and muscles.

    Arguments
    ---------
    lungs : numpy.ndarray
        Waveform [samples] of breathing.
    sample_rate, rng
        See the module.
    snr : float
        Ratio of the lungs to the room in dB.
    pulse : tuple
        Range of the heart rate, in beats per minute.
    band : tuple
        Edges at -3 dB of the device, in Hz.
    level : float
        Mean RMS of the device's recordings in dB of full scale; a recording
        departs from it by up to 4 dB.

    Returns
    -------
    numpy.ndarray
        Waveform [samples], clipped at 1.
    """
    duration = len(lungs) / sample_rate
    room = ambient_noise(duration, sample_rate, rng)
    # Muscles and the hand: strong below 60 Hz in most real recordings.
    rumble = shaped_noise(len(lungs), sample_rate, rng, 30.0, 24.0)
    heart = heart_beats(duration, sample_rate, rng, rng.uniform(*pulse))
    chest = mix_at_snr(lungs, room, snr)
    chest += rumble + rng.uniform(2, 6) * heart
    recorded = band_limit(chest, sample_rate, *band)
    level = level + rng.uniform(-4, 4)
    recorded *= 10 ** (level / 20) / recorded.std()
    # Real ones clip, too.
    return np.clip(recorded, -1, 1)
