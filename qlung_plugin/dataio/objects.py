"""Recordings in object stores: finding them, and copying one to work on it.

Authors
 * qlung_plugin contributors
"""

import posixpath
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from qlung_plugin.dataio.annotations import names_beside
from qlung_plugin.dataio.finding import SUFFIXES
from qlung_plugin.utils.stores import open_store, telling


class StoredRecording(NamedTuple):
    """A recording in a store, and what may annotate it."""

    url: str
    beside: tuple[str, ...] = ()  # URLs


def find_objects(url: str) -> list[StoredRecording]:
    """The recordings that a URL names, sorted.

    An object is taken as it is; in a folder they are looked for by their suffix,
    at any depth, but for what is hidden, as
    :func:`qlung_plugin.dataio.finding.find_recordings` does. What is not there, or
    a folder without a recording, is a FileNotFoundError.

    Example
    -------
    >>> import fsspec
    >>> store = fsspec.filesystem("memory")
    >>> store.pipe(
    ...     {"/ward/a.wav": b"", "/ward/a.txt": b"", "/ward/.b.wav": b""}
    ... )
    >>> find_objects("memory://ward")
    [StoredRecording(url='memory:///ward/a.wav', beside=('memory:///ward/a.txt',))]
    """
    store, root = open_store(url)
    with telling(url):
        if store.info(root)["type"] == "file":
            files, found = store.ls(posixpath.dirname(root), False), [root]
        else:
            store.ls(root)  # what cannot be listed, find leaves out
            files = sorted(store.find(root))
            found = [path for path in files if _is_recording(path, root)]
    if not found:
        raise FileNotFoundError(
            f"{url} holds no recording: no file in it ends in"
            f" {' '.join(sorted(SUFFIXES))}"
        )
    beside: dict[str, set[str]] = defaultdict(set)  # names by folder
    for path in files:
        folder, name = posixpath.split(path)
        beside[folder].add(name)
    recordings = []
    for path in found:
        folder, name = posixpath.split(path)
        annotations = [
            store.unstrip_protocol(f"{folder}/{candidate.name}")
            for candidate in names_beside(Path(name))
            if candidate.name in beside[folder]
        ]
        recordings.append(
            StoredRecording(store.unstrip_protocol(path), tuple(annotations))
        )
    return recordings


def _is_recording(path: str, root: str) -> bool:
    parts = posixpath.relpath(path, root).split("/")
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and Path(path).suffix.lower() in SUFFIXES


@contextmanager
def copied(recording: StoredRecording) -> Iterator[Path]:
    """A copy of a recording on the disk, with its annotations beside it.

    It is gone afterwards. What an error says of the copy, it says of the recording.
    """
    with TemporaryDirectory(prefix="qlung-") as folder:
        for url in (recording.url, *recording.beside):
            store, path = open_store(url)
            with telling(url):
                store.get_file(
                    path, str(Path(folder, posixpath.basename(path)))
                )
        yield Path(folder, posixpath.basename(recording.url))
