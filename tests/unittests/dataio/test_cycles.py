"""Tests of the way from a recording to the input of a backbone.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import soundfile
import torch
from scipy.io import wavfile

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
    OwnLength,
    input_of,
    read_cycle,
    read_excerpt,
)
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.quality import AudioQualityScore
from qlung_plugin.processing.cycles import fix_length, resample


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator)


# --- length -----------------------------------------------------------------


def test_the_end_alone_is_faded_where_asked():
    fixed = FixedLength(1, duration=12, fade=3, fade_in=False)(torch.ones(5))
    assert fixed.tolist() == 10 * [1.0] + [0.5, 0.0]


@pytest.mark.parametrize("fade_first", [False, True])
@pytest.mark.parametrize("seconds", [0.2, 16.2])
def test_eight_seconds(seconds, fade_first):
    rate = 4000
    cycle = torch.ones(round(seconds * rate))
    fixed = FixedLength(rate, fade_first=fade_first)(cycle)
    assert fixed.shape == (8 * rate,)
    # 62.5 ms are 250 samples: silent at the ends, one from there on.
    assert fixed[0] == 0 and fixed[249] == 1 and fixed[124] < 0.5 < fixed[125]
    assert fixed.max() == 1
    if fade_first and seconds < 8:
        # The cycle's own end is soft, also where it is repeated.
        assert fixed[len(cycle) - 1] == 0 and fixed[len(cycle) - 250] == 1
    else:
        assert fixed[-1] == 0 and (fixed[249:-249] == 1).all()


# --- reading ----------------------------------------------------------------


def write_integers(path, rate, bits, samples=1000):
    """A mono wav of random integers; returns what they are to be read as."""
    limit = 2 ** (bits - 1)
    integers = np.random.default_rng(bits).integers(-limit, limit, samples)
    integers[:2] = -limit, limit - 1
    data = integers << (32 - bits)  # soundfile keeps the upper bits
    if bits == 16:
        soundfile.write(path, integers.astype("int16"), rate, "PCM_16")
    else:
        soundfile.write(path, data.astype("int32"), rate, f"PCM_{bits}")
    return torch.tensor(integers / limit).float()


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_slices_of_the_native_formats(tmp_path, bits):
    expected = write_integers(tmp_path / "a.wav", 44100, bits)
    for start, stop in ((0, 1000), (0, 1), (250, 777), (999, 1000)):
        wav = {"file": "{data_root}/a.wav", "start": start, "stop": stop}
        waveform = read_cycle(wav, tmp_path)
        assert waveform.dtype == torch.float32
        assert torch.equal(waveform, expected[start:stop])
        whole_path = {**wav, "file": str(tmp_path / "a.wav")}
        assert torch.equal(read_cycle(whole_path), waveform)


@pytest.mark.parametrize(
    "start, stop, message",
    [
        (900, 1001, "ends before sample 1001"),
        (5000, 6000, "ends before sample 6000"),
        (-10, 5, "no cycle from sample -10 to 5"),
        (7, 7, "no cycle from sample 7 to 7"),
    ],
)
def test_slices_that_are_not_there(tmp_path, start, stop, message):
    write_integers(tmp_path / "a.wav", 4000, 16)
    wav = {"file": "{data_root}/a.wav", "start": start, "stop": stop}
    with pytest.raises(ValueError, match=f"{tmp_path}/a.wav.*{message}"):
        read_cycle(wav, tmp_path)


@pytest.mark.parametrize(
    "channels, message",
    [
        ({}, "does not say which"),
        ({"channels": [1, 2]}, r"has 2 channels, not \[1, 2\]"),
    ],
)
def test_channels_that_nobody_chose_are_refused(tmp_path, channels, message):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 2)), 4000)
    wav = {"file": "{data_root}/a.wav", "start": 0, "stop": 50, **channels}
    with pytest.raises(ValueError, match=f"a.wav .*{message}"):
        read_cycle(wav, tmp_path)


@pytest.mark.filterwarnings("ignore::scipy.io.wavfile.WavFileWarning")
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("first, stop", [(0, 800), (5, 805), (800, 7999)])
def test_training_and_use_resample_within_the_recording(
    tmp_path, suffix, first, stop
):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(8000).numpy(), 8000)
    wav = {"file": str(path), "start": first, "stop": stop}
    resampler = CycleResampler(32000)
    trained, rate = input_of(resampler, read_excerpt(wav, 32000))
    recording = Recording(path)
    used, _ = input_of(
        resampler, recording.excerpt(first / 8000, stop / 8000, 32000)
    )
    assert rate == 32000 and torch.equal(trained, used)
    whole = resample(recording.read(0, recording.duration), 8000, 32000)
    expected = whole[4 * first : 4 * stop]
    torch.testing.assert_close(trained, expected, atol=1e-6, rtol=0)
    assert torch.equal(
        read_excerpt(wav, 32000).waveform, read_cycle(wav)
    )  # whatever it is read for


def test_what_lies_around_a_cycle_may_be_missing(tmp_path):
    """The last cycle of a file that breaks off in the middle of a sample."""
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(20000).numpy(), 8000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    recording = Recording(path, allow_truncated=True)
    stop = recording.frames
    assert 4000 < stop < 20000
    wav = {"file": str(path), "start": 4000, "stop": stop}
    trained = read_excerpt(wav, 32000)
    assert (trained.before, trained.after) == (12, 0)
    used = recording.excerpt(0.5, recording.duration, 32000)
    assert torch.equal(trained.samples, used.samples)


def test_a_process_without_a_rate_is_given_the_recorded_one(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(8000).numpy(), 8000)
    wav = {"file": str(tmp_path / "a.wav"), "start": 80, "stop": 800}
    measurements = CycleMeasurements(AudioQualityScore(16000))
    waveform, rate = input_of(measurements, read_excerpt(wav, None))
    assert rate == 8000 and torch.equal(waveform, read_cycle(wav))


def test_icbhi_in_its_native_formats(real_data):
    folder = real_data / "icbhi_original" / "audio_and_txt_files"
    recordings = sorted(folder.glob("*.wav"))
    assert len(recordings) == 10
    formats = set()
    for path in recordings:
        rate, data = wavfile.read(path)  # 24-bit comes in the upper bits
        info = soundfile.info(path)
        formats.add((rate, info.subtype))
        full_scale = -float(np.iinfo(data.dtype).min)
        wav = {"file": str(path), "start": 1000, "stop": len(data)}
        expected = torch.tensor(data[1000:] / full_scale).float()
        torch.testing.assert_close(read_cycle(wav), expected, atol=1e-7, rtol=0)
    assert {rate for rate, _ in formats} == {4000, 44100}
    assert {subtype for _, subtype in formats} == {"PCM_16", "PCM_24", "PCM_32"}


# --- features and measurements ----------------------------------------------


def test_cycle_features_are_the_parts_in_a_row():
    front_end = EfficientATFeatures()
    parts = CycleResampler(32000), FixedLength(32000, duration=2.0)
    features = CycleFeatures(*parts, front_end)(noise(5000), 4000)
    assert features.dtype == torch.float16 and features.shape == (200, 128)
    waveform = fix_length(resample(noise(5000), 4000, 32000), 64000, 2000)
    expected = front_end(waveform[None])[0]
    # Half precision has 11 bits, the features are within 4.
    torch.testing.assert_close(features.float(), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "samples, becomes",
    [(1, 4), (4, 4), (5, 8), (8, 8), (9, 12), (12, 12), (13, 12), (99, 12)],
)
def test_own_length_by_hand(samples, becomes):
    # In steps of 4 samples, at most 3 of them.
    own_length = OwnLength(8, step=0.5, duration=1.5, fade=0.125)
    assert own_length.target(samples) == becomes
    cycle = torch.arange(1.0, 1 + samples)
    expected = cycle.repeat(becomes)[:becomes]
    expected[[0, -1]] = 0.0  # a fade of one sample
    torch.testing.assert_close(own_length(cycle), expected)


@pytest.mark.parametrize("step", [0.0, -1.0, 1.5, 0.3])
def test_own_length_refuses_impossible_steps(step):
    with pytest.raises(ValueError, match="duration must be a number of steps"):
        OwnLength(8000, step=step, duration=1.0)


@pytest.mark.parametrize("native", [4000, 16000, 44100])
def test_measurements_are_of_the_cycle_alone(native):
    cycle = noise(native) * torch.linspace(0, 1, native)
    quality = AudioQualityScore(16000)
    measured = CycleMeasurements(quality)(cycle, native)
    at_its_rate = resample(cycle, native, 16000)
    rates = torch.tensor([native])
    # Declared padding does not enter ...
    padded = torch.cat([at_its_rate, torch.zeros(48000)])[None]
    share = torch.tensor([len(at_its_rate) / padded.shape[1]])
    expected = quality.measure(padded, share, rates)[0]
    torch.testing.assert_close(measured, expected, atol=1e-5, rtol=1e-4)
    # ... and undeclared padding would.
    other = quality.measure(padded, native_rates=rates)[0]
    assert (measured - other).abs().min() > 0.01


def test_the_native_rate_enters_the_measurement():
    # At 2 kHz half of the band up to 2 kHz is empty, and is left out.
    cycle = noise(4000)
    measure = CycleMeasurements(AudioQualityScore(16000, entropy="spectrum"))
    upsampled = resample(cycle, 2000, 16000)
    known, unknown = measure(cycle, 2000), measure(upsampled, 16000)
    assert known[0] > unknown[0] + 0.02
    torch.testing.assert_close(known[1], unknown[1])
