"""Recordings as users have them: any format, any rate, and broken ones.

Each has a defined result, or an error that names the file.

Authors
 * qlung_plugin contributors
"""

import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.cycle_sources import BLOCK
from qlung_plugin.inference.quality import (
    MEASURES,
    TOLD,
    make_measures,
    measure_recording,
)
from qlung_plugin.inference.recordings import Recording
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.quality import AudioQualityScore
from qlung_plugin.nnet.classifiers import LinearClassifier

LABELS = ["normal", "abnormal"]
RATES = (800, 801, 4000, 11025, 44100, 44101, 48000, 96001, 192000)
USUAL_RATES = (4000, 8000, 22050, 44100, 44101, 192000)

# Per format, how far a sample may be from what was written; None: lossy.
FORMATS = {
    ("wav", "PCM_U8"): 2**-7,
    ("wav", "PCM_16"): 2**-15,
    ("wav", "PCM_24"): 2**-23,
    ("wav", "PCM_32"): 2**-23,
    ("wav", "FLOAT"): 2**-23,
    ("wav", "DOUBLE"): 2**-23,
    ("wav", "ULAW"): 0.02,
    ("wav", "ALAW"): 0.02,
    ("flac", "PCM_S8"): 2**-7,
    ("flac", "PCM_16"): 2**-15,
    ("flac", "PCM_24"): 2**-23,
    ("aiff", "PCM_16"): 2**-15,
    ("aiff", "FLOAT"): 2**-23,
    ("au", "PCM_16"): 2**-15,
    ("caf", "PCM_24"): 2**-23,
    ("w64", "PCM_16"): 2**-15,
    ("rf64", "PCM_16"): 2**-15,
    ("ogg", "VORBIS"): None,
    ("ogg", "OPUS"): None,
    ("mp3", "MPEG_LAYER_III"): None,
}


def make_model():
    torch.manual_seed(0)
    modules = {
        "quality": AudioQualityScore(16000),
        "cycle_features": CycleFeatures(
            CycleResampler(32000),
            FixedLength(32000, duration=1.0),
            EfficientATFeatures(),
        ),
        "backbone": EfficientAT(width_mult=0.1),
        "classifier": LinearClassifier(96, 2),
    }
    return RespiratorySoundClassifier(modules, {"labels": LABELS})


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def measures():
    return make_measures()


def breaths(seconds, rate):
    """Noise that comes and goes every 2.5 s, at most 0.5."""
    time = np.arange(max(1, round(seconds * rate))) / rate
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(time))
    return noise * np.sin(np.pi * time / 2.5) ** 2


def check_classified(model, path, cycles):
    """Whatever the recording, the answer has the form it promises."""
    table, summary = model.classify_file(path, cycles)
    assert summary["cycle_count"] == len(table)
    assert len(table)
    shares = table[[f"p_{label}" for label in LABELS]].to_numpy()
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert table["quality"].between(0, 1).all()
    assert (table["start"] < table["end"]).all()
    assert table["end"].max() <= summary["duration"]
    assert 0 <= summary["abnormal_fraction"] <= 1
    confidence = summary["confidence"]
    assert confidence is None or 0 <= confidence <= 1
    return table


def check_measured(measures, path, silent=False):
    (row,) = measure_recording(measures, path)
    assert all(0 <= row[name] <= 1 for name in MEASURES)
    for name in (*TOLD, "clipping_ratio"):
        assert not math.isinf(row[name]), name
    if not silent:
        assert all(math.isfinite(row[name]) for name in TOLD)
    return row


def check_refused(model, measures, path, text, errors=ValueError):
    """All three entrances refuse the file, by its name."""
    for entrance in (
        lambda: list(Recording(path).blocks(1000)),
        lambda: model.classify_file(path, "windows"),
        lambda: model.classify_file(path),
        lambda: measure_recording(measures, path),
        lambda: measure_recording(measures, path, "cycle"),
    ):
        with pytest.raises(errors, match=text) as raised:
            entrance()
        assert str(path) in str(raised.value)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [1, 9])
def test_any_rate(model, measures, tmp_path, rate, seconds):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(seconds, rate), rate)
    assert Recording(path).duration == seconds
    check_classified(model, path, "windows")
    check_measured(measures, path)


@pytest.mark.parametrize("rate", [1, 2, 3, 7, 50, 799])
def test_too_slow_for_sounds(model, measures, tmp_path, rate):
    path = tmp_path / "slow.wav"
    soundfile.write(path, breaths(9, rate), rate)
    check_refused(model, measures, path, f"has {rate} Hz")


@pytest.mark.parametrize("rate", USUAL_RATES)
def test_breaths_at_the_usual_rates(model, measures, tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(15, rate), rate)
    table = check_classified(model, path, "segmentation")
    assert 4 <= len(table) <= 9
    rows = measure_recording(measures, path, "cycle")
    assert [row["start"] for row in rows] == list(table["start"])


