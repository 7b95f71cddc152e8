"""Files of weights, whole and damaged.

Authors
 * qlung_plugin contributors
"""

import random

import pytest
import torch

from qlung_plugin.utils.state_dicts import read_state_dict

STATE = {"weight": torch.arange(12.0).view(3, 4), "steps": torch.tensor(7)}


@pytest.mark.parametrize("zipped", [True, False])
def test_every_damage_is_a_value_error_or_harmless(tmp_path, zipped):
    path = tmp_path / "weights.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    damaged = [content[:stop] for stop in range(0, len(content), 13)]
    for place in range(0, len(content), 3):
        damaged.append(
            content[:place] + draw.randbytes(1) + content[place + 1 :]
        )
    for version in damaged:
        path.write_bytes(version)
        try:
            state = read_state_dict(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert all(torch.is_tensor(value) for value in state.values())
    assert refused > len(content) / 13


@pytest.mark.parametrize("content", [[1, 2], {"weight": 1}, {0: torch.ones(1)}])
def test_anything_else_is_refused(tmp_path, content):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="holds no state dict"):
        read_state_dict(path)
