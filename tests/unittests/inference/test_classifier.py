"""Tests of classifying cycles with a model, whatever it is made of.

Authors
 * qlung_plugin contributors
"""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from qlung_plugin.inference.classification import UNUSABLE
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.recording_cycles import BATCH
from qlung_plugin.lobes.quality import (
    ConstantQuality,
    ManifestQuality,
    QualityMeasure,
)
from qlung_plugin.scores.icbhi_score import LABELS
from tests.unittests.recording_checks import breaths, make_model, make_modules

RATE = 32000  # of the model
NATIVE = 4000  # of the recordings


@pytest.fixture(scope="module")
def model():
    return make_model(LABELS)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "breath.wav"
    soundfile.write(path, noise(20 * NATIVE).numpy(), NATIVE, subtype="FLOAT")
    return path


@torch.no_grad()
def spelled_out(model, waveform, native_rate):
    """Probabilities of one cycle, step by step."""
    front_end = model.mods.cycle_features
    fixed = front_end.fix_length(front_end.resampler(waveform, native_rate))
    features = front_end.compute_features(fixed[None]).half().float()
    logits, _ = model.mods.classifier(model.mods.backbone(features))
    return logits[0].softmax(0)


# --- batches ----------------------------------------------------------------


def test_batch_is_its_cycles_one_by_one(model):
    wavs = noise(3, RATE)
    lengths = torch.tensor([1.0, 0.25, 0.6])
    probabilities, score, index, labels = model.classify_batch(wavs, lengths)
    for row, wav, length in zip(probabilities, wavs, lengths):
        valid = wav[: round(length.item() * RATE)]
        torch.testing.assert_close(row, spelled_out(model, valid, RATE))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    assert torch.equal(score, probabilities.amax(1))
    assert labels == [LABELS[i] for i in index]


