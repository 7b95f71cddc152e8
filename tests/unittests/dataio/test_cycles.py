"""Tests of the way from a recording to the input of a backbone.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile
from scipy.signal import resample_poly

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleMeasurements,
    CycleResampler,
    FixedLength,
    read_cycle,
)
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.quality import AudioQualityScore
from qlung_plugin.processing.cycles import (
    cyclic_pad,
    fade,
    fix_length,
    resample,
)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator)


# --- fades ------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples, expected",
    [
        (0, [1, 1, 1, 1, 1, 1, 1]),
        (1, [0, 1, 1, 1, 1, 1, 0]),
        (2, [0, 1, 1, 1, 1, 1, 0]),
        (3, [0, 0.5, 1, 1, 1, 0.5, 0]),
        # The two ramps never overlap.
        (4, [0, 0.5, 1, 1, 1, 0.5, 0]),
        (100, [0, 0.5, 1, 1, 1, 0.5, 0]),
    ],
)
def test_fade_by_hand(samples, expected):
    assert fade(torch.ones(7), samples).tolist() == expected


def test_fade_scales_each_sample():
    waveforms = torch.tensor([[2.0, -4.0, 6.0, 8.0, -2.0, 4.0]] * 2)
    expected = torch.tensor([[0.0, -2.0, 6.0, 8.0, -1.0, 0.0]] * 2)
    original = waveforms.clone()
    assert torch.equal(fade(waveforms, 3), expected)
    assert torch.equal(waveforms, original)


@pytest.mark.parametrize("time", [0, 1])
def test_nothing_to_fade(time):
    assert torch.equal(fade(torch.ones(time), 5), torch.ones(time))


# --- length -----------------------------------------------------------------


@settings(deadline=None)
@given(time=st.integers(1, 30), length=st.integers(1, 100))
def test_cyclic_padding_repeats(time, length):
    waveforms = torch.arange(2 * time).reshape(2, time)
    padded = cyclic_pad(waveforms, length)
    expected = [
        [row * time + position % time for position in range(length)]
        for row in range(2)
    ]
    assert padded.tolist() == expected


# Ramps of 2 samples are 0, 1; of 3 samples 0, 1/2, 1.
BY_HAND = {
    "shorter, after": ([1, 2, 3], 8, 2, False, [0, 2, 3, 1, 2, 3, 1, 0]),
    "shorter, first": (
        [2, 4, 6, 8, 2, 4],
        9,
        3,
        True,
        [0, 2, 6, 8, 1, 0, 0, 2, 6],
    ),
    "equal, after": ([1, 2, 3, 4], 4, 2, False, [0, 2, 3, 0]),
    "equal, first": ([1, 2, 3, 4], 4, 2, True, [0, 2, 3, 0]),
    "longer, after": ([2, 4, 6, 8, 2, 4, 9], 6, 3, False, [0, 2, 6, 8, 1, 0]),
    "longer, first": ([2, 4, 6, 8, 2, 4, 9], 6, 3, True, [0, 2, 6, 8, 1, 0]),
    "one sample, after": ([3], 5, 2, False, [0, 3, 3, 3, 0]),
    "one sample, first": ([3], 5, 2, True, [3, 3, 3, 3, 3]),
    "no fade": ([1, 2, 3], 5, 0, True, [1, 2, 3, 1, 2]),
}


@pytest.mark.parametrize(
    "waveform, length, ramp, first, expected", BY_HAND.values(), ids=BY_HAND
)
def test_fix_length_by_hand(waveform, length, ramp, first, expected):
    waveform = torch.tensor(waveform, dtype=torch.float32)
    fixed = fix_length(waveform, length, ramp, fade_first=first)
    assert fixed.tolist() == expected
    batch = fix_length(waveform.expand(2, -1), length, ramp, fade_first=first)
    assert batch.tolist() == [expected] * 2


@pytest.mark.parametrize("fade_first", [False, True])
def test_nothing_to_repeat(fade_first):
    with pytest.raises(ValueError, match="empty waveform"):
        fix_length(torch.zeros(0), 10, 2, fade_first)


@pytest.mark.parametrize("fade_first", [False, True])
@pytest.mark.parametrize("seconds", [0.2, 7.999, 8.0, 16.2])
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


def test_settings_of_the_fixed_length():
    fixed = FixedLength(1000, duration=0.5, fade=0.003)(torch.ones(10))
    assert fixed.shape == (500,)
    assert fixed[:4].tolist() == [0, 0.5, 1, 1]


# --- resampling -------------------------------------------------------------


@pytest.mark.parametrize(
    "native, rate",
    [
        (4000, 32000),
        (4000, 16000),
        (10000, 16000),
        (44100, 32000),
        (8000, 4000),
    ],
)
def test_resampling_against_scipy(native, rate):
    time = np.arange(native // 2) / native
    sound = sum(np.sin(2 * np.pi * f * time + f) for f in (100, 440, 1200)) / 3
    resampled = resample(torch.tensor(sound, dtype=torch.float32), native, rate)
    divisor = np.gcd(native, rate)
    expected = resample_poly(sound, rate // divisor, native // divisor)
    assert len(resampled) == len(expected) == rate // 2
    inside = slice(rate // 20, -rate // 20)
    difference = resampled.numpy()[inside] - expected[inside]
    assert np.abs(difference).max() < 0.01


@pytest.mark.parametrize("samples", [1, 9, 441, 1000, 44099])
@pytest.mark.parametrize(
    "native, up, down", [(44100, 320, 441), (4000, 8, 1), (64000, 1, 2)]
)
def test_length_is_rounded_up(samples, native, up, down):
    resampled = CycleResampler(32000)(torch.zeros(samples), native)
    assert len(resampled) == -(-samples * up // down)


def test_same_rate_changes_nothing():
    waveform = noise(100)
    assert torch.equal(resample(waveform, 32000, 32000), waveform)


def test_no_sample_no_resampling():
    assert resample(torch.zeros(0), 4000, 32000).shape == (0,)


@pytest.mark.parametrize("native, time", [(4000, 80), (32001, 10)])
def test_no_waveform_no_resampling(native, time):
    assert resample(torch.zeros(0, 10), native, 32000).shape == (0, time)


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


@pytest.mark.parametrize("rate", [4000, 44100])
@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize(
    "start, stop", [(0, 1000), (0, 1), (250, 777), (999, 1000)]
)
def test_slices_of_the_native_formats(tmp_path, rate, bits, start, stop):
    expected = write_integers(tmp_path / "a.wav", rate, bits)
    wav = {"file": "{data_root}/a.wav", "start": start, "stop": stop}
    waveform = read_cycle(wav, tmp_path)
    assert waveform.dtype == torch.float32
    assert torch.equal(waveform, expected[start:stop])


def test_full_path_without_a_root(tmp_path):
    expected = write_integers(tmp_path / "a.wav", 4000, 16)
    wav = {"file": str(tmp_path / "a.wav"), "start": 3, "stop": 9}
    assert torch.equal(read_cycle(wav), expected[3:9])


@pytest.mark.parametrize(
    "start, stop, message",
    [
        (900, 1001, "ends before sample 1001"),
        (1000, 1010, "ends before sample 1010"),
        (5000, 6000, "ends before sample 6000"),
        (-10, 0, "no cycle from sample -10 to 0"),
        (-10, -5, "no cycle from sample -10 to -5"),
        (7, 7, "no cycle from sample 7 to 7"),
        (9, 7, "no cycle from sample 9 to 7"),
    ],
)
def test_slices_that_are_not_there(tmp_path, start, stop, message):
    write_integers(tmp_path / "a.wav", 4000, 16)
    wav = {"file": "{data_root}/a.wav", "start": start, "stop": stop}
    with pytest.raises(ValueError, match=message) as error:
        read_cycle(wav, tmp_path)
    assert str(tmp_path / "a.wav") in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e12, -1e30])
def test_samples_that_are_no_sound_are_refused(tmp_path, value):
    """Before anything is computed from them and kept."""
    samples = np.full(4000, 0.25)
    samples[3000] = value
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 2000, subtype="DOUBLE")
    wav = {"file": str(path), "start": 1000, "stop": 4000}
    with pytest.raises(ValueError, match=f"{path} holds .*first at 1.5 s"):
        read_cycle(wav)
    assert len(read_cycle({**wav, "stop": 3000})) == 2000


def test_a_format_that_cannot_be_sought_in(tmp_path):
    """It is read from its start."""
    path = tmp_path / "a.wav"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    soundfile.write(path, samples, 4000, subtype="GSM610")
    with soundfile.SoundFile(path) as file:
        expected = torch.from_numpy(file.read(8000, dtype="float32"))
    for start, stop in [(0, 8000), (3000, 3001), (4321, 7654)]:
        wav = {"file": str(path), "start": start, "stop": stop}
        assert torch.equal(read_cycle(wav), expected[start:stop])


def test_stereo_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 2)), 4000)
    wav = {"file": "{data_root}/a.wav", "start": 0, "stop": 50}
    with pytest.raises(ValueError, match="a.wav has 2 channels, not one"):
        read_cycle(wav, tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"RIFF no sound"])
def test_unreadable_file_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    wav = {"file": "{data_root}/a.wav", "start": 0, "stop": 50}
    with pytest.raises((OSError, ValueError)) as error:
        read_cycle(wav, tmp_path)
    assert str(tmp_path / "a.wav") in str(error.value)


@pytest.mark.filterwarnings("ignore::scipy.io.wavfile.WavFileWarning")
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
        for line in path.with_suffix(".txt").read_text().splitlines():
            start, stop = (round(float(t) * rate) for t in line.split()[:2])
            stop = min(stop, len(data))
            wav = {"file": str(path), "start": start, "stop": stop}
            expected = torch.tensor(data[start:stop] / full_scale).float()
            torch.testing.assert_close(
                read_cycle(wav), expected, atol=1e-7, rtol=0
            )
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


def test_what_is_fitted_does_not_enter_the_measurement():
    quality = AudioQualityScore(16000, normalisation="fitted")
    measure = CycleMeasurements(quality)
    before = measure(noise(8000), 16000)
    quality.fit(torch.tensor([[0.1, 0.0], [0.9, 0.5]]))
    assert torch.equal(measure(noise(8000), 16000), before)


def test_the_end_alone_is_faded_where_asked():
    waveform = torch.ones(5)
    both = fix_length(waveform, 12, 3)
    end = fix_length(waveform, 12, 3, fade_in=False)
    assert end[:3].tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(end[3:], both[3:])
    module = FixedLength(1, duration=12, fade=3, fade_in=False)
    assert torch.equal(module(waveform), end)


@pytest.mark.parametrize("native_rate", [44101, 11024, 8001])
def test_rates_without_a_common_divisor(native_rate):
    """A tone stays a tone; a kernel for these rates would take gigabytes."""
    time = torch.arange(2 * native_rate, dtype=torch.float64) / native_rate
    tone = torch.sin(2 * math.pi * 300 * time).float()
    resampled = resample(tone, native_rate, 32000)
    assert resampled.dtype == torch.float32
    assert abs(len(resampled) - 64000) <= 1
    expected = torch.sin(2 * math.pi * 300 * torch.arange(64000) / 32000)
    middle = slice(4000, 60000)  # without the edges
    assert (resampled[middle] - expected[middle]).abs().max() < 2e-3
