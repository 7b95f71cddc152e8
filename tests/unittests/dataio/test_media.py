"""Recordings of phones, recorders and browsers, decoded by PyAV or not at all.

Authors
 * qlung_plugin contributors
"""

import sys

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.decoders import MEDIA
from qlung_plugin.dataio.finding import SUFFIXES
from qlung_plugin.dataio.recordings import Recording
from tests.unittests.recording_checks import breaths

# Codec and rate in Hz by suffix; None: lossless.
FORMATS = {
    ".m4a": ("aac", 44100, 0.1),
    ".mp4": ("aac", 16000, 0.2),
    ".3gp": ("aac", 8000, 0.3),
    ".aac": ("aac", 44100, 0.1),
    ".ac3": ("ac3", 44100, 0.1),
    ".webm": ("libopus", 48000, 0.05),
    ".mka": ("pcm_s16le", 8000, None),
    ".caf": ("alac", 44100, 0.02),
    ".mov": ("pcm_s16le", 8000, None),
    ".wma": ("wmav2", 44100, 0.1),
    ".amr": ("amr_nb", 8000, 0.1),
}


def encode(path, codec, rate, samples):
    """Writes ``[frame]`` or ``[frame, channel]``, full scale at 1."""
    av = pytest.importorskip("av")
    samples = np.ascontiguousarray(np.atleast_2d(samples.T), np.float32)
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    form = "asf" if path.suffix == ".wma" else None
    try:
        with av.open(str(path), "w", format=form) as container:
            stream = container.add_stream(codec, rate=rate, layout=layout)
            if codec == "wmav2":
                stream.bit_rate = 64000
            frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
            frame.sample_rate = rate
            converted = av.AudioResampler(
                stream.format.name, layout, rate, stream.frame_size or None
            )
            for part in [
                *converted.resample(frame),
                *converted.resample(None),
                None,
            ]:
                container.mux(stream.encode(part))
    except (av.FFmpegError, av.codec.codec.UnknownCodecError) as error:
        pytest.skip(f"PyAV does not encode {codec} here: {error}")
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_phones_and_browsers_write(tmp_path, suffix):
    codec, rate, delay = FORMATS[suffix]
    samples = breaths(9, rate)
    path = encode(tmp_path / f"a{suffix}", codec, rate, samples)
    recording = Recording(path)
    assert (recording.sample_rate, recording.channels) == (rate, 1)
    assert recording.duration == pytest.approx(9, abs=delay or 1e-9)
    assert not recording.truncated
    whole = torch.cat(list(recording.blocks(7777)))
    assert len(whole) == recording.frames
    for start, end in [(1, 3), (2, 6), (4, 5), (0.5, 9)]:
        first, stop = recording.locate(start, end)
        assert torch.equal(recording.read(start, end), whole[first:stop])
    if delay is None:
        assert np.abs(whole.numpy() - samples).max() < 2**-14
    else:  # breaths come and go as they did
        level = whole[: 8 * rate].reshape(32, -1).square().mean(1).sqrt()
        expected = samples[: 8 * rate].reshape(32, -1).std(axis=1)
        assert np.corrcoef(level, expected)[0, 1] > 0.8


def test_stereo_of_a_phone(tmp_path):
    one = breaths(5, 8000)
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, len(one))
    path = tmp_path / "a.mka"
    encode(path, "pcm_s16le", 8000, np.stack([one, -one], 1))
    with pytest.raises(ValueError, match="cancel"):
        Recording(path)
    encode(path, "pcm_s16le", 8000, np.stack([noise, one], 1))
    second = Recording(path, channel=2).read(0, 5)
    assert np.abs(second.numpy() - one).max() < 2**-14


def test_truncated_media_are_named(tmp_path):
    path = tmp_path / "a.mov"
    encode(path, "pcm_s16le", 8000, breaths(9, 8000))
    content = path.read_bytes()
    place = content.index(b"moov") - 4
    # What says how long it is first, as what is served does.
    head = content.index(b"mdat") - 4
    moov = bytearray(content[place:])
    chunks = moov.index(b"stco") + 12
    count = int.from_bytes(moov[chunks - 4 : chunks], "big")
    for i in range(chunks, chunks + 4 * count, 4):
        offset = int.from_bytes(moov[i : i + 4], "big") + len(moov)
        moov[i : i + 4] = offset.to_bytes(4, "big")
    content = content[:head] + bytes(moov) + content[head:place]
    path.write_bytes(content)
    assert Recording(path).duration == 9
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="header says 9 s.* can be read"):
        Recording(path)
    rest = Recording(path, allow_truncated=True)
    assert rest.truncated and 4 < rest.duration < 5


@pytest.mark.parametrize("content", [b"", b"no sound" * 100, bytes(5000)])
def test_media_that_are_none(tmp_path, content):
    pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is not readable as audio"):
        Recording(path)


def test_film_without_sound(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        image = np.zeros((32, 32, 3), np.uint8)
        for frame in (av.VideoFrame.from_ndarray(image, "rgb24"), None):
            container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match="it has no sound"):
        Recording(path)


def test_no_other_file_is_opened(tmp_path):
    """As a playlist would have it."""
    pytest.importorskip("av")
    secret = tmp_path / "secret.aac"
    encode(secret, "aac", 44100, breaths(3, 44100))
    lists = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{secret}\n"
        "#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {secret}\n",
    }
    for name, text in lists.items():
        path = tmp_path / f"{name}.m4a"
        path.write_text(text)
        with pytest.raises(ValueError, match="not readable as audio"):
            Recording(path)


def test_what_to_install_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "breath.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(ValueError, match=r'install "qlung_plugin\[media\]"'):
        Recording(path)
    # What soundfile reads, it reads; and what is no media needs no decoder.
    soundfile.write(tmp_path / "b.wav", breaths(2, 4000), 4000)
    assert Recording(tmp_path / "b.wav").duration == 2
    (tmp_path / "c.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"audio \((?!.*install)"):
        Recording(tmp_path / "c.wav")


@pytest.mark.parametrize("name", ["breath.zsa", "breath.E4K"])
def test_what_only_its_maker_reads(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(range(256)) * 10)
    assert {path.suffix.lower()} | MEDIA <= SUFFIXES
    with pytest.raises(ValueError, match="3M Littmann.*export it as WAV"):
        Recording(path)
