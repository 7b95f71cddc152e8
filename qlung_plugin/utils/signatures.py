"""How a module is called.

Authors
 * qlung_plugin contributors
"""

import inspect

from torch import nn


def takes_lengths(module: nn.Module) -> bool:
    """Whether the second thing that a module is called with is lengths."""
    names = list(inspect.signature(module.forward).parameters)
    return len(names) > 1 and "len" in names[1]
