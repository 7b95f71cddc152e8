"""BEATs: a transformer pretrained on AudioSet with acoustic tokenizers.

Reference: S. Chen et al., "BEATs: audio pre-training with acoustic tokenizers",
ICML 2023 (https://arxiv.org/abs/2212.09058).

The network is written out here. SpeechBrain's port
(``speechbrain.lobes.models.beats``) computes the same where it computes, but
neither works without lengths nor freezes; takes its architecture from a file of
weights alone; makes features inside autocast, infinite in half precision; masks
padding by frequency instead of time; draws dropped layers from NumPy's generator,
which no seed of PyTorch repeats; and holds the table of relative positions once
per layer, the same memory, which safetensors refuses to save. It takes twice as
long in evaluation, its attention being written out.

Authors
 * qlung_plugin contributors
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.beats_encoder import Encoder
from qlung_plugin.lobes.models.weights import (
    check_architecture,
    fetch_weights,
    load_every_tensor,
    without_wrapper,
)
from qlung_plugin.utils.state_dicts import read_file

logger = logging.getLogger(__name__)

# The authors' own addresses are shares that have moved before. These are copies,
# known by the SHA-256 of the authors' files.
PUBLISHED = {
    "BEATs_iter3_plus_AS2M": (
        "https://huggingface.co/lpepino/beats_ckpts/resolve/main/"
        "BEATs_iter3_plus_AS2M.pt",
        "d43cbfad4d7b56381c061d7a24774f908d4d94c72961f6eb1d9090ff18cd8d34",
    ),
    "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2": (
        "https://huggingface.co/WeiChihChen/"
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2/resolve/main/"
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
        "e5815275a04b6885e7b8af63d120b29bffae2cd2225cf4915e1ec6d819d3022c",
    ),
}

N_MELS = 128
PATCH_SIZE = 16

# What the weights have to agree with: sizes that may be chosen, ...
SIZES = {
    "embed_dim": 512,
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "num_buckets": 320,
    "max_distance": 800,
}

# ... and what all published models have.
FIXED = {
    "input_patch_size": PATCH_SIZE,
    "conv_bias": False,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
}

# Of the pretrained models; the fine-tuned ones were trained without the first
# three.
DROPOUTS = {
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "dropout_input": 0.1,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.05,
}

BIAS_TABLE = "self_attn.relative_attention_bias.weight"


class BEATs(Backbone):
    """BEATs, optionally pretrained on AudioSet.

    Arguments
    ---------
    pretrained_weights : str or Path, optional
        A file of the published form, ``{"cfg": ..., "model": ...}``, all of
        which https://github.com/microsoft/unilm/tree/master/beats lists; or one
        of the names in ``PUBLISHED``, which is downloaded once; or ``None`` (on
        a command line: ``none``) for random initialisation. The AudioSet
        classifier of a fine-tuned model, ``predictor``, is left out.
    freeze : bool
        Whether the backbone stays as it is.
    config : dict, optional
        Fields of ``SIZES`` and ``DROPOUTS``, named as in the published ``cfg``,
        in which the model differs from the pretrained ones. Dropout is never
        taken from a file.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``.

    Example
    -------
    >>> config = {"encoder_layers": 1, "encoder_embed_dim": 48}
    >>> backbone = BEATs(config=config)
    >>> backbone(torch.randn(2, 98, 128)).shape
    torch.Size([2, 48])
    """

    weights_origin = "BEATs (Chen et al., 2023)"

    def __init__(
        self,
        pretrained_weights: Path | str | None = None,
        freeze: bool = False,
        config: dict | None = None,
        keepdim: bool = False,
    ) -> None:
        super().__init__(keepdim)
        settings = _checked(config or {})
        self.embedding_dim = settings.encoder_embed_dim
        self.patch_embedding = nn.Conv2d(
            1, settings.embed_dim, PATCH_SIZE, PATCH_SIZE, bias=False
        )
        self.layer_norm = nn.LayerNorm(settings.embed_dim)
        self.post_extract_proj: nn.Module = nn.Identity()
        if settings.embed_dim != settings.encoder_embed_dim:
            self.post_extract_proj = nn.Linear(
                settings.embed_dim, settings.encoder_embed_dim
            )
        self.dropout_input = nn.Dropout(settings.dropout_input)
        self.encoder = Encoder(settings)
        path = fetch_weights(pretrained_weights, PUBLISHED)
        if path is not None:
            model = _read_model(path, settings)
            load_every_tensor(
                self,
                _own_tensors(model, settings.encoder_layers),
                path,
                "Is it a published BEATs?",
            )
        self.freeze_if(freeze)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]`` of features.

        They are the mean over the tokens of patches, as in the authors'
        fine-tuning.

        Arguments
        ---------
        features : torch.Tensor
            What :class:`qlung_plugin.lobes.features.BEATsFeatures` makes,
            ``[batch, time, mel]``, of 16 frames or more; those behind the last
            whole patch of 16 do not count. Shorter, or of another height, they
            are a ValueError.
        lengths : torch.Tensor, optional
            Valid share of each item's frames, ``[batch]`` in [0, 1]. Of the
            others, no patch is attended to or averaged: an item's embedding is
            what it has without padding. Of less than a patch, one counts.
        """
        if features.shape[1] < PATCH_SIZE or features.shape[2] != N_MELS:
            raise ValueError(
                f"BEATs takes [batch, time, {N_MELS}] features of"
                f" {PATCH_SIZE} frames or more, not {list(features.shape)}"
            )
        patches = self.patch_embedding(features.unsqueeze(1))
        tokens = self.layer_norm(patches.flatten(2).transpose(1, 2))
        tokens = self.dropout_input(self.post_extract_proj(tokens))
        if lengths is None:
            return self.shaped(self.encoder(tokens).mean(dim=1))
        frames = (lengths * features.shape[1]).round()
        count = (frames / PATCH_SIZE).floor().clamp(min=1)  # patches of each
        # Those of one time are next to each other, from low to high.
        places = torch.arange(tokens.shape[1], device=tokens.device)
        times = places // (N_MELS // PATCH_SIZE)
        valid = times < count.to(tokens.device).unsqueeze(1)
        tokens = self.encoder(tokens, valid) * valid.unsqueeze(2)
        total = valid.sum(dim=1, keepdim=True)
        return self.shaped(tokens.sum(dim=1) / total)


