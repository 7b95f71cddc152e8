"""The audio tower of LAION-CLAP, which was trained on pairs of sound and text.

Reference: Y. Wu et al., "Large-scale contrastive language-audio pretraining with
feature fusion and keyword-to-caption augmentation", ICASSP 2023
(https://arxiv.org/abs/2211.06687). The model is that of the transformers
library.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import torch

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.transformers_hub import pretrained_state
from qlung_plugin.lobes.models.weights import asked_weights, load_every_tensor
from qlung_plugin.utils.choices import check_choice

# What the weights have to agree with.
ARCHITECTURE = (
    "window_size",
    "num_mel_bins",
    "spec_size",
    "hidden_act",
    "patch_size",
    "patch_stride",
    "hidden_size",
    "projection_dim",
    "depths",
    "num_attention_heads",
    "enable_fusion",
    "patch_embeds_hidden_size",
    "qkv_bias",
    "mlp_ratio",
    "projection_hidden_act",
    "layer_norm_eps",
)

# What may differ from the weights besides.
OTHER_FIELDS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "drop_path_rate",
    "flatten_patch_embeds",
    "enable_patch_layer_norm",
    "initializer_factor",
)

OUTPUTS = ("projection", "pooled")


class CLAP(Backbone):
    """LAION-CLAP's audio tower, an HTSAT, optionally pretrained.

    Arguments
    ---------
    pretrained_weights : str or Path, optional
        A repository of the Hugging Face Hub, such as
        ``laion/clap-htsat-unfused``, or a folder that ``save_pretrained``
        wrote; or ``None`` (on a command line: ``none``) for random
        initialisation. The text tower is left out.
    output : str
        ``projection`` into the space that sounds and texts share, which BTS and
        QLung's Audio-CLAP take, or ``pooled`` before it.
    freeze : bool
        Whether the backbone stays as it is.
    config : dict, optional
        Fields of ``transformers.ClapAudioConfig`` in which the architecture
        differs from the published model.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``.

    Example
    -------
    >>> config = {"patch_embeds_hidden_size": 16, "hidden_size": 32}
    >>> config.update({"depths": [1, 1], "num_attention_heads": [2, 4]})
    >>> backbone = CLAP(config=config)
    >>> backbone(torch.randn(2, 801, 64)).shape
    torch.Size([2, 512])
    """

    weights_origin = "LAION-CLAP (Wu et al., 2023)"

    def __init__(
        self,
        pretrained_weights: Path | str | None = None,
        output: str = "projection",
        freeze: bool = False,
        config: dict | None = None,
        keepdim: bool = False,
    ) -> None:
        super().__init__(keepdim)
        from transformers import ClapAudioConfig, ClapAudioModelWithProjection

        check_choice("output", output, OUTPUTS)
        # ClapAudioConfig takes any field, also such as make it fetch code.
        for field in config or {}:
            check_choice("config field", field, ARCHITECTURE + OTHER_FIELDS)
        settings = ClapAudioConfig(**(config or {}))
        if settings.enable_fusion:
            raise ValueError(
                "enable_fusion is for recordings of more than 10 s: the fused"
                " models are not supported"
            )
        model = ClapAudioModelWithProjection(settings)
        weights = asked_weights(pretrained_weights)
        if weights is not None:
            state = pretrained_state(
                ClapAudioModelWithProjection,
                weights,
                settings,
                ARCHITECTURE,
                left_out=r"text_|logit_scale",
            )
            load_every_tensor(model, state.items(), weights, "Is it a CLAP?")
        self.audio_model = model.audio_model
        self.projection, self.embedding_dim = None, settings.hidden_size
        if output == "projection":
            self.projection = model.audio_projection
            self.embedding_dim = settings.projection_dim
        self.n_mels = settings.num_mel_bins
        self.max_frames = settings.spec_size**2 // settings.num_mel_bins
        self.freeze_if(freeze)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]`` of features.

        Arguments
        ---------
        features : torch.Tensor
            Log-mel features in dB, ``[batch, time, mel]``, of up to 1024 frames;
            the model stretches fewer to 1024, as it was trained. Of another
            length or height, they are a ValueError.
        lengths : torch.Tensor, optional
            Valid share of each item, ``[batch]``. Not used, as a warning says: the
            model stretches inputs, padding included, to one length.
        """
        if (
            features.shape[1] > self.max_frames
            or features.shape[2] != self.n_mels
        ):
            raise ValueError(
                f"CLAP takes [batch, time, {self.n_mels}] features of up to"
                f" {self.max_frames} frames, not {list(features.shape)}"
            )
        self.see_padding(lengths)
        pooled = self.audio_model(features.unsqueeze(1)).pooler_output
        if self.projection is not None:
            pooled = self.projection(pooled)
        return self.shaped(pooled)
