"""Random states go on where they were.

Authors
 * qlung_plugin contributors
"""

import random

import numpy as np
import pytest
import torch

from qlung_plugin.training.generators import AllGenerators
from speechbrain.utils.checkpoints import Checkpointer


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
