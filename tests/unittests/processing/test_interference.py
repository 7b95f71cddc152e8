"""What is heard beside a chest has the level, band and rhythm that it claims."""

import numpy as np
import pytest
import torch
from scipy.signal import find_peaks, welch

from qlung_plugin.processing.interference import (
    babble,
    crying,
    handling,
    scale_to_snr,
)
from tests.unittests.processing.tones import RATE, generator


def band_power(sound, low, high, rate=RATE):
    """Share of the power of a sound between two frequencies."""
    frequencies, power = welch(sound.numpy(), rate, nperseg=1024)
    inside = (low <= frequencies) & (frequencies < high)
    return power[inside].sum() / power.sum()


# Levels


def test_one_sound_is_scaled_for_each_waveform():
    # Of a power of 1 and 100, about their means, and of 16.
    waveforms = torch.tensor([[1.0, 3.0, 1.0, 3.0], [10.0, -10.0, -10.0, 10.0]])
    sound = torch.tensor([0.0, 0.0, 8.0, 8.0])
    scaled = scale_to_snr(sound, waveforms, 6.0206)
    expected = torch.tensor([-0.5, -0.5, 0.5, 0.5])  # a quarter of the power
    expected = torch.stack([expected, 10 * expected])
    torch.testing.assert_close(scaled, expected, atol=1e-4, rtol=0)


# Babble


def test_babble_has_the_spectrum_of_speech():
    voices = babble(30 * RATE, RATE, generator())
    assert band_power(voices, 100, 1000) > 0.7
    assert 0.03 < band_power(voices, 1000, 4000) < 0.3
    assert band_power(voices, 0, 60) < 0.05


def envelope(sound, rate=100):
    """Power in steps of 10 ms."""
    return sound.unflatten(0, (-1, RATE // rate)).square().mean(dim=1)


def test_a_voice_has_about_four_syllables_a_second():
    power = envelope(babble(60 * RATE, RATE, generator(), talkers=1)).sqrt()
    frequencies, strength = welch(power - power.mean(), 100, nperseg=512)
    audible = frequencies > 1.5
    fastest = frequencies[audible][strength[audible].argmax()]
    assert 3 <= fastest <= 6


def test_a_voice_is_voiced_in_part():
    voice = babble(30 * RATE, RATE, generator(), talkers=1)
    frames = voice.unflatten(0, (-1, RATE // 25)).double()  # 40 ms
    spectra = torch.fft.rfft(frames, 2 * frames.shape[1]).abs().square()
    correlation = torch.fft.irfft(spectra)
    correlation = correlation / correlation[:, :1].clamp(min=1e-12)
    periodic = correlation[:, RATE // 350 : RATE // 84].amax(dim=1) > 0.55
    assert 0.3 < periodic.double().mean() < 0.9


# Crying


def runs(active):
    """Lengths of the stretches of True and of False that lie inside."""
    changes = np.flatnonzero(np.diff(active.numpy().astype(int))) + 1
    lengths = np.diff(changes)
    first = bool(active[changes[0]])
    return lengths[0 if first else 1 :: 2], lengths[1 if first else 0 :: 2]


def test_cries_come_in_bouts_with_pauses_for_breath():
    cries = crying(60 * RATE, RATE, generator())
    assert cries[: RATE // 100].any()  # it begins within a bout
    loud = envelope(cries) > 1e-9
    bouts, pauses = (lengths / 100 for lengths in runs(loud))
    assert len(bouts) > 30
    assert 0.68 <= bouts.min() and bouts.max() <= 1.22
    assert 0.18 <= pauses.min() and pauses.max() <= 0.52


def test_pitch_of_a_cry_rises_and_falls():
    cries = crying(30 * RATE, RATE, generator())
    loud = envelope(cries) > 1e-9
    starts = np.flatnonzero(np.diff(loud.numpy().astype(int)) == 1) + 1
    stops = np.flatnonzero(np.diff(loud.numpy().astype(int)) == -1) + 1
    checked = 0
    for start in starts:
        stop = stops[stops > start]
        if len(stop) == 0:
            continue
        bout = cries[start * RATE // 100 : stop[0] * RATE // 100].numpy()
        pitches = []
        for place in (0.12, 0.5, 0.88):
            middle = round(place * len(bout))
            frame = bout[middle - 400 : middle + 400]
            spectrum = np.abs(np.fft.rfft(np.hanning(800) * frame, 8000))
            # 1 Hz a bin; the fundamental is the strongest partial.
            pitches.append(spectrum.argmax())
        assert all(345 <= pitch <= 555 for pitch in pitches)
        assert pitches[1] > pitches[0] + 20 and pitches[1] > pitches[2] + 20
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("rate", [4000, 44100])
def test_partials_of_a_cry_decay_and_stay_below_the_nyquist_frequency(rate):
    cries = crying(4 * rate, rate, generator())
    middle = cries[: rate // 2].numpy()  # within the first bout
    spectrum = np.abs(np.fft.rfft(np.hanning(len(middle)) * middle))
    peaks, _ = find_peaks(spectrum, spectrum.max() / 100, distance=100)
    assert len(peaks) >= 3 and (np.diff(spectrum[peaks[:3]]) < 0).all()
    # What had passed the Nyquist frequency would be between the partials.
    highest = 550 * int(rate / 2 / 550)
    assert band_power(cries, 0, 300, rate) < 1e-3
    if highest + 100 < rate / 2:
        assert band_power(cries, highest + 100, rate, rate) < 1e-3


# Handling


def single_bursts(seconds=20, count=40, seed=0):
    """What each further burst adds."""
    sounds = [
        handling(seconds * RATE, RATE, number / seconds, generator(seed))
        for number in range(count + 1)
    ]
    assert not sounds[0].any()
    return [after - before for before, after in zip(sounds, sounds[1:])]


def test_handling_is_bursts_of_which_more_follow_at_a_higher_rate():
    whole = 0
    for burst in single_bursts():
        places = burst.abs().gt(1e-12).nonzero()
        first, last = places[0].item(), places[-1].item()
        assert last - first <= 0.4 * RATE
        if last < 20 * RATE - 2:  # not cut off at the end
            assert 0.49 < burst.abs().max() < 1.51
            whole += 1
    assert whole >= 38


def test_handling_is_low_in_frequency():
    sound = sum(single_bursts())
    assert band_power(sound, 0, 500) > 0.8
    assert band_power(sound, 2000, 4000) < 0.01


# All of them
