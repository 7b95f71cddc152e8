"""``qlung quality``: how good the recordings of a collection are.

Authors
 * qlung_plugin contributors
"""

import csv
import sys
from functools import partial

from qlung_plugin.cli.recordings import (
    CYCLES,
    add_cycles,
    add_recordings,
    csv_field,
    for_each,
)

EXAMPLES = f"""\
The table is CSV, a row per recording or cycle: scores in [0, 1], 1 being best,
and what some of them are computed from. No model is needed.

  learned_quality    probability that SPRSound's experts call it usable; with
                     another stethoscope, compare within one device only
  audio_quality      the score of the QLung paper: tonal and loud is good
  snr_quality, flatness_quality, clipping_quality
                     from snr_db, spectral_flatness and clipping_ratio
  spectral_entropy, rms
                     of audio_quality

Samples that stay exactly the same for 20 ms are no signal: they are left out,
and count for their share of the time as the worst (an entropy and flatness of
1, a ratio of -20 dB), so that no gap improves a score.

{CYCLES}

examples:
  qlung quality recordings/ > quality.csv
  qlung quality recordings/ --histogram quality.png > quality.csv
  qlung quality breath.wav --by cycle --cycles breath.txt"""


def add_parser(subparsers):
    """Adds the command to the parsers of ``qlung``, and returns its parser."""
    parser = subparsers.add_parser(
        "quality",
        help="measure the quality of recordings, without a model",
        description="Measures the quality of recordings or of their cycles.",
        epilog=EXAMPLES,
    )
    add_recordings(parser)
    parser.add_argument(
        "--by",
        default="recording",
        choices=("recording", "cycle"),
        help="what a row is of (default: recording); --cycles needs cycle",
    )
    add_cycles(parser)
    parser.add_argument(
        "--histogram",
        metavar="FILE",
        help="draw how the scores are spread: a .png, .svg or .pdf",
    )
    return parser


def run(arguments):
    """Prints a table of quality, and draws a histogram if asked to.

    Arguments
    ---------
    arguments : argparse.Namespace
        What the parser made.

    Returns
    -------
    int
        1 if a recording failed, else 0.

    Raises
    ------
    OSError, ValueError
        If a path is not there, the histogram cannot be written, or cycles are
        given and not asked for.
    """
    from qlung_plugin.inference.quality import (
        COLUMNS,
        MEASURES,
        make_measures,
        measure_recording,
    )

    if arguments.by == "recording" and arguments.cycles != "auto":
        raise ValueError(
            "--cycles needs --by cycle: whole recordings have none"
        )
    scores = {name: [] for name in MEASURES}
    table = csv.writer(sys.stdout, lineterminator="\n")
    # Not before it is known that there are recordings.
    header = [["recording", *COLUMNS]]

    def write(path, rows):
        if header:
            table.writerow(header.pop())
        for row in rows:
            values = [csv_field(row[name]) for name in COLUMNS]
            table.writerow([path, *values])
            for name, column in scores.items():
                column.append(row[name])

    function = partial(
        measure_recording,
        unit=arguments.by,
        cycles=arguments.cycles,
        channel=arguments.channel,
        allow_truncated=arguments.allow_truncated,
    )
    if arguments.histogram:
        check_figure(arguments.histogram)
    code = for_each(arguments, function, make_measures, write)
    write(None, [])  # the header, where all failed
    if arguments.histogram:
        draw(scores, arguments.by, arguments.histogram)
    return code


def check_figure(path):
    """Raises a ValueError if a figure cannot be written in such a file.

    Before hours of measuring, not after.
    """
    from pathlib import Path

    from matplotlib.figure import Figure

    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower()[1:] not in formats:
        raise ValueError(
            f"{path} is no figure: its name must end in"
            f" .{', .'.join(sorted(formats))}"
        )


def draw(scores, unit, path):
    """Writes the histogram.

    Arguments
    ---------
    scores : dict
        Values by the name of the score.
    unit : str
        ``recording`` or ``cycle``.
    path : str
        The file.
    """
    from qlung_plugin.utils.files import write_figure
    from qlung_plugin.utils.quality_figures import score_histograms_figure

    count = len(next(iter(scores.values())))
    noun = unit if count == 1 else f"{unit}s"
    figure = score_histograms_figure(scores, f"Quality of {count:,} {noun}")
    write_figure(figure, path)
