"""The ``qlung`` command.

A subcommand is a module of this package, listed in :data:`COMMANDS`, with the
texts ``HELP``, ``DESCRIPTION`` and ``EXAMPLES``, ``add_arguments(parser)``, and
``run(arguments)``, which may return an exit code. Their modules are imported for
``--help`` too, so what takes time to import is imported in ``run``.

Authors
 * qlung_plugin contributors
"""

import argparse
import io
import os
import sys

from qlung_plugin import __version__
from qlung_plugin.cli import (
    adapt,
    calibrate,
    classify,
    clips,
    components,
    demo,
    embed,
    export,
    labels,
    probe,
    quality,
    report,
)
from qlung_plugin.utils.text import guard_terminal, printable

COMMANDS = (
    *(classify, quality, embed, probe, adapt, calibrate, labels, clips),
    *(report, export, demo, components),
)

EXIT_CODES = """\
exit codes:
  0    done
  1    some recordings or runs failed, or recordings cannot be reached (links to
       nothing or to a folder, unreadable folders, FIFOs), which stderr
       explains; the others are done
  2    wrong usage or input, which a line on stderr explains
  130  interrupted
"""

# What the package raises if the input is wrong; anything else is a mistake of
# its own, and its traceback is wanted.
USER_ERRORS = (OSError, RuntimeError, ValueError)


def main(command_line: list[str] | None = None) -> int:
    """Runs a command line, by default the process's; returns the exit code."""
    _print_any_text()
    guard_terminal()
    arguments = _parser().parse_args(command_line)
    try:
        code = arguments.run(arguments) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        if arguments.debug:
            raise
        print(f"qlung: {printable(error)}", file=sys.stderr)
        return 2
    return code


def _print_any_text() -> None:
    """What the terminal's encoding lacks is printed as Python writes it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qlung",
        description="Respiratory sound classification with QLung.",
        epilog=f"example:\n  qlung quality recordings/ > quality.csv\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"qlung {__version__}"
    )
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.__name__.rpartition(".")[2],
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=f"{command.EXAMPLES}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.add_argument(
            "--debug", action="store_true", help="show where an error arises"
        )
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
