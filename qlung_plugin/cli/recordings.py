"""What the commands share that go over recordings.

Authors
 * qlung_plugin contributors
"""

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, TypeVar

from qlung_plugin.cli.arguments import whole_number
from qlung_plugin.utils.text import print_note, print_traceback, printable

if TYPE_CHECKING:
    import pandas as pd

    from qlung_plugin.utils.journal import JournaledFile

P = TypeVar("P")  # what is prepared
R = TypeVar("R")  # a result

Output: TypeAlias = "TextIO | JournaledFile"  # where results are written to

CYCLES = """\
cycles:
  auto          the annotation beside a recording, of its name and with the
                suffix .txt (ICBHI, or labels of Audacity or Raven), .json
                (SPRSound) or .csv (columns start and end, in seconds), if its
                content is one; else segmentation
  segmentation  breaths that are found in the recording, with how sure that is
  windows       of 5 s, every 2.5 s
  FILE          an annotation, or a .csv of several recordings with a column
                recording, too, or a table of Raven with the column Begin File
  FOLDER        annotations called like their recordings"""


# How the progress over recordings is shown.
BAR: dict[str, Any] = {
    "unit": "recording",
    "disable": None,  # no bar where nobody looks: in a file or a pipe
    # Of a terminal that does not know its size, tqdm would show nothing.
    "ncols": 80,
    "nrows": 24,
}

above_zero = partial(whole_number, low=1, meaning="number above 0")


def add_recordings(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which recordings, and how they are read."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a recording, or a folder of recordings",
    )
    parser.add_argument(
        "--channel",
        type=above_zero,
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
        type=above_zero,
        metavar="N",
        help="number of processes (default: one per core, if it is worth it)",
    )


