"""What is compiled of a training, and what is not.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from torch import nn

from qlung_plugin.training.compiling import CompiledSteps, compile_steps


def counting(module):
    """The module as steps, and the shapes of what ran compiled, in order."""
    compiled_for, ran = [], []

    def backend(graph, inputs):
        compiled_for.append(None)

        def run(*arguments):
            ran.append(None)
            return graph.forward(*arguments)

        return run

    return (
        CompiledSteps(module, backend=backend, dynamic=False),
        compiled_for,
        ran,
    )


def test_one_shape_is_compiled_in_training_alone():
    linear = nn.Linear(3, 2)
    steps, compiled_for, ran = counting(linear)
    counts = []
    for _ in range(2):  # epochs
        steps.train()
        for size in (4, 4, 1):
            inputs = torch.randn(size, 3)
            torch.testing.assert_close(steps(inputs), linear(inputs))
            counts.append(len(ran))
        steps.eval()
        with torch.no_grad():
            for size in (4, 3):
                steps(torch.randn(size, 3))
                counts.append(len(ran))
    assert counts == [1, 2, 2, 2, 2, 3, 4, 4, 4, 4]
    assert len(compiled_for) == 1


def test_a_training_that_goes_on_with_the_last_batch():
    """It compiles for that one, and then for whole ones."""
    steps, compiled_for, ran = counting(nn.Linear(3, 2))
    for size in (1, 4, 1, 4):
        steps(torch.randn(size, 3))
    assert (len(compiled_for), len(ran)) == (2, 3)
    steps(torch.randn(4, 7, 3))  # as large, of another length
    assert (len(compiled_for), len(ran)) == (2, 3)


def test_gradients_reach_the_module_under_its_own_names():
    linear = nn.Linear(3, 2)
    steps, _, _ = counting(linear)
    steps(torch.ones(4, 3)).sum().backward()
    assert linear.weight.grad.tolist() == [[4.0] * 3] * 2
    assert list(linear.state_dict()) == ["weight", "bias"]
    assert list(steps.parameters()) == list(linear.parameters())


def test_named_arguments_are_not_compiled():
    """PatchMix gives a new function in every step."""

    class Backbone(nn.Module):
        def forward(self, inputs, *, mix=None):
            return inputs if mix is None else mix(inputs)

    steps, compiled_for, _ = counting(Backbone())
    mixed = steps(torch.ones(2, 2), mix=lambda inputs: 3 * inputs)
    assert mixed.tolist() == [[3.0, 3.0]] * 2 and compiled_for == []


def test_modules_are_wrapped_once_and_by_their_names():
    modules = nn.ModuleDict({"backbone": nn.Flatten(), "loss": nn.Identity()})
    for _ in range(2):
        compile_steps(modules, ["backbone"], backend="eager")
    assert type(modules["backbone"].module) is nn.Flatten
    assert type(modules["loss"]) is nn.Identity
    with pytest.raises(ValueError, match="head is none of .* backbone, loss$"):
        compile_steps(modules, ["head"])
