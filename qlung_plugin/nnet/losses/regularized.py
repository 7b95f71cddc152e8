"""Cross entropy on the logits, regularised by a margin loss on the cosines.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn

from qlung_plugin.nnet.losses.cross_entropy import cross_entropy
from qlung_plugin.nnet.parts import ObjectivePart


class MarginRegularizedLoss(ObjectivePart):
    """Cross entropy plus a weighted margin loss: QLung's objective.

    Arguments
    ---------
    margin_loss : torch.nn.Module
        A loss with the interface of this package, such as
        :class:`qlung_plugin.nnet.losses.AngularMarginLoss`.
    weight : float
        Weight of the margin loss, the paper's lambda.

    Example
    -------
    >>> from qlung_plugin.nnet.losses import AngularMarginLoss
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> loss = MarginRegularizedLoss(AngularMarginLoss(FixedMargin(0.0)), 0.5)
    >>> cosines = torch.zeros(1, 4)
    >>> loss(37 * cosines, cosines, None, torch.tensor([2]))
    tensor(2.0794)
    """

    yaml_values = {"margin_loss": "!new:AngularMarginLoss"}

    def __init__(self, margin_loss: nn.Module, weight: float = 0.4) -> None:
        super().__init__()
        self.margin_loss = margin_loss
        self.weight = weight

    def forward(
        self,
        logits: torch.Tensor,
        cosines: torch.Tensor,
        embeddings: torch.Tensor | None,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss, a scalar; arguments as for the margin loss."""
        margin_loss = self.margin_loss(
            logits, cosines, embeddings, targets, quality
        )
        return cross_entropy(logits, targets) + self.weight * margin_loss
