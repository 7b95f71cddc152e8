"""Tests of classifying cycles with a model, whatever it is made of.

Authors
 * qlung_plugin contributors
"""

import copy
import math

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.inference.classifier import (
    BATCH,
    RespiratorySoundClassifier,
)
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ConstantQuality,
    ManifestQuality,
    QualityMeasure,
)
from qlung_plugin.nnet.classifiers import AngularClassifier

RATE = 32000  # of the model
NATIVE = 4000  # of the recordings
LABELS = ["normal", "crackle", "wheeze", "both"]


def make_modules(quality):
    torch.manual_seed(0)
    return {
        "quality": quality,
        "cycle_features": CycleFeatures(
            CycleResampler(RATE),
            FixedLength(RATE, duration=1.0),
            EfficientATFeatures(),
        ),
        "backbone": EfficientAT(width_mult=0.1),
        "classifier": AngularClassifier(96, 4),
    }


def make_model(quality):
    return RespiratorySoundClassifier(make_modules(quality), {"labels": LABELS})


@pytest.fixture(scope="module")
def model():
    return make_model(AudioQualityScore(16000))


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


def test_one_cycle_without_a_batch(model):
    wav = noise(RATE)
    expected = model.encode_batch(wav[None], torch.ones(1))
    assert torch.equal(model.encode_batch(wav), expected)
    assert expected.shape == (1, 96)


@pytest.mark.parametrize(
    "wavs, lengths",
    [
        (torch.zeros(2, 3, 4), None),
        (torch.zeros(2, 10), torch.ones(3)),
        (torch.zeros(2, 10), torch.tensor([1.0, 0.0])),
        (torch.zeros(2, 10), torch.tensor([1.0, 1.5])),
        (torch.zeros(1, 0), None),
    ],
)
def test_batches_that_are_none(model, wavs, lengths):
    with pytest.raises(ValueError, match="cycle"):
        model.classify_batch(wavs, lengths)


def test_folded_norms_change_no_probability():
    """Those of a backbone with statistics, in training mode as it came."""
    modules = make_modules(AudioQualityScore(16000))
    backbone = modules["backbone"].train()
    with torch.no_grad():
        for _ in range(20):
            backbone(torch.randn(4, 100, 128))
    kept = copy.deepcopy(backbone.state_dict())
    wavs = noise(5, RATE)
    model = RespiratorySoundClassifier(dict(modules), {"labels": LABELS})
    found = model.classify_batch(wavs)[0]
    backbone.eval()
    assert kept.keys() == backbone.state_dict().keys()
    plain = RespiratorySoundClassifier(
        dict(modules), {"labels": LABELS}, freeze_params=False
    )
    assert plain.mods.backbone is backbone
    expected = plain.classify_batch(wavs)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


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
        found = [getattr(row, f"p_{label}") for label in LABELS]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert row.prediction == LABELS[expected.argmax()]
    abnormal = (cycles["prediction"] != "normal").mean()
    assert summary == {
        "recording": str(recording),
        "duration": 20.0,
        "sample_rate": NATIVE,
        "channels": 1,
        "cycle_source": "given",
        "confidence": None,
        "cycle_count": len(times),
        "abnormal_fraction": abnormal,
        "worst_quality": cycles["quality"].min(),
    }


def test_quality_and_its_parts(model, recording):
    cycles, _ = model.classify_file(recording, [(0, 2), (3, 4.5)])
    measure = model.mods.quality
    for row in cycles.itertuples():
        parts = torch.tensor([[row.spectral_entropy, row.rms]])
        assert measure.score(parts).item() == pytest.approx(row.quality)
        assert 0 < row.quality < 1


def test_silent_cycle_has_quality_0_and_no_measurement(model, tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(2 * NATIVE), NATIVE)
    cycles, summary = model.classify_file(path, [(0, 2)])
    assert summary["worst_quality"] == 0
    assert cycles[["spectral_entropy", "rms"]].isna().all(axis=None)
    assert cycles[[f"p_{label}" for label in LABELS]].notna().all(axis=None)


class Unnamed(QualityMeasure):
    """A measure of one's own, which names nothing."""

    def measure_valid(self, waveforms, centred, lengths, native_rates, silent):
        return torch.ones(len(waveforms), 3)

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
    model = make_model(quality)
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
