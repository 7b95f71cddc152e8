"""A text file that is written piece by piece, and gone on with after a kill.

Authors
 * qlung_plugin contributors
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from qlung_plugin.utils.files import replacing

SUFFIX = ".progress"


class JournaledFile:
    """A text file made of named pieces, in the order in which they are given.

    Beside it lies its journal, ``FILE.progress``, with a line of JSON for each
    piece, which is written before the piece. So however the file or the journal
    is cut off, a later process finds the pieces that are whole: it begins the
    file again, and repeats these instead of making them anew. Thus what comes out
    is the same, also if a piece that failed comes between others. Once the file is
    complete, its journal keeps no text, only the digests of the pieces: what is
    new since can be added.

    Arguments
    ---------
    path : str or Path
        The file. Its folder is made.
    settings : dict
        All else that the pieces depend on, as plain data.
    resume : bool
        Whether to go on with a file that is there.

    Raises
    ------
    FileExistsError
        If the file is there and is not to be gone on with, has no journal, or
        is written by another process.
    ValueError
        If it was written with other settings; the message names them.

    Example
    -------
    >>> path = getfixture("tmp_path") / "squares.csv"
    >>> file = JournaledFile(path, {"power": 2})
    >>> file.head("square\\n")
    >>> file.write("4\\n")
    >>> file.commit("two", content="2")
    >>> file.close()  # or the process is killed
    >>> file = JournaledFile(path, {"power": 2}, resume=True)
    >>> file.is_finished("two", content="2")
    True
    >>> file.repeat("two")
    >>> file.write("9\\n")
    >>> file.commit("three", content="3")
    >>> file.finish()
    >>> path.read_text().split()
    ['square', '4', '9']
    """

    def __init__(
        self,
        path: Path | str,
        settings: Mapping[str, Any],
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self.journal = self.path.with_name(self.path.name + SUFFIX)
        there = [p for p in (self.path, self.journal) if p.exists()]
        if there and not resume:
            raise FileExistsError(
                f"{there[0]} exists: --resume goes on with it; else remove it,"
                " or name another --output"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")
        try:
            self._open_journal(settings)
        except BaseException:
            self._file.close()
            raise

    def _open_journal(self, settings: Mapping[str, Any]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileExistsError(
                f"{self.path} is being written by another process"
            ) from error
        self.changed = 0  # pieces of a complete file that are not as they were
        self._header, self._buffer, self._begun = "", "", False
        self._index: list[dict] = []  # of what is in the file
        # Of the pieces in the journal: what they were made of, and the line.
        self._pieces: dict[str, tuple[str, int]] = {}
        first = next(self._read_lines(), None)
        if first is not None:
            check_settings(self.path, first[2].get("settings", {}), settings)
            if any("sha256" in entry for _, _, entry in self._read_lines()):
                self._expand()
        elif os.path.getsize(self.path):
            raise FileExistsError(
                f"{self.path} cannot be gone on with: what it is of is not"
                f" known without its {self.journal.name}; name another --output"
            )
        else:
            with replacing(self.journal) as temporary:
                temporary.write_bytes(_line({"settings": settings}))
        for offset, end, entry in self._read_lines():
            self._header = entry.get("header", self._header)
            if "name" in entry:
                self._pieces[entry["name"]] = entry["content"], offset
        self._log = open(self.journal, "r+b")
        self._log.truncate(end)
        self._log.seek(end)

    def _read_lines(self) -> Iterator[tuple[int, int, dict]]:
        """Yields where whole lines of the journal begin and end, and each."""
        if not self.journal.exists():
            return
        begin = 0
        with open(self.journal, "rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:
                    return
                if not (line.endswith(b"\n") and isinstance(entry, dict)):
                    return
                yield begin, begin + len(line), entry
                begin += len(line)

    def _expand(self) -> None:
        """Brings the text of a complete file back into its journal."""
        with open(self.path, "rb") as file, replacing(self.journal) as path:
            with open(path, "wb") as log:
                for _, _, entry in self._read_lines():
                    if "header" in entry:
                        file.seek(len(_encode(entry["header"])))
                    if "name" in entry:
                        rows = file.read(entry.pop("bytes"))
                        if _digest(rows) != entry.pop("sha256"):
                            self.changed += 1
                            continue
                        entry["rows"] = rows.decode()
                    log.write(_line(entry))

    @property
    def names(self) -> Collection[str]:
        """Of the pieces that were there before."""
        return self._pieces.keys()

    def is_finished(self, name: str, content: str) -> bool:
        """Whether a piece is there that was made of the same content."""
        return name in self._pieces and self._pieces[name][0] == content

    def repeat(self, name: str) -> None:
        """Writes a piece that was there before."""
        content, offset = self._pieces[name]
        with open(self.journal, "rb") as file:
            file.seek(offset)
            entry = json.loads(file.readline())
        self._add(name, content, entry["rows"])

    def head(self, text: str) -> None:
        """Says what the file begins with, before the first piece."""
        if self._header:
            return
        self._header = text
        self._record({"header": text})

    def write(self, text: str) -> None:
        """Adds to the piece that is next."""
        self._buffer += text

    def commit(self, name: str, content: str) -> None:
        """Writes what was added as a piece, and what it was made of."""
        rows, self._buffer = self._buffer, ""
        rows = _encode(rows).decode()
        self._record({"name": name, "content": content, "rows": rows})
        self._add(name, content, rows)

    def flush(self) -> None:
        """Does nothing, as a file is flushed with each piece."""

    def isatty(self) -> bool:
        """No."""
        return False

    def finish(self) -> None:
        """Closes the file, which is complete."""
        self._append("")
        os.fsync(self._file.fileno())
        with open(self.journal, "rb") as file:
            entries = [json.loads(file.readline())]
        if self._header:
            entries.append({"header": self._header})
        with replacing(self.journal) as path, open(path, "wb") as log:
            for entry in entries + self._index:
                log.write(_line(entry))
        self.close()

    def close(self) -> None:
        """Closes the file as it is; one with nothing in it is removed."""
        self._log.close()
        self._file.close()
        if not (self._begun or self._pieces):
            self.path.unlink()
            self.journal.unlink()

    def _record(self, entry: dict) -> None:
        self._log.write(_line(entry))
        self._log.flush()

    def _add(self, name: str, content: str, rows: str) -> None:
        encoded = rows.encode()
        self._append(rows)
        self._index.append(
            {
                "name": name,
                "content": content,
                "bytes": len(encoded),
                "sha256": _digest(encoded),
            }
        )

    def _append(self, text: str) -> None:
        if not self._begun:  # what was there is left until it can be replaced
            self._begun = True
            self._file.truncate(0)
            text = self._header + text
        self._file.write(_encode(text))
        self._file.flush()


def check_settings(
    path: Path | str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> None:
    """Raises a ValueError that names the settings that differ."""
    new = json.loads(json.dumps(new))
    differing = [
        f"{name} {old.get(name)}, not {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise ValueError(
            f"{path} was written with {'; '.join(differing)}: go on with the"
            " same, or name another --output"
        )


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _encode(text: str) -> bytes:
    # As the command prints names that are no text.
    return text.encode("utf-8", "backslashreplace")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
