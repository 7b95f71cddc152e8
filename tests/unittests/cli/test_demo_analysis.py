"""What the demo's page says of a recording.

Authors
 * qlung_plugin contributors
"""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import soundfile

from qlung_plugin.cli.demo.analysis import analyse, describe, tabulate
from qlung_plugin.cli.demo.player import make_player
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.inference.classification import Classification
from qlung_plugin.scores.icbhi_score import LABELS
from tests.unittests.dataio.test_media import encode
from tests.unittests.recording_checks import make_model

RATE = 4000


@pytest.fixture(scope="module")
def model():
    return make_model(LABELS)


@pytest.fixture
def sound(tmp_path):
    """Writes noise of some seconds, and returns its path."""

    def write(seconds=20.0, rate=RATE, name="a b.wav"):
        noise = np.random.default_rng(0).normal(size=round(seconds * rate))
        soundfile.write(tmp_path / name, 0.1 * noise, rate)
        return tmp_path / name

    return write


def table(times, predictions=None, quality=0.5):
    """Cycles, such as a classification has."""
    cycles = pd.DataFrame(times, columns=["start", "end"], dtype=float)
    cycles["prediction"] = predictions or ["normal"] * len(cycles)
    cycles["quality"] = quality
    for label in LABELS:
        cycles[f"p_{label}"] = (cycles["prediction"] == label).astype(float)
    return cycles


def classification(cycles, **summary):
    """A classification with these cycles."""
    abnormal = (cycles["prediction"] != "normal").mean()
    worst = cycles["quality"].min()
    return Classification(
        cycles,
        {
            "duration": 20.0,
            "sample_rate": 44100,
            "channels": 1,
            "cycle_source": "windows of 5 s every 2.5 s",
            "confidence": None,
            "abnormal_fraction": None if cycles.empty else abnormal,
            "worst_quality": None if pd.isna(worst) else worst,
            "operating_point": None,
            **summary,
        },
    )


def test_the_page_says_what_the_model_says(model, sound):
    path = sound()
    summary, picture, shown, _, times = analyse(model, path, "windows")
    cycles = model.classify_file(path, "windows").cycles
    assert list(shown.columns) == [
        *("cycle", "start (s)", "end (s)", "class"),
        *(f"{label} (%)" for label in LABELS),
        "quality",
    ]
    assert list(shown["class"]) == list(cycles["prediction"])
    starts = [0, 2.5, 5, 7.5, 10, 12.5, 15]
    assert shown["start (s)"].tolist() == [f"{start:.2f}" for start in starts]
    shares = shown[[f"{label} (%)" for label in LABELS]].astype(float)
    expected = 100 * cycles[[f"p_{label}" for label in LABELS]]
    assert np.allclose(shares, expected, atol=0.5 + 1e-6)
    abnormal = (cycles["prediction"] != "normal").sum()
    assert summary.startswith(f"### {abnormal} of 7 cycles")
    assert times == [(start, start + 5) for start in starts]
    for number, name in enumerate(cycles["prediction"], start=1):
        assert f">{number} {name}</text>" in picture


def test_cycles_without_a_class_are_told_and_drawn(model, tmp_path):
    path = tmp_path / "half.wav"
    samples = np.zeros(16 * 4000)
    samples[: 8 * 4000] = np.random.default_rng(0).normal(0, 0.1, 8 * 4000)
    soundfile.write(path, samples, 4000)
    (tmp_path / "a.csv").write_text("start,end\n0,4\n9,12\n")
    summary, picture, shown, *_ = analyse(model, path, tmp_path / "a.csv")
    assert " of 1 cycle (" in summary
    assert "1 cycle without sound, or too short, got no class." in summary
    assert shown["class"][1] == "unusable"
    assert set(shown[[f"{label} (%)" for label in LABELS]].iloc[1]) == {"-"}
    assert ">2 unusable</text>" in picture and ">unusable</text>" in picture
    soundfile.write(path, 0 * samples, 4000)
    summary = analyse(model, path, tmp_path / "a.csv").summary
    assert summary.startswith("### No usable cycle\n\n2 cycles without sound")


def test_an_annotation_is_named_and_cut_at_the_end(model, sound, tmp_path):
    annotation = tmp_path / "a.csv"
    annotation.write_text("start,end\n0.5,2\n2,20.1\n")
    summary, _, shown, *_ = analyse(model, sound(), annotation)
    assert "Cycles: a.csv." in summary and str(tmp_path) not in summary
    assert shown[["start (s)", "end (s)"]].to_numpy().tolist() == [
        ["0.50", "2.00"],
        ["2.00", "20.00"],
    ]


