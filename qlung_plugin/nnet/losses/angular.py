"""Cross entropy with a margin on the target's angle or cosine.

Authors
 * qlung_plugin contributors
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F

from qlung_plugin.nnet.margins.base import Margin
from qlung_plugin.nnet.parts import (
    ObjectivePart,
    at_least_float32,
    check_targets,
)


def angular_margin_cross_entropy(
    cosines: torch.Tensor,
    targets: torch.Tensor,
    margins: torch.Tensor | float,
    scale: float,
    reduction: str = "mean",
    cosine_margins: torch.Tensor | float | None = None,
) -> torch.Tensor:
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
    cosines = _checked(cosines, targets)
    target_cosines = add_angle(
        _of_targets(cosines, targets),
        _per_sample("margins", margins, cosines),
    )
    if cosine_margins is not None:
        target_cosines = target_cosines - _per_sample(
            "cosine_margins", cosine_margins, cosines
        )
    logits = _scaled(cosines, target_cosines, targets, scale)
    return F.cross_entropy(logits, targets, reduction=reduction)


def _scaled(
    cosines: torch.Tensor,
    target_cosines: torch.Tensor,
    targets: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """The scaled cosines, those of the targets replaced, ``[batch, class]``."""
    return scale * cosines.scatter(
        1, targets.unsqueeze(1), target_cosines.unsqueeze(1)
    )


def _of_targets(cosines: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cosines.gather(1, targets.unsqueeze(1)).squeeze(1)


def _checked(cosines: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The cosines in at least float32, if they and the targets are sound."""
    if cosines.dim() != 2 or targets.shape != cosines.shape[:1]:
        raise ValueError(
            "cosines must be [batch, class] and targets [batch], not"
            f" {list(cosines.shape)} and {list(targets.shape)}"
        )
    check_targets(targets, cosines.shape[1])
    return at_least_float32(cosines)


def _per_sample(
    name: str, value: torch.Tensor | float, cosines: torch.Tensor
) -> torch.Tensor:
    """A number or a tensor ``[batch]`` as ``[batch]`` in the cosines' type."""
    if not isinstance(value, torch.Tensor):
        return cosines.new_full((len(cosines),), value)
    if value.shape != cosines.shape[:1]:
        raise ValueError(
            f"{name} must be [{len(cosines)}], not {list(value.shape)}"
        )
    return value.to(cosines)


