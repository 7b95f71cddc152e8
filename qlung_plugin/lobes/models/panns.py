"""PANNs: convolutional networks pretrained on AudioSet.

The blocks and the whole of Cnn14 but its last layers are SpeechBrain's, which
calls what the published state dicts call ``bn`` ``norm``.

Reference: Q. Kong et al., "PANNs: large-scale pretrained audio neural networks
for audio pattern recognition", IEEE/ACM TASLP 28, 2020
(https://arxiv.org/abs/1912.10211).

Authors
 * qlung_plugin contributors
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from qlung_plugin.lobes.features import PANNsFeatures
from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.weights import (
    fetch_weights,
    load_every_tensor,
    without_wrapper,
)
from qlung_plugin.utils.choices import check_choice
from qlung_plugin.utils.state_dicts import read_state_dict
from speechbrain.lobes.models.Cnn14 import ConvBlock

RELEASE_URL = "https://zenodo.org/record/3987831/files"

# Address and MD5, which is what the release publishes.
PUBLISHED = {
    "Cnn6": (
        f"{RELEASE_URL}/Cnn6_mAP%3D0.343.pth?download=1",
        "e25e26b84585b14c7754c91e48efc9be",
    ),
    "Cnn10": (
        f"{RELEASE_URL}/Cnn10_mAP%3D0.380.pth?download=1",
        "bfb1f1f9968938fa8ef4012b8471f5f6",
    ),
    "Cnn14": (
        f"{RELEASE_URL}/Cnn14_mAP%3D0.431.pth?download=1",
        "541141fa2ee191a88f24a3219fff024e",
    ),
}

CHANNELS = {
    "Cnn6": (64, 128, 256, 512),
    "Cnn10": (64, 128, 256, 512),
    "Cnn14": (64, 128, 256, 512, 1024, 2048),
}

# Blocks that halve both axes; the sixth of Cnn14 does not.
HALVINGS = {"Cnn6": 4, "Cnn10": 4, "Cnn14": 5}


class PANNs(Backbone):
    """Cnn6, Cnn10 or Cnn14 on log-mel features, optionally pretrained.

    Arguments
    ---------
    variant : str
        ``Cnn6`` (4.8 M parameters, embeddings of 512), ``Cnn10`` (5.2 M, 512)
        or ``Cnn14`` (80 M, 2048).
    pretrained_weights : str or Path, optional
        A file of the published form; or the name of the variant, which is
        downloaded once; or ``None`` (on a command line: ``none``) for random
        initialisation.
    freeze : bool
        Whether the backbone stays as it is.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``.

    Example
    -------
    >>> backbone = PANNs("Cnn6")
    >>> backbone(torch.randn(2, 101, 64)).shape
    torch.Size([2, 512])
    """

    weights_origin = "PANNs (Kong et al., 2020)"

    def __init__(
        self,
        variant: str = "Cnn14",
        pretrained_weights: Path | str | None = None,
        freeze: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(keepdim)
        check_choice("variant", variant, CHANNELS)
        channels = CHANNELS[variant]
        self.n_mels = PANNsFeatures.n_mels
        self.norm0 = nn.BatchNorm2d(self.n_mels)
        self.halvings = HALVINGS[variant]
        self.conv_blocks = nn.ModuleList(
            ConvBlock5x5(before, after)
            if variant == "Cnn6"
            else ConvBlock(before, after, "bn")
            for before, after in zip((1, *channels), channels)
        )
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        nn.init.xavier_uniform_(self.fc1.weight)
        nn.init.zeros_(self.fc1.bias)
        self.embedding_dim = channels[-1]
        path = fetch_weights(pretrained_weights, PUBLISHED)
        if path is not None:
            load_every_tensor(
                self,
                _own_tensors(read_state_dict(path, entry="model"), path),
                path,
                f"Is it of {variant}?",
            )
        self.freeze_if(freeze)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]`` of features.

        Arguments
        ---------
        features : torch.Tensor
            Log-mel features in dB, ``[batch, time, mel]``, of 32 frames or more
            (16 for Cnn6 and Cnn10); shorter, or of another height, they are a
            ValueError.
        lengths : torch.Tensor, optional
            Valid share of each item, ``[batch]``. Not used, as a warning says: the
            convolutions see padding whatever is pooled behind them, as in the
            training on clips of one length.
        """
        shortest = 2**self.halvings
        if features.shape[1] < shortest or features.shape[2] != self.n_mels:
            raise ValueError(
                f"PANNs take [batch, time, {self.n_mels}] features of {shortest}"
                f" frames or more, not {list(features.shape)}"
            )
        self.see_padding(lengths)
        maps = self.norm0(features.unsqueeze(1).transpose(1, 3)).transpose(1, 3)
        for number, block in enumerate(self.conv_blocks):
            pool = (2, 2) if number < self.halvings else (1, 1)
            maps = block(maps, pool_size=pool, pool_type="avg")
            maps = F.dropout(maps, p=0.2, training=self.training)
        over_time = maps.mean(dim=3)
        pooled = over_time.amax(dim=2) + over_time.mean(dim=2)
        pooled = F.dropout(pooled, p=0.5, training=self.training)
        embeddings = F.relu(self.fc1(pooled))
        embeddings = F.dropout(embeddings, p=0.5, training=self.training)
        return self.shaped(embeddings)


class ConvBlock5x5(nn.Module):
    """The block of Cnn6: one convolution of 5 by 5."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 5, padding=2, bias=False
        )
        nn.init.xavier_uniform_(self.conv1.weight)
        self.norm1 = nn.BatchNorm2d(out_channels)

    def forward(
        self,
        maps: torch.Tensor,
        pool_size: tuple[int, int] = (2, 2),
        pool_type: str = "avg",
    ) -> torch.Tensor:
        """Maps ``[batch, channel, time, mel]``, averaged over the pool."""
        return F.avg_pool2d(F.relu_(self.norm1(self.conv1(maps))), pool_size)


def _own_tensors(
    published: Mapping[str, torch.Tensor], path: Path
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the backbone by their names here.

    Those of the front end have to be ours, and the AudioSet classifier is left
    out.
    """
    frontend = _front_end()
    for name, tensor in without_wrapper(published).items():
        if name in frontend:
            ours = frontend[name]
            if tensor.shape != ours.shape or not torch.allclose(
                tensor, ours, atol=1e-4
            ):
                raise ValueError(
                    f"{path} was trained on another front end: its {name}"
                    " differs"
                )
        elif not name.startswith("fc_audioset."):
            name = re.sub(r"bn(\d)", r"norm\1", name)
            name = re.sub(
                r"conv_block(\d)",
                lambda match: f"conv_blocks.{int(match[1]) - 1}",
                name,
            )
            yield name, tensor


def _front_end() -> dict[str, torch.Tensor]:
    """The tensors of the published front end, made of ours."""
    features = PANNsFeatures()
    bins = torch.arange(features.n_fft // 2 + 1, dtype=torch.float64)
    time = torch.arange(features.n_fft, dtype=torch.float64)
    angles = 2 * torch.pi / features.n_fft * torch.outer(bins, time)
    stft = "spectrogram_extractor.stft.conv_"
    return {
        f"{stft}real.weight": (angles.cos() * features.window)[:, None].float(),
        f"{stft}imag.weight": (-angles.sin() * features.window)[
            :, None
        ].float(),
        "logmel_extractor.melW": features.mel_bank,
    }
