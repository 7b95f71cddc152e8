"""A training whose backbone is compiled, beside one as it is.

Authors
 * qlung_plugin contributors
"""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from tests.recipes.test_icbhi_options import TINY_AST

# The rates of two epochs, also where the first is trained alone.
COSINE = "{epoch_count: 2}"


@pytest.fixture(name="tiny")
def fixture_tiny(train, corpus):
    """Trains one layer of AST; the last batch of an epoch is smaller."""

    def run(name, **options):
        options = {**TINY_AST, **options}
        return train(corpus, name, "qlung_ast.yaml", batch_size="16", **options)

    return run


def tensors(run):
    return load_file(run / "model" / "last" / "model.safetensors")


def assert_as_good_as_equal(one, other):
    weights, others = tensors(one), tensors(other)
    assert list(weights) == list(others)
    for name, tensor in weights.items():
        torch.testing.assert_close(
            tensor, others[name], atol=2e-5, rtol=1e-3, equal_nan=True
        )
    tables = [pd.read_csv(run / "predictions_last.csv") for run in (one, other)]
    p = [table.filter(like="p_").to_numpy() for table in tables]
    assert p[0] == pytest.approx(p[1], abs=1e-4)


@pytest.mark.slow
def test_a_compiled_training_is_the_same_and_goes_on_either_way(tiny):
    """And so do its checkpoints: of two epochs, one is compiled."""
    graphs = counters["stats"]  # what torch.compile made code of so far
    before = graphs["unique_graphs"]
    plain = tiny("plain")
    assert graphs["unique_graphs"] == before
    cycles = len(json.loads((plain / "train.json").read_text()))
    assert cycles > 16 and cycles % 16  # a whole batch, and a smaller one
    compiled = tiny("compiled", compile="")
    assert graphs["unique_graphs"] == before + 1
    assert_as_good_as_equal(compiled, plain)
    for name, first, second in (
        ("compiled_later", {}, {"compile": ""}),
        ("compiled_before", {"compile": ""}, {}),
    ):
        tiny(name, number_of_epochs=1, lr_annealing=COSINE, **first)
        run = tiny(name, number_of_epochs=2, lr_annealing=COSINE, **second)
        assert_as_good_as_equal(run, plain)
