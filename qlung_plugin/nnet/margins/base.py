"""What is common to margins, the constant one, and their sum.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence

import torch
from torch import nn

from qlung_plugin.nnet.parts import ObjectivePart


class Margin(ObjectivePart):
    """Base class of the margins.

    A subclass overrides ``forward(targets, quality=None, embeddings=None)``,
    which returns one margin per sample, ``[batch]``; and ``fit`` where it
    depends on the class counts.
    """


class FixedMargin(Margin):
    """The same margin for every sample, as in ArcFace.

    Arguments
    ---------
    margin : float
        In radians.

    Example
    -------
    >>> FixedMargin(0.2)(torch.tensor([0, 3]))
    tensor([0.2000, 0.2000])
    """

    yaml_values = {"margin": 0.2}

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Margins, ``[batch]``; only the shape of ``targets`` matters."""
        return torch.full(
            targets.shape, float(self.margin), device=targets.device
        )


class WeightedMargin(Margin):
    """A weighted sum of margins.

    QLung's composite margin is ``0.5 * QualityMargin + 0.5 *
    ClassImbalanceMargin``.

    Arguments
    ---------
    margins : list of Margin
        The margins to sum.
    weights : list of float
        One weight per margin.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import (
    ...     ClassImbalanceMargin,
    ...     QualityMargin,
    ... )
    >>> margin = WeightedMargin(
    ...     [QualityMargin(0.5), ClassImbalanceMargin([6, 2], num_classes=2)],
    ...     [0.5, 0.5],
    ... )
    >>> margin(torch.tensor([0, 1]), quality=torch.tensor([1.0, 0.0]))
    tensor([0.2915, 0.2000])
    """

    yaml_values = {
        "margins": ["!new:QualityMargin", "!new:ClassImbalanceMargin"],
        "weights": [0.5, 0.5],
    }

    def __init__(
        self, margins: Sequence[Margin], weights: Sequence[float]
    ) -> None:
        super().__init__()
        if len(margins) != len(weights):
            raise ValueError(
                f"{len(margins)} margins cannot have {len(weights)} weights"
            )
        self.margins = nn.ModuleList(margins)
        self.weights = tuple(weights)

    def forward(
        self,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Margins, ``[batch]``, in radians; the arguments go to each margin."""
        return sum(
            weight * margin(targets, quality, embeddings)
            for weight, margin in zip(self.weights, self.margins)
        )
