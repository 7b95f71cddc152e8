"""``qlung quality``: how good the recordings of a collection are.

Authors
 * qlung_plugin contributors
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qlung_plugin.cli.output import RESUMING, add_output, open_output
from qlung_plugin.cli.ray_runner import RUNNING, add_runner, run_on_ray
from qlung_plugin.cli.recordings import (
    CYCLES,
    CsvTable,
    add_cycles,
    add_recordings,
    for_each,
)
from qlung_plugin.utils.text import print_note

if TYPE_CHECKING:
    import pandas as pd

HELP = "measure the quality of recordings, without a model"

DESCRIPTION = """\
Measures the quality of recordings or of their cycles."""

EXAMPLES = f"""\
The table is CSV, a row per recording or cycle: scores in [0, 1], 1 being best,
and what some of them are computed from. No model is needed.

  learned_quality    probability that SPRSound's experts call it usable, for
                     recordings like SPRSound's: how many are not is said on
                     stderr. Use --normalisation fitted for others
  audio_quality      the score of the QLung paper: tonal and loud is good
  snr_quality, flatness_quality, clipping_quality
                     from snr_db, spectral_flatness and clipping_ratio
  spectral_entropy, rms
                     of audio_quality

Samples that stay exactly the same for 20 ms are no signal: they are left out,
and count for their share of the time as the worst (an entropy and flatness of
1, a ratio of -20 dB), so that no gap improves a score.

{CYCLES}

{RESUMING}

{RUNNING}

examples:
  qlung quality recordings/ > quality.csv
  qlung quality recordings/ --histogram quality.png > quality.csv
  qlung quality icbhi/ --normalisation fitted > quality.csv
  qlung quality recordings/ --output quality.csv --resume
  qlung quality breath.wav --by cycle --cycles breath.txt"""

# Share of rows outside what was learned from that is worth a note.
UNUSUAL = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_recordings(parser)
    parser.add_argument(
        "--by",
        default="recording",
        choices=("recording", "cycle"),
        help="what a row is of (default: recording); --cycles needs cycle",
    )
    add_cycles(parser)
    parser.add_argument(
        "--normalisation",
        default="absolute",
        choices=("absolute", "fitted"),
        help="what learned_quality and audio_quality are relative to: absolute,"
        " the recordings that they were made for; fitted, the recordings given:"
        " a score then says which of these are better, with any stethoscope,"
        " and the table is printed at the end (default: absolute)",
    )
    parser.add_argument(
        "--histogram",
        metavar="FILE",
        help="draw how the scores are spread: a .png, .svg or .pdf",
    )
    add_output(parser)
    add_runner(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints a table of quality, and draws a histogram if asked to.

    See :func:`for_each`. If the histogram cannot be written, or cycles are given
    and not asked for, it is an OSError or a ValueError.
    """
    import pandas as pd

    from qlung_plugin.inference.quality import (
        MEASURES,
        count_outside,
        fit_scores,
        make_measures,
        measure_recording,
    )

    if arguments.by == "recording" and arguments.cycles != "auto":
        raise ValueError(
            "--cycles needs --by cycle: whole recordings have none"
        )
    fitted = arguments.normalisation == "fitted"
    if fitted and arguments.resume:
        raise ValueError(
            "--resume needs --normalisation absolute: fitted scores are known"
            " once all recordings are measured"
        )
    if arguments.histogram:
        check_figure(arguments.histogram)
    function = partial(
        measure_recording,
        unit=arguments.by,
        channel=arguments.channel,
        allow_truncated=arguments.allow_truncated,
    )
    if arguments.runner == "ray":
        code, count, outside = run_on_ray(
            arguments,
            make_measures,
            function,
            rows_of,
            tally=count_outside,
            local_alone={"histogram": None, "normalisation": "absolute"},
        )
        note_outside(outside, count, arguments.by)
        return code
    kept: list[dict] = []  # rows, where all are needed in the end
    count = outside = 0
    with open_output(arguments) as output:
        table = CsvTable(output or sys.stdout)

        def write(path: Path, rows: list[dict]) -> None:
            nonlocal count, outside
            count += len(rows)
            if fitted:
                kept.extend({"recording": str(path), **row} for row in rows)
                return
            outside += count_outside(rows)
            if arguments.histogram and output is None:
                kept.extend({name: r[name] for name in MEASURES} for r in rows)
            if rows:
                table.write(rows_of(str(path), rows))

        journaled = None if fitted else output
        code = for_each(arguments, function, make_measures, write, journaled)
        if fitted:
            try:
                fit_scores(kept)
            except ValueError as error:
                raise ValueError(
                    f"--normalisation fitted needs more recordings: {error}"
                ) from error
        if fitted or not count:  # the header alone, where all failed
            table.write(in_columns(kept))
        if fitted and output is not None:
            output.commit("all recordings", "")
    note_outside(outside, count, arguments.by)
    if arguments.histogram:
        rows = (
            pd.DataFrame(kept) if output is None else pd.read_csv(output.path)
        )
        draw(
            {n: rows[n].tolist() for n in MEASURES},
            arguments.by,
            arguments.histogram,
        )
    return code


def rows_of(name: str, rows: list[dict]) -> "pd.DataFrame":
    """The rows of a recording: what was measured, by column."""
    return in_columns([{"recording": name, **row} for row in rows])


def in_columns(rows: list[dict]) -> "pd.DataFrame":
    """The columns of the table, also without a row."""
    import pandas as pd

    from qlung_plugin.inference.quality import COLUMNS

    return pd.DataFrame(rows, columns=["recording", *COLUMNS])


def note_outside(outside: int, count: int, unit: str) -> None:
    """Says on stderr if many rows are unlike what was learned from."""
    from qlung_plugin.lobes.quality import read_coefficients

    if outside <= UNUSUAL * count:
        return
    database = read_coefficients().supervision["database"]
    print_note(
        f"{outside:,} of {count:,} {unit}s are unlike the recordings that"
        f" learned_quality was learned from ({database}): of them it is no"
        " probability. Use --normalisation fitted to compare them with each"
        " other"
    )


def check_figure(path: str) -> None:
    """Raises a ValueError if a figure cannot be written in such a file.

    Before hours of measuring, not after.
    """
    from matplotlib.figure import Figure

    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower()[1:] not in formats:
        raise ValueError(
            f"{path} is no figure: its name must end in"
            f" .{', .'.join(sorted(formats))}"
        )


def draw(scores: dict[str, list[float]], unit: str, path: str) -> None:
    """Writes the histogram of scores by name."""
    from qlung_plugin.figures.quality import score_histograms_figure
    from qlung_plugin.utils.files import write_figure

    count = len(next(iter(scores.values())))
    noun = unit if count == 1 else f"{unit}s"
    figure = score_histograms_figure(scores, f"Quality of {count:,} {noun}")
    write_figure(figure, path)
