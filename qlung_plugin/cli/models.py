"""What the commands share that open a trained model.

Authors
 * qlung_plugin contributors
"""


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
        choices=("selected", "last", "test_selected"),
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


def load(source, device, **options):
    """Loads a model for a command.

    Arguments
    ---------
    source : str
        See ``RespiratorySoundClassifier.from_hparams``.
    device : str
        Where it computes.
    **options
        ``checkpoint`` and ``trust``.

    Returns
    -------
    RespiratorySoundClassifier
    """
    from qlung_plugin.inference.classifier import RespiratorySoundClassifier

    return RespiratorySoundClassifier.from_hparams(
        source, run_opts={"device": device}, **options
    )
