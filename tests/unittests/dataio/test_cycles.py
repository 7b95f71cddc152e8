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
    CycleMeasurements,
    CycleResampler,
    FixedLength,
    read_cycle,
)
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.quality import AudioQualityScore
from qlung_plugin.processing.cycles import fix_length, resample


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator)


# --- length -----------------------------------------------------------------


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
    # The end alone is faded where asked.
    fixed = FixedLength(1, duration=12, fade=3, fade_in=False)
    expected = fix_length(torch.ones(5), 12, 3, fade_in=False)
    assert torch.equal(fixed(torch.ones(5)), expected)


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
