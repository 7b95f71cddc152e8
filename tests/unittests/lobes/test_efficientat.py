"""Tests of the EfficientAT backbone and of what it loads.

The network is held against MobileNetV3-Large written out here in plain
functions, which takes its weights by the names of the published files.

Authors
 * qlung_plugin contributors
"""

import http.client
import pickle
import shutil
import socket
import urllib.error
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops.misc import SqueezeExcitation

from qlung_plugin.lobes.models.efficientat import (
    PUBLISHED,
    EfficientAT,
)
from tests.unittests.small_runs import EFFICIENTAT, FEATURES, MODELS

# What it is tested as, as every backbone is.
SMALL = {
    "EfficientAT": EFFICIENTAT,
    "frozen EfficientAT": EFFICIENTAT._replace(
        features=f"""!new:torch.nn.Sequential
    - !new:{FEATURES}.EfficientATFeatures
    - !new:{MODELS}.efficientat.EfficientATFirstBlocks
      width_mult: 0.1
      pretrained_weights: !ref <pretrained_weights>
      blocks: 5""",
        backbone=f"{EFFICIENTAT.backbone}\n    first_block: 5",
    ),
}

WIDTH = 0.2  # from here up, as in the paper, all blocks but one expand
# Of the 15 blocks: "Searching for MobileNetV3", table 1.
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1)
HARD_SWISH_FROM = 7
EXCITED = (4, 5, 6, 11, 12, 13, 14, 15)


def randomised(module, seed=0):
    """The module with nothing left at a neutral value such as 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif value.dim() == 1:
            value.copy_(0.5 * noise + (0.3 if name.endswith("weight") else 0))
        else:
            value.copy_(noise / value[0].numel() ** 0.5)
    return module


def published_form(backbone, hidden=256, seed=0):
    """The state dict of a backbone as the EfficientAT release would have it."""
    generator = torch.Generator().manual_seed(seed)
    state = OrderedDict()
    for name, tensor in backbone.state_dict().items():
        for layer in (".fc1.", ".fc2."):
            if layer in name:
                name = name.replace(layer, f".conc_se_layers.0{layer}")
                tensor = tensor.flatten(1) if tensor.dim() == 4 else tensor
        state[name] = tensor.clone()
    for name, shape in {
        "classifier.2.weight": (hidden, backbone.embedding_dim),
        "classifier.2.bias": (hidden,),
        "classifier.5.weight": (527, hidden),
        "classifier.5.bias": (527,),
    }.items():
        state[name] = torch.randn(shape, generator=generator)
    return state


@pytest.fixture(scope="module")
def published():
    """A small network's weights in the published form."""
    return published_form(randomised(EfficientAT(WIDTH)))


