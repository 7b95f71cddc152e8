"""Text of strangers on a terminal, and in what is read there.

Authors
 * qlung_plugin contributors
"""

import argparse
import logging
import sys
import traceback
import warnings

_format_warning = warnings.formatwarning
_refuse = argparse.ArgumentParser.error


def printable(text):
    r"""A text in one line in which nothing controls a terminal.

    Names of files and what stands in them may hold sequences that clear the
    screen, set the title, or turn the order of letters round.

    Arguments
    ---------
    text : object
        What is printed, such as a path or an exception.

    Returns
    -------
    str
        White space is one space; what is not printable is written as Python
        writes it, such as ``\\x1b``. Bytes of a file name that are no text in
        the system's encoding, too.

    Example
    -------
    >>> printable("no cycle in\n'\x1b[2J.wav'")
    "no cycle in '\\x1b[2J.wav'"
    """
    return _escape(" ".join(str(text).split()))


def printable_lines(text):
    r"""A text of several lines, such as a table, that controls no terminal.

    Arguments
    ---------
    text : str
        What is printed, or written to be read.

    Returns
    -------
    str
        As :func:`printable`, but line breaks and blanks stay.

    Example
    -------
    >>> printable_lines("device  score\n\x1b[2J    50.00\n")
    'device  score\n\\x1b[2J    50.00\n'
    """
    return "\n".join(map(_escape, text.split("\n")))


def guard_terminal():
    """From now on, what this process says on its own controls no terminal.

    To be called where a program starts, and in the processes that it starts.
    What is logged, warned of, raised and not caught, or refused on a command
    line may quote names and files of strangers, whoever writes it: libraries
    do, too. What is printed is left to whoever prints it.
    """
    logging.setLogRecordFactory(_PrintableRecord)
    warnings.formatwarning = _printable_warning
    argparse.ArgumentParser.error = _printable_refusal
    sys.excepthook = print_traceback


def print_traceback(kind, error, trace):
    """Prints on stderr what ``sys.excepthook`` does, with the same arguments.

    Arguments
    ---------
    kind : type
        Of the exception.
    error : BaseException
        What was raised.
    trace : traceback
        Where.
    """
    lines = traceback.format_exception(kind, error, trace)
    print(printable_lines("".join(lines)), end="", file=sys.stderr)


def _printable_warning(*args, **kwargs):
    return printable_lines(_format_warning(*args, **kwargs))


def _printable_refusal(parser, message):
    _refuse(parser, printable_lines(message))


class _PrintableRecord(logging.LogRecord):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.exc_info:
            trace = logging.Formatter().formatException(self.exc_info)
            self.exc_text = printable_lines(trace)

    def getMessage(self):
        return printable_lines(super().getMessage())


def _escape(line):
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in line
    )
