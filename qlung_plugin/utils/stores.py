"""Files that lie on a disk or in an object store, by fsspec.

Authors
 * qlung_plugin contributors
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qlung_plugin.utils.files import replacing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

LOCAL = ("file://", "local://")

# What the libraries of stores raise besides an OSError: module and class.
FOREIGN_ERRORS = (
    ("aiohttp.client_exceptions", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("gcsfs.retry", "HttpError"),
)


def is_remote(path: str) -> bool:
    """Whether a path is a URL, of anything but the disk."""
    return "://" in path and not path.startswith(LOCAL)


def local_path(path: str) -> str:
    """A path on the disk, also if it is given as a URL."""
    for protocol in LOCAL:
        path = path.removeprefix(protocol)
    return path


def open_store(path: str) -> "tuple[AbstractFileSystem, str]":
    """The file system that a path is in, and the path there.

    A protocol that is unknown, or whose package is not installed, is a ValueError.
    """
    from fsspec import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if not is_remote(path):
        return LocalFileSystem(), os.path.abspath(local_path(path))
    try:
        with telling(path):
            store, place = url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{path} cannot be opened: {error}") from error
    return store, place.rstrip("/")


@contextmanager
def telling(path: str) -> Iterator[None]:
    """Whatever a store raises is an OSError that names the path."""
    try:
        yield
    except _store_errors() as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{path} does not exist") from error
        kind = (
            PermissionError if isinstance(error, PermissionError) else OSError
        )
        raise kind(f"{path} cannot be reached: {reason}") from error


def _store_errors() -> tuple[type[Exception], ...]:
    """Of the libraries that are in use."""
    foreign = [
        getattr(sys.modules[module], name)
        for module, name in FOREIGN_ERRORS
        if module in sys.modules
    ]
    return OSError, *foreign


def exists(path: str) -> bool:
    """Whether there is a file or an object."""
    store, place = open_store(path)
    with telling(path):
        return bool(store.exists(place))


def write_bytes(store: "AbstractFileSystem", path: str, content: bytes) -> None:
    """Writes a file as a whole or not at all."""
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(store, LocalFileSystem):
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    else:  # an object is there once all of it is
        store.pipe_file(path, content)