def test_padding_is_not_seen(model):
    wavs, lengths = noise(2, RATE), torch.tensor([1.0, 0.5])
    expected = model.classify_batch(wavs, lengths)[0]
    wavs[1, RATE // 2 :] = math.nan
    assert torch.equal(model.classify_batch(wavs, lengths)[0], expected)


@pytest.mark.parametrize(
    "wavs, lengths",
    [
        (torch.zeros(2, 3, 4), None),
        (torch.zeros(2, 10), torch.ones(3)),
        (torch.zeros(2, 10), torch.tensor([1.0, 0.0])),
        (torch.zeros(2, 10), torch.tensor([1.0, 1.5])),
    ],
)
def test_batches_that_are_none(model, wavs, lengths):
    with pytest.raises(ValueError, match="cycle"):
        model.classify_batch(wavs, lengths)


def test_folded_norms_change_no_probability():
    """Those of a backbone with statistics, in training mode as it came."""
    modules = make_modules(LABELS)
    backbone = modules["backbone"].train()
    with torch.no_grad():
        for _ in range(20):
            backbone(torch.randn(4, 100, 128))
    kept = copy.deepcopy(backbone.state_dict())
    wavs = noise(5, RATE)
    model = RespiratorySoundClassifier(dict(modules), {"labels": LABELS})
    folded = model.classify_batch(wavs)[0]
    backbone.eval()
    assert kept.keys() == backbone.state_dict().keys()
    plain = RespiratorySoundClassifier(
        dict(modules), {"labels": LABELS}, freeze_params=False
    )
    assert plain.mods.backbone is backbone
    expected = plain.classify_batch(wavs)[0]
    torch.testing.assert_close(folded, expected, atol=1e-5, rtol=0)


def test_operating_point_moves_the_prediction_alone(model, recording):
    times = [(i / 4, i / 4 + 1.5) for i in range(8)]
    cycles, _ = model.classify_file(recording, times)
    label = "normal" if (cycles["prediction"] != "normal").any() else "both"
    point = {**dict.fromkeys(LABELS, 0.0), label: 50.0}
    moved = RespiratorySoundClassifier(
        dict(model.mods), {"labels": LABELS, "operating_point": point}
    )
    at_point, summary = moved.classify_file(recording, times)
    assert set(at_point["prediction"]) == {label}
    assert summary["operating_point"] == point
    assert summary["abnormal_fraction"] == (label != "normal")
    shares = [f"p_{name}" for name in LABELS]
    np.testing.assert_allclose(at_point[shares], cycles[shares], atol=1e-5)


# --- recordings -------------------------------------------------------------


def test_recording_is_its_cycles(model, recording):
    """More cycles than are in memory at a time, in any order."""
    times = [(i / 4, i / 4 + 1.5) for i in range(BATCH + 3)][::-1]
    cycles, summary = model.classify_file(recording, times)
    samples, _ = soundfile.read(recording, dtype="float32")
    assert cycles[["start", "end"]].values.tolist() == [list(t) for t in times]
    for row, (start, end) in zip(cycles.itertuples(), times):
        waveform = torch.from_numpy(
            samples[round(start * NATIVE) : round(end * NATIVE)]
        )
        expected = spelled_out(model, waveform, NATIVE)
        probabilities = [getattr(row, f"p_{label}") for label in LABELS]
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert row.prediction == LABELS[expected.argmax()]
    abnormal = (cycles["prediction"] != "normal").mean()
    assert summary == {
        "recording": str(recording),
        "duration": 20.0,
        "truncated": False,
        "sample_rate": NATIVE,
        "channels": 1,
        "channel": None,
        "cycle_source": "given",
        "confidence": None,
        "cycle_count": len(times),
        "uncertain_count": 0,
        "unusable_count": 0,
        "abnormal_fraction": abnormal,
        "worst_quality": cycles["quality"].min(),
        "operating_point_rule": None,
        "operating_point": None,
    }


def test_quality_and_its_parts(model, recording):
    cycles, _ = model.classify_file(recording, [(0, 2), (3, 4.5)])
    measure = model.mods.quality
    for row in cycles.itertuples():
        parts = torch.tensor([[row.spectral_entropy, row.rms]])
        assert measure.score(parts).item() == pytest.approx(row.quality)
        assert 0 < row.quality < 1


def unusable(cycles):
    """Which cycles have no class; they have no probabilities, others all."""
    shares = cycles[[f"p_{label}" for label in LABELS]]
    without_class = list(cycles["prediction"] == UNUSABLE)
    assert list(shares.isna().all(axis=1)) == without_class
    assert list(shares.notna().all(axis=1)) == [
        not value for value in without_class
    ]
    return without_class


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_cycles_without_sound_have_no_class(model, recording, value):
    """Nor do they count among those that are, or are not, normal."""
    samples, _ = soundfile.read(recording, dtype="float32")
    samples[4 * NATIVE : 8 * NATIVE] = value
    soundfile.write(recording, samples, NATIVE, subtype="FLOAT")
    times = [(0, 2), (4, 8), (5, 6), (8, 10)]
    cycles, summary = model.classify_file(recording, times)
    assert unusable(cycles) == [False, True, True, False]
    assert (summary["cycle_count"], summary["unusable_count"]) == (4, 2)
    heard, others = model.classify_file(recording, [(0, 2), (8, 10)])
    assert summary["abnormal_fraction"] == others["abnormal_fraction"]
    assert cycles["prediction"][[0, 3]].tolist() == list(heard["prediction"])


def test_nothing_to_hear_in_a_recording(model, tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(20 * NATIVE), NATIVE)
    for cycles in ("windows", "segmentation"):
        table, summary = model.classify_file(path, cycles)
        assert all(unusable(table)) and len(table)
        assert summary["worst_quality"] == 0
        assert table[["spectral_entropy", "rms"]].isna().all(axis=None)
        assert summary["unusable_count"] == summary["cycle_count"]
        assert summary["abnormal_fraction"] is None


@pytest.mark.parametrize(
    "seconds, options, expected",
    [
        (0.095, {}, True),
        (0.105, {}, False),
        (0.105, {"shortest": 0.2}, True),
        (0.017, {"shortest": 0.01}, False),
    ],
)
def test_cycles_with_hardly_any_sound_have_no_class(
    model, recording, seconds, options, expected
):
    """Whether they are short, or silent but for a moment."""
    times = [(1, 1 + seconds), (3, 5)]
    samples, _ = soundfile.read(recording, dtype="float32")
    middle = round(4 * NATIVE)
    silent = np.full_like(samples, 0.5)
    silent[: 2 * NATIVE] = samples[: 2 * NATIVE]
    heard = slice(middle, middle + round(seconds * NATIVE))
    silent[heard] = samples[heard]
    silent[[3 * NATIVE + 1, 5 * NATIVE - 2]] = 0.4  # two clicks far apart
    soundfile.write(recording, silent, NATIVE, subtype="FLOAT")
    cycles, _ = model.classify_file(recording, times, **options)
    assert unusable(cycles) == [expected, expected]


def overflowing():
    """A model of finite weights whose probabilities are not."""
    modules = make_modules(LABELS)
    with torch.no_grad():
        for parameter in modules["backbone"].parameters():
            parameter.mul_(1e30)
    return RespiratorySoundClassifier(modules, {"labels": LABELS})


def test_probabilities_that_are_not_finite_are_no_class(recording):
    broken = overflowing()
    with pytest.raises(ValueError, match="probabilities are not finite"):
        broken.classify_batch(noise(2, RATE))
    with pytest.raises(ValueError, match="from 0 to 2 s.*not finite") as raised:
        broken.classify_file(recording, [(0, 2)])
    assert str(recording) in str(raised.value)


class Unnamed(QualityMeasure):
    """A measure of one's own, which names nothing."""

    def measure_valid(self, signal):
        return torch.ones(len(signal.waveforms), 3)

    def score(self, measurements):
        return measurements[:, 0] / 4


@pytest.mark.parametrize(
    "quality, expected, further",
    [
        (ConstantQuality(0.5), 0.5, ["nothing"]),
        (Unnamed(8000), 0.25, []),
        (ManifestQuality("snr"), None, []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_measures(recording, quality, expected, further):
    model = make_model(LABELS, quality)
    cycles, summary = model.classify_file(recording, [(0, 1)])
    assert cycles.columns.tolist() == [
        *("start", "end", "prediction"),
        *(f"p_{label}" for label in LABELS),
        *("quality", *further),
    ]
    assert summary["worst_quality"] == expected


def test_recording_without_cycles(model, recording):
    recording.with_suffix(".csv").write_text("start,end\n")
    cycles, summary = model.classify_file(recording)
    assert cycles.empty and list(cycles.columns) == model.columns
    assert summary["cycle_count"] == 0
    assert summary["abnormal_fraction"] is None
    assert summary["worst_quality"] is None


def test_nothing_is_remembered_for_gradients(model):
    outputs = model(noise(1, RATE).requires_grad_())
    assert not outputs[0].requires_grad
    assert not any(p.requires_grad for p in model.parameters())


def test_a_backbone_that_does_not_say_its_dimension(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self, backbone):
            super().__init__()
            self.inner = backbone

        def forward(self, features):
            return self.inner(features)

    path = tmp_path / "a.wav"
    samples = breaths(8, 4000)
    samples[:12000] = 0
    soundfile.write(path, samples, 4000)
    modules = make_modules(LABELS)
    labels = {"labels": list(LABELS)}
    expected = RespiratorySoundClassifier(modules, labels)
    own = {**modules, "backbone": Own(modules["backbone"])}
    model = RespiratorySoundClassifier(own, labels)
    cycles = [(0.0, 2.0), (4.0, 6.0)]  # the first is silent
    for name in ("classify_file", "embed_file"):
        ours, theirs = (
            getattr(one, name)(path, cycles=cycles).cycles
            for one in (model, expected)
        )
        pd.testing.assert_frame_equal(ours, theirs)
    assert model.classify_file(path, cycles=[(0.0, 2.0)]).cycles.shape[0] == 1
