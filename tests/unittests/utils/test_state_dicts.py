"""Files of weights, whole and damaged.

Authors
 * qlung_plugin contributors
"""

import os
import random

import numpy as np
import pytest
import torch

from qlung_plugin.utils.state_dicts import read_file, read_state_dict

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


ARRAYS = [
    np.arange(3),
    np.zeros((2, 1), bool),
    np.float32([1.5]),
    np.array("a"),
]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("numpy", [b"numpy._core", b"numpy.core"])
def test_arrays_beside_the_tensors(tmp_path, zipped, numpy):
    """Of both of NumPy's major versions, whichever is installed."""
    path = tmp_path / "weights.pt"
    content = {"model": STATE, "sampler": {"indexes": ARRAYS, "queue": [1, 2]}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # an archive has checksums
        text = path.read_bytes()
        text = text.replace(b"numpy._core", numpy).replace(b"numpy.core", numpy)
        path.write_bytes(text)
    assert read_state_dict(path, "model").keys() == STATE.keys()
    sampler = read_file(path)["sampler"]
    assert sampler["queue"] == [1, 2]
    for array, expected in zip(sampler["indexes"], ARRAYS):
        np.testing.assert_array_equal(array, expected, strict=True)


class Call:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "make, named",
    [
        (Call, "system"),
        (lambda path: np.array([Call(path)], object), "system"),
        (lambda path: torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (lambda path: np.float64(1), "scalar"),
    ],
)
def test_nothing_else_is_called_nor_is_that_advised(
    tmp_path, zipped, make, named
):
    path, created = tmp_path / "weights.pt", tmp_path / "created"
    torch.save(
        {"model": STATE, "more": make(created)},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(ValueError, match=named) as caught:
        read_state_dict(path, "model")
    assert not created.exists()
    assert "weights_only" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
