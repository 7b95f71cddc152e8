"""Tests of folding batch norms into convolutions.

Authors
 * qlung_plugin contributors
"""

import copy

import pytest
import torch
from torch import nn

from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.nnet.folding import fold_batch_norms


def trained(network, images):
    """In evaluation mode, with parameters and statistics of no default."""
    torch.manual_seed(0)
    network.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(5):
            network(images + torch.randn_like(images))
    return network.eval()


def batch_norms(network):
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bias": False, "stride": 2, "padding": 1},
        {"groups": 4, "dilation": 2},
        {"padding": "same", "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("affine", [True, False])
def test_one_convolution(settings, affine):
    images = torch.randn(3, 4, 12, 12)
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3, **settings),
        nn.BatchNorm2d(8, eps=1e-3, affine=affine),
        nn.Hardswish(),
    )
    network = trained(network, images)
    folded = fold_batch_norms(network)
    assert not batch_norms(folded)
    torch.testing.assert_close(
        folded(images), network(images), atol=1e-5, rtol=1e-5
    )


def test_backbone_as_it_was_but_for_rounding():
    features = torch.randn(2, 64, 128)
    backbone = trained(EfficientAT(width_mult=0.1), features)
    folded = fold_batch_norms(backbone)
    assert batch_norms(backbone) and not batch_norms(folded)
    assert folded.embedding_dim == backbone.embedding_dim
    torch.testing.assert_close(
        folded(features), backbone(features), atol=1e-5, rtol=1e-4
    )
    # The order in memory that depthwise convolutions are fast in.
    for layer in folded.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.dtype == torch.float32
            assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_network_itself_is_left_as_it_is():
    images = torch.randn(2, 1, 8, 8)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    network = trained(network, images).train()
    before = copy.deepcopy(network.state_dict())
    folded = fold_batch_norms(network)
    folded(images)
    with torch.no_grad():
        folded[0].weight.zero_()
    assert network.training and not folded.training
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Scaled(nn.Conv2d):
    """A convolution that does more than its weights say."""

    def forward(self, images):
        return 2 * super().forward(images).relu()


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)],
        [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)],
        [Scaled(1, 4, 3), nn.BatchNorm2d(4)],
        [
            nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3)),
            nn.BatchNorm2d(4),
        ],
        [nn.Flatten(), nn.Linear(64, 2)],
    ],
)
def test_nothing_to_fold(layers):
    network = nn.Sequential(*layers)
    assert fold_batch_norms(network) is network
