"""Any embedding model of SpeechBrain as a backbone.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import torch
from torch import nn

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.weights import (
    asked_weights,
    load_every_tensor,
    without_wrapper,
)
from qlung_plugin.utils.signatures import takes_lengths
from qlung_plugin.utils.state_dicts import read_state_dict


class EmbeddingModel(Backbone):
    """Adapts a model of speaker recognition, say, to the backbones' interface.

    SpeechBrain's ECAPA-TDNN, x-vector and ResNet models take features ``[batch,
    time, feature]`` as ours, and return ``[batch, 1, dim]`` or ``[batch, dim]``.

    Arguments
    ---------
    model : torch.nn.Module
        From features to embeddings ``[batch, 1, dim]`` or ``[batch, dim]``.
    embedding_dim : int
        Dimension of the embeddings.
    pretrained_weights : str or Path, optional
        A file that holds the model's state dict, such as the
        ``embedding_model.ckpt`` of SpeechBrain's published models; or ``None``
        (on a command line: ``none``).
    freeze : bool
        Whether the backbone stays as it is.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``.

    Example
    -------
    >>> from speechbrain.lobes.models.Xvector import Xvector
    >>> model = Xvector(in_channels=80, lin_neurons=16)
    >>> backbone = EmbeddingModel(model, embedding_dim=16)
    >>> backbone(torch.randn(2, 101, 80)).shape
    torch.Size([2, 16])
    """

    yaml_values = {
        "embedding_dim": 192,
        "model": {
            "!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN": {
                "input_size": 80,
                "lin_neurons": 192,
            }
        },
    }

    speechbrain_values = {
        "embedding_dim": 192,
        "model": {
            "!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN": {
                "input_size": "!ref <n_mels>",
                "lin_neurons": 192,
            }
        },
    }

    def __init__(
        self,
        model: nn.Module,
        embedding_dim: int,
        pretrained_weights: Path | str | None = None,
        freeze: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(keepdim)
        self.model = model
        self.passes_lengths = takes_lengths(model)
        self.embedding_dim = embedding_dim
        weights = asked_weights(pretrained_weights)
        if weights is not None:
            load_every_tensor(
                model,
                without_wrapper(read_state_dict(weights)).items(),
                weights,
                "Are the arguments of the model those of the weights?",
            )
        self.freeze_if(freeze)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]`` of ``[batch, time, feature]``.

        Lengths, the valid share of each, ``[batch]`` in [0, 1], go on to the
        model if its ``forward`` takes them. If it returns another shape, it is a
        ValueError.
        """
        if lengths is not None and self.passes_lengths:
            embeddings = self.model(features, lengths)
        else:
            self.see_padding(lengths)
            embeddings = self.model(features)
        if embeddings.dim() == 3 and embeddings.shape[1] == 1:
            embeddings = embeddings.squeeze(1)
        if embeddings.shape != (len(features), self.embedding_dim):
            raise ValueError(
                f"{type(self.model).__name__} returned"
                f" {list(embeddings.shape)}, but [{len(features)},"
                f" {self.embedding_dim}] is needed: is embedding_dim right?"
            )
        return self.shaped(embeddings)
