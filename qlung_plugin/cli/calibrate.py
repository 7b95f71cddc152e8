"""``qlung calibrate``: probabilities and an operating point that one chooses.

Authors
 * qlung_plugin contributors
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from qlung_plugin.cli.adapt import TABLE, add_table, format_figures
from qlung_plugin.cli.arguments import share
from qlung_plugin.cli.models import add_model
from qlung_plugin.utils.text import print_note, printable, printable_lines

if TYPE_CHECKING:
    from qlung_plugin.inference.calibration import Calibrated
    from qlung_plugin.inference.calibration_points import Aim

HELP = "calibrate a model, at an operating point one chooses"

DESCRIPTION = """\
Fits the probabilities of a model to a table of labelled recordings, whose
patients it was not trained on, chooses the point at which it decides, and
writes the model that has both."""

EXAMPLES = f"""\
{TABLE}
The labels are those of the model; with other ones, `qlung adapt` comes first.

What is printed, and drawn in DIR/reliability.png, is of patients that were not
fitted to, fold by fold; the model is fitted to all. A point that they do not
support is refused: if fewer than 10 patients have a cycle that it is about, or
the 95 % interval of what is reached is wider than 20 percentage points, or
leaves out what was wanted.

With --abstain, half of the patients are fitted to, and the other half says how
sure the model has to be: of the cycles of new patients like these, at most that
share is called by a wrong class, on average, and others are called uncertain
(split conformal prediction by patient). For 0.1 it takes 18 patients or more,
and for an operating point about 20 with a cycle that is normal, and 20 with
another one.

examples:
  qlung calibrate --data table.csv -o calibrated
  qlung calibrate --model adapted --data others.csv --specificity 0.9 -o ninety
  qlung calibrate --model adapted --data others.csv --abstain 0.1 -o careful
  qlung classify recordings/ --model ninety"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_model(parser)
    add_table(parser)
    aims = parser.add_mutually_exclusive_group()
    aims.add_argument(
        "--specificity",
        type=share,
        metavar="SHARE",
        help="of the normal cycles, this share is to be called normal",
    )
    aims.add_argument(
        "--sensitivity",
        type=share,
        metavar="SHARE",
        help="of the others, this share is to be called by any other class",
    )
    aims.add_argument(
        "--score",
        action="store_true",
        help="the highest mean of specificity and sensitivity by the exact class"
        " (default)",
    )
    parser.add_argument(
        "--abstain",
        type=share,
        metavar="SHARE",
        help="leave the least certain cycles to a person, such that at most this"
        " share is called by a wrong class",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the folds (default: 0)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Calibrates, and prints what to expect."""
    from qlung_plugin.inference.calibration import calibrate

    calibrated = calibrate(
        arguments.model,
        arguments.data,
        arguments.output,
        aim=chosen_aim(arguments),
        abstain=arguments.abstain,
        checkpoint=arguments.checkpoint,
        trust=arguments.trust,
        device=arguments.device,
        seed=arguments.seed,
    )
    for note in calibrated.notes:
        print_note(note)
    print(printable_lines(describe(calibrated)))
    print(
        printable(f"files in {arguments.output}: {', '.join(calibrated.files)}")
    )


def chosen_aim(arguments: argparse.Namespace) -> Aim:
    """What the operating point is chosen for."""
    from qlung_plugin.inference.calibration_points import RATES, Aim

    for kind in RATES:
        if getattr(arguments, kind) is not None:
            return Aim(kind, getattr(arguments, kind))
    return Aim()


def describe(calibrated: Calibrated) -> str:
    """What to expect, as text."""
    import pandas as pd

    errors = pd.DataFrame(calibrated.errors).rename(
        columns=lambda key: key.replace("_", " ")
    )
    rows: dict[str, dict[str, Any]] = {}
    for when, figures in (
        ("as it was", calibrated.before),
        ("calibrated", calibrated.after),
    ):
        rows[f"{when}, most probable class"] = figures
        rows[f"{when}, at its operating point"] = figures["operating_point"]
    blocks = [
        f"of {sum(calibrated.after['counts'].values())} cycles of"
        f" {calibrated.after['patients']} patients that were not fitted to:",
        errors.to_string(float_format="{:.3f}".format),
        "in percent (95 % interval over patients):\n"
        + format_figures(rows, list(calibrated.after["counts"])).to_string(),
    ]
    if calibrated.rule:
        blocks.append(f"operating point: for {calibrated.rule}")
    if calibrated.abstention:
        told = calibrated.abstention
        blocks.append(
            f"uncertain is a cycle of which not exactly one class has"
            f" {told['threshold']:.3f} or more, so that at most {told['errors']:g}"
            " of the cycles are called by a wrong class: of the other"
            f" {told['patients']} patients, by whom this was set,"
            f" {100 * told['uncertain']:.0f} % of the cycles are, and of new ones"
            " more or less"
        )
    return "\n\n".join(blocks)