@pytest.mark.parametrize(("suffix", "subtype"), FORMATS)
def test_any_format(model, measures, tmp_path, suffix, subtype):
    written = breaths(10, 8000)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, written, 8000, subtype=subtype)
    recording = Recording(path)
    assert recording.sample_rate == 8000
    read = recording.read(0.0, recording.duration).numpy()
    tolerance = FORMATS[suffix, subtype]
    if tolerance is None:  # padded, perhaps, and of another phase
        assert np.abs(len(read) - len(written)) <= 2500
        assert read.std() == pytest.approx(written.std(), rel=0.2)
    else:
        assert np.abs(read - written).max() <= tolerance
    check_classified(model, path, "segmentation")
    check_measured(measures, path)


@pytest.mark.parametrize(("suffix", "subtype"), FORMATS)
def test_pieces_are_those_of_the_whole(tmp_path, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, breaths(10, 8000), 8000, subtype=subtype)
    recording = Recording(path)
    whole = recording.read(0.0, recording.duration)
    blocks = torch.cat(list(recording.blocks(7777)))
    part = recording.read(3.21, 4.56)
    first, stop = recording.locate(3.21, 4.56)
    for piece, same in ((blocks, whole), (part, whole[first:stop])):
        if FORMATS[suffix, subtype] is None:
            # A frame decoded from elsewhere is not the same to the bit.
            assert (piece - same).square().mean() < 1e-6
        else:
            assert torch.equal(piece, same)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(model, measures, tmp_path, channels):
    one = breaths(10, 8000)
    gains = np.linspace(0, 1, channels)
    many, mean = tmp_path / "many.wav", tmp_path / "mean.wav"
    soundfile.write(many, one[:, None] * gains, 8000, subtype="DOUBLE")
    soundfile.write(mean, one * gains.mean(), 8000, subtype="DOUBLE")
    assert Recording(many).channels == channels
    read = Recording(many).read(0, 10)
    assert torch.allclose(read, Recording(mean).read(0, 10), atol=1e-6)
    tables = [
        check_classified(model, path, "windows").drop(columns="prediction")
        for path in (many, mean)
    ]
    assert np.allclose(*tables, atol=1e-3)
    check_measured(measures, many)


def test_opposite_channels_are_silence(model, measures, tmp_path):
    """So it is documented: the channels are averaged, not chosen."""
    one = breaths(10, 8000)
    path = tmp_path / "opposite.wav"
    soundfile.write(path, np.stack([one, -one], 1), 8000, subtype="FLOAT")
    assert not Recording(path).read(0, 10).any()
    check_classified(model, path, "windows")
    check_measured(measures, path, silent=True)


@pytest.mark.parametrize("value", [0.0, 0.3, -1.0, 1.0])
@pytest.mark.parametrize("cycles", ["windows", "segmentation"])
def test_silence_and_direct_current(model, measures, tmp_path, value, cycles):
    path = tmp_path / "constant.wav"
    soundfile.write(path, np.full(80000, value), 4000, subtype="FLOAT")
    table = check_classified(model, path, cycles)
    row = check_measured(measures, path, silent=True)
    if value == 0:
        assert (table["quality"] == 0).all()
        assert row["audio_quality"] == row["snr_quality"] == 0


@pytest.mark.parametrize("rate", [800, 4000, 44100, 44101, 192000])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_few_samples(model, measures, tmp_path, rate, samples):
    path = tmp_path / "short.wav"
    soundfile.write(path, np.full(samples, 0.5), rate, subtype="FLOAT")
    check_classified(model, path, "windows")
    check_measured(measures, path, silent=True)
    check_classified(model, path, "segmentation")


@pytest.mark.parametrize("rate", [800, 4000, 44100, 44101])
def test_a_millisecond(model, measures, tmp_path, rate):
    path = tmp_path / "short.wav"
    soundfile.write(path, breaths(0.001, rate) + 0.1, rate)
    for cycles in ("windows", "segmentation", [(0, 0.001)]):
        check_classified(model, path, cycles)
    check_measured(measures, path, silent=True)


@pytest.mark.parametrize("rate", [4000, 44101])
def test_cycles_of_a_sample(model, tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(2, rate), rate)
    one = [(i / rate, (i + 1) / rate) for i in (0, 1, 1234, 2 * rate - 1)]
    assert len(check_classified(model, path, one)) == 4
    empty = [(1000 / rate, 1000.1 / rate)]
    with pytest.raises(ValueError, match="cycle 1.* no sample") as raised:
        model.classify_file(path, empty)
    assert str(path) in str(raised.value)


