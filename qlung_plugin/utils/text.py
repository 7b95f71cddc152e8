"""Text of strangers on a terminal, and in what is read there.

Authors
 * qlung_plugin contributors
"""

import argparse
import logging
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any, NoReturn

_format_warning = warnings.formatwarning
_refuse = argparse.ArgumentParser.error


def printable(text: object) -> str:
    """A text in one line in which nothing controls a terminal."""
    return _escape(" ".join(str(text).split()))


def printable_lines(text: str) -> str:
    """A text of several lines, as :func:`printable`: breaks and blanks stay."""
    return "\n".join(map(_escape, text.split("\n")))


def guard_terminal() -> None:
    """From now on, what this process, or a library in it, logs, warns of, refuses
    or does not catch controls no terminal, whatever names of files it quotes.
    """
    logging.setLogRecordFactory(_PrintableRecord)
    warnings.formatwarning = _printable_warning
    # A method of the library, replaced.
    argparse.ArgumentParser.error = _printable_refusal  # type: ignore
    sys.excepthook = print_traceback


def print_note(message: str) -> None:
    """Prints a line on stderr in which nothing controls the terminal."""
    print(f"qlung: {printable(message)}", file=sys.stderr)


def print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Prints on stderr what ``sys.excepthook`` does."""
    lines = traceback.format_exception(kind, error, trace)
    print(printable_lines("".join(lines)), end="", file=sys.stderr)


def _printable_warning(*args: Any, **kwargs: Any) -> str:
    return printable_lines(_format_warning(*args, **kwargs))


def _printable_refusal(
    parser: argparse.ArgumentParser, message: str
) -> NoReturn:
    _refuse(parser, printable_lines(message))


class _PrintableRecord(logging.LogRecord):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info:
            trace = logging.Formatter().formatException(self.exc_info)
            self.exc_text = printable_lines(trace)

    def getMessage(self) -> str:
        return printable_lines(super().getMessage())


def _escape(line: str) -> str:
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in line
    )
