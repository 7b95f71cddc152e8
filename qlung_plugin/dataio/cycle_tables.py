"""Tables of the cycles of one recording, or of several that they name.

Authors
 * qlung_plugin contributors
"""

import csv
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from qlung_plugin.dataio.fields import quantity, some
from qlung_plugin.dataio.label_tracks import Label, is_raven, parse_raven
from qlung_plugin.utils.ordinary_files import LARGEST_TABLE, read_ordinary

COLUMNS = ("start", "end")
RECORDINGS = ("recording", "path")  # as of labelled tables
LABEL = "label"


# Recordings that are called like a name, and the parts of their paths.
Candidates = list[tuple[Path, list[str]]]


class CycleRows(NamedTuple):
    """The rows of a table that are of one recording."""

    path: Path  # of the table
    recording: Path
    # Number of the line, and the texts of start, end and label. None if all rows
    # are of other recordings.
    rows: list[tuple[int, str | None, str | None, str]] | None

    def times(self) -> list[tuple[float, float]]:
        """Tuples of start and end in seconds; a ValueError if one is none."""
        return [(label.start, label.end) for label in self.labels()]

    def labels(self) -> list[Label]:
        """The rows as labels, without text where the table has none."""
        if self.rows is None:
            raise ValueError(
                f"{self.path} has no cycle of {self.recording.name}"
            )
        labels = []
        for line, start, end, text in self.rows:
            where = f"{self.path}:{line}"
            if start is None or end is None:
                raise ValueError(f"{where}: start or end is missing")
            times = quantity(start, where), quantity(end, where)
            labels.append(Label(*times, text, where))
        return labels


class CycleTable(NamedTuple):
    """A table of cycles, as it was read."""

    path: Path
    # Number of the line, recording's name, and the texts of start, end and label.
    rows: list[tuple[int, str, str | None, str | None, str]]
    named: bool  # whether it has names of recordings

    def assign(
        self, recordings: Sequence[Path]
    ) -> tuple[dict[Path, CycleRows], list[str]]:
        """The rows of each recording, and the names that mean none of them.

        A name means the recording whose path ends in it, with or without suffix.
        As tables come from other computers, a name may have other folders, or
        letter case, if it is the only one like the recording and the other way
        round, or the folders that agree tell which is meant. Without names, all
        rows are of each recording.
        """
        names = dict.fromkeys(row[1] for row in self.rows)
        whose: dict[str, Sequence[Path]] = {"": recordings}
        if self.named:
            meant = match_names(names, recordings, self.path)
            whose = {name: [recording] for name, recording in meant.items()}
        of_each: dict[Path, list] = {recording: [] for recording in recordings}
        for line, name, *cycle in self.rows:
            for recording in whose.get(name, ()):
                of_each[recording].append((line, *cycle))
        strangers = [row[1] for row in self.rows if row[1] not in whose]
        return {
            # A table without rows says that there is no cycle.
            recording: CycleRows(
                self.path, recording, rows if rows or not self.rows else None
            )
            for recording, rows in of_each.items()
        }, strangers


def read_table(path: Path) -> CycleTable:
    """Reads a table of cycles, in CSV, with the columns start and end.

    And recording (or path), if it is of several; it may have the column label.
    """
    # Bytes that are no UTF-8 are those of the file system's names, if any.
    text = read_ordinary(path, LARGEST_TABLE, errors="surrogateescape")
    try:
        rows = csv.DictReader(StringIO(text, newline=""))
        columns = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = columns
        for name in (*COLUMNS, *RECORDINGS, LABEL):
            if columns.count(name) > 1:
                raise ValueError(f"{path} has several columns {name}")
        if set(COLUMNS) - set(columns):
            raise ValueError(
                f"{path} needs the columns start and end, separated by commas"
            )
        if is_output(columns):
            raise ValueError(
                f"{path} is what qlung printed of recordings, and no annotation:"
                " for its cycles, leave the columns recording, start and end"
            )
        named = next((name for name in RECORDINGS if name in columns), None)
        read = [
            (
                rows.line_num,
                (row[named] if named else None) or "",
                row["start"],
                row["end"],
                (row.get(LABEL) or "").strip(),
            )
            for row in rows
        ]
    except csv.Error as error:
        raise ValueError(f"{path} is not readable as CSV: {error}") from error
    return CycleTable(path, read, named is not None)


