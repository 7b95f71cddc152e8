"""Training steps that torch.compile makes code of.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class CompiledSteps(nn.Module):
    """A module whose training steps on whole batches are compiled.

    Code is made for one shape, that of the largest batch: static shapes are the
    fastest, and the only ones that CUDA graphs take. Everything else, which is the
    last batch of an epoch, evaluation, and calls with further arguments by name, the
    module computes as it is: a training compiles once, not for each shape that it
    meets, and is evaluated as its model is used later. The parameters and their
    names stay the module's own.

    Arguments
    ---------
    module : torch.nn.Module
        Called with tensors, the first of which has the batch as first dimension.
    **options
        Of :func:`torch.compile`.

    Example
    -------
    >>> steps = CompiledSteps(nn.Linear(2, 1), backend="eager")
    >>> steps(torch.zeros(8, 2)).shape, steps(torch.zeros(3, 2)).shape
    (torch.Size([8, 1]), torch.Size([3, 1]))
    >>> steps.shape
    torch.Size([8, 2])
    """

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__()
        self.module = module
        self.shape = torch.Size([0])
        # Of a function: a compiled module would list the parameters again.
        self.compiled = torch.compile(
            lambda *inputs: module(*inputs), **options
        )

    def forward(self, inputs: torch.Tensor, *others: Any, **named: Any) -> Any:
        """What the module makes of inputs ``[batch, ...]``."""
        if not self.training or named:
            return self.module(inputs, *others, **named)
        if len(inputs) > self.shape[0]:
            self.shape = inputs.shape
        whole = inputs.shape == self.shape
        return (self.compiled if whole else self.module)(inputs, *others)


def compile_steps(
    modules: nn.ModuleDict, names: Iterable[str], **options: Any
) -> None:
    """Puts modules of a Brain, by their names, into :class:`CompiledSteps`."""
    for name in names:
        if name not in modules:
            raise ValueError(
                f"compile_module_keys: {name} is none of the modules, which are"
                f" {', '.join(modules)}"
            )
        if not isinstance(modules[name], CompiledSteps):
            modules[name] = CompiledSteps(modules[name], **options)