def add_cycles(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that says where the cycles are; see :data:`CYCLES`."""
    parser.add_argument(
        "--cycles",
        default="auto",
        metavar="SOURCE",
        help="auto, segmentation, windows, a FILE or a FOLDER, see below"
        " (default: auto)",
    )


def for_each(
    arguments: argparse.Namespace,
    function: Callable[..., R],
    prepare: Callable[[], P],
    write: Callable[[Path, R], None],
    output: "JournaledFile | None" = None,
) -> int:
    """Goes over the recordings of a command line and writes the results.

    What ``function(prepared, path, cycles=...)`` gives goes to ``write`` in the
    order of the recordings; for ``prepare``, see
    :func:`qlung_plugin.utils.pool.over_files`. A recording that fails is named
    on stderr, and does not stop the others; so is what cannot be reached, and
    what is left out. What is finished in an output is not done again.

    It returns 1 if a recording failed, or what may be one cannot be reached,
    else 0. If a path does not exist, or a folder has no recording, it is a
    FileNotFoundError; if the cycles are those of one recording, and there are
    more, or the output is of other recordings, a ValueError.
    """
    from tqdm import tqdm

    from qlung_plugin.cli.output import (
        check_recordings,
        digest_content,
        over_unfinished,
    )
    from qlung_plugin.dataio.finding import find_recordings
    from qlung_plugin.dataio.shares import share_out
    from qlung_plugin.utils.pool import default_jobs, over_files
    from qlung_plugin.utils.stores import is_remote

    for name in filter(is_remote, arguments.paths):
        raise ValueError(f"{name} is in a store: --runner ray reads from there")
    paths, unreachable, repeated = find_recordings(arguments.paths)
    check_cycles(arguments.cycles, len(paths))
    shares, notes = share_out(arguments.cycles, paths)
    for sentence in unreachable + repeated + notes:
        print_note(sentence)
    if output is not None:
        check_recordings(output.path, output.names, paths)
    jobs = arguments.jobs or default_jobs(len(paths))
    failed = finished = 0
    digest = None if output is None else digest_content
    progress = tqdm(
        over_unfinished(
            partial(
                over_files,
                partial(with_warnings, function, digest),
                prepare=prepare,
                jobs=jobs,
            ),
            list(zip(paths, shares)),
            output,
        ),
        total=len(paths),
        **BAR,
    )
    for path, outcome in progress:
        if output is not None and outcome is None:
            output.repeat(str(path))
            finished += 1
            continue
        # The bar and the results may share a terminal.
        with tqdm.external_write_mode(sys.stdout):
            if not isinstance(outcome, Exception):
                result, warnings, content = outcome
                for warning in warnings:
                    print_note(warning)
                write(path, result)
                if output is None:
                    sys.stdout.flush()
                else:
                    output.commit(str(path), content)
                continue
            failed += 1
            if arguments.debug:
                print_traceback(type(outcome), outcome, outcome.__traceback__)
            print_note(describe_failure(str(path), outcome))
    print_counts(len(paths), finished, failed, len(unreachable), len(repeated))
    return int(bool(failed or unreachable))


def describe_failure(name: str, error: Exception) -> str:
    """What is said of a recording that failed."""
    message = str(error)
    return message if name in message else f"{name}: {message}"


def print_counts(
    total: int, finished: int, failed: int, unreachable: int, repeated: int
) -> None:
    """Prints what is to be said of all recordings of a command, if anything."""
    counts = []
    if finished:
        counts.append(f"{finished} of {total} were finished before")
    if failed and total > 1:
        counts.append(f"{failed} of {total} recordings failed")
    if unreachable:
        counts.append(f"{unreachable} could not be reached")
    if repeated:
        counts.append(f"{repeated} left out as second names")
    if counts:
        print_note(", ".join(counts))


def with_warnings(
    function: Callable[..., R],
    digest: Callable[[Path, Any], str] | None,
    prepared: object,
    item: tuple[Path, Any],
) -> tuple[R, list[str], str]:
    """The result of a function, what this package logged meanwhile, and a digest.

    So that a warning of another process is printed in its place, too. The item
    is a recording's path, and where its cycles come from; the digest, if one is
    wanted, is of these as they were before.
    """
    path, cycles = item
    content = "" if digest is None else digest(path, cycles)
    handler = BufferingHandler(sys.maxsize)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("qlung_plugin")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        result = function(prepared, path, cycles=cycles)
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    return result, [r.getMessage() for r in handler.buffer], content


def check_cycles(source: str, count: int) -> None:
    """Raises what is wrong with ``--cycles`` for all recordings alike.

    A FileNotFoundError if there is no such source; a ValueError if it annotates
    one recording, and there are more.
    """
    if source in ("auto", "segmentation", "windows"):
        return
    from qlung_plugin.dataio.cycle_tables import read_raven_table

    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"{source} does not exist: --cycles is a file, a folder, auto,"
            " segmentation or windows"
        )
    of_one = path.is_file() and path.suffix.lower() in (".txt", ".json")
    if of_one and count > 1 and read_raven_table(path) is None:
        raise ValueError(
            f"{source} annotates one recording, not {count}: pass a folder of"
            " annotations, or a .csv with a column recording"
        )


class CsvTable:
    """Rows below a header; on a terminal, what is printed does not control it."""

    def __init__(self, file: Output, float_format: str = "%.6f") -> None:
        self.file, self.float_format = file, float_format
        self.header = True

    def write(self, table: "pd.DataFrame") -> None:
        """Writes rows, below the header if there are none yet."""
        from qlung_plugin.utils.journal import JournaledFile

        if self.file.isatty():
            texts = table.select_dtypes(exclude="number")
            table = table.assign(**texts.map(printable)).rename(
                columns=printable
            )
        header = table.iloc[:0].to_csv(index=False, lineterminator="\n")
        if isinstance(self.file, JournaledFile):
            self.file.head(header)
        elif self.header:
            self.file.write(header)
        self.header = False
        rows = table.to_csv(
            index=False,
            header=False,
            float_format=self.float_format,
            lineterminator="\n",
        )
        self.file.write(rows)
