"""PANNs against a network spelled out from the paper, with published names.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.audio_utils import mel_filter_bank

from qlung_plugin.lobes.models import panns
from qlung_plugin.lobes.models.panns import PANNs
from tests.unittests.small_runs import FEATURES, MODELS, Small

# What it is tested as, as every backbone is.
SMALL = {
    "PANNs": Small(
        32000,
        f"!new:{FEATURES}.PANNsFeatures",
        f"!new:{MODELS}.panns.PANNs\n    variant: Cnn6",
        512,
    )
}


class Block(nn.Module):
    """A block of two convolutions of 3 by 3, or of one of 5 by 5."""

    def __init__(self, before, after, size):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, size, padding="same", bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        if size == 3:
            self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        if hasattr(self, "conv2"):
            x = torch.relu(self.bn2(self.conv2(x)))
        return x


class Reference(nn.Module):
    """Cnn6, Cnn10 or Cnn14 in evaluation mode."""

    def __init__(self, variant):
        super().__init__()
        channels = [1, 64, 128, 256, 512]
        if variant == "Cnn14":
            channels += [1024, 2048]
        self.bn0 = nn.BatchNorm2d(64)
        self.blocks = len(channels) - 1
        for i in range(self.blocks):
            size = 5 if variant == "Cnn6" else 3
            block = Block(channels[i], channels[i + 1], size)
            setattr(self, f"conv_block{i + 1}", block)
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], 527)

    def forward(self, features):
        x = features.transpose(1, 2)[:, :, :, None]  # mel as channels
        x = self.bn0(x)[:, :, :, 0].transpose(1, 2)[:, None]
        for i in range(self.blocks):
            x = getattr(self, f"conv_block{i + 1}")(x)
            if i < 5:
                x = F.avg_pool2d(x, 2)
        x = x.mean(dim=3)
        return torch.relu(self.fc1(x.max(dim=2)[0] + x.mean(dim=2)))


def hann(length):
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def published_front_end():
    """The constants of the published front end, from their definitions."""
    grid = np.outer(np.arange(513), np.arange(1024))
    kernel = np.exp(-2j * np.pi * grid / 1024) * hann(1024)
    bank = mel_filter_bank(
        513, 64, 50, 14000, 32000, norm="slaney", mel_scale="slaney"
    )
    tensors = {
        "spectrogram_extractor.stft.conv_real.weight": kernel.real[:, None],
        "spectrogram_extractor.stft.conv_imag.weight": kernel.imag[:, None],
        "logmel_extractor.melW": bank,
    }
    return {name: torch.tensor(a).float() for name, a in tensors.items()}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """References by variant, and files of their published form."""
    folder, found = tmp_path_factory.mktemp("panns"), {}
    for variant in ("Cnn6", "Cnn10"):
        torch.manual_seed(0)
        reference = Reference(variant).eval()
        with torch.no_grad():
            for name, tensor in reference.state_dict().items():
                if "running" in name or "bn" in name and "weight" in name:
                    tensor.uniform_(0.5, 1.5)
        state = {**published_front_end(), **reference.state_dict()}
        torch.save({"iteration": 600000, "model": state}, folder / variant)
        found[variant] = reference, folder / variant
    return found


def features(frames=100, batch=2):
    generator = torch.Generator().manual_seed(1)
    return 10 * torch.randn(batch, frames, 64, generator=generator) - 40


@pytest.mark.parametrize("variant", ["Cnn6", "Cnn10"])
@pytest.mark.parametrize("frames", [16, 101])
def test_it_is_the_published_network(published, variant, frames):
    reference, path = published[variant]
    backbone = PANNs(variant, path).eval()
    with torch.no_grad():
        expected = reference(features(frames))
        measured = backbone(features(frames))
    torch.testing.assert_close(measured, expected, atol=1e-5, rtol=1e-5)
    assert measured.shape == (2, backbone.embedding_dim) == (2, 512)
    assert (measured > 0).any()


def test_cnn14_is_the_published_network(monkeypatch):
    torch.manual_seed(0)
    with torch.device("meta"):  # 80 M parameters: filled once, below
        reference = Reference("Cnn14").eval()
    reference = reference.to_empty(device="cpu")
    for name, tensor in reference.state_dict().items():
        if "fc" not in name or "bias" in name:
            tensor.fill_(1.0)
        if tensor.dim() > 1:
            fan_in = tensor[0].numel()
            tensor.normal_(std=fan_in**-0.5)
    state = {**published_front_end(), **reference.state_dict()}
    # As if from a file of 320 MB.
    monkeypatch.setattr(panns, "fetch_weights", lambda *names: "Cnn14.pth")
    monkeypatch.setattr(panns, "read_state_dict", lambda path, entry: state)
    backbone = PANNs("Cnn14", "Cnn14").eval()
    with torch.no_grad():
        expected = reference(features(32, batch=1))
        measured = backbone(features(32, batch=1))
    torch.testing.assert_close(measured, expected, atol=1e-5, rtol=1e-4)
    assert (measured > 0).any() and backbone.embedding_dim == 2048
    # The paper's table: 80.75 M.
    parameters = sum(p.numel() for p in reference.parameters())
    assert parameters / 1e6 == pytest.approx(80.75, abs=0.01)


# --- weights ----------------------------------------------------------------


def changed(published, tmp_path, change):
    content = torch.load(published["Cnn6"][1], weights_only=True)
    change(content["model"])
    torch.save(content, tmp_path / "changed.pth")
    return tmp_path / "changed.pth"


def test_a_tensor_that_is_missing_is_named(published, tmp_path):
    path = changed(published, tmp_path, lambda s: s.pop("bn0.running_var"))
    with pytest.raises(ValueError, match="missing: norm0.run.*of Cnn6?"):
        PANNs("Cnn6", path)


def test_weights_that_were_saved_from_data_parallel(published, tmp_path):
    def wrap(state):
        for name in list(state):
            state[f"module.{name}"] = state.pop(name)

    wrapped = PANNs("Cnn6", changed(published, tmp_path, wrap)).state_dict()
    expected = PANNs("Cnn6", published["Cnn6"][1]).state_dict()
    assert all(torch.equal(wrapped[name], expected[name]) for name in expected)


def test_another_front_end_is_named(published, tmp_path):
    name = "spectrogram_extractor.stft.conv_imag.weight"

    def change(state):
        state[name] = state[name] + 0.001

    with pytest.raises(ValueError, match=f"another front end: its {name}"):
        PANNs("Cnn6", changed(published, tmp_path, change))


def test_a_bare_state_dict_is_not_the_published_form(published, tmp_path):
    state = torch.load(published["Cnn6"][1], weights_only=True)["model"]
    torch.save(state, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="no entry 'model'"):
        PANNs("Cnn6", tmp_path / "bare.pth")


def test_unknown_variant():
    with pytest.raises(
        ValueError, match="'Cnn12' is none of Cnn6, Cnn10, Cnn14"
    ):
        PANNs("Cnn12")


# --- use --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 15, 64), (2, 100, 128)])
def test_features_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match="64. features of 16 frames or more"):
        PANNs("Cnn6")(torch.zeros(shape))
