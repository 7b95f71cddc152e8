"""Classification heads with one interface: logits and cosines.

Authors
 * qlung_plugin contributors
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class ClassifierOutput(NamedTuple):
    """What a classifier returns: both ``[batch, class]``."""

    logits: torch.Tensor
    cosines: torch.Tensor


class Classifier(nn.Module):
    """Base class of the classifiers.

    A subclass turns embeddings ``[batch, dim]`` into a
    :class:`ClassifierOutput`.
    """


class LinearClassifier(Classifier):
    """A linear layer, with the cosines between embeddings and its weights.

    Arguments
    ---------
    input_size : int
        Dimension of the embeddings.
    num_classes : int
        Number of classes.
    layer_norm : bool
        Whether the embeddings are normalised first, as in the head of AST that
        published results on ICBHI use.

    Example
    -------
    >>> output = LinearClassifier(8, 4)(torch.randn(2, 8))
    >>> output.logits.shape, bool((output.cosines.abs() <= 1).all())
    (torch.Size([2, 4]), True)
    """

    def __init__(
        self, input_size: int, num_classes: int, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_size) if layer_norm else nn.Identity()
        self.linear = nn.Linear(input_size, num_classes)

    def forward(self, embeddings: torch.Tensor) -> ClassifierOutput:
        """Logits and cosines of embeddings ``[batch, dim]``."""
        embeddings = self.norm(embeddings)
        return ClassifierOutput(
            self.linear(embeddings),
            cosine_similarity(embeddings, self.linear.weight),
        )


class AngularClassifier(Classifier):
    """Logits that are scaled cosines: ``z_k = scale * cos(theta_k)``.

    Source: Kim et al., "Quality Adaptive Angular Margin Learning for
    Respiratory Sound Classification", Interspeech 2026.

    Arguments
    ---------
    input_size : int
        Dimension of the embeddings.
    num_classes : int
        Number of classes.
    scale : float
        Factor of the cosines.

    Example
    -------
    >>> output = AngularClassifier(8, 4, scale=37.0)(torch.randn(2, 8))
    >>> torch.equal(output.logits, 37.0 * output.cosines)
    True
    """

    def __init__(
        self, input_size: int, num_classes: int, scale: float = 37.0
    ) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, input_size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, embeddings: torch.Tensor) -> ClassifierOutput:
        """Logits and cosines of embeddings ``[batch, dim]``."""
        cosines = cosine_similarity(embeddings, self.weight)
        return ClassifierOutput(self.scale * cosines, cosines)


def cosine_similarity(
    embeddings: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cosine of the angle between every embedding and every class weight.

    Arguments
    ---------
    embeddings : torch.Tensor
        ``[batch, dim]``.
    weights : torch.Tensor
        ``[class, dim]``.

    Returns
    -------
    torch.Tensor
        ``[batch, class]``; at least float32, also inside autocast, because half
        precision rounds cosines by more than a margin can bear. 0 for an
        embedding of 0.

    Example
    -------
    >>> cosine_similarity(torch.tensor([[3.0, 4.0]]), torch.eye(2))
    tensor([[0.6000, 0.8000]])
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        # eps bounds the gradient at 0, where the direction is undefined.
        embeddings = F.normalize(embeddings.to(dtype), dim=-1, eps=1e-6)
        weights = F.normalize(weights.to(dtype), dim=-1, eps=1e-6)
        return F.linear(embeddings, weights)
