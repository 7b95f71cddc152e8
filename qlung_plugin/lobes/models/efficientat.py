"""EfficientAT backbones: MobileNetV3 of any width on log-mel input.

The AudioSet-pretrained state dicts of the EfficientAT project load into
torchvision's MobileNetV3. Three things differ from torchvision's own model,
and all three are set here: one input channel instead of three, a sigmoid
instead of a hard sigmoid as the gate of the squeeze-and-excitation layers, and
those layers' keys and shapes (linear there, 1x1 convolutions here).

Reference: F. Schmid, K. Koutini, G. Widmer, "Efficient large-scale audio
tagging via transformer-to-CNN knowledge distillation", ICASSP 2023
(https://arxiv.org/abs/2211.04772).

Authors
 * qlung_plugin contributors
"""

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.models import MobileNetV3, mobilenet_v3_large
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.ops.misc import SqueezeExcitation

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.weights import (
    fetch_weights,
    load_every_tensor,
    without_wrapper,
)
from qlung_plugin.utils.state_dicts import read_state_dict

RELEASE_URL = (
    "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
)

# Address and SHA-256 by name. The release publishes no checksums; the one given
# here was computed from the file.
PUBLISHED = {
    "mn04_as": (
        f"{RELEASE_URL}/mn04_as_mAP_432.pt",
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    ),
    "mn05_as": (f"{RELEASE_URL}/mn05_as_mAP_443.pt", None),
    "mn10_as": (f"{RELEASE_URL}/mn10_as_mAP_471.pt", None),
    "mn20_as": (f"{RELEASE_URL}/mn20_as_mAP_478.pt", None),
    "mn30_as": (f"{RELEASE_URL}/mn30_as_mAP_482.pt", None),
    "mn40_as": (f"{RELEASE_URL}/mn40_as_mAP_484.pt", None),
}

WIDTHS = {name: int(name[2:4]) / 10 for name in PUBLISHED}  # mn04 has 0.4

ORIGIN = "EfficientAT (Schmid et al., 2023; MIT licence)"
NOTICE = Path(__file__).with_name("efficientat_license.txt")

AUDIOSET_CLASSES = 527


class EfficientAT(Backbone):
    """MobileNetV3-Large on log-mel features, optionally AudioSet-pretrained.

    Arguments
    ---------
    width_mult : float
        Width of every layer relative to MobileNetV3-Large: 0.4 for ``mn04``,
        1.0 for ``mn10``.
    pretrained_weights : str or Path, optional
        A file holding a published state dict; or one of the names in
        ``PUBLISHED``, which is downloaded once; or ``None`` (on a command
        line: ``none``) for random initialisation.
    batch_norm_momentum : float
        Share of a batch in the running statistics of batch normalisation. The
        default is that of the published weights; a short training from random
        weights needs more, or it is evaluated with stale statistics.
    freeze : bool
        Whether the backbone stays as it is: no gradient, and batch
        normalisation with its stored statistics also in training mode.
    first_block : int
        The first of the 17 blocks that this backbone has. If it is not 0, the
        input is what :class:`EfficientATFirstBlocks` makes of the features.
    keepdim : bool
        Whether embeddings are ``[batch, 1, embedding_dim]``.

    Example
    -------
    >>> backbone = EfficientAT(width_mult=0.1)
    >>> backbone(torch.randn(2, 100, 128)).shape
    torch.Size([2, 96])
    """

    yaml_values = {
        "width_mult": "!ref <width_mult>",
        "first_block": "!ref <frozen_blocks>",
    }
    speechbrain_values = {"width_mult": 0.4, "first_block": 0}
    weights_origin, weights_notice = ORIGIN, NOTICE

    def __init__(
        self,
        width_mult: float = 0.4,
        pretrained_weights: Path | str | None = None,
        batch_norm_momentum: float = 0.01,
        freeze: bool = False,
        first_block: int = 0,
        keepdim: bool = False,
    ) -> None:
        super().__init__(keepdim)
        network = build_network(
            width_mult, pretrained_weights, batch_norm_momentum
        )
        _check_block("first_block", first_block, network)
        self.features = network.features[first_block:]
        self.channels = channels_after(network.features[:first_block])
        self.embedding_dim = network.classifier[0].in_features
        self.freeze_if(freeze)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``[batch, embedding_dim]``: inputs of AudioSet's classifier.

        Arguments
        ---------
        features : torch.Tensor
            Log-mel features, ``[batch, time, mel]``, or what the first blocks
            made of them, ``[batch, time, mel * channel]``.
        lengths : torch.Tensor, optional
            Valid share of each item, ``[batch]``. Not used, as a warning says: the
            blocks with squeeze and excitation average over the whole input,
            padding included, as in the training on clips of one length.
        """
        self.see_padding(lengths)
        images = features.reshape(*features.shape[:2], -1, self.channels)
        images = images.permute(0, 3, 2, 1)
        return self.shaped(self.features(images).mean(dim=(2, 3)))


class EfficientATFirstBlocks(nn.Module):
    """The first blocks of EfficientAT, frozen, as a part of the front end.

    What they make of a cycle does not change while the blocks behind them,
    ``EfficientAT(first_block=blocks)``, are trained: it can be cached, and the
    early blocks, which have the largest maps, cost most of the time.

    Arguments
    ---------
    width_mult : float
        See :class:`EfficientAT`.
    pretrained_weights : str or Path, optional
        See :class:`EfficientAT`.
    blocks : int
        How many of the 17 blocks; with 0, features pass as they are.

    Example
    -------
    >>> features = torch.randn(2, 96, 128)
    >>> blocks = EfficientATFirstBlocks(width_mult=0.1, blocks=7)
    >>> blocks(features).shape
    torch.Size([2, 12, 128])
    >>> backbone = EfficientAT(width_mult=0.1, first_block=7)
    >>> backbone(blocks(features)).shape
    torch.Size([2, 96])
    """

    weights_origin, weights_notice = ORIGIN, NOTICE

    def __init__(
        self,
        width_mult: float = 0.4,
        pretrained_weights: Path | str | None = None,
        blocks: int = 0,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        if blocks:  # else no weights are looked for, no random ones are drawn
            network = build_network(width_mult, pretrained_weights)
            _check_block("blocks", blocks, network)
            self.features = network.features[:blocks]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "EfficientATFirstBlocks":
        """Always evaluation mode: the stored statistics of normalisation."""
        return super().train(False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From ``[batch, time, mel]`` to ``[batch, time, mel * channel]``.

        Both time and mel come out at a lower resolution.
        """
        images = features.transpose(1, 2).unsqueeze(1)
        return self.features(images).permute(0, 3, 2, 1).flatten(2)


