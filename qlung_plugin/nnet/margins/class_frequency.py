"""Margins that follow how rare a class is in the training set.

Authors
 * qlung_plugin contributors
"""

import math

import torch

from qlung_plugin.nnet.margins.base import Margin
from qlung_plugin.nnet.parts import ClassCounts, ClassValues, check_targets


class ClassMargin(ClassValues, Margin):
    """Base class of the margins that depend on the class alone.

    A subclass overrides ``values_of``, from counts to margins, ``[class]``.
    """

    def forward(
        self,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Margins ``[batch]``; a RuntimeError before the counts are known."""
        self.check_fitted()
        check_targets(targets, len(self.values))
        return self.values[targets]


class ClassImbalanceMargin(ClassMargin):
    """A margin that grows with the logarithm of a class's rarity.

    ``m(y) = s * -log(n_y / N)`` with ``s = target_margin / log(C)``: a class
    as frequent as the average gets ``target_margin``, one ``r`` times rarer
    ``s * log(r)`` more. Source: Kim et al., "Quality Adaptive Angular Margin
    Learning for Respiratory Sound Classification", Interspeech 2026.

    Arguments
    ---------
    class_counts : sequence of int or torch.Tensor, optional
        Training samples per class, ``[class]``, to use without :meth:`fit`,
        which replaces them by those of the training set.
    target_margin : float
        Margin of a class in a uniform training set, in radians.
    num_classes : int
        Number of classes.

    Example
    -------
    >>> margin = ClassImbalanceMargin([2063, 1215, 501, 363])
    >>> margin(torch.tensor([0, 1, 2, 3]))
    tensor([0.1006, 0.1769, 0.3047, 0.3512])
    """

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        target_margin: float = 0.2,
        num_classes: int = 4,
    ) -> None:
        self.target_margin = target_margin
        super().__init__(num_classes, class_counts)

    def values_of(self, counts: torch.Tensor) -> torch.Tensor:
        """Margins ``[class]`` from counts ``[class]``."""
        scale = self.target_margin / math.log(len(counts))
        return -scale * (counts / counts.sum()).log()


class LDAMMargin(ClassMargin):
    """The label-distribution-aware margin: ``m(y) = c / n_y ** (1 / 4)``.

    ``c`` is such that the rarest class gets ``max_margin``. It was proposed as
    a margin on the cosine, at a scale of 30: use it with
    :class:`qlung_plugin.nnet.losses.CosineMarginLoss`. Source: K. Cao et al.,
    "Learning imbalanced datasets with label-distribution-aware margin loss",
    NeurIPS 2019 (https://arxiv.org/abs/1906.07413), equation 13. Its deferred
    re-weighting is not part of the margin.

    Arguments
    ---------
    class_counts : sequence of int or torch.Tensor, optional
        Training samples per class, ``[class]``, to use without :meth:`fit`,
        which replaces them by those of the training set.
    max_margin : float
        Margin of the rarest class.
    num_classes : int
        Number of classes.

    Example
    -------
    >>> margin = LDAMMargin([1600, 16, 1, 81])
    >>> margin(torch.tensor([0, 1, 2, 3]))
    tensor([0.0791, 0.2500, 0.5000, 0.1667])
    """

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        max_margin: float = 0.5,
        num_classes: int = 4,
    ) -> None:
        self.max_margin = max_margin
        super().__init__(num_classes, class_counts)

    def values_of(self, counts: torch.Tensor) -> torch.Tensor:
        """Margins ``[class]`` from counts ``[class]``."""
        return self.max_margin * (counts.min() / counts) ** 0.25
