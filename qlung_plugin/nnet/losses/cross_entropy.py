"""Cross entropy on the logits: plain, weighted, focal, with a margin beside.

Authors
 * qlung_plugin contributors
"""

import torch
import torch.nn.functional as F
from torch import nn

from qlung_plugin.nnet.parts import (
    ClassCounts,
    ClassValues,
    ObjectivePart,
    at_least_float32,
    check_targets,
)


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """PyTorch's, in at least float32; a wrong target raises as with a margin."""
    check_targets(targets, logits.shape[1])
    logits = at_least_float32(logits)
    if weights is not None:
        weights = weights.to(logits)
    return F.cross_entropy(logits, targets, weights, reduction=reduction)


class CrossEntropyLoss(ObjectivePart):
    """Cross entropy on the classifier's logits: the baseline.

    Example
    -------
    >>> loss = CrossEntropyLoss()
    >>> loss(torch.zeros(1, 4), None, None, torch.tensor([2]))
    tensor(1.3863)
    """

    def forward(
        self,
        logits: torch.Tensor,
        cosines: torch.Tensor | None,
        embeddings: torch.Tensor | None,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss, a scalar, of logits ``[batch, class]``."""
        return cross_entropy(logits, targets)


class WeightedCrossEntropyLoss(ClassValues):
    """Cross entropy with classes weighted by their inverse frequency.

    A class weighs ``N / (C * n_y)``, so that all classes together weigh the
    same; the mean over a batch is the weighted one, as in PyTorch. This is
    scikit-learn's "balanced", after G. King and L. Zeng, "Logistic regression
    in rare events data", Political Analysis 9(2), 2001.

    Arguments
    ---------
    class_counts : sequence of int or torch.Tensor, optional
        Training samples per class, ``[class]``, to use without ``fit``, which
        replaces them by those of the training set.
    num_classes : int
        Number of classes.

    Raises
    ------
    RuntimeError
        If it is called before the class counts are known.

    Example
    -------
    >>> loss = WeightedCrossEntropyLoss([3, 1], num_classes=2)
    >>> loss.values
    tensor([0.6667, 2.0000])
    >>> loss(torch.zeros(1, 2), None, None, torch.tensor([1]))
    tensor(0.6931)
    """

    def __init__(
        self, class_counts: ClassCounts | None = None, num_classes: int = 4
    ) -> None:
        super().__init__(num_classes, class_counts)

    def values_of(self, counts: torch.Tensor) -> torch.Tensor:
        """Weights ``[class]`` from counts ``[class]``."""
        return counts.sum() / (len(counts) * counts)

    def forward(
        self,
        logits: torch.Tensor,
        cosines: torch.Tensor | None,
        embeddings: torch.Tensor | None,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss, a scalar, of logits ``[batch, class]``."""
        self.check_fitted()
        return cross_entropy(logits, targets, self.values)


class FocalLoss(ObjectivePart):
    """Cross entropy that hardly counts what is classified well already.

    ``-(1 - p_y) ** gamma * log(p_y)``. Source: T.-Y. Lin et al., "Focal loss
    for dense object detection", ICCV 2017 (https://arxiv.org/abs/1708.02002),
    equation 4.

    Arguments
    ---------
    gamma : float
        How fast the weight falls; with 0 this is cross entropy.

    Raises
    ------
    ValueError
        If gamma is negative.

    Example
    -------
    >>> loss = FocalLoss(gamma=2.0)
    >>> loss(torch.zeros(1, 2), None, None, torch.tensor([1]))
    tensor(0.1733)
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must not be negative, but is {gamma}")
        self.gamma = gamma

    def forward(
        self,
        logits: torch.Tensor,
        cosines: torch.Tensor | None,
        embeddings: torch.Tensor | None,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss, a scalar, of logits ``[batch, class]``."""
        log_likelihood = -cross_entropy(logits, targets, reduction="none")
        # 1 - p without cancellation; 0 would make the gradient of the power
        # NaN for gamma < 1.
        tiny = torch.finfo(log_likelihood.dtype).tiny
        missing = (-torch.expm1(log_likelihood)).clamp(min=tiny)
        return -(missing**self.gamma * log_likelihood).mean()


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
