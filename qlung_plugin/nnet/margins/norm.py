"""Margins that follow the norm of the embedding.

Authors
 * qlung_plugin contributors
"""

import torch

from qlung_plugin.nnet.margins.base import Margin


class MagFaceMargin(Margin):
    """A margin that grows linearly with the norm of the embedding.

    ``m(a) = lower_margin + (upper_margin - lower_margin) * (a - lower_norm) /
    (upper_norm - lower_norm)``, the norm ``a`` clamped to its bounds. Gradients
    flow through it into the norm, which MagFace's regulariser holds against:
    see :class:`qlung_plugin.nnet.losses.MagFaceLoss`. Source: Q. Meng et al.,
    "MagFace: a universal representation for face recognition and quality
    assessment", CVPR 2021 (https://arxiv.org/abs/2103.06627), section 3.2; the
    defaults are the paper's, for embeddings of faces. Look at the norms of your
    backbone: outside the bounds the margin is constant.

    Arguments
    ---------
    lower_margin : float
        Margin at ``lower_norm`` and below, in radians.
    upper_margin : float
        Margin at ``upper_norm`` and above, in radians.
    lower_norm : float
        Smallest norm that is told apart.
    upper_norm : float
        Largest norm that is told apart.

    Raises
    ------
    ValueError
        If the bounds of the norm are not ``0 < lower_norm < upper_norm``.

    Example
    -------
    >>> embeddings = torch.tensor([[3.0, 4.0], [60.0, 0.0], [0.0, 200.0]])
    >>> MagFaceMargin()(torch.tensor([0, 1, 2]), embeddings=embeddings)
    tensor([0.4500, 0.6250, 0.8000])
    """

    not_in_speechbrain = (
        "it needs the embeddings, which a recipe does not give its cost"
    )

    def __init__(
        self,
        lower_margin: float = 0.45,
        upper_margin: float = 0.8,
        lower_norm: float = 10.0,
        upper_norm: float = 110.0,
    ) -> None:
        super().__init__()
        if not 0 < lower_norm < upper_norm:
            raise ValueError(
                "0 < lower_norm < upper_norm is needed, not"
                f" {lower_norm} and {upper_norm}"
            )
        self.lower_margin, self.upper_margin = lower_margin, upper_margin
        self.lower_norm, self.upper_norm = lower_norm, upper_norm

    def forward(
        self,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Margins of a batch.

        Arguments
        ---------
        targets : torch.Tensor
            Not used.
        quality : torch.Tensor, optional
            Not used.
        embeddings : torch.Tensor
            ``[batch, dim]``.

        Returns
        -------
        torch.Tensor
            ``[batch]``, in radians, at least float32.
        """
        norms = embedding_norms(embeddings, self.lower_norm, self.upper_norm)
        position = (norms - self.lower_norm) / (
            self.upper_norm - self.lower_norm
        )
        return self.lower_margin + position * (
            self.upper_margin - self.lower_margin
        )


def embedding_norms(
    embeddings: torch.Tensor | None, lowest: float, highest: float
) -> torch.Tensor:
    """Euclidean norms of embeddings ``[batch, dim]``, clamped, ``[batch]``.

    At least float32: half precision overflows at 256. Without embeddings it is a
    ValueError.

    Example
    -------
    >>> embedding_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 0.1, 100.0)
    tensor([5.0000, 0.1000])
    """
    if embeddings is None or embeddings.dim() != 2:
        shape = None if embeddings is None else list(embeddings.shape)
        raise ValueError(f"embeddings must be [batch, dim], not {shape}")
    if embeddings.element_size() < 4:
        embeddings = embeddings.float()
    return embeddings.norm(dim=1).clamp(lowest, highest)