def test_the_rule_is_stated_and_the_worst_cycle_named():
    cycles = table(
        [(0, 2), (2, 3), (3, 4)], ["normal", "both", "normal"], [0.5, 0.9, 0.2]
    )
    text = describe(classification(cycles, channels=2))
    assert text.startswith("### 1 of 3 cycles (33 %) not normal\n")
    assert "counts as not normal if its class is another than" in text
    assert "Worst quality: **0.20**, of cycle 3 " in text
    assert "20.0 s at 44,100 Hz, 2 channels, averaged" in text
    sure = classification(cycles, cycle_source="segmentation", confidence=0.625)
    assert "segmentation, with a confidence of 0.62 " in describe(sure)
    assert "not whether they are right" in describe(sure)


def test_without_cycles_or_quality():
    text = describe(classification(table([]), cycle_source="/x/y.txt"))
    assert text.startswith("### No cycle\n\nCycles: y.txt.")
    assert tabulate(table([]), LABELS).empty
    unmeasured = table([(0, 2)], quality=np.nan)
    assert "measures no quality" in describe(classification(unmeasured))
    assert list(tabulate(unmeasured, LABELS)["quality"]) == ["-"]


def test_too_long_is_told_before_anything_is_decoded(sound, monkeypatch):
    def read(*arguments):
        raise AssertionError("decoded")

    monkeypatch.setattr(Recording, "read", read)
    path = sound(601, 800)
    with pytest.raises(ValueError, match="a b.wav is 10.0 minutes long: .* 10"):
        analyse(None, path)


def heard(player):
    """The samples of a player, in its rate."""
    code = re.search('src="data:audio/mpeg;base64,([^"]+)"', player)[1]
    return soundfile.read(io.BytesIO(base64.b64decode(code)))


def test_the_cut_is_heard(tmp_path):
    """A tone that is there from 2 to 3 s, in the channel that is not silent."""
    time = np.arange(5 * RATE) / RATE
    tone = 0.1 * np.sin(2 * np.pi * 500 * time) * ((time >= 2) & (time < 3))
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.stack([0 * tone, tone], 1), RATE)
    player = make_player(Recording(path), 7, 1.5, 3.5)
    assert "Cycle 7, 1.50 to 3.50 s, 19 dB louder than recorded" in player
    samples, rate = heard(player)
    assert len(samples) / rate == pytest.approx(2, abs=0.1)
    loud = np.flatnonzero(abs(samples) > 0.3) / rate
    assert loud[[0, -1]] == pytest.approx([0.5, 1.5], abs=0.05)
    middle = samples[round(0.6 * rate) : round(1.4 * rate)]
    frequency = abs(np.fft.rfft(middle)).argmax() / 0.8
    assert frequency == pytest.approx(500, abs=3)


def test_of_a_long_cycle_a_minute_is_heard(sound):
    player = make_player(Recording(sound(70)), 1, 2, 70)
    assert "Cycle 1, 2.00 to 62.00 s (the first 60 s of it)" in player
    samples, rate = heard(player)
    assert len(samples) / rate == pytest.approx(60, abs=0.1)


def test_what_is_gone_cannot_be_heard(sound):
    path = sound()
    recording = Recording(path)
    path.unlink()
    with pytest.raises((OSError, ValueError), match="a b.wav"):
        make_player(recording, 1, 0, 1)


def test_what_browsers_record(model, tmp_path):
    path = tmp_path / "audio.webm"
    time = np.arange(10 * 48000) / 48000
    noise = np.random.default_rng(0).normal(0, 0.1, len(time))
    encode(path, "libopus", 48000, noise * np.sin(np.pi * time / 2.5) ** 2)
    found = analyse(model, path, "windows")
    assert found.summary.startswith("### ")
    assert "10.0 s at 48,000 Hz, 1 channel." in found.summary
    # Also what lies before what was heard last.
    for number, (start, end) in reversed(list(enumerate(found.times, 1))):
        player = make_player(found.recording, number, start, end)
        samples, rate = heard(player)
        assert len(samples) / rate == pytest.approx(end - start, abs=0.1)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="audio.webm"):
        analyse(model, path, "windows")
