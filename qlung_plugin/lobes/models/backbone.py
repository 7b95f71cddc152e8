"""What all backbones have in common.

Authors
 * qlung_plugin contributors
"""

from torch import nn


class Backbone(nn.Module):
    """Base class of the backbones: inputs in, one embedding per cycle out.

    A subclass sets ``embedding_dim``, calls :meth:`freeze_if` at the end of its
    ``__init__``, and its ``forward`` turns features ``[batch, time, mel]`` or
    waveforms ``[batch, time]`` into embeddings ``[batch, embedding_dim]``.

    Example
    -------
    >>> import torch
    >>> class Mean(Backbone):
    ...     def __init__(self, n_mels, freeze=False):
    ...         super().__init__()
    ...         self.embedding_dim = n_mels
    ...         self.norm = nn.BatchNorm1d(n_mels)
    ...         self.freeze_if(freeze)
    ...
    ...     def forward(self, features):
    ...         return self.norm(features.mean(dim=1))
    >>> backbone = Mean(128, freeze=True).train()
    >>> backbone(torch.randn(2, 100, 128)).shape
    torch.Size([2, 128])
    >>> backbone.training, any(p.requires_grad for p in backbone.parameters())
    (False, False)
    """

    # A mapping, which the command line may fill, unlike null.
    yaml_values: dict[str, object] = {"config": {}}
    # Who published weights of it. A licence is told only where it was checked.
    weights_origin: str | None = None
    embedding_dim: int

    def __init__(self) -> None:
        super().__init__()
        self.freeze = False

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
