"""Tests that onnxruntime says what PyTorch says.

Authors
 * qlung_plugin contributors
"""

import argparse

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from qlung_plugin.cli.main import main
from qlung_plugin.cli.models import planned_engine
from qlung_plugin.inference import engines
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.pretrained import MODELS
from tests.unittests.lobes import (
    test_ast,
    test_clap,
    test_efficientat,
    test_embedding,
    test_panns,
    test_pooled,
)
from tests.unittests.small_runs import make_run

TOLERANCE = 1e-4
SMALL = {
    name: backbone
    for module in (
        test_efficientat,
        test_pooled,
        test_panns,
        test_clap,
        test_ast,
        test_embedding,
    )
    for name, backbone in module.SMALL.items()
}


@pytest.fixture
def runtime():
    """What the engine needs, or a skip."""
    for name in engines.NEEDED:
        pytest.importorskip(name)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "noise.wav"
    samples = np.random.default_rng(0).standard_normal(8 * 4000)
    samples *= np.linspace(0.001, 0.3, len(samples))
    soundfile.write(path, samples, 4000)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_models_that_ship_classify_alike(runtime, recording, name):
    model = RespiratorySoundClassifier.from_hparams(name)
    cycles = [
        (start, start + 0.9) for start in np.arange(0, 7, 0.35)
    ]  # > BATCH
    expected, summary = model.embed_file(recording, cycles=cycles)
    randomness = torch.get_rng_state()
    model.use_engine("onnx")
    assert torch.equal(torch.get_rng_state(), randomness)
    table, same = model.embed_file(recording, cycles=cycles)
    assert same == summary and list(table) == list(expected)
    assert table["prediction"].tolist() == expected["prediction"].tolist()
    shares = table.filter(regex="^p_") - expected.filter(regex="^p_")
    assert 0 < shares.abs().to_numpy().max() < TOLERANCE
    embeddings = expected.filter(regex="^e_").to_numpy()
    # A step of half precision, over the deviation of a dimension.
    np.testing.assert_allclose(
        table.filter(regex="^e_"), embeddings, atol=0.02, rtol=2e-3
    )
    model.use_engine("torch")
    assert model.embed_file(recording, cycles=cycles).cycles.equals(expected)


@pytest.mark.parametrize("backbone", SMALL.values(), ids=SMALL)
def test_backbones_say_the_same_in_batches_of_any_size(
    tmp_path, runtime, backbone
):
    run = make_run(tmp_path / "run", backbone, finished=False)
    model = RespiratorySoundClassifier.from_hparams(run)
    torch.manual_seed(1)
    cycles = torch.randn(5, 40000) * 10 ** torch.linspace(-3, 0, 5)[:, None]
    lengths = torch.tensor([0.1, 0.5, 1, 0.9, 0.3])
    expected = model.classify_batch(cycles, lengths)
    embeddings = model.encode_batch(cycles, lengths)
    model.use_engine("onnx")
    for i in (slice(0, 1), slice(0, 5)):
        shares, _, index, _ = model.classify_batch(cycles[i], lengths[i])
        torch.testing.assert_close(
            shares, expected[0][i], atol=TOLERANCE, rtol=0
        )
        assert index.tolist() == expected[2][i].tolist()
        torch.testing.assert_close(
            model.encode_batch(cycles[i], lengths[i]),
            embeddings[i],
            atol=2e-3 * float(embeddings.abs().max()),
            rtol=0,
        )


