"""A folder of Parquet files, written by many at once and gone on with after a kill.

Authors
 * qlung_plugin contributors
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

from qlung_plugin.utils.journal import check_settings
from qlung_plugin.utils.stores import (
    is_remote,
    local_path,
    open_store,
    telling,
    write_bytes,
)

if TYPE_CHECKING:
    import pyarrow
    from fsspec import AbstractFileSystem

SUFFIX = ".parquet"
KEY = b"qlung"  # of the footer, under which a partition says what it is of
# Begins the name of a file that says how often each piece was tried.
TRIES = ".tries-"
READERS = 16  # footers that are read at a time
PIECE = "recording"  # the column that names the piece of a row


class Partitions:
    """A folder of Parquet files, each with the rows of some named pieces.

    The footer of each says, as JSON, of which pieces it is, by the digest of what
    each was made of, or null if it failed, and all else that these depend on. So
    there is nothing beside the files that could be lost, or contradict them. Each
    is there as a whole or not at all, under a name that follows from its pieces:
    whoever makes the same ones again replaces it.

    Arguments
    ---------
    folder : str
        A path, or a URL that fsspec knows. It is made.
    settings : dict
        All that the pieces depend on besides their content, as plain data.

    Example
    -------
    >>> import pyarrow
    >>> folder = str(getfixture("tmp_path") / "squares")
    >>> partitions = Partitions(folder, {"power": 2})
    >>> rows = pyarrow.table({"recording": ["two", "three"], "square": [4, 9]})
    >>> partitions.write(rows, {"two": "2", "three": None})
    >>> partitions = Partitions(folder, {"power": 2})
    >>> partitions.open(resume=True)
    >>> partitions.finished
    {'two': '2'}
    >>> partitions.keep(["two"])
    >>> import pandas
    >>> pandas.read_parquet(folder)["square"].tolist()
    [4]
    """

    def __init__(self, folder: str, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        # Whoever writes may be in another folder.
        here = not is_remote(folder)
        self._place = os.path.abspath(local_path(folder)) if here else folder
        self._pieces: dict[str, dict[str, str | None]] = {}  # by file

    def open(self, resume: bool) -> None:
        """Makes the folder, or reads what is there.

        If partitions are there and it is not to be gone on with, or something
        else is there, it is a FileExistsError; if they were written with other
        settings, a ValueError that names these.
        """
        store, root = open_store(self._place)
        if store.isfile(root):
            raise FileExistsError(
                f"{self.folder} is a file: partitions go into a folder"
            )
        with telling(self.folder):
            # Not after hours of work: whether it can be written to. Without
            # that, a store has no such folder.
            probe = f"{root}/.writable"
            write_bytes(store, probe, b"")
            names = [posixpath.basename(path) for path in store.ls(root, False)]
            store.rm_file(probe)
            for name in names:
                if name.startswith(TRIES):  # of workers that are gone
                    store.rm_file(f"{root}/{name}")
        names = sorted(n for n in names if not n.startswith((".", "_")))
        for name in names:
            if not name.endswith(SUFFIX):
                raise FileExistsError(
                    f"{self.folder} holds {name}, which is no partition: name"
                    " another --output"
                )
        if names and not resume:
            raise FileExistsError(
                f"{self.folder} holds partitions: --resume goes on with them;"
                " else remove it, or name another --output"
            )
        with ThreadPoolExecutor(READERS) as threads:
            footers = list(threads.map(self._read_footer, names))
        for name, (settings, pieces) in zip(names, footers):
            check_settings(self.folder, settings, self.settings)
            self._pieces[name] = pieces

    def _read_footer(self, name: str) -> tuple[dict, dict[str, str | None]]:
        """The settings and the pieces of a partition."""
        from pyarrow.parquet import read_schema

        store, root = open_store(self._place)
        try:
            with telling(self.folder), store.open(f"{root}/{name}") as file:
                footer = json.loads(read_schema(file).metadata[KEY])
            return footer["settings"], footer["pieces"]
        except (KeyError, TypeError, ValueError) as error:
            raise FileExistsError(
                f"{self.folder} holds {name}, which is no partition that this"
                " command wrote: name another --output"
            ) from error

    @property
    def names(self) -> set[str]:
        """Of the pieces that were there, failed ones, too."""
        return {name for pieces in self._pieces.values() for name in pieces}

    @property
    def finished(self) -> dict[str, str]:
        """What each of the pieces that were there was made of."""
        return {
            name: content
            for pieces in self._pieces.values()
            for name, content in pieces.items()
            if content is not None
        }

    def keep(self, names: Collection[str]) -> None:
        """Takes the rows of all pieces but these out."""
        from pyarrow import array, compute, string
        from pyarrow.parquet import read_table

        store, root = open_store(self._place)
        for name, pieces in self._pieces.items():
            kept = {piece: pieces[piece] for piece in pieces if piece in names}
            if kept == pieces:
                continue
            path = f"{root}/{name}"
            with telling(self.folder):
                if not kept:
                    store.rm_file(path)
                    continue
                with store.open(path) as file:
                    rows = read_table(file)
            of_kept = compute.is_in(rows[PIECE], array(list(kept), string()))
            self._write(name, rows.filter(of_kept), kept)

    def write(
        self, rows: "pyarrow.Table", pieces: Mapping[str, str | None]
    ) -> None:
        """Writes the rows of pieces, of which each name comes with its content."""
        self._write(f"part-{_digest(pieces)}{SUFFIX}", rows, pieces)

    def read_tries(self, names: Iterable[str]) -> dict[str, int] | None:
        """How often whoever wrote the partition of these was lost at each.

        None, if nobody began it, or it is written.
        """
        store, path = self._tries(names)
        try:
            with telling(self.folder):
                return json.loads(store.cat_file(path))
        except FileNotFoundError:
            return None

    def write_tries(
        self, names: Iterable[str], tries: Mapping[str, int] | None
    ) -> None:
        """Notes these for whoever comes after this process; None: no more."""
        store, path = self._tries(names)
        with telling(self.folder):
            if tries is None:
                with suppress(FileNotFoundError):  # two may be at the same
                    store.rm_file(path)
            else:
                write_bytes(store, path, json.dumps(tries).encode())

    def _tries(self, names: Iterable[str]) -> "tuple[AbstractFileSystem, str]":
        store, root = open_store(self._place)
        return store, f"{root}/{TRIES}{_digest(names)}"

    def _write(
        self, name: str, rows: "pyarrow.Table", pieces: Mapping[str, str | None]
    ) -> None:
        from pyarrow.parquet import write_table

        footer = json.dumps({"settings": self.settings, "pieces": pieces})
        buffer = BytesIO()
        write_table(rows.replace_schema_metadata({KEY: footer}), buffer)
        store, root = open_store(self._place)
        with telling(self.folder):
            write_bytes(store, f"{root}/{name}", buffer.getvalue())


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:20]
