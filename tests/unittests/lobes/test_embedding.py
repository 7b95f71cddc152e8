"""SpeechBrain's embedding models as backbones, by YAML alone.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from torch import nn

from qlung_plugin.lobes.models.embedding import EmbeddingModel
from speechbrain.lobes.models.Xvector import Xvector
from tests.unittests.small_runs import FEATURES, MODELS, Small


def small(model, arguments):
    """One of SpeechBrain's embedding models with a front end."""
    return Small(
        16000,
        f"!new:{FEATURES}.ASTFeatures",
        f"""!new:{MODELS}.embedding.EmbeddingModel
    embedding_dim: 12
    model: !new:speechbrain.lobes.models.{model}
        lin_neurons: 12
{arguments}""",
        12,
    )


# What it is tested as, as every backbone is.
SMALL = {
    "ECAPA-TDNN": small(
        "ECAPA_TDNN.ECAPA_TDNN",
        """\
        input_size: 128
        channels: [16, 16, 48]
        kernel_sizes: [5, 3, 1]
        dilations: [1, 2, 1]
        attention_channels: 8
        res2net_scale: 2
        se_channels: 8
        groups: [1, 1, 1]""",
    ),
    "x-vector": small(
        "Xvector.Xvector",
        """\
        in_channels: 128
        tdnn_blocks: 2
        tdnn_channels: [16, 24]
        tdnn_kernel_sizes: [5, 1]
        tdnn_dilations: [1, 1]""",
    ),
    "ResNet": small(
        "ResNet.ResNet",
        """\
        input_size: 128
        channels: [8, 8, 8, 8]
        block_sizes: [1, 1, 1, 1]""",
    ),
}


def xvector():
    torch.manual_seed(0)
    return Xvector(in_channels=8, tdnn_channels=[8] * 5, lin_neurons=16)


def test_weights_of_the_model_are_loaded_to_the_last(tmp_path):
    source = xvector()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    torch.save(source.state_dict(), tmp_path / "embedding_model.ckpt")
    backbone = EmbeddingModel(xvector(), 16, tmp_path / "embedding_model.ckpt")
    for name, tensor in source.state_dict().items():
        assert torch.equal(backbone.model.state_dict()[name], tensor), name
    wrapped = {f"module.{k}": v for k, v in source.state_dict().items()}
    torch.save(wrapped, tmp_path / "wrapped.ckpt")
    EmbeddingModel(xvector(), 16, tmp_path / "wrapped.ckpt")
    other = Xvector(in_channels=8, tdnn_channels=[8] * 5, lin_neurons=8)
    with pytest.raises(ValueError, match="arguments of the model"):
        EmbeddingModel(other, 8, tmp_path / "embedding_model.ckpt")


@pytest.mark.parametrize(
    "model, dim",
    [(xvector(), 8), (nn.Linear(8, 16), 16), (nn.Flatten(), 8)],
    ids=["another dimension", "a time axis", "time in the embedding"],
)
def test_another_shape_is_named(model, dim):
    with pytest.raises(ValueError, match="is embedding_dim right"):
        EmbeddingModel(model, dim)(torch.randn(2, 50, 8))


def test_lengths_go_on_to_a_model_that_takes_them():
    model = xvector().eval()
    backbone = EmbeddingModel(model, 16).eval()
    features = torch.randn(3, 50, 8)
    lengths = torch.tensor([1.0, 0.5, 0.2])
    with torch.no_grad():
        torch.manual_seed(0)
        expected = model(features, lengths)[:, 0]
        torch.manual_seed(0)
        assert torch.equal(backbone(features, lengths), expected)
        torch.manual_seed(0)
        assert not torch.allclose(backbone(features), expected, atol=1e-3)


def test_lengths_are_not_told_to_a_model_that_takes_none():
    backbone = EmbeddingModel(nn.AdaptiveAvgPool2d((1, 8)), 8)
    features = torch.randn(3, 50, 8)
    expected = features.mean(dim=1)
    torch.testing.assert_close(backbone(features, torch.ones(3)), expected)
