"""Margin losses that take the embedding's norm for a sign of quality.

Authors
 * qlung_plugin contributors
"""

import math

import torch

from qlung_plugin.nnet.losses.angular import (
    AngularMarginLoss,
    MarginLoss,
    add_angle,
)
from qlung_plugin.nnet.margins.base import Margin
from qlung_plugin.nnet.margins.norm import embedding_norms
from qlung_plugin.nnet.parts import sum_over_processes


class AdaFaceLoss(MarginLoss):
    """The kind of margin follows the embedding's norm: AdaFace.

    ``cos(theta_y - m * z) - (m * z + m)``, where ``z`` is the norm, standardised
    by running statistics, times ``concentration``, clipped to [-1, 1]: a large
    norm (taken for good quality) moves the margin from the angle to the cosine,
    which weighs hard samples more. No gradient flows through ``z``. Source: M.
    Kim et al., "AdaFace: quality adaptive margin for face recognition", CVPR
    2022 (https://arxiv.org/abs/2204.00964), equations 13 to 15.

    Two things differ from the authors' code: the running statistics start with
    those of the first batch instead of 20 and 100, which are of faces; and an
    angle beyond pi or below 0 goes on monotonically (see
    :func:`~qlung_plugin.nnet.losses.angular_margin_cross_entropy`) instead of
    being clipped, which has no gradient. In a distributed training the
    statistics are of the batch of all processes.

    Arguments
    ---------
    margin : qlung_plugin.nnet.margins.Margin
        The paper's ``m``, 0.4 for every sample there.
    scale : float
        Factor of the cosines, 64 in the paper.
    concentration : float
        The paper's ``h``: factor of the standardised norm.
    momentum : float
        Share of a batch in the running statistics.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> loss = AdaFaceLoss(FixedMargin(0.4), scale=10.0)
    >>> embeddings = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    >>> cosines = torch.tensor([[0.5, 0.1], [0.1, 0.5]])
    >>> loss(None, cosines, embeddings, torch.tensor([0, 1]))
    tensor(0.6931)
    """

    yaml_values = {"margin": {"!new:FixedMargin": {"margin": 0.4}}}
    not_in_speechbrain = (
        "it needs the embeddings, which a recipe does not give its cost"
    )

    norm_mean: torch.Tensor
    norm_std: torch.Tensor

    def __init__(
        self,
        margin: Margin,
        scale: float = 64.0,
        concentration: float = 0.333,
        momentum: float = 0.01,
    ) -> None:
        super().__init__(margin, scale)
        self.concentration, self.momentum = concentration, momentum
        # NaN until there was a batch.
        self.register_buffer("norm_mean", torch.tensor(math.nan))
        self.register_buffer("norm_std", torch.tensor(math.nan))

    def target_cosine(
        self,
        cosines: torch.Tensor,
        margins: torch.Tensor,
        embeddings: torch.Tensor | None,
    ) -> torch.Tensor:
        """``cos(theta_y - m * z) - (m * z + m)``, ``[batch]``."""
        norms = embedding_norms(embeddings, 0.001, 100.0).detach()
        if self.training:
            self.update(norms)
        deviation = (norms - self.norm_mean) / (self.norm_std + 1e-3)
        # Without a batch of two there is nothing to compare a norm with.
        deviation = deviation.nan_to_num(nan=0.0)
        shares = (self.concentration * deviation).clamp(-1, 1).to(cosines)
        shifts = margins * shares
        return add_angle(cosines, -shifts) - (shifts + margins)

    @torch.no_grad()
    def update(self, norms: torch.Tensor) -> None:
        """Takes the norms of a batch, ``[batch]``, into the statistics."""
        sums = torch.stack([norms.sum(), norms.new_tensor(len(norms))])
        total, count = sum_over_processes(sums)
        mean = total / count
        squares = sum_over_processes((norms - mean).square().sum())
        std = (squares / (count - 1)).sqrt()
        for running, batch in ((self.norm_mean, mean), (self.norm_std, std)):
            batch = batch.to(running)
            previous = torch.where(running.isnan(), batch, running)
            updated = previous.lerp(batch, self.momentum)
            # One sample has no deviation: then the statistics stay.
            running.copy_(torch.where(count > 1, updated, running))


class MagFaceLoss(AngularMarginLoss):
    """An angular margin from the embedding's norm, which is held against.

    Angular-margin cross entropy plus ``norm_weight * (1 / a + a /
    upper_norm**2)``, ``a`` the norm clamped to its bounds: large norms are
    rewarded, and easy samples pay least for them. Source: Q. Meng et al.,
    "MagFace: a universal representation for face recognition and quality
    assessment", CVPR 2021 (https://arxiv.org/abs/2103.06627), equations 3 to 5.

    Arguments
    ---------
    margin : qlung_plugin.nnet.margins.Margin
        :class:`qlung_plugin.nnet.margins.MagFaceMargin`, or a schedule of it.
    scale : float
        Factor of the cosines, 64 in the paper.
    norm_weight : float
        Weight of the regulariser, the paper's ``lambda_g``.
    lower_norm : float
        Smallest norm that is told apart, as in the margin.
    upper_norm : float
        Largest norm that is told apart, as in the margin.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import MagFaceMargin
    >>> loss = MagFaceLoss(MagFaceMargin(), scale=10.0)
    >>> embeddings = torch.tensor([[0.0, 110.0]])
    >>> loss(None, torch.tensor([[0.1, 0.9]]), embeddings, torch.tensor([1]))
    tensor(0.7472)
    """

    yaml_values = {"margin": "!new:MagFaceMargin"}
    not_in_speechbrain = (
        "it needs the embeddings, which a recipe does not give its cost"
    )

    def __init__(
        self,
        margin: Margin,
        scale: float = 64.0,
        norm_weight: float = 35.0,
        lower_norm: float = 10.0,
        upper_norm: float = 110.0,
    ) -> None:
        super().__init__(margin, scale)
        self.norm_weight = norm_weight
        self.lower_norm, self.upper_norm = lower_norm, upper_norm

    def forward(
        self,
        logits: torch.Tensor | None,
        cosines: torch.Tensor,
        embeddings: torch.Tensor | None,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss, a scalar; arguments as for every margin loss."""
        loss = super().forward(logits, cosines, embeddings, targets, quality)
        norms = embedding_norms(embeddings, self.lower_norm, self.upper_norm)
        penalty = 1 / norms + norms / self.upper_norm**2
        return loss + self.norm_weight * penalty.mean()
