"""Text of strangers on a terminal, and in what is read there.

Authors
 * qlung_plugin contributors
"""

import logging


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


def log_printable():
    """What is logged from now on does not control a terminal.

    Whoever logs and wherever to: warnings name files, and libraries do, too.
    """
    logging.setLogRecordFactory(_PrintableRecord)


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
