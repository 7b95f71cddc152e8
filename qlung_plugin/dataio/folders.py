"""The folders of a database: what lies in them, which is read, what is odd.

What is odd but usable becomes a sentence with a count in a list of warnings, or
an error where nothing may be odd.

Authors
 * qlung_plugin contributors
"""

import os
from pathlib import Path

from qlung_plugin.dataio.fields import some


def walk_folders(root, depth, strict, warnings):
    """Goes through a folder and those in it, links to folders included.

    Arguments
    ---------
    root : pathlib.Path
        Where to begin; what does not exist has no folders.
    depth : int
        How many levels of folders below it are looked into.
    strict : bool
        Whether a folder that cannot be read is an error.
    warnings : list
        Gains a sentence if folders below the root cannot be read.

    Yields
    ------
    folder : pathlib.Path
        A folder.
    names : list of str
        The files in it, sorted.

    Raises
    ------
    OSError
        If the root itself cannot be read.
    """
    unread = []

    def note(error):
        if Path(error.filename) != root:
            unread.append(error.filename)
        elif root.is_dir():
            raise error

    for folder, subfolders, names in os.walk(
        root, onerror=note, followlinks=True
    ):
        folder = Path(folder)
        if len(folder.relative_to(root).parts) == depth:
            subfolders.clear()
        yield folder, sorted(names)
    problems = {"folders that cannot be read": sorted(unread)}
    report_problems(problems, root, strict, warnings)


def only_copy(found, what, argument, warnings):
    """The folder to read of those that hold the same files.

    Arguments
    ---------
    found : dict
        What each folder (pathlib.Path) holds, in a form that can be compared.
        Different contents are a ValueError.
    what : str
        What they hold, in words.
    argument : str
        The name of the argument that may point at one of them.
    warnings : list
        Gains a sentence per folder that is not read.

    Returns
    -------
    folder : pathlib.Path
        The folder nearest to the root.
    """
    first, *others = sorted(found, key=lambda path: (len(path.parts), path))
    for other in others:
        if found[other] != found[first]:
            raise ValueError(
                f"both {first} and {other} hold {what}, and not the same ones:"
                f" let {argument} point at one of them"
            )
        message = f"{other} repeats {first} and is not read"
        if message not in warnings:
            warnings.append(message)
    return first


def report_problems(problems, place, strict, warnings):
    """Warns of what is wrong with some files; it is an error if strict.

    Arguments
    ---------
    problems : dict
        Lists of names by what is wrong with them.
    place : str or pathlib.Path
        Where they are.
    strict : bool
        Whether to raise a ValueError.
    warnings : list
        Gains a sentence per problem that occurs.

    Example
    -------
    >>> warnings = []
    >>> problems = {"files without sound": ["a.wav"], "odd files": []}
    >>> report_problems(problems, "data", False, warnings)
    >>> warnings
    ['data: 1 files without sound: a.wav']
    """
    for problem, names in problems.items():
        message = f"{place}: {len(names)} {problem}: {some(names)}"
        if names and strict:
            raise ValueError(message)
        if names:
            warnings.append(message)
