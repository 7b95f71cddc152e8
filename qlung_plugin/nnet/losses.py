"""What violating a margin costs.

The losses of this module are called by recipes in one way, whatever they use
of it: ``loss(logits, cosines, embeddings, targets, quality=None)``. Margins
enter the training loss only; predictions are made from the plain logits.

Authors
 * qlung_plugin contributors
"""

import torch
import torch.nn.functional as F
from torch import nn

from qlung_plugin.nnet.margins import check_targets


def angular_margin_cross_entropy(
    cosines, targets, margins, scale, reduction="mean", cosine_margins=None
):
    """Cross entropy of scaled cosines with a margin of its own per sample.

    The target's cosine ``cos(theta)`` becomes ``cos(theta + m) - c``, the
    others stay: ``loss = -log softmax(scale * [..., cos(theta_y + m) - c,
    ...])_y``.

    ``cos(theta + m)`` would rise again once ``theta + m`` leaves [0, pi]. There
    it continues as ``cos(theta)`` minus a constant, so that a larger angle
    never costs less: beyond pi the constant is ``m sin(m)``, as in ArcFace and
    SpeechBrain, and at least what keeps the step downwards; below 0 (negative
    margins) it is ``cos(m) - 1``, which makes it continuous.

    Source: J. Deng et al., "ArcFace: additive angular margin loss for deep face
    recognition", CVPR 2019, with ``m`` per sample as in Kim et al., "Quality
    Adaptive Angular Margin Learning for Respiratory Sound Classification",
    Interspeech 2026.

    Arguments
    ---------
    cosines : torch.Tensor
        Cosines between embeddings and class weights, ``[batch, class]``.
    targets : torch.Tensor
        Class indices, ``[batch]``.
    margins : torch.Tensor or float
        Margins on the angle, ``[batch]``, in radians, in [-pi, pi].
    scale : float
        Factor of the cosines, the inverse of a temperature.
    reduction : str
        ``mean``, ``sum`` or ``none``.
    cosine_margins : torch.Tensor or float, optional
        Margins subtracted from the target's cosine, ``[batch]``.

    Returns
    -------
    torch.Tensor
        The loss, a scalar or ``[batch]``; at least float32, also inside
        autocast.

    Raises
    ------
    ValueError
        If a shape is wrong; on the CPU, if a target is no class.

    Example
    -------
    >>> cosines = torch.tensor([[0.9, 0.1], [0.3, 0.2]])
    >>> targets = torch.tensor([0, 1])
    >>> plain = angular_margin_cross_entropy(cosines, targets, 0.0, 10.0)
    >>> torch.allclose(plain, F.cross_entropy(10 * cosines, targets))
    True
    >>> bool(angular_margin_cross_entropy(cosines, targets, 0.2, 10.0) > plain)
    True
    """
    if cosines.dim() != 2 or targets.shape != cosines.shape[:1]:
        raise ValueError(
            "cosines must be [batch, class] and targets [batch], not"
            f" {list(cosines.shape)} and {list(targets.shape)}"
        )
    check_targets(targets, cosines.shape[1])
    cosines = _at_least_float32(cosines)
    index = targets.unsqueeze(1)
    target_cosines = _add_angle(
        cosines.gather(1, index),
        _per_sample("margins", margins, cosines),
    )
    if cosine_margins is not None:
        target_cosines = target_cosines - _per_sample(
            "cosine_margins", cosine_margins, cosines
        )
    logits = scale * cosines.scatter(1, index, target_cosines)
    return F.cross_entropy(logits, targets, reduction=reduction)


def _at_least_float32(tensor):
    # Half precision rounds cosines near 1 to 1. Autocast lowers nothing of what
    # follows: it casts the inputs of matrix products, and there are none.
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _per_sample(name, value, cosines):
    """A number or a tensor ``[batch]`` as ``[batch, 1]``."""
    if not torch.is_tensor(value):
        return cosines.new_full((len(cosines), 1), value)
    if value.shape != cosines.shape[:1]:
        raise ValueError(
            f"{name} must be [{len(cosines)}], not {list(value.shape)}"
        )
    return value.to(cosines).unsqueeze(1)


