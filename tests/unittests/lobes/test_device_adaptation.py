"""Embeddings of each device with the statistics of the training's.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from torch import nn

from qlung_plugin.lobes.models.device_adaptation import standardise_by_device


@pytest.fixture
def backbone():
    """As a standardisation keeps its statistics; one dimension is constant."""
    module = nn.Module()
    module.register_buffer("mean", torch.tensor([1.0, -2.0, 7.0]))
    module.register_buffer("deviation", torch.tensor([0.5, 3.0, 0.0]))
    return module


def draw():
    """Cycles of two devices, one louder and shifted, by id; and the devices."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 1, 3, generator=generator)
    devices = {f"c{i}": "AB"[i % 3 == 0] for i in range(30)}
    cycles = {
        key: 9 * row + 5 if devices[key] == "B" else row
        for key, row in zip(devices, rows)
    }
    return cycles, devices


def test_each_device_gets_the_statistics_of_the_training(backbone):
    cycles, devices = draw()
    moved = standardise_by_device(backbone, cycles, devices)
    assert set(moved) == set(cycles)
    for device in "AB":
        keys = [key for key in cycles if devices[key] == device]
        rows = torch.stack([moved[key] for key in keys])
        before = torch.stack([cycles[key] for key in keys])
        assert rows.shape == before.shape == (len(keys), 1, 3)
        mean, deviation = rows.mean(0)[0], rows.std(0, correction=0)[0]
        torch.testing.assert_close(mean, backbone.mean)
        torch.testing.assert_close(deviation, backbone.deviation)
        # The order within a device is as it was.
        for column in (0, 1):
            order = rows[:, 0, column].argsort()
            assert order.equal(before[:, 0, column].argsort())


def test_gain_and_shift_of_a_device_do_not_matter(backbone):
    cycles, devices = draw()
    moved = standardise_by_device(backbone, cycles, devices)
    louder = {
        key: 3 * row + 2 if devices[key] == "A" else row
        for key, row in cycles.items()
    }
    again = standardise_by_device(backbone, louder, devices)
    for key, row in moved.items():
        torch.testing.assert_close(again[key], row)


def test_a_device_of_one_cycle_is_the_mean(backbone):
    cycles = {"a": torch.tensor([[4.0, 5.0, 6.0]])}
    moved = standardise_by_device(backbone, cycles, {"a": "X"})
    assert moved["a"].equal(backbone.mean[None])


def test_a_database_that_names_no_device_is_one(backbone):
    cycles, devices = draw()
    one = standardise_by_device(backbone, cycles, dict.fromkeys(devices, "X"))
    unnamed = standardise_by_device(backbone, cycles, dict.fromkeys(devices))
    assert all(unnamed[key].equal(one[key]) for key in cycles)


def test_what_cannot_be_adapted_is_named(backbone):
    cycles, devices = draw()
    with pytest.raises(
        ValueError, match="of 1 cycles the device is unknown, .*c4"
    ):
        standardise_by_device(backbone, cycles, {**devices, "c4": None})
    with pytest.raises(ValueError, match="backbone, Linear, does not stand"):
        standardise_by_device(nn.Linear(3, 3), cycles, devices)