def test_clipping(model, measures, tmp_path):
    path = tmp_path / "clipped.wav"
    clipped = np.clip(20 * breaths(10, 8000), -1, 1)
    soundfile.write(path, clipped, 8000)
    check_classified(model, path, "segmentation")
    row = check_measured(measures, path)
    assert row["clipping_ratio"] > 0.3
    soundfile.write(path, breaths(10, 8000), 8000)
    assert (
        row["clipping_quality"]
        < check_measured(measures, path)["clipping_quality"]
    )


@pytest.mark.parametrize("gain", [4.0, 2.0**31, 1e15, 1e30, 6e38])
@pytest.mark.parametrize("cycles", ["windows", "segmentation"])
def test_floats_beyond_full_scale(model, measures, tmp_path, gain, cycles):
    """Defined, or refused by name; never NaN that looks like an answer."""
    path = tmp_path / "loud.wav"
    soundfile.write(path, gain * breaths(10, 8000), 8000, subtype="FLOAT")
    try:
        check_classified(model, path, cycles)
        check_measured(measures, path)
    except ValueError as error:
        assert gain > 1e10
        assert str(path) in str(error)


@pytest.mark.parametrize("gain", [1e-6, 1e-20, 1e-38, 1e-44])
def test_hardly_anything(model, measures, tmp_path, gain):
    path = tmp_path / "faint.wav"
    soundfile.write(path, gain * breaths(10, 8000), 8000, subtype="FLOAT")
    for cycles in ("windows", "segmentation"):
        check_classified(model, path, cycles)
    check_measured(measures, path, silent=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_what_is_no_number(model, measures, tmp_path, value, subtype):
    path = tmp_path / "hole.wav"
    samples = breaths(10, 4000)
    samples[12345] = value
    soundfile.write(path, samples, 4000, subtype=subtype)
    check_refused(model, measures, path, "NaN or infinite")


def test_doubles_beyond_single_precision(model, measures, tmp_path):
    path = tmp_path / "huge.wav"
    soundfile.write(path, 1e300 * breaths(10, 4000), 4000, subtype="DOUBLE")
    check_refused(model, measures, path, "NaN or infinite")


@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
def test_opposite_infinities_of_two_channels(model, measures, tmp_path):
    path = tmp_path / "stereo.wav"
    samples = np.zeros((40000, 2))
    samples[17] = np.inf, -np.inf  # of which the mean is NaN
    soundfile.write(path, samples, 4000, subtype="FLOAT")
    check_refused(model, measures, path, "NaN or infinite")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 5000,
        b"RIFF",
        b"fLaC",
        b"OggS",
        b"ID3",
        b"Dear diary, today I breathed.\n" * 200,
        "Ärzte".encode("utf-16"),
        bytes(range(256)) * 100,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 1000,
    ],
    ids=lambda content: repr(content[:8]),
)
def test_no_audio(model, measures, tmp_path, content):
    path = tmp_path / "named.wav"
    path.write_bytes(content)
    check_refused(model, measures, path, "not readable as audio")


def test_a_text_called_mp3(model, measures, tmp_path):
    path = tmp_path / "named.mp3"
    path.write_text("Dear diary, today I breathed.\n" * 200)
    check_refused(model, measures, path, "named.mp3")


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "ogg"])
def test_header_alone(model, measures, tmp_path, suffix):
    path = tmp_path / f"header.{suffix}"
    soundfile.write(path, np.zeros(0), 4000)
    check_refused(model, measures, path, "holds no sample|not readable")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated(model, measures, tmp_path, suffix, share):
    """What remains is classified, or the file refused by its name."""
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, breaths(20, 8000), 8000)
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    for entrance in (
        lambda: check_classified(model, path, "windows"),
        lambda: check_classified(model, path, "segmentation"),
        lambda: check_measured(measures, path),
    ):
        try:
            entrance()
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("seed", range(4))
def test_damaged(model, measures, tmp_path, suffix, seed):
    """Bits that fell over: an answer, or an error by name."""
    path = tmp_path / f"damaged.{suffix}"
    soundfile.write(path, breaths(10, 8000), 8000)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    random = np.random.default_rng(seed)
    places = random.integers(0, len(content), 40)
    content[places] = random.integers(0, 256, len(places))
    path.write_bytes(content.tobytes())
    for entrance in (
        lambda: check_classified(model, path, "windows"),
        lambda: measure_recording(measures, path),
    ):
        try:
            entrance()
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("place", [24, 22, 32, 34, 40])
@pytest.mark.parametrize("value", [0, 1, 0x7FFF, 0xFFFF])
def test_a_header_that_lies(model, measures, tmp_path, place, value):
    """Rate, channels, bytes per frame, bits, and length of a WAV file."""
    path = tmp_path / "lies.wav"
    soundfile.write(path, breaths(2, 4000), 4000)
    content = bytearray(path.read_bytes())
    content[place : place + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    for entrance in (
        lambda: check_classified(model, path, "windows"),
        lambda: measure_recording(measures, path),
    ):
        try:
            entrance()
        except ValueError as error:
            assert str(path) in str(error)


def test_flac_that_promises_more(model, measures, tmp_path):
    """A total in the header, of which libsndfile believes every word."""
    path = tmp_path / "promises.flac"
    soundfile.write(path, breaths(10, 8000), 8000)
    content = bytearray(path.read_bytes())
    # STREAMINFO begins at byte 8; its total of samples ends at byte 26.
    content[22:26] = struct.pack(">I", 160000)
    path.write_bytes(content)
    assert Recording(path).duration == 20
    with pytest.raises(ValueError, match="promises 160000|damaged") as raised:
        model.classify_file(path, [(0, 20)])
    assert str(path) in str(raised.value)
    with pytest.raises(ValueError, match="promises 160000|damaged") as raised:
        measure_recording(measures, path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "with spaces.wav",
        "Übung – дыхание 呼吸.wav",
        "new\nline.wav",
        "100% {braces} 'quotes' \"and\" $HOME.wav",
        "-dash.wav",
        "no suffix",
        "wrong.txt.gz",
        "UPPER.WAV",
    ],
)
def test_names(model, measures, tmp_path, name):
    path = tmp_path / "sub folder" / name
    path.parent.mkdir()
    soundfile.write(path, breaths(3, 4000), 4000, format="WAV")
    for given in (path, str(path)):
        assert model.classify_file(given).summary["recording"] == str(path)
        check_measured(measures, given)


