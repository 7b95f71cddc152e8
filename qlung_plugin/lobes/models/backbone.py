"""What all backbones have in common.

Authors
 * qlung_plugin contributors
"""

import logging

import torch
from torch import nn

# Python's own: this module is imported without SpeechBrain.
logger = logging.getLogger(__name__)


class Backbone(nn.Module):
    """Base class of the backbones: inputs in, one embedding per cycle out.

    A subclass sets ``embedding_dim``, calls :meth:`freeze_if` at the end of its
    ``__init__``, and its ``forward`` turns features ``[batch, time, mel]`` or
    waveforms ``[batch, time]`` into embeddings ``[batch, embedding_dim]``, which
    it returns by :meth:`shaped`. The second argument of ``forward`` is
    ``lengths=None``, the valid share of each input, ``[batch]`` in [0, 1], as
    recipes of SpeechBrain call it. It says whether it uses them; if not, it
    calls :meth:`see_padding`.

    Arguments
    ---------
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``, as those of
        SpeechBrain's models, instead of ``[batch, embedding_dim]``, which the
        recipes of this package need.

    Raises
    ------
    ValueError
        Of any backbone, if an argument is none that may be, or the weights are
        damaged or of another architecture.
    FileNotFoundError
        If the weights are neither a file, nor a known name, nor ``none``.
    ConnectionError
        If the weights are to be downloaded and cannot be.

    Example
    -------
    >>> class Mean(Backbone):
    ...     def __init__(self, n_mels, freeze=False, keepdim=False):
    ...         super().__init__(keepdim)
    ...         self.embedding_dim = n_mels
    ...         self.norm = nn.BatchNorm1d(n_mels)
    ...         self.freeze_if(freeze)
    ...
    ...     def forward(self, features, lengths=None):
    ...         return self.shaped(self.norm(features.mean(dim=1)))
    >>> backbone = Mean(128, freeze=True).train()
    >>> backbone(torch.randn(2, 100, 128)).shape
    torch.Size([2, 128])
    >>> backbone.training, any(p.requires_grad for p in backbone.parameters())
    (False, False)
    """

    # A mapping, which the command line may fill, unlike null.
    yaml_values: dict[str, object] = {"config": {}}
    speechbrain_values: dict[str, object] = {"keepdim": True}
    # Who published weights of it. A licence is told only where it was checked.
    weights_origin: str | None = None
    embedding_dim: int

    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim
        self.freeze = self.has_warned = False

    def shaped(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]`` in the shape asked for."""
        return embeddings.unsqueeze(1) if self.keepdim else embeddings

    def see_padding(self, lengths: torch.Tensor | None) -> None:
        """Says once that lengths are not used, if any of them is below 1."""
        if lengths is None or self.has_warned or not (lengths < 1).any():
            return
        logger.warning(
            "%s sees padding as signal, and lengths below 1 were given, which it"
            " does not use: have recordings of one length, cut or repeated to"
            " it, or take a backbone that uses them (BEATs, or EmbeddingModel"
            " with ECAPA-TDNN or x-vectors)",
            type(self).__name__,
        )
        self.has_warned = True

    def freeze_if(self, freeze: bool) -> None:
        """Keeps the backbone as it is, if asked to.

        Then no parameter gets a gradient, and dropout and normalisation stay in
        evaluation mode whatever :meth:`train` says.
        """
        self.freeze = freeze
        if freeze:
            self.requires_grad_(False)
            self.eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Training mode, which a frozen backbone ignores."""
        return super().train(mode and not self.freeze)
