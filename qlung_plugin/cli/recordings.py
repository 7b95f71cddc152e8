"""What the commands share that go over recordings.

Authors
 * qlung_plugin contributors
"""

import argparse
import logging
import os
import sys
from functools import partial
from pathlib import Path

from qlung_plugin.utils.text import print_traceback, printable

CYCLES = """\
cycles:
  auto          the annotation beside a recording, of its name and with the
                suffix .txt (ICBHI), .json (SPRSound) or .csv (columns start and
                end, in seconds), if its content is one; else segmentation
  segmentation  breaths that are found in the recording, with how sure that is
  windows       of 8 s, every 4 s
  FILE          an annotation, or a .csv of several recordings with a column
                recording, too
  FOLDER        annotations called like their recordings"""


def add_recordings(parser):
    """Adds the arguments that say which recordings, and how they are read.

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
        "--channel",
        type=positive,
        metavar="N",
        help="read this channel alone, from 1 (default: the mean of those with"
        " sound)",
    )
    parser.add_argument(
        "--allow-truncated",
        action="store_true",
        help="take what there is of a file that holds less than its header"
        " says, and mark it (default: it fails)",
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
    others; so is what cannot be reached, and what is left out.

    Arguments
    ---------
    arguments : argparse.Namespace
        With ``paths``, ``cycles``, ``jobs`` and ``debug``.
    function : callable
        ``function(prepared, path, cycles=...)``.
    prepare : callable
        See :func:`qlung_plugin.utils.pool.over_files`.
    write : callable
        ``write(path, result)``, called in the order of the recordings.

    Returns
    -------
    int
        1 if a recording failed, or what may be one cannot be reached, else 0.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or a folder has no recording.
    ValueError
        If the cycles are those of one recording, and there are more.
    """
    from tqdm import tqdm

    from qlung_plugin.dataio.cycle_tables import share_out
    from qlung_plugin.dataio.finding import find_recordings
    from qlung_plugin.utils.pool import default_jobs, over_files

    paths, unreachable, repeated = find_recordings(arguments.paths)
    check_cycles(arguments.cycles, len(paths))
    shares, notes = share_out(arguments.cycles, paths)
    for sentence in unreachable + repeated + notes:
        tell(sentence)
    jobs = arguments.jobs or default_jobs(len(paths))
    failed = 0
    progress = tqdm(
        over_files(
            partial(with_warnings, function),
            zip(paths, shares),
            prepare,
            jobs,
        ),
        total=len(paths),
        unit="recording",
        disable=None,  # no bar where nobody looks: in a file or a pipe
        # Of a terminal that does not know its size, tqdm would show nothing.
        **({"dynamic_ncols": True} if sized() else {"ncols": 80, "nrows": 24}),
    )
    for (path, _), outcome in progress:
        # The bar and the results may share a terminal.
        with tqdm.external_write_mode(sys.stdout):
            if not isinstance(outcome, Exception):
                result, warnings = outcome
                for warning in warnings:
                    tell(warning)
                write(path, result)
                sys.stdout.flush()
                continue
            failed += 1
            if arguments.debug:
                print_traceback(type(outcome), outcome, outcome.__traceback__)
            message = str(outcome)
            if str(path) not in message:
                message = f"{path}: {message}"
            tell(message)
    counts = []
    if failed and len(paths) > 1:
        counts.append(f"{failed} of {len(paths)} recordings failed")
    if unreachable:
        counts.append(f"{len(unreachable)} could not be reached")
    if repeated:
        counts.append(f"{len(repeated)} left out as second names")
    if counts:
        tell(", ".join(counts))
    return int(bool(failed or unreachable))


def sized():
    """Whether stderr is a terminal that knows its size."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return False


def tell(message):
    """Prints a line on stderr in which nothing controls the terminal."""
    print(f"qlung: {printable(message)}", file=sys.stderr)


def with_warnings(function, prepared, item):
    """The result of a function, and what this package logged meanwhile.

    So that a warning of another process is told in its place, too.

    Arguments
    ---------
    function : callable
        ``function(prepared, path, cycles=...)``.
    prepared
        See :func:`qlung_plugin.utils.pool.over_files`.
    item : tuple
        The recording's path, and where its cycles come from.

    Returns
    -------
    tuple
        The result, and a list of messages.
    """
    path, cycles = item
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("qlung_plugin")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        return function(prepared, path, cycles=cycles), messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


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
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
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
