"""The Audio Spectrogram Transformer on features of any length.

The model is that of the transformers library. What is added is the position
table: it was trained for 1024 frames and has to be cut or interpolated for
others, such as the 798 of 8 seconds.

Reference: Y. Gong, Y.-A. Chung, J. Glass, "AST: Audio Spectrogram Transformer",
Interspeech 2021 (https://arxiv.org/abs/2104.01778).

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.transformers_hub import pretrained_state
from qlung_plugin.lobes.models.weights import asked_weights, load_every_tensor
from qlung_plugin.utils.choices import check_choice

# What the weights have to agree with; the number of frames is free.
ARCHITECTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "patch_size",
    "frequency_stride",
    "time_stride",
    "num_mel_bins",
    "qkv_bias",
    "layer_norm_eps",
)

# What may differ from the weights besides; the length is the argument frames.
OTHER_FIELDS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
)

POOLINGS = {
    "cls": lambda hidden: hidden[:, 0],
    "distillation": lambda hidden: hidden[:, 1],
    "mean": lambda hidden: (hidden[:, 0] + hidden[:, 1]) / 2,
    "tokens": lambda hidden: hidden[:, 2:].mean(dim=1),
}

POSITIONS = "embeddings.position_embeddings"


class AST(Backbone):
    """Audio Spectrogram Transformer, optionally AudioSet-pretrained.

    Arguments
    ---------
    pretrained_weights : str or Path, optional
        A repository of the Hugging Face Hub, such as
        ``MIT/ast-finetuned-audioset-10-10-0.4593``, or a folder that
        ``save_pretrained`` wrote; or ``None`` (on a command line: ``none``) for
        random initialisation.
    frames : int
        Length of the features: 798 are 8 s.
    position_table : str
        ``correct``: the middle of the published table where the features are
        shorter than its 1024 frames, or all of it, interpolated, where they are
        longer. ``swapped``: as in the code of Patch-Mix and what was built on
        it, which takes frequency for time. Its table for 798 frames has 79
        frequencies, interpolated, of the middle 12 times, and is added to 12
        frequencies of 79 times.
    pooling : str
        What the embedding is: ``cls``, ``distillation``, their ``mean``, as
        published, or the mean over the ``tokens`` of patches; all of them after
        the last layer norm.
    freeze : bool
        Whether the backbone stays as it is.
    config : dict, optional
        Fields of ``transformers.ASTConfig`` in which the architecture differs
        from the published base model.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``.

    Example
    -------
    >>> config = {"hidden_size": 32, "num_attention_heads": 2}
    >>> config.update({"num_hidden_layers": 1, "intermediate_size": 64})
    >>> backbone = AST(frames=98, config=config)
    >>> backbone(torch.randn(2, 98, 128)).shape
    torch.Size([2, 32])
    """

    weights_origin = "AST (Gong et al., 2021)"

    def __init__(
        self,
        pretrained_weights: Path | str | None = None,
        frames: int = 798,
        position_table: str = "correct",
        pooling: str = "mean",
        freeze: bool = False,
        config: dict | None = None,
        keepdim: bool = False,
    ) -> None:
        super().__init__(keepdim)
        from transformers import ASTConfig, ASTModel

        check_choice("position_table", position_table, ("correct", "swapped"))
        check_choice("pooling", pooling, POOLINGS)
        # ASTConfig takes any field, also a misspelt one.
        for field in config or {}:
            check_choice("config field", field, ARCHITECTURE + OTHER_FIELDS)
        settings = ASTConfig(**{**(config or {}), "max_length": frames})
        self.pooling = pooling
        self.frames, self.n_mels = frames, settings.num_mel_bins
        self.embedding_dim = settings.hidden_size
        # Some models have patches of two sizes; this one has not.
        if frames < settings.patch_size:  # type: ignore[operator]
            raise ValueError(
                f"frames={frames}, but a patch has {settings.patch_size}"
            )
        state = None
        weights = asked_weights(pretrained_weights)
        if weights is not None:
            state = pretrained_state(
                ASTModel,
                weights,
                settings,
                ARCHITECTURE,
                left_out=r"classifier\.",
            )
        self.model = ASTModel(settings)
        if weights is not None and state is not None:
            state[POSITIONS] = _fit_positions(
                state[POSITIONS],
                self.model.embeddings.get_shape(settings),
                swapped=position_table == "swapped",
            )
            load_every_tensor(
                self.model,
                state.items(),
                weights,
                "Is it a published AST?",
            )
        self.freeze_if(freeze)

    def forward(
        self,
        features: torch.Tensor,
        lengths: torch.Tensor | None = None,
        *,
        mix_tokens: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]`` of features.

        Arguments
        ---------
        features : torch.Tensor
            Log-mel features, ``[batch, time, mel]``, of ``frames`` frames; of
            another length or height, they are a ValueError.
        lengths : torch.Tensor, optional
            Valid share of each item, ``[batch]``. Not used, as a warning says: all
            inputs are of one length, whose padding the published model attends
            to as well.
        mix_tokens : callable, optional
            Applied to the tokens of patches, ``[batch, token, dim]``, before
            positions are added: Patch-Mix.
        """
        if features.shape[1:] != (self.frames, self.n_mels):
            raise ValueError(
                f"AST was made for [batch, {self.frames}, {self.n_mels}]"
                f" features, not {list(features.shape)}: pass frames="
                f"{features.shape[1]}, or another duration to fix_length"
            )
        self.see_padding(lengths)
        pool = POOLINGS[self.pooling]
        if mix_tokens is None:
            return self.shaped(pool(self.model(features).last_hidden_state))
        patches = self.model.embeddings.patch_embeddings
        handle = patches.register_forward_hook(
            lambda module, inputs, tokens: mix_tokens(tokens)
        )
        try:
            return self.shaped(pool(self.model(features).last_hidden_state))
        finally:
            handle.remove()


def _fit_positions(
    positions: torch.Tensor, grid: tuple[int, int], swapped: bool
) -> torch.Tensor:
    """The position embeddings for a grid of frequencies and times.

    They are ``[1, 2 + frequency * time, dim]``: those of the two special
    tokens, and the table, frequency by frequency. If swapped, the table is made
    for times and frequencies.
    """
    special, table = positions[:, :2], positions[:, 2:]
    # The published front end is as high as ours: heights agree.
    height = grid[0]
    table = table.transpose(1, 2).unflatten(2, (height, -1))
    rows, columns = grid[::-1] if swapped else grid
    # As the authors of AST do it: the middle, or bilinear interpolation.
    for dim, size in ((2, rows), (3, columns)):
        if size < table.shape[dim]:
            first = table.shape[dim] // 2 - size // 2
            table = table.narrow(dim, first, size)
    if (rows, columns) != table.shape[2:]:
        table = F.interpolate(table, (rows, columns), mode="bilinear")
    return torch.cat([special, table.flatten(2).transpose(1, 2)], dim=1)
