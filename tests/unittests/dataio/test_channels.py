"""Recordings of several channels: copies, silence, and different sounds.

Authors
 * qlung_plugin contributors
"""

import logging

import numpy as np
import pytest
import soundfile

from qlung_plugin.dataio.recordings import LOOKS, Recording
from tests.unittests.recording_checks import breaths

RATE = 4000


def noise(seconds, seed):
    samples = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return 0.1 * samples


def write(path, *channels, subtype="FLOAT"):
    soundfile.write(path, np.stack(channels, 1), RATE, subtype=subtype)
    return path


@pytest.fixture
def sound():
    return breaths(10, RATE)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("gains", [(1, 1), (1, 0.5), (0.2, 1, 0.6, 0.4, 1, 1)])
def test_copies_are_averaged_without_a_word(
    tmp_path, sound, suffix, gains, caplog
):
    subtype = "FLOAT" if suffix == "wav" else "PCM_24"
    path = write(
        tmp_path / f"a.{suffix}", *(g * sound for g in gains), subtype=subtype
    )
    recording = Recording(path)
    assert recording.channels == len(gains)
    read = recording.read(0, 10).numpy()
    assert np.allclose(read, np.mean(gains) * sound, atol=1e-6)
    assert not caplog.records


@pytest.mark.parametrize("silence", [0.0, 0.5, 1e-3 * noise(10, 1)])
def test_a_silent_channel_takes_nothing_from_the_other(
    tmp_path, sound, silence, caplog
):
    """Half the level would be another quality."""
    path = write(tmp_path / "a.wav", 0 * sound + silence, sound)
    assert np.allclose(Recording(path).read(0, 10), sound, atol=1e-6)
    write(path, 0 * sound, 0 * sound)
    assert not Recording(path).read(0, 10).any()
    assert not caplog.records


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("rest", [0, 0.01])
def test_channels_that_cancel_are_refused(tmp_path, sound, suffix, rest):
    """Also where what remains of them sounds like something."""
    other = -sound + rest * noise(10, 1)
    path = tmp_path / f"a.{suffix}"
    write(path, sound, other, subtype="PCM_16")
    with pytest.raises(ValueError, match=f"{path}.*cancel.*--channel N"):
        Recording(path)
    for channel, expected in ((1, sound), (2, other)):
        read = Recording(path, channel=channel).read(0, 10)
        assert np.allclose(read, expected, atol=1e-4)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_channels_that_differ_are_told(tmp_path, suffix, caplog):
    path = tmp_path / f"a.{suffix}"
    copies = noise(10, 0)
    write(path, copies, noise(10, 1), copies, subtype="PCM_16")
    recording = Recording(path)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert str(path) in text and "--channel N" in text and "from 1 to 3" in text
    assert "channels 1 and 2 hold different" in text
    mean = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    assert np.allclose(recording.read(0, 10), mean, atol=1e-6)
    caplog.clear()
    chosen = Recording(path, channel=2).read(0, 10)
    assert np.allclose(chosen, noise(10, 1), atol=1e-4)
    assert not caplog.records


@pytest.mark.parametrize("channel", [0, -1, 3])
def test_channels_that_are_none(tmp_path, sound, channel):
    path = write(tmp_path / "a.wav", sound, sound)
    with pytest.raises(ValueError, match=f"no channel {channel}: it has 2"):
        Recording(path, channel=channel)


def test_long_recordings_are_looked_at_all_over(tmp_path, monkeypatch, caplog):
    """Not as a whole; also where they begin with silence."""
    from qlung_plugin.dataio.decoders import SoundfileDecoder

    sizes, read = [], SoundfileDecoder.read

    def counting(self, frames):
        block = read(self, frames)
        sizes.append(len(block))
        return block

    monkeypatch.setattr(SoundfileDecoder, "read", counting)
    seconds = 20 * LOOKS
    one, other = noise(seconds, 0), noise(seconds, 1)
    one[: len(one) // 3] = other[: len(one) // 3] = 0
    path = write(tmp_path / "a.wav", one, other, subtype="PCM_16")
    Recording(path)
    assert len(sizes) == LOOKS and sum(sizes) == LOOKS * RATE
    assert len(caplog.records) == 1
