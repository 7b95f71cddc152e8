"""Mixing of two training cycles, with margins.

A mixing is called as ``embeddings, mixture = mixing(backbone, features)``, and
what was mixed with what, and how much, goes into :func:`mixed_loss`.

Authors
 * qlung_plugin contributors
"""

import inspect
from typing import NamedTuple

import torch
from torch import nn


class Mixture(NamedTuple):
    """What was mixed: each cycle with that of ``permutation``, ``[batch]``.

    ``weight`` in [0, 1] is its own share.
    """

    permutation: torch.Tensor
    weight: float


def mixed_loss(
    loss: nn.Module,
    logits: torch.Tensor,
    cosines: torch.Tensor,
    embeddings: torch.Tensor,
    targets: torch.Tensor,
    quality: torch.Tensor,
    mixture: Mixture,
) -> torch.Tensor:
    """The loss of mixed cycles, weighted between both labels.

    ``w * loss(targets) + (1 - w) * loss(targets of the others)``, both at the
    quality of the mixture, ``w * quality + (1 - w) * quality of the others``.
    Each label is thus held to the margin of its own class, and a good recording
    mixed with a bad one to a margin between theirs. Logits, cosines and
    embeddings are of the mixed cycles, targets and quality of before.

    Example
    -------
    >>> from qlung_plugin.nnet.losses import CrossEntropyLoss
    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    >>> mixture = Mixture(torch.tensor([1, 0]), 0.7)
    >>> targets, quality = torch.tensor([0, 1]), torch.ones(2)
    >>> mixed_loss(
    ...     CrossEntropyLoss(), logits, logits, None, targets, quality, mixture
    ... )
    tensor(0.6931)
    """
    permutation, weight = mixture
    quality = weight * quality + (1 - weight) * quality[permutation]
    outputs = logits, cosines, embeddings
    own = loss(*outputs, targets, quality)
    others = loss(*outputs, targets[permutation], quality)
    return weight * own + (1 - weight) * others


class Mixup(nn.Module):
    """Weighted means of the features of two cycles.

    ``w * x + (1 - w) * x[permutation]`` with one ``w ~ Beta(alpha, alpha)`` per
    batch. Of log-mel features this is the geometric mean of two power spectra,
    not the sum of two sounds. Source: H. Zhang et al., "mixup: beyond empirical
    risk minimization", ICLR 2018 (https://arxiv.org/abs/1710.09412).

    Arguments
    ---------
    alpha : float
        Small: one of the two dominates; 1: every share is as likely.

    Raises
    ------
    ValueError
        If alpha is not positive.

    Example
    -------
    >>> mixup = Mixup(alpha=0.4)
    >>> backbone = torch.nn.Flatten()
    >>> embeddings, mixture = mixup(backbone, torch.randn(4, 10, 8))
    >>> embeddings.shape, 0 <= mixture.weight <= 1
    (torch.Size([4, 80]), True)
    """

    def __init__(self, alpha: float = 0.4):
        super().__init__()
        self.alpha = _positive(alpha)

    def forward(
        self, backbone: nn.Module, features: torch.Tensor
    ) -> tuple[torch.Tensor, Mixture]:
        """Embeddings of mixed features, and the mixture.

        Arguments
        ---------
        backbone : torch.nn.Module
            From features to embeddings.
        features : torch.Tensor
            ``[batch, time, mel]``.

        Returns
        -------
        embeddings : torch.Tensor
            ``[batch, dim]``.
        mixture : Mixture
            What was mixed.
        """
        permutation, weight = _draw(len(features), self.alpha)
        permutation = permutation.to(features.device)
        mixed = weight * features + (1 - weight) * features[permutation]
        return backbone(mixed), Mixture(permutation, weight)


class PatchMix(nn.Module):
    """A part of the patches of one cycle replaced by those of another.

    Of the tokens that a transformer makes of patches of the spectrogram, a
    share ``1 - w``, ``w ~ Beta(alpha, alpha)``, drawn anew per batch, is taken
    from the same places of another cycle, before positions are added; the
    labels weigh as the tokens do. Source: S. Bae et al., "Patch-Mix contrastive
    learning with Audio Spectrogram Transformer on respiratory sound
    classification", Interspeech 2023 (https://arxiv.org/abs/2305.14032), the
    mixing without its contrastive loss.

    Arguments
    ---------
    alpha : float
        1 in the paper: every share is as likely.

    Raises
    ------
    ValueError
        If alpha is not positive, or the backbone has no tokens to mix.

    Example
    -------
    >>> class Tokens(torch.nn.Module):
    ...     def forward(self, features, lengths=None, *, mix_tokens=None):
    ...         return mix_tokens(features).mean(dim=1)
    >>> embeddings, mixture = PatchMix()(Tokens(), torch.randn(4, 10, 8))
    >>> embeddings.shape, 0 <= mixture.weight <= 1
    (torch.Size([4, 8]), True)
    """

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = _positive(alpha)

    def forward(
        self, backbone: nn.Module, features: torch.Tensor
    ) -> tuple[torch.Tensor, Mixture]:
        """Embeddings of mixed tokens, and the mixture.

        Arguments
        ---------
        backbone : torch.nn.Module
            :class:`qlung_plugin.lobes.models.ast.AST`, or another whose
            ``forward`` takes ``mix_tokens``, a function of its patch tokens
            ``[batch, token, dim]``.
        features : torch.Tensor
            ``[batch, time, mel]``.

        Returns
        -------
        embeddings : torch.Tensor
            ``[batch, dim]``.
        mixture : Mixture
            What was mixed.
        """
        bare = backbone
        # By torch.compile; by DDP, and within by CompiledSteps.
        for wrapped in ("_orig_mod", "module", "module"):
            bare = getattr(bare, wrapped, bare)
        if "mix_tokens" not in inspect.signature(bare.forward).parameters:
            raise ValueError(
                f"PatchMix needs a backbone of patches, such as AST:"
                f" {type(bare).__name__} has no mix_tokens"
            )
        permutation, drawn = _draw(len(features), self.alpha)
        permutation = permutation.to(features.device)
        weight = 1.0

        def mix_tokens(tokens: torch.Tensor) -> torch.Tensor:
            nonlocal weight
            count = tokens.shape[1]
            replaced = int(count * (1 - drawn))
            places = torch.randperm(count)[:replaced].to(tokens.device)
            weight = 1 - replaced / count
            mixed = tokens.clone()
            mixed[:, places] = tokens[permutation][:, places]
            return mixed

        embeddings = backbone(features, mix_tokens=mix_tokens)
        return embeddings, Mixture(permutation, weight)


def _positive(alpha: float) -> float:
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    return float(alpha)


def _draw(batch: int, alpha: float) -> tuple[torch.Tensor, float]:
    """A permutation and a weight, drawn on the CPU for every device alike."""
    weight = torch.distributions.Beta(alpha, alpha).sample().item()
    return torch.randperm(batch), weight
