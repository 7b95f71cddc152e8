"""Files that are written as a whole or not at all.

Authors
 * qlung_plugin contributors
"""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def write_json(obj, path):
    """Writes JSON in the order of the keys, NaN as null.

    Arguments
    ---------
    obj : dict or list
        Nested dicts, lists, texts and numbers, those of NumPy included.
    path : str or pathlib.Path
        The file; it is replaced at once, never left half written.
    """
    text = json.dumps(plain(obj), indent=2, allow_nan=False)
    write_text(text + "\n", path)


def write_text(text, path):
    """Writes a text file; it is replaced at once, never left half written."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_figure(figure, path):
    """Writes a figure in the format that the path ends in, such as ``.png``.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        The figure.
    path : str or pathlib.Path
        The file; it is replaced at once, never left half written.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary)


@contextmanager
def replacing(path):
    """A file beside ``path`` that takes its place once it is complete.

    Arguments
    ---------
    path : str or pathlib.Path
        The file, whose folder is made.

    Yields
    ------
    pathlib.Path
        Where to write. If that fails, ``path`` stays as it was.

    Example
    -------
    >>> path = getfixture("tmp_path") / "notes" / "a.txt"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_text("complete")
    >>> path.read_text()
    'complete'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def plain(obj):
    """The object in Python's own types, with None for NaN.

    Example
    -------
    >>> plain({"a": np.array([1.0, np.nan])})
    {'a': [1.0, None]}
    """
    if isinstance(obj, dict):
        return {key: plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [plain(value) for value in obj]
    if isinstance(obj, (np.generic, np.ndarray)):
        return plain(obj.tolist())
    return None if isinstance(obj, float) and np.isnan(obj) else obj
