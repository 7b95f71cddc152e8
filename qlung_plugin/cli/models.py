"""What the commands share that open a trained model.

Authors
 * qlung_plugin contributors
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qlung_plugin.pretrained import MODELS, TRANSFER
from qlung_plugin.training.selection import CHECKPOINTS

if TYPE_CHECKING:
    from qlung_plugin.inference.classifier import RespiratorySoundClassifier


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that says which model, and those of how it is opened."""
    parser.add_argument(
        "--model",
        default=TRANSFER,
        help="a training's output folder, an exported one, a hub id, or a model"
        f" that ships: {', '.join(MODELS)} (default: {TRANSFER})",
    )
    add_opening(
        parser,
        "which epoch's model (default: selected; of an export, the one it has)",
        default=None,
    )
    add_device(parser)


def add_opening(
    parser: argparse.ArgumentParser,
    help: str,
    default: str | None = "selected",
) -> None:
    """Adds the checkpoint, and modules that a model's classes may be of."""
    parser.add_argument(
        "--checkpoint",
        default=default,
        choices=list(CHECKPOINTS),
        help=help,
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="make the model's classes of this module or package, too",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds where the model computes."""
    parser.add_argument(
        "--device", default="cpu", help="such as cuda (default: cpu)"
    )


def load(arguments: argparse.Namespace) -> RespiratorySoundClassifier:
    """Loads the model that the arguments of :func:`add_model` name."""
    from qlung_plugin.inference.classifier import RespiratorySoundClassifier

    return RespiratorySoundClassifier.from_hparams(
        arguments.model,
        arguments.checkpoint,
        arguments.trust,
        run_opts={"device": arguments.device},
    )


def settings_of_model(arguments: argparse.Namespace) -> dict[str, str]:
    """What tells models of :func:`add_model` apart, wherever they lie."""
    from qlung_plugin.inference.models import digest_model

    digest = digest_model(arguments.model, arguments.checkpoint)
    return {"--model": f"of digest {digest[:16]}"}
