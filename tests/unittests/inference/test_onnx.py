"""Tests of models in ONNX.

Authors
 * qlung_plugin contributors
"""

import json
import sys

import pytest
import torch

from qlung_plugin.dataio.cycles import OwnLength
from qlung_plugin.inference import onnx_export
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.export import export_run
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.onnx_export import WaveformClassifier
from qlung_plugin.lobes.models.efficientat import EfficientAT
from tests.unittests.lobes import test_efficientat, test_panns, test_pooled
from tests.unittests.small_runs import EFFICIENTAT, LABELS, make_run

RATE = 32000
TOLERANCE = 1e-4
SMALL = test_efficientat.SMALL | test_pooled.SMALL


@pytest.fixture
def runtime():
    """onnxruntime, and what exporting takes, or a skip."""
    for name in onnx_export.NEEDED:
        pytest.importorskip(name)
    return pytest.importorskip("onnxruntime")


def assert_equal(classifier, session, cycles):
    """Compares probabilities of cycles ``[time]`` at the model's rate."""
    fix_length = classifier.mods.cycle_features.fix_length
    waveforms = torch.stack([fix_length(cycle) for cycle in cycles])
    (answer,) = session.run(None, {"waveforms": waveforms.numpy()})
    lengths = torch.tensor([len(cycle) for cycle in cycles])
    expected = classifier.classify_batch(
        torch.nn.utils.rnn.pad_sequence(cycles, batch_first=True),
        lengths / lengths.max(),
    )[0]
    torch.testing.assert_close(
        torch.from_numpy(answer), expected, atol=TOLERANCE, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("backbone", SMALL.values())
def test_it_answers_as_pytorch_does(tmp_path, runtime, backbone):
    run = make_run(tmp_path / "run", backbone, epochs=(1, 2))
    made = export_run(run, tmp_path / "out", "last", onnx=True)
    assert "model.onnx" in made["files"]
    path = tmp_path / "out" / "model.onnx"
    assert str(tmp_path).encode() not in path.read_bytes()
    assert onnx_export.__file__.encode() not in path.read_bytes()

    session = runtime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == LABELS
    assert metadata["sample_rate"] == metadata["samples"] == str(RATE)
    assert metadata["fade_samples"] == "2000"
    (waveforms,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (waveforms.name, waveforms.shape) == ("waveforms", ["batch", RATE])
    assert probabilities.name == "probabilities"
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"`[batch, {RATE}]`" in card and "repeated to 1 s" in card

    classifier = RespiratorySoundClassifier.from_hparams(tmp_path / "out")
    torch.manual_seed(1)
    for batch in (1, 2, 7):
        cycles = [
            10 ** float(torch.empty(1).uniform_(-4, 0))
            * torch.randn(int(torch.randint(500, 60000, (1,))))
            for _ in range(batch)
        ]
        assert_equal(classifier, session, cycles)
    time = torch.arange(20000) / RATE
    odd = [torch.zeros(9000), torch.ones(9000), torch.sin(2000 * time)]
    assert_equal(classifier, session, odd)


NORMALISED = """!new:qlung_plugin.lobes.features.NormalisedFeatures
    log_mel: !new:qlung_plugin.lobes.features.EfficientATFeatures
"""
PARTS = {
    "gain": "    level: !new:qlung_plugin.lobes.features.RecordingLevel\n",
    "spectral_mean": "    spectral_mean: True\n",
}


class PowerOfFeatures(EfficientAT):
    """Sees every feature, which one with random weights hardly does."""

    def forward(self, features):
        return features.square().mean(dim=1)[:, : self.embedding_dim]


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [["gain"], ["spectral_mean"], ["gain", "spectral_mean"]]
)
def test_the_recording_may_be_given(tmp_path, runtime, names):
    """Without it each cycle is its own, with a part of it the rest is."""
    features = NORMALISED + "".join(PARTS[name] for name in names)
    backbone = EFFICIENTAT._replace(features=features.rstrip())
    model = open_model(make_run(tmp_path / "run", backbone))
    model["backbone"] = PowerOfFeatures(width_mult=0.1)
    module = WaveformClassifier(model).eval()
    waveforms = 0.1 * torch.randn(6, RATE)
    waveforms[1, 5000:9000] = 0
    waveforms[2:] *= torch.tensor([0.001, 0.03, 0.3, 3.0])[:, None]
    onnx_export.export_onnx(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    assert [given.name for given in session.get_inputs()] == ["waveforms"]
    optional = session.get_overridable_initializers()
    assert [given.name for given in optional] == names
    reference = module.compute_features.reference([waveforms[0]], RATE)
    known = {"gain": 3 * reference[:1], "spectral_mean": reference[1:]}
    answers = []
    for given in ([], names[:1], names):
        inputs = {name: known[name].numpy() for name in given}
        (answer,) = session.run(
            None, {"waveforms": waveforms.numpy(), **inputs}
        )
        given = {name: known[name] for name in given}
        with torch.inference_mode():
            expected = module(waveforms, **{**module.defaults, **given})
        answers.append(torch.from_numpy(answer))
        torch.testing.assert_close(
            answers[-1], expected, atol=TOLERANCE, rtol=0
        )
    assert (answers[0] - answers[-1]).abs().max() > 100 * TOLERANCE
    with torch.inference_mode():  # as classify_batch has it
        own = module(waveforms)
    torch.testing.assert_close(answers[0], own, atol=TOLERANCE, rtol=0)


def test_masked_bands_are_not_computed_and_stay_masked(tmp_path):
    masked = NORMALISED + PARTS["spectral_mean"]
    masked += "    band: !new:qlung_plugin.lobes.features.MelBand"
    backbone = EFFICIENTAT._replace(features=masked)
    model = open_model(make_run(tmp_path / "run", backbone, finished=False))
    features = model["cycle_features"].compute_features
    exported = WaveformClassifier(model).compute_features
    waveforms = 0.1 * torch.randn(2, RATE)
    torch.testing.assert_close(exported(waveforms), features(waveforms))
    # The last band that is kept ends at 2 kHz, bin 64 of 513.
    assert exported.log_mel.mel_bank.shape == (128, 65)
    assert features.log_mel.mel_bank.shape == (128, 513)


def test_card_says_by_what_is_normalised(tmp_path):
    backbone = EFFICIENTAT._replace(
        features=NORMALISED + PARTS["gain"].rstrip()
    )
    export_run(make_run(tmp_path / "run", backbone), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "(-20 dB RMS from 150 to 2000 Hz)" in card
    assert "each is its own recording" in card
    export_run(make_run(tmp_path / "plain"), tmp_path / "other")
    assert "normalised" not in (tmp_path / "other" / "README.md").read_text()


@pytest.mark.parametrize("backbone", SMALL.values())
def test_module_that_is_exported_is_the_classifier(tmp_path, backbone):
    run = make_run(tmp_path / "run", backbone)
    classifier = RespiratorySoundClassifier.from_hparams(run)
    model = open_model(run)
    waveforms = 0.1 * torch.randn(3, 20000)
    fixed = model["cycle_features"].fix_length(waveforms)
    with torch.inference_mode():
        probabilities = WaveformClassifier(model)(fixed)
    torch.testing.assert_close(
        probabilities,
        classifier.classify_batch(waveforms)[0],
        atol=TOLERANCE,
        rtol=0,
    )


def test_other_backbones_are_refused(tmp_path, runtime):
    run = make_run(tmp_path / "run", test_panns.SMALL["PANNs"])
    with pytest.raises(ValueError, match="only EfficientAT.* has PANNs"):
        export_run(run, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["small", "transfer"])
def test_cycles_of_their_own_length(tmp_path, runtime, source):
    if source == "small":
        source = make_run(tmp_path / "run", EFFICIENTAT)
    model = open_model(source)
    model["cycle_features"].fix_length = OwnLength(RATE, 0.5, duration=2.0)
    onnx_export.export_onnx(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["step_samples"] == "16000"
    network = WaveformClassifier(model).eval()
    for batch, steps in ((1, 1), (3, 2), (2, 4)):
        waveforms = 0.3 * torch.randn(batch, 16000 * steps)
        with torch.inference_mode():
            expected = network(waveforms)
        (answer,) = session.run(None, {"waveforms": waveforms.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(answer), expected, atol=TOLERANCE, rtol=0
        )


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    run = make_run(tmp_path / "run")
    with pytest.raises(RuntimeError, match=r"onnx and onnxscript.*\[onnx\]"):
        export_run(run, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_export_without_onnx_imports_none(tmp_path, monkeypatch):
    for name in onnx_export.NEEDED:
        monkeypatch.setitem(sys.modules, name, None)
    run = make_run(tmp_path / "run")
    assert "model.onnx" not in export_run(run, tmp_path / "out")["files"]