def _add_angle(cosine, margin):
    """``cos(arccos(cosine) + margin)``, monotonic in both, without arccos."""
    cos_margin, sin_margin = margin.cos(), margin.sin()
    # The root's gradient is infinite at 0. So the sine is constant beyond the
    # cosine next to 1 in this precision (5e-4 rad in float32), which is where
    # SpeechBrain's AdditiveAngularMargin stops too.
    least = 2 * torch.finfo(cosine.dtype).eps
    squared = (1 - cosine) * (1 + cosine)
    bounded = squared.clamp(min=least)
    shifted = cosine * cos_margin - bounded.sqrt() * sin_margin
    # theta + m >= pi where -cos(theta) >= cos(m), theta + m <= 0 where
    # cos(theta) >= cos(m); at a margin of 0 both branches are the cosine.
    positive = margin > 0
    towards = cosine.detach()
    towards = torch.where(positive, -towards, towards)
    outside = towards >= cos_margin
    # At the other end, where the sine is constant, the slope is cos(m) alone:
    # if that is negative, the cosine less a step takes over there too.
    held = (bounded > squared) & (cos_margin < -cos_margin) & ~outside
    versine = 1 - cos_margin
    step = torch.maximum(margin * sin_margin, versine)
    step = torch.where(held, versine, step)
    step = torch.where(positive, step, -versine)
    return torch.where(outside | held, cosine - step, shifted)


def _cross_entropy(logits, targets):
    """Cross entropy, a scalar; a wrong target raises as with a margin."""
    check_targets(targets, logits.shape[1])
    return F.cross_entropy(_at_least_float32(logits), targets)


class CrossEntropyLoss(nn.Module):
    """Cross entropy on the classifier's logits: the baseline.

    Example
    -------
    >>> loss = CrossEntropyLoss()
    >>> loss(torch.zeros(1, 4), None, None, torch.tensor([2]))
    tensor(1.3863)
    """

    def fit(self, class_counts):
        """Learns nothing; see :class:`qlung_plugin.nnet.margins.Margin`."""

    def forward(self, logits, cosines, embeddings, targets, quality=None):
        """The loss, a scalar, of logits ``[batch, class]``."""
        return _cross_entropy(logits, targets)


class AngularMarginLoss(nn.Module):
    """Angular-margin cross entropy on the classifier's cosines.

    Arguments
    ---------
    margin : qlung_plugin.nnet.margins.Margin
        The margin of each sample.
    scale : float
        Factor of the cosines.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> loss = AngularMarginLoss(FixedMargin(0.0), scale=15.0)
    >>> loss(None, torch.zeros(1, 4), None, torch.tensor([2]))
    tensor(1.3863)
    """

    def __init__(self, margin, scale=15.0):
        super().__init__()
        self.margin = margin
        self.scale = scale

    def fit(self, class_counts):
        """Passes the class counts on to the margin."""
        self.margin.fit(class_counts)

    def forward(self, logits, cosines, embeddings, targets, quality=None):
        """The loss of a batch.

        Arguments
        ---------
        logits : torch.Tensor
            Not used.
        cosines : torch.Tensor
            ``[batch, class]``.
        embeddings : torch.Tensor
            ``[batch, dim]``, for margins that depend on them.
        targets : torch.Tensor
            Class indices, ``[batch]``.
        quality : torch.Tensor, optional
            ``[batch]`` in [0, 1], for margins that depend on it.

        Returns
        -------
        torch.Tensor
            A scalar.
        """
        margins = self.margin(targets, quality, embeddings)
        return angular_margin_cross_entropy(
            cosines, targets, margins, self.scale
        )


class MarginRegularizedLoss(nn.Module):
    """Cross entropy plus a weighted margin loss: QLung's objective.

    Arguments
    ---------
    margin_loss : nn.Module
        A loss of this module, such as :class:`AngularMarginLoss`.
    weight : float
        Weight of the margin loss, the paper's lambda.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> loss = MarginRegularizedLoss(AngularMarginLoss(FixedMargin(0.0)), 0.5)
    >>> cosines = torch.zeros(1, 4)
    >>> loss(37 * cosines, cosines, None, torch.tensor([2]))
    tensor(2.0794)
    """

    def __init__(self, margin_loss, weight=0.4):
        super().__init__()
        self.margin_loss = margin_loss
        self.weight = weight

    def fit(self, class_counts):
        """Passes the class counts on to the margin loss."""
        self.margin_loss.fit(class_counts)

    def forward(self, logits, cosines, embeddings, targets, quality=None):
        """The loss, a scalar; see :class:`AngularMarginLoss`."""
        margin_loss = self.margin_loss(
            logits, cosines, embeddings, targets, quality
        )
        cross_entropy = _cross_entropy(logits, targets)
        return cross_entropy + self.weight * margin_loss