def add_angle(cosine: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """``cos(arccos(cosine) + margin)``, monotonic in both, without arccos.

    Of cosines, at least float32, and margins in [-pi, pi], ``[batch]`` each. How
    it goes on beyond pi and below 0 is told in
    :func:`angular_margin_cross_entropy`.

    Example
    -------
    >>> import math
    >>> add_angle(torch.tensor([0.5]), torch.tensor([math.pi / 3]))
    tensor([-0.5000])
    """
    cos_margin, sin_margin = margin.cos(), margin.sin()
    # The root's gradient is infinite at 0. So the sine is constant beyond the
    # cosine next to 1 in this precision (5e-4 rad in float32), which is where
    # SpeechBrain's AdditiveAngularMargin stops too.
    least = 2 * torch.finfo(cosine.dtype).eps
    squared = (1 - cosine) * (1 + cosine)
    bounded = squared.clamp(min=least)
    shifted = torch.addcmul(
        cosine * cos_margin, bounded.sqrt(), sin_margin, value=-1
    )
    # theta + m >= pi where -cos(theta) >= cos(m), theta + m <= 0 where
    # cos(theta) >= cos(m); at a margin of 0 both branches are the cosine.
    positive = margin > 0
    towards = cosine.detach()
    towards = torch.where(positive, -towards, towards)
    outside = towards >= cos_margin
    # At the other end, where the sine is constant, the slope is cos(m) alone:
    # if that is negative, the cosine less a step takes over there too.
    held = (bounded > squared) & (cos_margin < 0)
    versine = 1 - cos_margin
    step = torch.maximum(margin * sin_margin, versine)
    step = torch.where(outside, step, versine)
    step = torch.where(positive, step, -versine)
    return torch.where(outside | held, cosine - step, shifted)


class MarginLoss(ObjectivePart, ABC):
    """Base class of the margin losses: one method says what is different.

    Arguments
    ---------
    margin : qlung_plugin.nnet.margins.Margin
        The margin of each sample.
    scale : float
        Factor of the cosines.

    Example
    -------
    >>> class HalvingLoss(MarginLoss):
    ...     def target_cosine(self, cosines, margins, embeddings):
    ...         return cosines / (1 + margins)
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> loss = HalvingLoss(FixedMargin(1.0), scale=10.0)
    >>> loss(None, torch.tensor([[0.2, 0.1]]), None, torch.tensor([0]))
    tensor(0.6931)
    """

    def __init__(self, margin: Margin, scale: float = 15.0) -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale

    @abstractmethod
    def target_cosine(
        self,
        cosines: torch.Tensor,
        margins: torch.Tensor,
        embeddings: torch.Tensor | None,
    ) -> torch.Tensor:
        """What replaces the cosines of the targets, to be overridden.

        Of these, ``[batch]``, at least float32, their margins, ``[batch]``, and
        the embeddings, ``[batch, dim]``.
        """

    def forward(
        self,
        logits: torch.Tensor | None,
        cosines: torch.Tensor,
        embeddings: torch.Tensor | None,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
    ) -> torch.Tensor:
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
        logits = self.margin_logits(cosines, targets, quality, embeddings)
        return F.cross_entropy(logits, targets)

    def margin_logits(
        self,
        cosines: torch.Tensor,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The scaled cosines, with the margin on those of the targets.

        Their cross entropy is the loss. As what SpeechBrain's
        ``AdditiveAngularMargin`` returns, they are for the training alone.
        """
        cosines = _checked(cosines, targets)
        margins = self.margin(targets, quality, embeddings)
        target_cosines = self.target_cosine(
            _of_targets(cosines, targets),
            _per_sample("margins", margins, cosines),
            embeddings,
        )
        return _scaled(cosines, target_cosines, targets, self.scale)


class AngularMarginLoss(MarginLoss):
    """The margin is added to the angle: ``cos(theta_y + m)``.

    With :class:`~qlung_plugin.nnet.margins.FixedMargin` this is ArcFace (J.
    Deng et al., "ArcFace: additive angular margin loss for deep face
    recognition", CVPR 2019), with QLung's composite margin the paper's DFAM
    loss.

    Arguments
    ---------
    margin : qlung_plugin.nnet.margins.Margin
        The margin of each sample, in radians.
    scale : float
        Factor of the cosines.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> loss = AngularMarginLoss(FixedMargin(0.0), scale=15.0)
    >>> loss(None, torch.zeros(1, 4), None, torch.tensor([2]))
    tensor(1.3863)
    """

    yaml_values = {"margin": "!new:WeightedMargin"}

    def target_cosine(
        self,
        cosines: torch.Tensor,
        margins: torch.Tensor,
        embeddings: torch.Tensor | None,
    ) -> torch.Tensor:
        """``cos(theta_y + m)``, ``[batch]``; see :func:`add_angle`."""
        return add_angle(cosines, margins)


class CosineMarginLoss(MarginLoss):
    """The margin is subtracted from the cosine: ``cos(theta_y) - m``.

    With a :class:`~qlung_plugin.nnet.margins.FixedMargin` this is CosFace (H.
    Wang et al., "CosFace: large margin cosine loss for deep face recognition",
    CVPR 2018, https://arxiv.org/abs/1801.09414, equation 4; a margin of 0.35 at
    a scale of 64 there), with an
    :class:`~qlung_plugin.nnet.margins.LDAMMargin` the LDAM loss.

    Arguments
    ---------
    margin : qlung_plugin.nnet.margins.Margin
        The margin of each sample, here without a unit.
    scale : float
        Factor of the cosines.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> loss = CosineMarginLoss(FixedMargin(0.35), scale=10.0)
    >>> loss(None, torch.tensor([[0.5, 0.15]]), None, torch.tensor([0]))
    tensor(0.6931)
    """

    yaml_values = {"margin": {"!new:FixedMargin": {"margin": 0.35}}}

    def target_cosine(
        self,
        cosines: torch.Tensor,
        margins: torch.Tensor,
        embeddings: torch.Tensor | None,
    ) -> torch.Tensor:
        """``cos(theta_y) - m``, ``[batch]``."""
        return cosines - margins
