"""Tests of EfficientAT cut in two, the first part frozen.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch

from qlung_plugin.lobes.models.efficientat import (
    EfficientAT,
    EfficientATFirstBlocks,
)
from tests.unittests.lobes.test_efficientat import (
    WIDTH,
    published_form,
    randomised,
)


@pytest.fixture(name="weights", scope="module")
def fixture_weights(tmp_path_factory):
    """A small network's weights in the published form, in a file."""
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(published_form(randomised(EfficientAT(WIDTH))), path)
    return path


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param(n, marks=[] if n in (0, 1, 8, 16) else pytest.mark.slow)
        for n in range(17)
    ],
)
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
