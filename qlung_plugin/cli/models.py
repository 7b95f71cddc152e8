"""What the commands share that open a trained model.

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.training.selection import CHECKPOINTS


def add_model(parser):
    """Adds the argument that says which model, and those of how it is opened.

    Arguments
    ---------
    parser : argparse.ArgumentParser
        Of the command.
    """
    parser.add_argument(
        "--model",
        required=True,
        help="a training's output folder, an exported one, or a hub id",
    )
    add_opening(parser)
    add_device(parser)


def add_opening(parser, help="of a training's output folder"):
    """Adds the checkpoint, and whether a model may run code of its own.

    Arguments
    ---------
    parser : argparse.ArgumentParser
        Of the command.
    help : str
        What the checkpoint is for.
    """
    parser.add_argument(
        "--checkpoint",
        default="selected",
        choices=list(CHECKPOINTS),
        help=f"{help} (default: selected)",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run whatever code the model's YAML names",
    )


def add_device(parser):
    """Adds where the model computes."""
    parser.add_argument(
        "--device", default="cpu", help="such as cuda (default: cpu)"
    )


def load(source, device, checkpoint="selected", trust=False):
    """Loads a model for a command.

    Arguments
    ---------
    source : str
        See ``RespiratorySoundClassifier.from_hparams``.
    device : str
        Where it computes.
    checkpoint : str
        Of a training; of an export, ``selected`` is whichever it has.
    trust : bool
        Whether its YAML may run whatever it names.

    Returns
    -------
    RespiratorySoundClassifier

    Raises
    ------
    OSError, ValueError
        If it cannot be loaded, or is an export of another checkpoint.
    """
    from qlung_plugin.inference.classifier import RespiratorySoundClassifier

    model = RespiratorySoundClassifier.from_hparams(
        source, checkpoint, trust, run_opts={"device": device}
    )
    provenance = getattr(model.hparams, "provenance", {})
    exported = provenance.get("checkpoint", checkpoint)
    if checkpoint not in ("selected", exported):
        raise ValueError(
            f"{source} is an export of the {exported} checkpoint alone:"
            f" --checkpoint {checkpoint} needs the training's output folder"
        )
    return model
