"""Labels as the editors Audacity and Raven read and write them.

Audacity exports a label track as lines of start, end and text, separated by tabs.
Below a line may be another one, ``\\``, lowest and highest frequency, where a
selection had them (https://manual.audacityteam.org/man/importing_and_exporting_labels.html).
Raven's selection tables have a header, and a row per selection and view of it
(https://www.ravensoundsoftware.com, manual, chapter 6).

Authors
 * qlung_plugin contributors
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from qlung_plugin.dataio.fields import NUMBER, quantity, some

BEGIN, END = "Begin Time (s)", "End Time (s)"
FILE, OFFSET = "Begin File", "File Offset (s)"
SELECTION = "Selection"
# Columns that hold the label, by the names in use, the first that is there.
LABEL_COLUMNS = ("label", "class", "annotation", "species", "call type", "type")
# What Raven draws of a selection that says no frequencies.
LOWEST, HIGHEST = 0.0, 2000.0
RAVEN_SUFFIX = ".Table.1.selections.txt"  # that Raven gives to a first table


class Label(NamedTuple):
    """A stretch of a recording, in seconds, and what is said of it."""

    start: float
    end: float
    text: str
    where: str = ""  # its place in a file
    file: str = ""  # the recording that it is of, if its row says so


def format_audacity(labels: Iterable[tuple[float, float, str]]) -> str:
    """A label track of start and end, in seconds, and text.

    A text with a tab or a line break, which a track cannot hold, is a ValueError.

    Example
    -------
    >>> format_audacity([(0.5, 2.25, "wheeze")])
    '0.500000\\t2.250000\\twheeze\\n'
    """
    return "".join(
        f"{start:.6f}\t{end:.6f}\t{_one_line(text)}\n"
        for start, end, text in labels
    )


def parse_audacity(text: str, path: Path | str) -> list[Label]:
    """The labels of a track; a ValueError names the line that is none.

    Numbers may have the decimal comma that some versions write. A label at a
    moment has its end at its start.

    Example
    -------
    >>> parse_audacity("0,5\\t2,25\\twheeze\\n\\\\\\t100\\t900\\n", "a.txt")
    [Label(start=0.5, end=2.25, text='wheeze', where='a.txt:1', file='')]
    """
    labels = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("\\"):
            continue
        where = f"{path}:{number}"
        fields = line.split("\t", 2)
        if len(fields) < 2:
            raise ValueError(
                f"{where}: start, end and label are needed, separated by tabs"
            )
        start, end = (
            quantity(field.replace(",", "."), where) for field in fields[:2]
        )
        labels.append(Label(start, end, "".join(fields[2:]).strip(), where))
    return labels


def is_audacity(text: str) -> bool:
    """Whether a text begins as a label track: two numbers before a tab and text."""
    for line in text.splitlines():
        if line.strip():
            fields = line.split("\t")
            return len(fields) == 3 and all(
                NUMBER.fullmatch(field.strip().replace(",", "."))
                for field in fields[:2]
            )
    return False


def format_raven(
    labels: Iterable[tuple[float, float, str]],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """A selection table of start and end, in seconds, and label.

    Further columns hold a text for each; frequencies are those of the whole
    height that the recipes hear. A text with a tab or a line break is a
    ValueError.
    """
    rows = list(labels)
    more = {name: list(texts) for name, texts in (columns or {}).items()}
    head = [SELECTION, "View", "Channel", BEGIN, END]
    lines = [[*head, "Low Freq (Hz)", "High Freq (Hz)", "Label", *more]]
    for number, (start, end, text) in enumerate(rows, start=1):
        band = [f"{LOWEST:.1f}", f"{HIGHEST:.1f}"]
        place = [
            str(number),
            "Spectrogram 1",
            "1",
            f"{start:.6f}",
            f"{end:.6f}",
        ]
        further = [texts[number - 1] for texts in more.values()]
        lines.append([*place, *band, text, *further])
    return "".join("\t".join(map(_one_line, line)) + "\n" for line in lines)


def parse_raven(text: str, path: Path | str) -> list[Label]:
    """The selections of a table, each once, however many views show it.

    Where the table has the columns Begin File and File Offset (s), it may be of
    several recordings: times are from the start of the file then. A ValueError
    names the row that is none.

    Example
    -------
    >>> table = format_raven([(0.5, 2.25, "wheeze")])
    >>> parse_raven(table, "a.txt")
    [Label(start=0.5, end=2.25, text='wheeze', where='a.txt:2', file='')]
    """
    rows = csv.DictReader(
        StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    missing = {BEGIN, END} - {*columns}
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(sorted(missing))}"
        )
    known = {name.casefold(): name for name in columns}
    label = next((known[n] for n in LABEL_COLUMNS if n in known), None)
    views: dict[object, Label] = {}
    for row in rows:
        where = f"{path}:{rows.line_num}"
        start = quantity(row[BEGIN] or "", where)
        length = quantity(row[END] or "", where) - start
        if row.get(OFFSET):
            start = quantity(row[OFFSET] or "", where)
        text = ((row[label] if label else "") or "").strip()
        file = (row.get(FILE) or "").strip()
        found = Label(start, start + length, text, where, file)
        key = row.get(SELECTION) or where
        first = views.setdefault(key, found)
        if first[:3] != found[:3]:
            raise ValueError(
                f"{where}: selection {key} has other times or another label than"
                f" at {first.where}"
            )
    return list(views.values())


def is_raven(text: str) -> bool:
    """Whether a text begins with the header of a selection table."""
    head = [name.strip() for name in text.partition("\n")[0].split("\t")]
    return {BEGIN, END} <= {*head}


def check_labelled(labels: Sequence[Label], path: Path | str) -> None:
    """Raises a ValueError if a label is without text, or without length."""
    empty = [label.where for label in labels if not label.text]
    if empty:
        raise ValueError(
            f"{path}: {len(empty)} of {len(labels)} labels have no text:"
            f" {some(empty)}"
        )
    for label in labels:
        if label.end <= label.start:
            raise ValueError(
                f"{label.where}: '{label.text}' is at a moment, not a stretch"
            )


def _one_line(text: str) -> str:
    if "\t" in text or text.splitlines() not in ([], [text]):
        raise ValueError(
            f"{text!r} has a tab or a line break, which labels cannot have"
        )
    return text