class Scaled(nn.Module):
    """A network of a few numbers."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale  # in no state dict
        self.weight = nn.Parameter(torch.tensor([[1.0, -1.0], [0.5, 2.0]]))

    def forward(self, features):
        embeddings = features * self.scale
        return embeddings, embeddings @ self.weight


class OfBatches(Scaled):
    """One that says something else of a cycle in a batch."""

    def forward(self, features):
        embeddings, logits = super().forward(features)
        return embeddings, logits * torch.arange(len(features))[:, None]


FEATURES = torch.tensor([[0.1, 0.2], [0.3, -0.1], [-0.2, 0.5]])


def answer(network):
    """The logits of a network in onnxruntime."""
    session = engines.open_network(network, FEATURES)
    return engines.run_network(session, FEATURES)[1]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of exported networks; empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "qlung_plugin"


def test_network_is_exported_once(runtime, kept, monkeypatch):
    torch.testing.assert_close(answer(Scaled(2.0)), Scaled(2.0)(FEATURES)[1])
    (path,) = kept.iterdir()
    monkeypatch.setattr(engines, "_export", None)
    torch.testing.assert_close(answer(Scaled(2.0)), Scaled(2.0)(FEATURES)[1])
    monkeypatch.undo()
    assert [path] == list(path.parent.iterdir())


def test_one_of_other_weights_is_another(runtime, kept):
    network = Scaled(2.0)
    answer(network)
    network.weight.data *= 3
    torch.testing.assert_close(answer(network), network(FEATURES)[1])
    assert len(list(kept.iterdir())) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-7],
        lambda content: content[:200] + b"\xff" + content[201:],
    ],
)
def test_damaged_one_is_exported_again(runtime, kept, spoil):
    expected = answer(Scaled(2.0))
    (path,) = kept.iterdir()
    content = path.read_bytes()
    path.write_bytes(spoil(content))
    assert answer(Scaled(2.0)).equal(expected)
    assert path.read_bytes() == content


def test_one_of_other_code_is_exported_again(runtime, kept):
    """What a module computes need not show in its weights."""
    answer(Scaled(2.0))
    torch.testing.assert_close(answer(Scaled(3.0)), Scaled(3.0)(FEATURES)[1])
    assert len(list(kept.iterdir())) == 1


def test_the_last_few_are_kept(runtime, kept):
    for i in range(engines.KEPT + 3):
        engines.store(kept / f"{i}.onnx", b"network")
    assert len(list(kept.iterdir())) == engines.KEPT
    assert engines.read_stored(kept / f"{engines.KEPT + 2}.onnx") == b"network"


def test_without_a_place_it_is_not_kept(runtime, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "file"))
    torch.testing.assert_close(answer(Scaled(2.0)), Scaled(2.0)(FEATURES)[1])


def test_network_with_other_results_is_refused(runtime, kept):
    with pytest.raises(ValueError, match="onnxruntime"):
        answer(OfBatches(1.0))
    assert not kept.exists()


@pytest.fixture(scope="module")
def unexported(tmp_path_factory):
    """A model that is not run by onnxruntime."""
    return make_run(
        tmp_path_factory.mktemp("models") / "run",
        finished=False,
        edit=lambda yaml: yaml.replace("FixedLength", "OwnLength"),
    )


def test_what_cannot_be_exported_is_told_and_run_by_torch(
    runtime, recording, unexported, capsys
):
    call = ["classify", str(recording), "--model", str(unexported)]
    call += ["--format", "csv", "--cycles", "windows"]
    assert main([*call, "--engine", "torch"]) == 0
    expected, err = capsys.readouterr()
    assert err == ""
    assert main(call) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert err.count("\n") == 1 and "PyTorch runs it" in err
    assert main([*call, "--engine", "onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "take --engine torch" in err


def test_output_goes_on_with_its_engine(
    runtime, recording, originals, tmp_path, capsys
):
    call = ["embed", str(recording), "--model", str(originals / "exported")]
    call += ["--output", str(tmp_path / "e.csv"), "--resume"]
    assert main(call) == 0  # by default
    written = (tmp_path / "e.csv").read_bytes()
    assert main([*call, "--engine", "torch"]) == 2
    assert "written with --engine onnx, not torch" in capsys.readouterr().err
    assert main([*call, "--engine", "onnx"]) == 0
    assert (tmp_path / "e.csv").read_bytes() == written


def test_what_is_not_installed_is_said_to_who_asks(
    recording, originals, monkeypatch, capsys
):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    call = ["classify", str(recording), "--model", str(originals / "exported")]
    assert main(call) == 0
    assert capsys.readouterr().err == ""
    assert main([*call, "--engine", "onnx"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "qlung_plugin[onnx]" in err


@pytest.mark.parametrize(
    "asked, device, missing, planned",
    [
        (None, "cpu", [], "onnx"),
        (None, "cpu", ["onnx"], "torch"),
        (None, "cuda", [], "torch"),
        ("torch", "cpu", [], "torch"),
        ("onnx", "cuda", [], "onnx"),
    ],
)
def test_default_is_what_is_fast(monkeypatch, asked, device, missing, planned):
    monkeypatch.setattr(engines, "missing_packages", lambda: missing)
    arguments = argparse.Namespace(engine=asked, device=device)
    assert planned_engine(arguments) == planned
    assert planned_engine(argparse.Namespace(device=device)) == "torch"


def test_cycles_of_their_own_length_are_for_torch(runtime, unexported):
    model = RespiratorySoundClassifier.from_hparams(unexported)
    with pytest.raises(ValueError, match="own length"):
        model.use_engine("onnx")


def test_engine_of_another_name_or_device_is_refused(originals):
    model = RespiratorySoundClassifier.from_hparams(originals / "exported")
    with pytest.raises(ValueError, match="tensorrt is no engine: torch, onnx"):
        model.use_engine("tensorrt")
    model.device = "cuda:0"
    with pytest.raises(ValueError, match="for the CPU, not for cuda:0"):
        model.use_engine("onnx")
