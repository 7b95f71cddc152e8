"""Networks that are only applied: batch normalisation folded away.

Authors
 * qlung_plugin contributors
"""

import copy
from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """The same function without batch norms that follow a convolution.

    In evaluation mode both are linear: one convolution does for the two, and a
    pass over the largest maps is saved. It is a copy in evaluation mode, equal
    but for rounding, of a network that is left as it is; or the network itself if
    there is nothing to fold. Folded is each ``Conv2d`` with the ``BatchNorm2d``
    right behind it in an ``nn.Sequential``.

    Example
    -------
    >>> import torch
    >>> network = nn.Sequential(
    ...     nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
    ... )
    >>> _ = network(torch.randn(8, 1, 16, 16))  # the statistics
    >>> folded = fold_batch_norms(network.eval())
    >>> folded[1]
    Identity()
    >>> images = torch.randn(2, 1, 16, 16)
    >>> torch.allclose(folded(images), network(images), atol=1e-6)
    True
    """
    if next(_pairs(network), None) is None:
        return network
    network = copy.deepcopy(network).eval()
    for chain, i, convolution, norm in list(_pairs(network)):
        dtype = convolution.weight.dtype
        # Rounded once, results are hardly further from the exact ones than
        # those of the network itself; rounded at each step, twice as far.
        folded = fuse_conv_bn_eval(convolution.double(), norm.double())
        chain[i], chain[i + 1] = folded.to(dtype), nn.Identity()
    return network


def _pairs(
    network: nn.Module,
) -> Iterator[tuple[nn.Sequential, int, nn.Conv2d, nn.BatchNorm2d]]:
    """Each foldable pair, with the Sequential that it is in and where."""
    for chain in network.modules():
        if isinstance(chain, nn.Sequential):
            for i, (first, second) in enumerate(pairwise(chain)):
                # Not subclasses, which may do more.
                if (
                    type(first) is nn.Conv2d
                    and type(second) is nn.BatchNorm2d
                    and second.running_mean is not None
                ):
                    yield chain, i, first, second
