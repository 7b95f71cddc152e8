"""A file that the commands over recordings write, and go on with.

Authors
 * qlung_plugin contributors
"""

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from qlung_plugin import __version__
from qlung_plugin.dataio.fields import some
from qlung_plugin.utils.text import print_note

if TYPE_CHECKING:
    from qlung_plugin.dataio.cycle_tables import CycleRows
    from qlung_plugin.utils.journal import JournaledFile

R = TypeVar("R")  # a result
Item: TypeAlias = "tuple[Path, CycleRows | str]"  # a recording, and its cycles

RESUMING = """\
An --output is written as it goes. If the command is interrupted, or killed, the
same one with --resume goes on: what is finished is not done again, as long as
the recording, its annotation, the model and the options are the same; what
failed is tried again, and what is new is added. The file is the same, to the
byte, as without an interruption. FILE.progress beside it knows what is in it:
without that, it can be read, but not gone on with."""

# What does not change the results, or is looked at by content.
NO_SETTINGS = {
    *("paths", "jobs", "debug", "run", "output", "resume", "histogram"),
    *("model", "checkpoint", "trust", "runner"),
}


def add_output(
    parser: argparse.ArgumentParser,
    help: str = "write this file, as it goes (default: standard output)",
    required: bool = False,
) -> None:
    """Adds the arguments that say which file is written."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=help, required=required
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the --output, see below; it need not be there yet",
    )


@contextmanager
def open_output(
    arguments: argparse.Namespace,
    describe: Callable[[argparse.Namespace], dict[str, str]] = lambda _: {},
) -> Iterator["JournaledFile | None"]:
    """The output that the arguments ask for, or None if it is stdout.

    It is complete if no exception leaves the context. What the results depend
    on are the options, and what ``describe(arguments)`` says besides.
    """
    from qlung_plugin.utils.journal import JournaledFile

    if arguments.output is None:
        if arguments.resume:
            raise ValueError("--resume needs the --output to go on with")
        yield None
        return
    settings = settings_of(arguments, describe)
    output = JournaledFile(arguments.output, settings, arguments.resume)
    if output.changed:
        print_note(
            f"{output.path} was changed since it was written: {output.changed}"
            " recordings are done again"
        )
    try:
        yield output
        output.finish()
    except BaseException as error:
        output.close()
        if isinstance(error, KeyboardInterrupt):
            print_note(
                f"{output.path} is not complete: --resume goes on with it"
            )
        raise


def settings_of(
    arguments: argparse.Namespace,
    describe: Callable[[argparse.Namespace], dict[str, str]],
) -> dict[str, Any]:
    """What the results of a command depend on, see :func:`open_output`."""
    options = {
        f"--{name.replace('_', '-')}": value
        for name, value in vars(arguments).items()
        if name not in NO_SETTINGS
    }
    command = arguments.run.__module__.rpartition(".")[2]
    return {
        "qlung": f"{command} {__version__}",
        **options,
        **describe(arguments),
    }


def check_recordings(
    output: Path | str,
    names: Iterable[str],
    recordings: Iterable[Path | str],
    exists: Callable[[str], bool] = os.path.exists,
) -> None:
    """Raises a ValueError if there are others in an output, which would go."""
    others = set(names) - {str(path) for path in recordings}
    lost = sorted(name for name in others if exists(name))
    if lost:
        raise ValueError(
            f"{output} holds {len(lost)} recordings that are not given:"
            f" {some(lost)}; give them, too, or name another --output"
        )
    if others:
        print_note(
            f"{output}: {len(others)} recordings are left out, which are no"
            f" longer there: {some(sorted(others))}"
        )


def over_unfinished(
    over: Callable[[Iterable[Item]], Iterable[tuple[Item, R]]],
    items: Sequence[Item],
    output: "JournaledFile | None",
) -> Iterator[tuple[Path, R | None]]:
    """Each recording in order, with its outcome; None if the output has it.

    The others are gone over by ``over``, which looks ahead.
    """

    def unfinished() -> Iterator[Item]:
        for path, cycles in items:
            if (
                output is None
                or str(path) not in output.names
                or not output.is_finished(
                    str(path), digest_content(path, cycles)
                )
            ):
                yield path, cycles

    order = (path for path, _ in items)
    for (path, _), outcome in over(unfinished()):
        for earlier in takewhile(path.__ne__, order):
            yield earlier, None
        yield path, outcome
    for path in order:
        yield path, None


def digest_content(
    recording: Path,
    cycles: "CycleRows | str",
    name: Callable[[Path], str] = str,
) -> str:
    """Digest of a recording's bytes, and of what its cycles are read from.

    The names of these count, too: ``name`` tells those of copies.
    """
    from qlung_plugin.dataio.annotations import candidates
    from qlung_plugin.dataio.cycle_tables import CycleRows
    from qlung_plugin.runs.configuration import digest_file

    files, rows = [recording], []
    if isinstance(cycles, CycleRows):
        rows = [times for _, *times in cycles.rows or []]
    else:
        files += candidates(cycles, recording)
    digests = [
        [name(path), digest_file(path)] for path in files if path.is_file()
    ]
    return hashlib.sha256(json.dumps([digests, rows]).encode()).hexdigest()
