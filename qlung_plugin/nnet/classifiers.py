"""Classification heads with one interface: logits and cosines.

Authors
 * qlung_plugin contributors
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class ClassifierOutput(NamedTuple):
    """What a classifier returns: both ``[batch, class]``."""

    logits: torch.Tensor
    cosines: torch.Tensor


class Classifier(nn.Module):
    """Base class of the classifiers.

    A subclass turns embeddings ``[batch, dim]`` into what :meth:`output` makes
    of logits and cosines. Embeddings ``[batch, 1, dim]``, as of SpeechBrain's
    models, make ``[batch, 1, class]``.

    Arguments
    ---------
    return_cosines : bool
        Whether to return both, as a :class:`ClassifierOutput`, which margins in
        the recipes of this package need; or the logits alone, as a recipe of
        SpeechBrain takes them.
    """

    speechbrain_values: dict[str, object] = {"return_cosines": False}

    def __init__(self, return_cosines: bool = True) -> None:
        super().__init__()
        self.return_cosines = return_cosines

    def output(
        self, logits: torch.Tensor, cosines: torch.Tensor
    ) -> ClassifierOutput | torch.Tensor:
        """Both, or the logits alone, as asked for."""
        if self.return_cosines:
            return ClassifierOutput(logits, cosines)
        return logits


def logits_and_cosines(output: object) -> ClassifierOutput:
    """What a classifier has returned, of this package or of SpeechBrain.

    A plain tensor, as of SpeechBrain's classifiers, is taken for both: logarithms
    of probabilities are logits; whether they are cosines, is for those to know
    who need some.

    Arguments
    ---------
    output : ClassifierOutput or torch.Tensor
        Or another pair of tensors; each ``[batch, class]`` or ``[batch, 1,
        class]``.

    Returns
    -------
    ClassifierOutput
        Both ``[batch, class]``.

    Raises
    ------
    ValueError
        If it is anything else.

    Example
    -------
    >>> classifier = LinearClassifier(8, 4)
    >>> logits, cosines = logits_and_cosines(classifier(torch.randn(2, 8)))
    >>> logits.shape
    torch.Size([2, 4])
    """
    pair = (output, output) if torch.is_tensor(output) else output
    if isinstance(pair, tuple) and len(pair) == 2:
        both = [_without_frames(part) for part in pair]
        if all(torch.is_tensor(part) and part.dim() == 2 for part in both):
            return ClassifierOutput(*both)
    parts = output if isinstance(output, tuple) else (output,)
    told = [
        f"a tensor {list(part.shape)}"
        if torch.is_tensor(part)
        else f"a {type(part).__name__}"
        for part in parts
    ]
    raise ValueError(
        "classifier: logits [batch, class] or [batch, 1, class] are needed, or a"
        " pair of logits and cosines, but it returned"
        f" {' and '.join(told) or 'nothing'}"
    )


def _without_frames(part: Any) -> Any:
    """Without the dimension that SpeechBrain has for frames, if there is one."""
    if torch.is_tensor(part) and part.dim() == 3 and part.shape[1] == 1:
        return part.squeeze(1)
    return part


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
    return_cosines : bool
        Whether to return both, or the logits alone, as for a recipe of
        SpeechBrain.

    Example
    -------
    >>> output = LinearClassifier(8, 4)(torch.randn(2, 8))
    >>> output.logits.shape, bool((output.cosines.abs() <= 1).all())
    (torch.Size([2, 4]), True)
    """

    def __init__(
        self,
        input_size: int,
        num_classes: int,
        layer_norm: bool = False,
        return_cosines: bool = True,
    ) -> None:
        super().__init__(return_cosines)
        self.norm = nn.LayerNorm(input_size) if layer_norm else nn.Identity()
        self.linear = nn.Linear(input_size, num_classes)

    def forward(
        self, embeddings: torch.Tensor
    ) -> ClassifierOutput | torch.Tensor:
        """Logits and cosines of embeddings ``[batch, dim]``."""
        embeddings = self.norm(embeddings)
        return self.output(
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
        Factor of the cosines; 1 where what follows has a scale of its own.
    return_cosines : bool
        Whether to return both, or the logits alone, as for a recipe of
        SpeechBrain.

    Example
    -------
    >>> output = AngularClassifier(8, 4, scale=37.0)(torch.randn(2, 8))
    >>> torch.equal(output.logits, 37.0 * output.cosines)
    True
    """

    # MarginCost has a scale, and LogSoftmaxWrapper's margins.
    speechbrain_values = {"scale": 1.0}

    def __init__(
        self,
        input_size: int,
        num_classes: int,
        scale: float = 37.0,
        return_cosines: bool = True,
    ) -> None:
        super().__init__(return_cosines)
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, input_size))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self, embeddings: torch.Tensor
    ) -> ClassifierOutput | torch.Tensor:
        """Logits and cosines of embeddings ``[batch, dim]``."""
        cosines = cosine_similarity(embeddings, self.weight)
        return self.output(self.scale * cosines, cosines)


def cosine_similarity(
    embeddings: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cosine of the angle between every embedding and every class weight.

    Of ``[..., dim]`` and ``[class, dim]``, ``[..., class]``. At least float32,
    also inside autocast, because half precision rounds cosines by more than a
    margin can bear. 0 for an embedding of 0.

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