def build_network(
    width_mult: float,
    pretrained_weights: Path | str | None,
    batch_norm_momentum: float = 0.01,
) -> MobileNetV3:
    """The whole network, with weights if there are any."""
    network = _mobilenet_v3_large(width_mult, batch_norm_momentum)
    width = WIDTHS.get(str(pretrained_weights), width_mult)
    if width != width_mult:
        raise ValueError(
            f"{pretrained_weights} has width_mult={width}, not {width_mult}"
        )
    path = fetch_weights(pretrained_weights, PUBLISHED)
    if path is not None:
        published = without_wrapper(read_state_dict(path))
        load_every_tensor(
            network,
            (_rename(name, tensor) for name, tensor in published.items()),
            path,
            "Does width_mult match the weights?",
        )
    # Depthwise convolutions are 1.4 times as fast in this order on a CPU.
    network.features.to(memory_format=torch.channels_last)
    return network


def _check_block(argument: str, block: int, network: MobileNetV3) -> None:
    if not 0 <= block < len(network.features):
        raise ValueError(
            f"{argument}={block} is not in 0 to {len(network.features) - 1}"
        )


def channels_after(blocks: nn.Sequential) -> int:
    """Number of channels of what some blocks give."""
    convolutions = [m for m in blocks.modules() if isinstance(m, nn.Conv2d)]
    return convolutions[-1].out_channels if convolutions else 1


def _mobilenet_v3_large(
    width_mult: float, batch_norm_momentum: float = 0.01
) -> MobileNetV3:
    """torchvision's MobileNetV3-Large, changed to what EfficientAT trained."""
    network = mobilenet_v3_large(
        width_mult=width_mult,
        num_classes=AUDIOSET_CLASSES,
        block=partial(
            InvertedResidual,
            se_layer=partial(SqueezeExcitation, scale_activation=nn.Sigmoid),
        ),
        norm_layer=partial(
            nn.BatchNorm2d, eps=1e-3, momentum=batch_norm_momentum
        ),
    )
    stem = network.features[0][0]
    network.features[0][0] = nn.Conv2d(
        1, stem.out_channels, 3, stride=2, padding=1, bias=False
    )
    nn.init.kaiming_normal_(network.features[0][0].weight, mode="fan_out")
    return network


def _rename(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """A published tensor under its name and in its shape here."""
    if ".conc_se_layers.0." in name:
        name = name.replace(".conc_se_layers.0.", ".")
        if name.endswith(".weight"):
            tensor = tensor[..., None, None]
    # Pooling and flattening are layers of the published classifier.
    name = name.replace("classifier.2.", "classifier.0.")
    return name.replace("classifier.5.", "classifier.3."), tensor