def read_raven_table(path: Path) -> CycleTable | None:
    """Reads a selection table of Raven that names the recording of each row.

    None if it is no such table.
    """
    if path.suffix.lower() != ".txt" or not path.is_file():
        return None
    text = read_ordinary(path, LARGEST_TABLE)
    labels = parse_raven(text, path) if is_raven(text) else []
    rows: list[tuple[int, str, str | None, str | None, str]] = [
        (
            int(label.where.rpartition(":")[2]),
            label.file,
            str(label.start),
            str(label.end),
            label.text,
        )
        for label in labels
    ]
    named = any(label.file for label in labels)
    return CycleTable(path, rows, named) if named else None


def columns_of(text: str) -> list[str]:
    """The names in the first line of a table; none if it is no CSV."""
    try:
        header = next(csv.reader(StringIO(text, newline="")), [])
    except csv.Error:
        return []
    return [name.strip() for name in header]


def is_output(columns: Sequence[str]) -> bool:
    """Whether a table has the columns of ``qlung classify`` or ``quality``."""
    return "prediction" in columns or {"sample_rate", "channels"} <= {*columns}


def match_names(
    names: Iterable[str], recordings: Sequence[Path], table: Path
) -> dict[str, Path]:
    """The recording that each name means, of those that mean one.

    See :meth:`CycleTable.assign`; the table is the one that has the names.
    """
    alike: dict[str, Candidates] = defaultdict(list)  # by the last part
    for recording in recordings:
        *folders, last = _path_parts(str(recording.resolve()))
        for name in {last, PurePosixPath(last).stem}:
            alike[name.casefold()].append((recording, [*folders, name]))
    meant: dict[str, Path] = {}
    unclear = []
    for name in names:
        parts = _path_parts(name)
        if not parts:
            continue
        candidates = alike[parts[-1].casefold()]
        whole = [r for r, place in candidates if place[-len(parts) :] == parts]
        if len(whole) > 1:
            raise ValueError(
                f"{table}: the recording {name} may be any of"
                f" {some([str(recording) for recording in whole])}: write"
                " their folders, too"
            )
        if whole:
            meant[name] = whole[0]
        elif candidates:
            unclear.append((name, parts, candidates))
    meant.update(_match_resembling(unclear, set(meant.values()), table))
    return meant


def _match_resembling(
    unclear: list[tuple[str, list[str], Candidates]],
    taken: set[Path],
    table: Path,
) -> dict[str, Path]:
    """What names mean that are in other folders or letter case.

    Of names or recordings that are called alike, the folders have to tell.
    """
    rivals = Counter(r for _, _, places in unclear for r, _ in places)
    meant: dict[str, Path] = {}
    wishes: dict[Path, list[tuple[int, str]]] = defaultdict(list)
    for name, parts, places in unclear:
        file = _existing_file(name, table)
        if file is not None:  # and is no other one
            for recording, _ in places:
                if recording.exists() and os.path.samefile(file, recording):
                    meant[name] = recording
            continue
        agreeing = {r: _count_agreeing(parts, place) for r, place in places}
        most = max(agreeing.values())
        best = [r for r, count in agreeing.items() if count == most]
        sole = len(agreeing) == 1 and rivals[best[0]] == 1
        if len(best) == 1 and best[0] not in taken and (sole or most > 1):
            wishes[best[0]].append((most, name))
    for recording, names in wishes.items():
        most = max(names)[0]
        first, *others = [name for count, name in names if count == most]
        if not others and recording not in meant.values():
            meant[first] = recording
    return meant


def _path_parts(path: str) -> list[str]:
    """The parts of a path of any system, in one form of Unicode."""
    text = unicodedata.normalize("NFC", path.strip().replace("\\", "/"))
    return [part for part in PurePosixPath(text).parts if part != "/"]


def _existing_file(name: str, table: Path) -> Path | None:
    """The file that a path leads to from here or the table's folder."""
    for path in (table.parent / name, Path(name)):
        if os.path.isfile(path):
            return path
    return None


def _count_agreeing(parts: list[str], place: list[str]) -> int:
    """How many of the last parts are the same but for letter case."""
    count = 0
    for part, own in zip(reversed(parts), reversed(place)):
        if part.casefold() != own.casefold():
            break
        count += 1
    return count
