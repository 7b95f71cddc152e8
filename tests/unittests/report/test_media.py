"""Cycles of a page can be heard and seen.

Authors
 * qlung_plugin contributors
"""

import io

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from PIL import Image

from qlung_plugin.report.media import (
    encode_picture,
    encode_sound,
    frequency_ticks,
    log_mel,
)


def tone(frequency, rate, seconds=1.0, level=0.1):
    time = torch.arange(int(rate * seconds)) / rate
    return level * torch.sin(2 * torch.pi * frequency * time)


@pytest.mark.parametrize("rate", [4000, 44100])
def test_sound_is_the_cycle_but_louder(rate):
    sound, gain = encode_sound(tone(440, rate), rate)
    wave, decoded_rate = soundfile.read(io.BytesIO(sound))
    assert decoded_rate == 16000 and wave.ndim == 1
    assert gain == pytest.approx(20 * np.log10(0.9 / 0.1), abs=0.1)
    # The encoder adds at most a few frames of silence.
    assert 16000 <= len(wave) < 16000 + 4 * 576
    spectrum = np.abs(np.fft.rfft(wave[2000:14000]))
    assert spectrum.argmax() * 16000 / 12000 == pytest.approx(440, abs=2)
    assert np.abs(wave).max() == pytest.approx(0.9, abs=0.05)
    assert len(sound) < 0.3 * 2 * 16000


def test_silence_is_not_made_louder():
    sound, gain = encode_sound(torch.zeros(4000), 4000)
    assert gain == 0
    assert np.abs(soundfile.read(io.BytesIO(sound))[0]).max() < 1e-3
    picture = Image.open(io.BytesIO(encode_picture(torch.zeros(4000), 4000)))
    assert np.ptp(np.asarray(picture), axis=(0, 1)).max() <= 4  # of 255


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        encode_sound(torch.tensor([0.1, torch.nan]), 4000)


def test_a_sound_library_without_mp3_is_told(monkeypatch):
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": ""})
    with pytest.raises(ValueError, match="writes no MP3"):
        encode_sound(torch.ones(100), 4000)


@pytest.mark.parametrize(("frequency", "height"), frequency_ticks())
def test_a_tone_is_bright_where_its_tick_is(frequency, height):
    frequency = min(frequency, 3900)  # half the rate is at the upper edge
    picture = encode_picture(tone(frequency, 16000, level=0.5), 16000)
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    green = np.asarray(image)[:, 20:-20, 1].mean(axis=1)
    place = 1 - (green.argmax() + 0.5) / len(green)
    assert place == pytest.approx(height, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20000), st.sampled_from([4000, 11025, 44100]))
def test_every_length_can_be_heard_and_seen(samples, rate):
    wave = torch.linspace(-0.5, 0.5, samples)
    sound, _ = encode_sound(wave, rate)
    assert len(soundfile.read(io.BytesIO(sound))[0]) >= samples * 16000 // rate
    level = log_mel(wave, rate)
    assert level.shape[0] == 64
    assert level.max() == 0 and level.min() >= -60
    Image.open(io.BytesIO(encode_picture(wave, rate))).load()
