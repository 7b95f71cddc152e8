"""A frozen network as the front end of a classifier that is trained alone.

:class:`PooledBlocks` makes one vector of a cycle, which does not change while
the classifier is trained and is cached; :class:`Standardisation` takes the place
of the backbone.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.efficientat import (
    NOTICE,
    ORIGIN,
    build_network,
    channels_after,
)

POOLINGS: dict[str, Callable[..., torch.Tensor]] = {
    "mean": torch.mean,
    "max": torch.amax,
}


class PooledBlocks(Backbone):
    """EfficientAT, of which the outputs of several blocks are pooled.

    What the last block gives is made for the classes of AudioSet; blocks in the
    middle know more of what those do not need. Each of the chosen blocks' maps is
    pooled over time and frequency, and all that is joined.

    Arguments
    ---------
    width_mult : float
        Width of every layer relative to MobileNetV3-Large, as of EfficientAT.
    pretrained_weights : str or Path, optional
        A file, or a published name, as of EfficientAT.
    blocks : sequence of int
        After which of the 17 blocks, in rising order: 1 is the first convolution,
        2 to 16 are MobileNetV3's bottlenecks, 17 is the last convolution, whose
        mean is the embedding of EfficientAT. What comes after ``n`` of them is
        what ``EfficientATFirstBlocks(blocks=n)`` gives.
    pooling : sequence of str
        ``mean``, ``max``, or both.
    freeze : bool
        Whether the network stays as it is: no gradient, and batch normalisation
        with its stored statistics. So it has to be where its output is cached.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``, which a front end
        needs: features of one frame.

    Example
    -------
    >>> pooled = PooledBlocks(
    ...     width_mult=0.1, blocks=[6, 17], freeze=True, keepdim=True
    ... )
    >>> pooled(torch.randn(2, 100, 128)).shape, pooled.embedding_dim
    (torch.Size([2, 1, 208]), 208)
    """

    yaml_key = "pooled_blocks"
    yaml_values = {
        "width_mult": "!ref <width_mult>",
        "freeze": True,
        "keepdim": True,
    }
    speechbrain_values = {"width_mult": 0.4, "freeze": False}
    weights_origin, weights_notice = ORIGIN, NOTICE

    def __init__(
        self,
        width_mult: float = 0.4,
        pretrained_weights: Path | str | None = None,
        blocks: Sequence[int] = (6, 12, 17),
        pooling: Sequence[str] = ("mean", "max"),
        freeze: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(keepdim)
        network = build_network(width_mult, pretrained_weights)
        there = range(1, len(network.features) + 1)
        self.blocks, self.pooling = tuple(blocks), tuple(pooling)
        if not blocks or self.blocks != tuple(b for b in there if b in blocks):
            raise ValueError(
                f"blocks={list(blocks)}: some of 1 to {there[-1]} are needed,"
                " each once, in rising order"
            )
        names = self.pooling
        if not names or len({*names} & POOLINGS.keys()) < len(names):
            raise ValueError(
                f"pooling={list(pooling)}: some of {', '.join(POOLINGS)} are"
                " needed, each once"
            )
        self.features = network.features[: blocks[-1]]
        self.embedding_dim = len(pooling) * sum(
            channels_after(network.features[:block]) for block in blocks
        )
        self.freeze_if(freeze)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]`` of log-mels ``[batch, time, mel]``.

        By blocks, then by poolings, then by channels. Lengths are not used, as
        in :class:`~qlung_plugin.lobes.models.efficientat.EfficientAT`.
        """
        self.see_padding(lengths)
        images, parts = features.transpose(1, 2).unsqueeze(1), []
        for number, block in enumerate(self.features, start=1):
            images = block(images)
            if number in self.blocks:
                parts += [
                    POOLINGS[name](images, dim=(2, 3)) for name in self.pooling
                ]
        return self.shaped(torch.cat(parts, dim=1))


class Standardisation(Backbone):
    """Embeddings that a front end made, with mean 0 and standard deviation 1.

    That of the training set, in each dimension; one that is constant there is 0
    everywhere. It is what a classifier with L2 regularisation needs, which else
    would see little but the dimensions with large values.

    Arguments
    ---------
    embedding_dim : int
        Dimension of the embeddings.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``.

    Example
    -------
    >>> standardisation = Standardisation(2)
    >>> standardisation.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> standardisation(torch.tensor([[[4.0, 6.0]]]))
    tensor([[2., 0.]])
    """

    yaml_values = {"embedding_dim": "!ref <pooled_blocks.embedding_dim>"}
    not_in_speechbrain = (
        "it has to be fitted to embeddings of the training set, which recipes of"
        " SpeechBrain do not do"
    )

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, embedding_dim: int, keepdim: bool = False) -> None:
        super().__init__(keepdim)
        self.embedding_dim = embedding_dim
        # NaN until fitted, in their final shape, so that checkpoints load.
        for name in ("mean", "deviation"):
            unknown = torch.full((embedding_dim,), math.nan)
            self.register_buffer(name, unknown)

    def fit(self, embeddings: torch.Tensor) -> None:
        """Learns from the embeddings of the training set, before it starts.

        Arguments
        ---------
        embeddings : torch.Tensor
            ``[cycle, embedding_dim]`` or ``[cycle, 1, embedding_dim]``.

        Raises
        ------
        ValueError
            If they have another shape, or are not finite.
        """
        rows = embeddings.flatten(1).double()
        if rows.shape[1] != self.embedding_dim or not len(rows):
            raise ValueError(
                f"embeddings [cycle, {self.embedding_dim}] are needed, not"
                f" {list(embeddings.shape)}"
            )
        if not rows.isfinite().all():
            raise ValueError(
                "embeddings of the training set are infinite or NaN: half"
                " precision, in which they are cached, ends at 65504"
            )
        constant = rows.amin(dim=0) == rows.amax(dim=0)
        deviation = rows.std(dim=0, correction=0)
        self.mean.copy_(rows.mean(dim=0))
        self.deviation.copy_(deviation.masked_fill(constant, 0.0))

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Standardises ``[batch, 1, embedding_dim]``, to ``[batch, dim]``."""
        self.see_padding(lengths)
        constant = self.deviation == 0
        deviation = self.deviation.masked_fill(constant, math.inf)
        return self.shaped((features.squeeze(1) - self.mean) / deviation)


def fit_standardisation(
    backbone: nn.Module, features: Iterable[torch.Tensor]
) -> None:
    """Fits a backbone to the training set, if it is a Standardisation.

    Of the cached features of the training cycles, ``[1, dim]`` each, which else
    are not even read.
    """
    if not isinstance(backbone, Standardisation):
        return
    rows = []
    for cycle in features:
        if cycle.shape != (1, backbone.embedding_dim):
            raise ValueError(
                f"backbone: {type(backbone).__name__} is fitted to cached features"
                f" [1, {backbone.embedding_dim}], as PooledBlocks makes them with"
                " keepdim: True, and with --cache_features True; not to"
                f" {list(cycle.shape)}"
            )
        rows.append(cycle[0])
    backbone.fit(torch.stack(rows))