def test_folder_called_like_a_recording(model, measures, tmp_path):
    path = tmp_path / "x.wav"
    path.mkdir()
    check_refused(model, measures, path, "is no file", FileNotFoundError)


def test_nothing_there(model, measures, tmp_path):
    path = tmp_path / "x.wav"
    check_refused(model, measures, path, "is no file", FileNotFoundError)
    path.symlink_to(tmp_path / "y.wav")
    check_refused(model, measures, path, "is no file", FileNotFoundError)


def test_permission(model, measures, tmp_path):
    path = tmp_path / "secret.wav"
    soundfile.write(path, breaths(3, 4000), 4000)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("whoever runs the tests may read everything")
    check_refused(
        model, measures, path, "secret.wav", (ValueError, PermissionError)
    )


def test_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, breaths(10, 4000), 4000)
    recording = Recording(path)
    soundfile.write(path, breaths(5, 4000), 4000)
    with pytest.raises(ValueError, match="promises 40000|damaged") as raised:
        recording.read(0, 10)
    assert str(path) in str(raised.value)
    path.unlink()
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        recording.read(0, 10)
    assert str(path) in str(raised.value)


def sparse(path, rate, seconds):
    """A WAV file of silence that takes no room on the disk."""
    size = 2 * rate * seconds
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE"),
        *(b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16),
        *(b"data", size),
    )
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)


def test_two_gigabytes_at_a_glance(model, tmp_path):
    path = tmp_path / "sparse.wav"
    sparse(path, 44100, 24600)
    assert path.stat().st_size > 2**31
    assert Recording(path).duration == 24600
    table = check_classified(model, path, [(0, 2), (24590, 24600)])
    assert len(table) == 2


MEMORY = """\
import resource, sys
from tests.unittests.test_odd_recordings import make_model
from qlung_plugin.inference.quality import make_measures, measure_recording
path, cycles = sys.argv[1:]
if cycles == "quality":
    result = measure_recording(make_measures(), path)
else:
    result = make_model().classify_file(path, cycles).cycles
print(len(result), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(path, cycles):
    """Number of rows, and the peak of a process's memory in MiB."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), cycles],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    rows, kilobytes = run.stdout.split()[-2:]
    return int(rows), int(kilobytes) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("cycles", ["windows", "segmentation", "quality"])
def test_hours_in_bounded_memory(tmp_path, cycles):
    """Three hours are held in no more than what two minutes take.

    The samples alone, as floats, would be 330 MiB at 8 kHz.
    """
    rate, hours = 8000, 3
    minute = breaths(BLOCK, rate)
    for name, minutes in (("short.flac", 2), ("long.flac", 60 * hours)):
        with soundfile.SoundFile(tmp_path / name, "w", rate, 1) as file:
            for _ in range(minutes):
                file.write(minute)
    _, little = peak(tmp_path / "short.flac", cycles)
    rows, much = peak(tmp_path / "long.flac", cycles)
    assert rows == 1 if cycles == "quality" else rows > 600 * hours
    assert much - little < 120
