"""What violating a margin costs.

The losses of this package are called by recipes in one way, whatever they use
of it: ``loss(logits, cosines, embeddings, targets, quality=None)``. Margins
enter the training loss only; predictions are made from the plain logits.
:class:`MarginCost` makes any of them the ``compute_cost`` of a recipe of
SpeechBrain.

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.nnet.losses.angular import (
    AngularMarginLoss,
    CosineMarginLoss,
    MarginLoss,
    add_angle,
    angular_margin_cross_entropy,
)
from qlung_plugin.nnet.losses.cost import MarginCost
from qlung_plugin.nnet.losses.cross_entropy import (
    CrossEntropyLoss,
    FocalLoss,
    MarginRegularizedLoss,
    WeightedCrossEntropyLoss,
)
from qlung_plugin.nnet.losses.norm import AdaFaceLoss, MagFaceLoss

__all__ = [
    "AdaFaceLoss",
    "AngularMarginLoss",
    "CosineMarginLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "MagFaceLoss",
    "MarginCost",
    "MarginLoss",
    "MarginRegularizedLoss",
    "WeightedCrossEntropyLoss",
    "add_angle",
    "angular_margin_cross_entropy",
]
