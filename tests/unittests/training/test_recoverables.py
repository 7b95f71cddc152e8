"""Tests of what a checkpoint keeps besides weights.

Authors
 * qlung_plugin contributors
"""

import json
import math
import random

import numpy as np
import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from qlung_plugin.training.generators import AllGenerators
from qlung_plugin.training.history import TrainingHistory


@pytest.fixture(autouse=True)
def restored_generators():
    """Leaves the global generators as they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def draw():
    """Numbers of every global generator; an odd number of normal ones.

    Python and NumPy draw normal numbers in pairs and keep the second.
    """
    return [
        *torch.rand(3).tolist(),
        *torch.randn(3).tolist(),
        *np.random.rand(3).tolist(),
        np.random.standard_normal(),
        random.random(),
        random.gauss(0, 1),
        random.randrange(1000),
    ]


@pytest.mark.parametrize("drawn_before", range(3))
def test_generators_continue_where_they_were(tmp_path, drawn_before):
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    for _ in range(drawn_before):
        draw()
    generators = AllGenerators()
    checkpointer = Checkpointer(tmp_path, {"generators": generators})
    checkpointer.save_checkpoint()
    expected = [draw() for _ in range(3)]
    assert draw() not in expected
    # Another run has another object and drew other numbers.
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(4)
    other = Checkpointer(tmp_path, {"generators": AllGenerators()})
    assert other.recover_if_possible() is not None
    assert [draw() for _ in range(3)] == expected


def test_saving_draws_nothing(tmp_path):
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(5)
    expected = draw()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(5)
    AllGenerators().save(tmp_path / "generators")
    assert draw() == expected


def test_history_continues_where_it_was(tmp_path):
    history = TrainingHistory()
    history.append(epoch=1, lr=0.1, train_loss=1.5)
    history.append(epoch=2, lr=0.05, train_loss=math.nan, valid_score=51.25)
    Checkpointer(tmp_path, {"history": history}).save_checkpoint()
    resumed = TrainingHistory()
    # The epoch after the checkpoint, interrupted, is forgotten.
    resumed.append(epoch=3, lr=0.01, train_loss=9.0)
    Checkpointer(tmp_path, {"history": resumed}).recover_if_possible()
    resumed.append(epoch=3, lr=0.01, train_loss=0.5, valid_score=60.0)
    table = resumed.table()
    assert list(table.columns) == ["epoch", "lr", "train_loss", "valid_score"]
    assert table["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_equal(table["train_loss"].tolist(), [1.5, np.nan, 0.5])
    np.testing.assert_equal(
        table["valid_score"].tolist(), [np.nan, 51.25, 60.0]
    )


def test_history_is_a_json_file(tmp_path):
    history = TrainingHistory()
    history.append(epoch=1, train_loss=1.5)
    history.append(epoch=2, train_loss=0.25)
    checkpoint = Checkpointer(tmp_path, {"history": history}).save_checkpoint()
    assert json.loads(checkpoint.paramfiles["history"].read_text()) == [
        {"epoch": 1, "train_loss": 1.5},
        {"epoch": 2, "train_loss": 0.25},
    ]


def test_history_without_epochs(tmp_path):
    Checkpointer(tmp_path, {"history": TrainingHistory()}).save_checkpoint()
    history = TrainingHistory()
    history.append(epoch=1)
    Checkpointer(tmp_path, {"history": history}).recover_if_possible()
    assert len(history.table()) == 0
