"""What the commands share that go over recordings.

Authors
 * qlung_plugin contributors
"""

import argparse
import sys
import traceback
from pathlib import Path

CYCLES = """\
cycles:
  auto          the annotation beside a recording, of its name and with the
                suffix .txt (ICBHI), .json (SPRSound) or .csv (columns start and
                end, in seconds); without one, segmentation
  segmentation  breaths that are found in the recording, with how sure that is
  windows       of 8 s, every 4 s
  FILE          an annotation, or a .csv of several recordings with a column
                recording, too
  FOLDER        annotations called like their recordings"""


def add_recordings(parser):
    """Adds the arguments that say which recordings, and how fast.

    Arguments
    ---------
    parser : argparse.ArgumentParser
        Of the command.
    """
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a recording, or a folder of recordings",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="number of processes (default: one per core, if it is worth it)",
    )


def add_cycles(parser):
    """Adds the argument that says where the cycles are; see :data:`CYCLES`."""
    parser.add_argument(
        "--cycles",
        default="auto",
        metavar="SOURCE",
        help="auto, segmentation, windows, a FILE or a FOLDER, see below"
        " (default: auto)",
    )


def for_each(arguments, function, prepare, write):
    """Goes over the recordings of a command line and writes the results.

    A recording that fails is told in a line on stderr, and does not stop the
    others.

    Arguments
    ---------
    arguments : argparse.Namespace
        With ``paths``, ``cycles``, ``jobs`` and ``debug``.
    function, prepare : callable
        See :func:`qlung_plugin.utils.pool.over_files`.
    write : callable
        ``write(path, result)``, called in the order of the recordings.

    Returns
    -------
    int
        1 if a recording failed, else 0.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or a folder has no recording.
    ValueError
        If the cycles are those of one recording, and there are more.
    """
    from tqdm import tqdm

    from qlung_plugin.inference.recordings import find_recordings
    from qlung_plugin.utils.pool import default_jobs, over_files

    paths = find_recordings(arguments.paths)
    check_cycles(arguments.cycles, len(paths))
    jobs = arguments.jobs or default_jobs(len(paths))
    failed = 0
    progress = tqdm(
        over_files(function, paths, prepare, jobs),
        total=len(paths),
        unit="recording",
        disable=None,  # no bar where nobody looks: in a file or a pipe
        dynamic_ncols=True,
    )
    for path, outcome in progress:
        # The bar and the results may share a terminal.
        with tqdm.external_write_mode(sys.stdout):
            if not isinstance(outcome, Exception):
                write(path, outcome)
                sys.stdout.flush()
                continue
            failed += 1
            if arguments.debug:
                traceback.print_exception(outcome)
            message = str(outcome)
            if str(path) not in message:
                message = f"{path}: {message}"
            print(f"qlung: {' '.join(message.split())}", file=sys.stderr)
    if failed and len(paths) > 1:
        count = f"{failed} of {len(paths)} recordings"
        print(f"qlung: {count} failed", file=sys.stderr)
    return int(failed > 0)


def check_cycles(source, count):
    """Raises what is wrong with ``--cycles`` for all recordings alike.

    Arguments
    ---------
    source : str
        See :data:`CYCLES`.
    count : int
        How many recordings there are.

    Raises
    ------
    FileNotFoundError
        If there is no such source.
    ValueError
        If it is the annotation of one recording, and there are more.
    """
    if source in ("auto", "segmentation", "windows"):
        return
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"{source} does not exist: --cycles is a file, a folder, auto,"
            " segmentation or windows"
        )
    one = path.is_file() and path.suffix.lower() in (".txt", ".json")
    if one and count > 1:
        raise ValueError(
            f"{source} annotates one recording, not {count}: pass a folder of"
            " annotations, or a .csv with a column recording"
        )


def positive(text):
    """A whole number above 0, for argparse.

    Example
    -------
    >>> positive("2")
    2
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


def is_missing(value):
    """Whether a value is NaN."""
    return isinstance(value, float) and value != value


def csv_field(value):
    """A value for a table: six decimals, and nothing where it is missing.

    Example
    -------
    >>> csv_field(0.25), csv_field(float("nan")), csv_field("normal")
    ('0.250000', '', 'normal')
    """
    if is_missing(value):
        return ""
    return f"{value:.6f}" if isinstance(value, float) else value
