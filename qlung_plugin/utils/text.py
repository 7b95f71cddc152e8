"""Text of strangers on a terminal.

Authors
 * qlung_plugin contributors
"""


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
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in " ".join(str(text).split())
    )