@pytest.fixture
def save(tmp_path):
    """Saves something as weights and returns the path."""

    def save(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


# --- the network ------------------------------------------------------------


def hard_swish(x):
    return x * (x + 3).clamp(0, 6) / 6


def relu(x):
    return x.clamp(min=0)


def excitation(weights, prefix, x):
    """Squeeze-and-excitation with a sigmoid gate."""
    hidden = x.mean(dim=(2, 3)) @ weights[f"{prefix}.fc1.weight"].T
    hidden = relu(hidden + weights[f"{prefix}.fc1.bias"])
    gate = hidden @ weights[f"{prefix}.fc2.weight"].T
    gate = 1 / (1 + (-gate - weights[f"{prefix}.fc2.bias"]).exp())
    return x * gate[:, :, None, None]


def conv_norm(weights, prefix, x, stride=1, activation=None):
    """Convolution, stored batch statistics, activation."""
    kernel = weights[f"{prefix}.0.weight"]
    x = F.conv2d(
        x,
        kernel,
        stride=stride,
        padding=(kernel.shape[-1] - 1) // 2,
        groups=x.shape[1] // kernel.shape[1],
    )
    mean, variance, scale, shift = (
        weights[f"{prefix}.1.{name}"][:, None, None]
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    x = (x - mean) / (variance + 1e-3).sqrt() * scale + shift
    return x if activation is None else activation(x)


def mobilenet_v3_large(weights, features):
    """Embeddings of log-mel features ``[batch, time, mel]``."""
    x = features.transpose(1, 2)[:, None]
    x = conv_norm(weights, "features.0", x, 2, hard_swish)
    for number, stride in enumerate(STRIDES, start=1):
        activation = hard_swish if number >= HARD_SWISH_FROM else relu
        block = f"features.{number}.block"
        part, y = 0, x
        if number > 1:  # the first does not expand
            y = conv_norm(weights, f"{block}.{part}", y, 1, activation)
            part += 1
        y = conv_norm(weights, f"{block}.{part}", y, stride, activation)
        part += 1
        if number in EXCITED:
            y = excitation(weights, f"{block}.{part}.conc_se_layers.0", y)
            part += 1
        y = conv_norm(weights, f"{block}.{part}", y)
        x = x + y if x.shape == y.shape and stride == 1 else y
    return conv_norm(weights, "features.16", x, 1, hard_swish).mean((2, 3))


def test_whole_network_against_plain_functions(published, save):
    backbone = EfficientAT(WIDTH, save(published)).eval()
    # A time that no stride divides, and unlike the number of bands.
    features = torch.randn(
        3, 77, 64, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        expected = mobilenet_v3_large(published, features)
        embeddings = backbone(features)
    assert expected.std() > 0.01
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-4)


def test_mn04_against_plain_functions(real_data):
    path = real_data / "weights" / "mn04_as_mAP_432.pt"
    weights = torch.load(path, weights_only=True)
    backbone = EfficientAT(0.4, path).eval()
    features = torch.randn(
        2, 300, 128, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        expected = mobilenet_v3_large(weights, features)
        embeddings = backbone(features)
    assert embeddings.shape == (2, 384) and expected.std() > 0.01
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=0)


def test_squeeze_and_excitation_has_a_sigmoid_gate(published, save):
    backbone = EfficientAT(WIDTH, save(published))
    layers = {
        name: module
        for name, module in backbone.named_modules()
        if isinstance(module, SqueezeExcitation)
    }
    assert len(layers) == len(EXCITED)
    for name, layer in layers.items():
        x = torch.randn(2, layer.fc1.in_channels, 5, 3)
        expected = excitation(published, f"{name}.conc_se_layers.0", x)
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("width, dim", [(0.1, 96), (0.4, 384), (1.0, 960)])
def test_embedding_dim(width, dim):
    backbone = EfficientAT(width)
    assert backbone.embedding_dim == dim
    assert backbone(torch.randn(2, 40, 32)).shape == (2, dim)


def test_mn04_has_its_number_of_parameters():
    count = sum(p.numel() for p in EfficientAT(0.4).parameters())
    classifier = (384 * 512 + 512) + (512 * 527 + 527)
    assert count + classifier == 983599


def test_one_cycle_does_not_see_the_others_in_evaluation():
    backbone = randomised(EfficientAT(WIDTH)).eval()
    features = torch.randn(3, 60, 32)
    with torch.no_grad():
        together = backbone(features)
        alone = torch.cat([backbone(row[None]) for row in features])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


# --- which weights ----------------------------------------------------------


def test_every_published_tensor_arrives(published, save):
    backbone = EfficientAT(WIDTH, save(published))
    arrived = published_form(backbone)
    assert arrived.keys() == published.keys()
    for name, tensor in published.items():
        if not name.startswith("classifier."):
            assert torch.equal(arrived[name], tensor), name


@pytest.mark.parametrize("absent", [None, "none"])
def test_random_initialisation_where_asked(absent, monkeypatch):
    monkeypatch.setattr(torch, "load", None)  # nothing to be loaded
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    torch.manual_seed(0)
    first = EfficientAT(WIDTH, absent).state_dict()
    second = EfficientAT(WIDTH, absent).state_dict()
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("wrong", ["mn04", "", "None", "/no/such/file.pt"])
def test_unknown_weights_are_never_random(wrong):
    with pytest.raises(FileNotFoundError) as error:
        EfficientAT(0.4, wrong)
    assert repr(wrong) in str(error.value)
    assert "mn04_as" in str(error.value) and "none" in str(error.value)


def test_name_of_another_width():
    with pytest.raises(ValueError, match="mn10_as has width_mult=1.0, not 0.4"):
        EfficientAT(0.4, "mn10_as")


# --- files that are not the weights -----------------------------------------


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


SE_WEIGHT = "features.4.block.2.conc_se_layers.0.fc1.weight"
SPOILED = {
    "missing layer": (
        lambda s: without(s, "features.16.0.weight"),
        "missing: features.16.0.weight",
    ),
    "missing statistics": (
        lambda s: without(s, "features.0.1.running_mean"),
        "missing: features.0.1.running_mean",
    ),
    "missing gate": (lambda s: without(s, SE_WEIGHT), "missing: .*fc1.weight"),
    "missing classifier": (
        lambda s: without(s, "classifier.5.bias"),
        "missing: classifier",
    ),
    "extra": (
        lambda s: {**s, "features.17.weight": torch.zeros(2)},
        "unknown: features.17.weight",
    ),
    "twice": (
        lambda s: {**s, "features.4.block.2.fc1.bias": torch.zeros(8)},
        "twice: features.4.block.2.fc1.bias",
    ),
    "shape": (
        lambda s: {**s, "features.0.1.bias": torch.zeros(3)},
        r"features.0.1.bias: \(3,\) in the file, \(8,\) in the model",
    ),
    "three input channels": (
        lambda s: {**s, "features.0.0.weight": torch.zeros(8, 3, 3, 3)},
        r"\(8, 3, 3, 3\) in the file, \(8, 1, 3, 3\) in the model",
    ),
    "nested": (lambda s: {"model": dict(s)}, "no state dict of named tensors"),
    "numbered": (lambda s: dict(enumerate(s.values())), "named tensors"),
    "not a dict": (lambda s: list(s.values()), "no state dict"),
    "empty": (lambda s: {}, "missing"),
    "a tensor": (lambda s: s["features.0.0.weight"], "no state dict"),
}


@pytest.mark.parametrize("spoil, message", SPOILED.values(), ids=SPOILED.keys())
def test_wrong_content_is_named(published, save, spoil, message):
    path = save(spoil(published))
    with pytest.raises(ValueError, match=message) as error:
        EfficientAT(WIDTH, path)
    assert str(path) in str(error.value)


def test_weights_of_another_width(published, save):
    path = save(published)
    with pytest.raises(ValueError, match="Does width_mult match"):
        EfficientAT(0.4, path)


class Bomb:
    """A pickled object, which would run code where it is loaded."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def object_in_torch_format(path):
    torch.save({"features": Bomb()}, path)


def object_in_pickle_format(path):
    path.write_bytes(pickle.dumps(Bomb(), protocol=2))


def truncated(path):
    torch.save({"weight": torch.zeros(10000)}, path)
    path.write_bytes(path.read_bytes()[:5000])


def error_page(path):
    path.write_text("<html>Not Found</html>")


def nothing(path):
    path.touch()


@pytest.mark.parametrize(
    "write",
    [
        object_in_torch_format,
        object_in_pickle_format,
        truncated,
        error_page,
        nothing,
    ],
)
def test_unreadable_files_are_named_and_not_executed(tmp_path, write):
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(ValueError, match="not a readable state dict") as error:
        EfficientAT(WIDTH, path)
    assert str(path) in str(error.value)


# --- downloads --------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of downloads; a download without a fake one fails."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    return tmp_path / "checkpoints"


@pytest.fixture
def server(hub, monkeypatch):
    """A fake server: what it holds by URL, and a list of the requests."""

    class Server:
        files, requests = {}, []

    def download(url, path):
        Server.requests.append(url)
        with open(path, "wb") as file:
            file.write(Server.files[url])

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return Server


RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError(socket.gaierror(-2, "Name or service not known")),
        urllib.error.HTTPError("url", 404, "Not Found", None, None),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b"half"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_without_a_network_the_message_says_how_to_proceed(
    hub, monkeypatch, failure
):
    def fail(url, path):
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ConnectionError) as error:
        EfficientAT(0.4, "mn04_as")
    message = str(error.value)
    assert RELEASE + "mn04_as_mAP_432.pt" in message
    assert "--pretrained_weights /path/to/mn04_as_mAP_432.pt" in message
    assert "--pretrained_weights none" in message
    assert not list(hub.iterdir())


@pytest.mark.parametrize(
    "name, file, width",
    [
        ("mn04_as", "mn04_as_mAP_432.pt", 0.4),
        ("mn05_as", "mn05_as_mAP_443.pt", 0.5),
        ("mn10_as", "mn10_as_mAP_471.pt", 1.0),
        ("mn20_as", "mn20_as_mAP_478.pt", 2.0),
        ("mn30_as", "mn30_as_mAP_482.pt", 3.0),
        ("mn40_as", "mn40_as_mAP_484.pt", 4.0),
    ],
)
def test_each_name_asks_for_its_file(hub, monkeypatch, name, file, width):
    asked = []

    def refuse(url, path):
        asked.append(url)
        raise urllib.error.URLError("refused")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(ConnectionError):
        EfficientAT(width, name)
    assert asked == [RELEASE + file]


def test_download_of_other_bytes_is_refused(server):
    server.files[RELEASE + "mn04_as_mAP_432.pt"] = b"another file"
    with pytest.raises(ValueError, match="has SHA-256 .* instead of 899a8c62"):
        EfficientAT(0.4, "mn04_as")


def test_mn04_by_name_is_the_file(hub, real_data, monkeypatch):
    hub.mkdir()
    file = real_data / "weights" / "mn04_as_mAP_432.pt"
    shutil.copyfile(file, hub / file.name)
    by_name = EfficientAT(0.4, "mn04_as").state_dict()
    by_file = EfficientAT(0.4, file).state_dict()
    assert all(torch.equal(by_name[key], by_file[key]) for key in by_file)


def test_downloaded_weights_are_loaded(server, published, save, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "tiny", (RELEASE + "tiny.pt", None))
    server.files[RELEASE + "tiny.pt"] = save(published).read_bytes()
    backbone = EfficientAT(WIDTH, "tiny")
    loaded = backbone.state_dict()["features.0.0.weight"]
    assert torch.equal(loaded, published["features.0.0.weight"])


# --- freezing ---------------------------------------------------------------


def trained_once(freeze):
    """State before and after a training step, and the step's output."""
    torch.manual_seed(0)
    backbone = randomised(EfficientAT(WIDTH, freeze=freeze))
    model = nn.Sequential(backbone, nn.Linear(backbone.embedding_dim, 4))
    before = {
        key: value.clone() for key, value in backbone.state_dict().items()
    }
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    features = torch.randn(4, 40, 32)
    embeddings = backbone(features)
    model[1](embeddings).square().sum().backward()
    optimizer.step()
    return backbone, model[1], before, features, embeddings


def test_frozen_backbone_stays_as_it_is():
    backbone, head, before, features, embeddings = trained_once(freeze=True)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in backbone.parameters())
    assert head.weight.grad.abs().sum() > 0
    # Also in training mode it normalises with the stored statistics.
    assert torch.equal(embeddings, backbone.eval()(features))


def test_backbone_learns_unless_frozen():
    backbone, _, before, features, embeddings = trained_once(freeze=False)
    for key, value in backbone.state_dict().items():
        changed = not torch.equal(value, before[key])
        # Not every unit of a ReLU is alive in four inputs.
        assert changed or ".running_" not in key, key
        assert changed or key != "features.0.0.weight"
    assert not torch.allclose(embeddings, backbone.eval()(features), atol=1e-3)
