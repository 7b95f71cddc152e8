"""The folders of a database: which is read, what is odd, what is not written.

What is odd but usable becomes a sentence with a count in a list of warnings, or
an error where nothing may be odd.

Authors
 * qlung_plugin contributors
"""

import os
from pathlib import Path

from qlung_plugin.dataio.fields import some

SEARCH_DEPTH = 8  # folders below the data folder, which may hold link loops


def check_folders(data_folder, output_folder):
    """The two folders as absolute paths; data are never written to.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Where the database is.
    output_folder : str or pathlib.Path
        Where the manifests go; within the data folder it is a ValueError.

    Returns
    -------
    data_folder : pathlib.Path
        Links in it are kept, since manifests are relative to it.
    output_folder : pathlib.Path
        Links in it are resolved.
    """
    check_outside(data_folder, {"output_folder": output_folder})
    return Path(os.path.abspath(data_folder)), Path(output_folder).resolve()


def check_outside(data_folder, places):
    """Refuses to write within the data folder.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Where the database is.
    places : dict
        Files and folders that are going to be written, by their option.

    Example
    -------
    >>> check_outside("/data/ICBHI", {"cache_folder": "/data/ICBHI/cache"})
    Traceback (most recent call last):
    ValueError: cache_folder /data/ICBHI/cache lies in the data folder \
/data/ICBHI, which is never written to: choose another one
    """
    for option, place in places.items():
        if Path(place).resolve().is_relative_to(Path(data_folder).resolve()):
            raise ValueError(
                f"{option} {place} lies in the data folder {data_folder},"
                " which is never written to: choose another one"
            )


def check_data_folder(data_folder):
    """Refuses a data folder that holds no recording, before what takes time.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Where the database is.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no ``.wav`` in it.

    Example
    -------
    >>> check_data_folder("/nowhere")
    Traceback (most recent call last):
    FileNotFoundError: data_folder /nowhere does not exist
    """
    if not Path(data_folder).is_dir():
        state = (
            "is no folder" if Path(data_folder).exists() else "does not exist"
        )
        raise FileNotFoundError(f"data_folder {data_folder} {state}")
    top = len(Path(data_folder).parts)
    for folder, subfolders, names in os.walk(data_folder, followlinks=True):
        if any(name.lower().endswith(".wav") for name in names):
            return
        if len(Path(folder).parts) - top == SEARCH_DEPTH:
            subfolders.clear()
    raise FileNotFoundError(f"data_folder {data_folder} holds no recording")


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
