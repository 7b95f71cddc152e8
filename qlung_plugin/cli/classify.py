"""``qlung classify``: recordings in, cycles with class and quality out.

Authors
 * qlung_plugin contributors
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from qlung_plugin.cli.arguments import seconds
from qlung_plugin.cli.label_files import (
    SUFFIXES,
    TABLE,
    begin_folder,
    label_writer,
)
from qlung_plugin.cli.models import (
    add_engine,
    add_model,
    load,
    settings_of_model,
)
from qlung_plugin.cli.output import RESUMING, add_output, open_output
from qlung_plugin.cli.ray_runner import RUNNING, add_runner, run_on_ray
from qlung_plugin.cli.recordings import (
    CYCLES,
    CsvTable,
    Output,
    add_cycles,
    add_recordings,
    for_each,
)
from qlung_plugin.dataio.samples import SHORTEST
from qlung_plugin.pretrained import describe_shipped, is_shipped
from qlung_plugin.utils.text import print_note, printable

if TYPE_CHECKING:
    import pandas as pd

    from qlung_plugin.inference.classification import Classification
    from qlung_plugin.inference.classifier import RespiratorySoundClassifier

Writer: TypeAlias = "Callable[[Path, Classification], None]"

HELP = "classify the respiratory cycles of recordings"

DESCRIPTION = """\
Classifies the respiratory cycles of recordings: per cycle the class,
its probabilities and the quality, per recording a summary."""

EXAMPLES = f"""\
Of a recording are told the share of its cycles that are not normal, each
counting the same, and the worst quality of a cycle. A cycle is of its most
probable class or, where the summary says so, of that at the operating point
which validation chose for the model; its probabilities are the same.
A model of `qlung calibrate --abstain` calls cycles uncertain, which are left to
a person and do not count, either; they have probabilities.
A cycle without sound, or with less of it than --shortest, is called unusable:
it has no probabilities, and does not count among these. A file that holds less
than its header says fails, unless --allow-truncated is given.

{CYCLES}

{RESUMING}

{RUNNING}

With --format audacity or raven, --output is a folder: a label track or
selection table per recording, in folders like those given, and {TABLE} with
the probabilities. Corrected there, they are annotations: --cycles takes the
folder, and `qlung labels` makes a table of one's own data of it. No file is
overwritten.

examples:
  qlung classify breath.wav
  qlung classify breath.wav --model results/qlung/1234
  qlung classify recordings/ --model exported/ --format csv > cycles.csv
  qlung classify recordings/ --output cycles.csv --resume
  qlung classify recordings/ --format audacity --output labels/
  qlung classify a.wav b.wav --model exported/ --cycles windows"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_recordings(parser)
    add_model(parser)
    add_engine(parser)
    add_cycles(parser)
    parser.add_argument(
        "--shortest",
        type=seconds,
        default=SHORTEST,
        metavar="SECONDS",
        help="a cycle with less sound is called unusable (default:"
        f" {SHORTEST:g}, half of ICBHI's shortest cycle)",
    )
    parser.add_argument(
        "--format",
        choices=(*WRITERS, *SUFFIXES),
        help="table: to look at, without what the quality is computed from;"
        " csv: a row per cycle; json: a line per recording; audacity, raven: a"
        " file of labels per recording (default: csv or json if --output is"
        " called so, else table)",
    )
    add_output(parser)
    add_runner(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints what the model says of each recording; see :func:`for_each`.

    If the model cannot be loaded, it is an OSError or a ValueError.
    """
    if is_shipped(arguments.model):
        print_note(describe_shipped(arguments.model))
    prepare = partial(load, arguments)
    function = partial(
        classify,
        channel=arguments.channel,
        allow_truncated=arguments.allow_truncated,
        shortest=arguments.shortest,
    )
    if arguments.runner == "ray":
        return run_on_ray(
            arguments, prepare, function, rows_of, settings_of_model
        )[0]
    if arguments.format is None:
        suffix = Path(arguments.output or "").suffix.lower()[1:]
        arguments.format = suffix if suffix in WRITERS else "table"
    places = None
    if arguments.format in SUFFIXES:
        places = begin_folder(arguments)
    with open_output(arguments, settings_of_model) as output:
        if places is not None and output is not None:
            write = label_writer(arguments.format, places, csv_writer(output))
            return for_each(arguments, function, prepare, write, output)
        write = WRITERS[arguments.format](output or sys.stdout)
        return for_each(arguments, function, prepare, write, output)


def classify(
    model: "RespiratorySoundClassifier", path: Path, **options: Any
) -> "Classification":
    """Classifies a recording, see ``RespiratorySoundClassifier``."""
    return model.classify_file(path, **options)


def table_writer(file: Output) -> Writer:
    """Writes a table per recording, which fits a terminal.

    What the quality is computed from, and may be much, is left to the others.
    """

    def write(path: Path, classification: "Classification") -> None:
        cycles, summary = classification
        print(heading(summary), file=file)
        if not cycles.empty:
            # Labels are a stranger's, if the model is.
            shown = cycles.loc[:, :"quality"].rename(columns=printable)
            shown["prediction"] = cycles["prediction"].map(printable)
            numbers = shown.to_string(
                index=False, float_format="{:.2f}".format, na_rep="-"
            )
            print(numbers, file=file)
        print(file=file)

    return write


def heading(summary: dict) -> str:
    """The summary of a recording in three lines."""
    count = summary["cycle_count"]
    text = f"{count} cycle" if count == 1 else f"{count} cycles"
    if summary["unusable_count"]:
        text += f", {summary['unusable_count']} unusable"
    if summary["uncertain_count"]:
        text += f", {summary['uncertain_count']} uncertain"
    if summary["abnormal_fraction"] is not None:
        text += f", {100 * summary['abnormal_fraction']:.0f} % not normal"
    if summary["worst_quality"] is not None:
        text += f", worst quality {summary['worst_quality']:.2f}"
    if summary["operating_point"] is not None:
        text += ", at the model's operating point"
        if summary["operating_point_rule"]:
            text += f" for {printable(summary['operating_point_rule'])}"
    source = f"cycles from {printable(summary['cycle_source'])}"
    if summary["confidence"] is not None:
        source += f", confidence {summary['confidence']:.2f}"
    name = printable(summary["recording"])
    if summary["truncated"]:
        name += f" (truncated: {summary['duration']:.2f} s are there)"
    return f"{name}\n{text}\n{source}"


def rows_of(name: str, classification: "Classification") -> "pd.DataFrame":
    """A row per cycle; the last column is 1 if it is of a truncated file."""
    cycles, summary = classification
    rows = cycles.assign(truncated=int(summary["truncated"]))
    rows.insert(0, "recording", name)
    return rows


def csv_writer(file: Output) -> Writer:
    """Writes a row per cycle."""
    table = CsvTable(file)

    def write(path: Path, classification: "Classification") -> None:
        table.write(rows_of(str(path), classification))

    return write


def json_writer(file: Output) -> Writer:
    """Writes a line of JSON per recording."""

    def write(path: Path, classification: "Classification") -> None:
        cycles, summary = classification
        rows = cycles.astype(object).where(cycles.notna(), None)
        told = {**summary, "cycles": rows.to_dict("records")}
        file.write(json.dumps(told, allow_nan=False) + "\n")

    return write


WRITERS = {"table": table_writer, "csv": csv_writer, "json": json_writer}
