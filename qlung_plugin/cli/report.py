"""``qlung report``: a page to look at and to listen to.

Authors
 * qlung_plugin contributors
"""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from qlung_plugin.cli.arguments import whole_number
from qlung_plugin.cli.models import add_device, add_opening
from qlung_plugin.utils.text import printable

HELP = "make a page of results: figures, a map, cycles to listen to"

DESCRIPTION = """\
Makes one HTML page of the results of runs: scores, what is taken
for what, a map of the embeddings, and every cycle to listen to."""

EXAMPLES = """\
The page is one file, which opens offline. It holds recordings: mind their
licence when you pass it on.

A folder is what a training or an evaluation wrote, or holds several of them:
then all are compared, and the first seed of each configuration is shown.

examples:
  qlung report results/qlung/1234 -o report.html
  qlung report results/ce/1 results/qlung/1 -o report.html
  qlung report results/comparison -o report.html --sounds 1000
  qlung report results/ood --data_folder /path/to/SPRSound -o report.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="of a run, or of several, see below",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="the page, such as report.html",
    )
    add_opening(parser, "whose predictions are shown (default: selected)")
    parser.add_argument(
        "--data_folder",
        metavar="FOLDER",
        help="the database (default: where it was when the run was made)",
    )
    parser.add_argument(
        "--sounds",
        type=partial(whole_number, low=0, meaning="number from 0 on"),
        default=300,
        metavar="N",
        help="how many cycles get a sound and a spectrogram (default: 300)",
    )
    parser.add_argument(
        "--map",
        default="tsne",
        choices=("tsne", "umap", "none"),
        help="of the embeddings; umap needs umap-learn (default: tsne)",
    )
    add_device(parser)


@contextmanager
def each_warning_once() -> Iterator[None]:
    """What is logged is printed once: intervals of each checkpoint warn alike."""
    printed = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in printed
        printed.add(message)
        return new

    # What prints where, as for a command, nothing else is set up.
    handler = logging.lastResort
    assert handler is not None
    handler.addFilter(is_new)
    try:
        yield
    finally:
        handler.removeFilter(is_new)


@each_warning_once()
def run(arguments: argparse.Namespace) -> int:
    """Writes the page, and says on stderr what it lacks.

    It returns 1 if a run is damaged and left out, else 0. If no folder holds
    results, or they do not fit together, it is an OSError or a ValueError.
    """
    import sys
    from pathlib import Path

    from qlung_plugin.report.embeddings import check_method
    from qlung_plugin.report.page import render_page
    from qlung_plugin.report.recordings import use_recordings
    from qlung_plugin.report.sources import find_runs
    from qlung_plugin.runs.evaluations import Damage
    from qlung_plugin.utils.files import write_text

    if Path(arguments.output).is_dir():
        raise ValueError(f"{arguments.output} is a folder: name a file")
    check_method(arguments.map)
    runs, evaluations, notes = find_runs(
        arguments.folders, arguments.checkpoint
    )
    recordings = use_recordings(
        runs,
        data_folder=arguments.data_folder,
        sounds=arguments.sounds,
        method=arguments.map,
        device=arguments.device,
        trust=arguments.trust,
    )
    for note in notes + recordings.notes:
        print(f"qlung: {printable(note)}", file=sys.stderr)
    page = render_page(runs, evaluations, notes, recordings, arguments.map)
    write_text(page, arguments.output)
    size = Path(arguments.output).stat().st_size / 1e6
    about = f"({size:.1f} MB, {len(recordings.media)} sounds)"
    print(printable(f"{arguments.output} {about}"))
    return int(any(isinstance(note, Damage) for note in notes))
