"""``qlung adapt``: few labelled patients in, a model for their device out.

Authors
 * qlung_plugin contributors
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from qlung_plugin.cli.models import add_model
from qlung_plugin.utils.text import print_note, printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from qlung_plugin.inference.adaptation import Adaptation

HELP = "fit a model's head to labelled recordings of one's own"

DESCRIPTION = """\
Fits a new head on a model's frozen encoder to a table of labelled recordings,
such as those of another stethoscope, tells what to expect of it on further
patients, and writes the model that has it."""

TABLE = """\
The table is CSV with the columns path (from the table's folder, or absolute),
label and patient, and may have start and end in seconds, device, age, sex and
location. A row without times is a whole recording, which is heard in windows of
5 s every 2.5 s, each with its label."""

EXAMPLES = f"""\
{TABLE}
The labels are the classes of the new head, whatever those of the model.

What is printed is of nested cross-validation: each patient is judged by a head
whose regularisation and operating point were chosen on other patients. Beside
it are the model as it was, on the same cycles, as far as the labels agree (else
its AUROC alone), and always answering "normal".

examples:
  qlung adapt --data table.csv -o adapted
  qlung adapt --model results/qlung/1234 --data table.csv -o adapted --balanced
  qlung classify recordings/ --model adapted --cycles windows"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_model(parser)
    add_table(parser)
    weighing = parser.add_mutually_exclusive_group()
    weighing.add_argument(
        "--balanced",
        action="store_true",
        help="each class weighs the same as a whole (default: each cycle does)",
    )
    weighing.add_argument(
        "--margin",
        action="store_true",
        help="fit with QLung's margins, by quality and rarity of the class (takes"
        " six times as long)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the folds (default: 0)"
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="write model.onnx, too (EfficientAT; needs qlung_plugin[onnx])",
    )


def add_table(parser: argparse.ArgumentParser) -> None:
    """Adds the labelled table, and the folder to write."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="TABLE",
        help="the labelled recordings, see below",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="the folder to write: new, or empty",
    )


def run(arguments: argparse.Namespace) -> None:
    """Adapts, and prints what to expect."""
    from qlung_plugin.inference.adaptation import adapt

    adaptation = adapt(
        arguments.model,
        arguments.data,
        arguments.output,
        balanced=arguments.balanced,
        margin=arguments.margin,
        checkpoint=arguments.checkpoint,
        trust=arguments.trust,
        device=arguments.device,
        seed=arguments.seed,
        onnx=arguments.onnx,
    )
    for note in adaptation.notes:
        print_note(note)
    print(printable_lines(describe(adaptation)))
    print(
        printable(f"files in {arguments.output}: {', '.join(adaptation.files)}")
    )


def describe(adaptation: Adaptation) -> str:
    """What to expect, as text."""
    counts = adaptation.figures["counts"]
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        f"learned from {sum(counts.values())} cycles ({told}) of"
        f" {adaptation.figures['patients']} patients; C {adaptation.strength:g}\n\n"
        "on patients that were not learned from, in percent (95 % interval over"
        f" patients)\n{compare(adaptation).to_string()}\n"
    )


def compare(adaptation: Adaptation) -> pd.DataFrame:
    """The new head beside the model as it was, and one class for all."""
    from qlung_plugin.scores.metrics import always_the_same

    own, as_it_was = adaptation.figures, adaptation.base or {}
    name, floor = always_the_same(own["counts"])
    rows: dict[str, Mapping[str, Any] | None] = {
        "adapted, most probable class": own,
        "adapted, at its operating point": own["operating_point"],
        "as it was, most probable class": as_it_was,
        "as it was, at its operating point": as_it_was.get("operating_point"),
        name: {**floor, "interval": {}},
    }
    return format_figures(rows, adaptation.labels)


def format_figures(
    rows: Mapping[str, Mapping[str, Any] | None], labels: Sequence[str]
) -> pd.DataFrame:
    """Figures with their intervals as texts; those that are there, by name."""
    import pandas as pd

    from qlung_plugin.scores.metrics import metrics_in

    table = {
        name: {
            metric.heading: _figure(figures, key)
            for key, metric in metrics_in("tables", labels).items()
        }
        for name, figures in rows.items()
        if figures
    }
    return pd.DataFrame.from_dict(table, orient="index")


def _figure(figures: Mapping[str, Any], key: str) -> str:
    """A figure with its interval."""
    from qlung_plugin.scores.metrics import format_number

    if key not in figures:
        return ""
    text = format_number(figures[key], ".1f")
    if key not in figures["interval"]:
        return text
    low, high = figures["interval"][key]
    low, high = (format_number(end, ".1f") for end in (low, high))
    return f"{text} ({low} to {high})"