def _checked(config: dict) -> SimpleNamespace:
    """The configuration with its defaults, if it is one of a BEATs."""
    unknown = sorted(config.keys() - {**SIZES, **DROPOUTS, **FIXED}.keys())
    if unknown:
        raise ValueError(
            f"config has {', '.join(unknown)}, but takes"
            f" {', '.join({**SIZES, **DROPOUTS})}"
        )
    for field, value in FIXED.items():
        if config.get(field, value) != value:
            raise ValueError(
                f"{field}={config[field]!r} is not supported: the published"
                f" BEATs have {value!r}"
            )
    checked = SimpleNamespace(**{**SIZES, **DROPOUTS, **FIXED, **config})
    if checked.encoder_embed_dim % checked.encoder_attention_heads:
        raise ValueError(
            f"encoder_embed_dim={checked.encoder_embed_dim} is no multiple of"
            f" encoder_attention_heads={checked.encoder_attention_heads}"
        )
    return checked


def _read_model(
    path: Path, config: SimpleNamespace
) -> Mapping[str, torch.Tensor]:
    """The state dict in a published file, if it is of this architecture."""
    content = read_file(path)
    cfg, model = (
        content.get(entry) if isinstance(content, dict) else None
        for entry in ("cfg", "model")
    )
    if not isinstance(cfg, dict) or not isinstance(model, dict):
        raise ValueError(
            f"{path} is not of the published form: a dict with the dicts cfg and"
            " model"
        )
    if not all(
        isinstance(name, str) and torch.is_tensor(value)
        for name, value in model.items()
    ):
        raise ValueError(f"{path} holds no state dict of named tensors")
    ours = {field: getattr(config, field) for field in {**SIZES, **FIXED}}
    check_architecture(path, cfg, ours)
    return without_wrapper(model)


def _own_tensors(
    model: Mapping[str, torch.Tensor], layers: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the backbone by their names here.

    The predictor is left out. Each layer holds the table of relative positions,
    of which there is one: in the authors' code, too, the last layer's counts.
    """
    last = f"encoder.layers.{layers - 1}.{BIAS_TABLE}"
    for name, tensor in model.items():
        if name.endswith(BIAS_TABLE):
            if name != last:
                if not torch.equal(tensor, model.get(last, tensor)):
                    logger.warning(
                        "%s is not the last layer's, which is taken", name
                    )
                continue
            name = "encoder.relative_attention_bias.weight"
        # What PyTorch calls the weight's length and direction has changed.
        name = name.replace("weight_g", "parametrizations.weight.original0")
        name = name.replace("weight_v", "parametrizations.weight.original1")
        if not name.startswith("predictor."):
            yield name, tensor
