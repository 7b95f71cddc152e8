"""What the commands share that open a trained model.

Authors
 * qlung_plugin contributors
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qlung_plugin.pretrained import MODELS, TRANSFER
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.text import print_note

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


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds what runs the model's network, for :func:`load`."""
    parser.add_argument(
        "--engine",
        choices=("torch", "onnx"),
        help="onnx: the network in onnxruntime, faster on a CPU, equal to 1e-4"
        " (default: onnx on a CPU if qlung_plugin[onnx] is installed)",
    )


def planned_engine(arguments: argparse.Namespace) -> str:
    """The engine that is asked for, or by default the fastest there is."""
    from qlung_plugin.inference.engines import missing_packages

    if not hasattr(arguments, "engine"):
        return "torch"
    fast = arguments.device == "cpu" and not missing_packages()
    return arguments.engine or ("onnx" if fast else "torch")


def load(arguments: argparse.Namespace) -> RespiratorySoundClassifier:
    """Loads the model that the arguments of :func:`add_model` name."""
    from qlung_plugin.inference.classifier import RespiratorySoundClassifier

    model = RespiratorySoundClassifier.from_hparams(
        arguments.model,
        arguments.checkpoint,
        arguments.trust,
        run_opts={"device": arguments.device},
    )
    try:
        model.use_engine(planned_engine(arguments))
    except ValueError as error:
        if arguments.engine is not None:
            raise ValueError(
                f"{arguments.model}: {error}; take --engine torch"
            ) from error
        print_note(f"{arguments.model}: {error}; PyTorch runs it")
        arguments.engine = "torch"  # processes that are started know, too
    return model


def settings_of_model(arguments: argparse.Namespace) -> dict[str, str]:
    """What tells models of :func:`add_model` apart, and what runs them."""
    from qlung_plugin.inference.models import digest_model

    digest = digest_model(arguments.model, arguments.checkpoint)
    settings = {"--model": f"of digest {digest[:16]}"}
    if hasattr(arguments, "engine"):
        settings["--engine"] = planned_engine(arguments)
    return settings
