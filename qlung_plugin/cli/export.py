"""``qlung export``: a training's model as a folder that is complete in itself.

Authors
 * qlung_plugin contributors
"""

import argparse

from qlung_plugin.cli.models import add_opening
from qlung_plugin.utils.text import printable

HELP = "make a folder of a trained model, to keep or to pass on"

DESCRIPTION = """\
Writes the model of a training to a folder that needs neither the recipes
nor the data: weights in safetensors, everything else in JSON, a model card,
and SpeechBrain's layout for the hub. Evaluations in sub-folders of the
training's are told in the card, too."""

EXAMPLES = """\
examples:
  qlung export results/qlung/1234 exported
  qlung export results/qlung/1234 exported --checkpoint last --onnx
  qlung export results/of_an_older_version exported --convert
  qlung classify breath.wav --model exported"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "run_folder", metavar="RUN_FOLDER", help="a training's output folder"
    )
    parser.add_argument(
        "out", metavar="OUT", help="the folder to write: new, or empty"
    )
    add_opening(parser, "which epoch's model (default: selected)")
    parser.add_argument(
        "--convert",
        action="store_true",
        help="of a run folder of an older version, which has to be your own: read"
        " its YAML and checkpoints",
    )
    parser.add_argument(
        "--note",
        default="",
        metavar="TEXT",
        help="for the model card: what there is to know of the data besides",
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="write model.onnx, too (EfficientAT; needs qlung_plugin[onnx])",
    )


def run(arguments: argparse.Namespace) -> None:
    """Exports, and prints what was written."""
    from qlung_plugin.inference.export import export_run

    exported = export_run(
        arguments.run_folder,
        arguments.out,
        checkpoint=arguments.checkpoint,
        onnx=arguments.onnx,
        trust=arguments.trust,
        convert=arguments.convert,
        note=arguments.note,
    )
    for line in (
        f"{arguments.out}: the {exported['checkpoint']} checkpoint (epoch"
        f" {exported['epoch']}) of {arguments.run_folder}",
        f"classes: {', '.join(exported['labels'])}",
        f"files: {', '.join(exported['files'])}",
    ):
        print(printable(line))
