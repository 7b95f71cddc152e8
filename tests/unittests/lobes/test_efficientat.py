"""Tests of the EfficientAT backbone and of what it loads.

The network is held against MobileNetV3-Large written out here in plain
functions, which takes its weights by the names of the published files.

Authors
 * qlung_plugin contributors
"""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F

from qlung_plugin.lobes.models.efficientat import (
    EfficientAT,
    EfficientATFirstBlocks,
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


def test_mn04_has_its_number_of_parameters():
    count = sum(p.numel() for p in EfficientAT(0.4).parameters())
    classifier = (384 * 512 + 512) + (512 * 527 + 527)
    assert count + classifier == 983599


# --- which weights ----------------------------------------------------------


def test_name_of_another_width():
    with pytest.raises(ValueError, match="mn10_as has width_mult=1.0, not 0.4"):
        EfficientAT(0.4, "mn10_as")


# --- files that are not the weights -----------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("classifier.5.bias"), "missing: classifier"),
        (
            lambda s: s.update({"features.4.block.2.fc1.bias": torch.zeros(8)}),
            "twice: features.4.block.2.fc1.bias",
        ),
    ],
)
def test_each_tensor_that_does_not_fit_is_named(
    published, save, change, message
):
    state = dict(published)
    change(state)
    with pytest.raises(ValueError, match=message) as error:
        EfficientAT(WIDTH, save(state))
    assert "weights.pt does not fit MobileNetV3" in str(error.value)


def test_weights_that_were_saved_from_data_parallel(published, save):
    path = save({f"module.{name}": t for name, t in published.items()})
    loaded = EfficientAT(WIDTH, path).state_dict()["features.0.0.weight"]
    assert torch.equal(loaded, published["features.0.0.weight"])


# --- cut in two, the first part frozen ---------------------------------------


@pytest.fixture(scope="module")
def weights(published, tmp_path_factory):
    """The same in a file."""
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(published, path)
    return path


@pytest.mark.parametrize("blocks", [0, 1, 8, 16])
def test_the_two_parts_are_the_whole(weights, blocks):
    features = torch.randn(2, 131, 128)
    whole = EfficientAT(WIDTH, weights).eval()
    first = EfficientATFirstBlocks(WIDTH, weights, blocks)
    rest = EfficientAT(WIDTH, weights, first_block=blocks).eval()
    maps = first(features)
    assert maps.dim() == 3 and maps.shape[0] == 2
    torch.testing.assert_close(rest(maps), whole(features))
    names = set(first.state_dict()) | set(rest.state_dict())
    assert names == set(whole.state_dict())
    assert not set(first.state_dict()) & set(rest.state_dict())


def test_time_comes_before_mel_and_channels(weights):
    """A mask in time or mel of the maps is one of time or mel."""
    silent = torch.zeros(1, 640, 128)
    late, high = silent.clone(), silent.clone()
    late[:, 600:] = 1
    high[:, :, 120:] = 1
    # Excitation spreads a little of everything everywhere: only the early,
    # unexcited blocks keep places apart.
    first = EfficientATFirstBlocks(WIDTH, weights, 4)
    changed_in_time = (first(late) != first(silent)).any(2)[0]
    assert not changed_in_time[:100].any() and changed_in_time[150:].all()
    changed_in_mel = (first(high) != first(silent))[0].any(0)
    low, top = changed_in_mel[: len(changed_in_mel) // 2], changed_in_mel[-8:]
    assert not low.any() and top.any()


def test_training_leaves_the_first_blocks_as_they_are(weights):
    first = EfficientATFirstBlocks(WIDTH, weights, 9).train()
    before = {k: v.clone() for k, v in first.state_dict().items()}
    first(torch.randn(4, 96, 128))
    assert not any(parameter.requires_grad for parameter in first.parameters())
    for name, value in first.state_dict().items():
        assert torch.equal(value, before[name])


def test_without_blocks_nothing_is_loaded_or_changed():
    first = EfficientATFirstBlocks(WIDTH, "no/such/file", blocks=0)
    features = torch.randn(1, 10, 128)
    assert torch.equal(first(features), features)
    assert first.state_dict() == {}


@pytest.mark.parametrize("block", [-1, 17])
def test_blocks_that_there_are_not(block):
    with pytest.raises(ValueError, match=f"blocks={block} is not in 0 to 16"):
        EfficientATFirstBlocks(WIDTH, blocks=block)
    with pytest.raises(ValueError, match=f"first_block={block} is not in"):
        EfficientAT(WIDTH, first_block=block)
