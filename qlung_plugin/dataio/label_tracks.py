"""Labels as the editors Audacity and Raven read and write them.

Audacity exports a label track as lines of start, end and text, separated by tabs.
Below a line may be another one, ``\\``, lowest and highest frequency, where a
selection had them (https://manual.audacityteam.org/man/importing_and_exporting_labels.html).
Raven's selection tables have a header, and a row per selection and view of it
(https://www.ravensoundsoftware.com, manual, chapter 6).

Authors
 * qlung_plugin contributors
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from qlung_plugin.dataio.fields import NUMBER, quantity

BEGIN, END = "Begin Time (s)", "End Time (s)"
FILES, OFFSET = ("Begin Path", "Begin File"), "File Offset (s)"
SELECTION = "Selection"
# Columns that hold the label, by the names in use, the first that is there.
LABEL_COLUMNS = (
    *("label", "class", "annotation", "species", "common name"),
    *("call type", "type"),
)
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

    A text that a track cannot hold, because of a tab, a line break, or blanks at
    an end, is a ValueError.

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
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip() or line.startswith("\\"):
            continue
        where = f"{path}:{number}"
        fields = line.split("\t")
        if not 2 <= len(fields) <= 3:
            raise ValueError(
                f"{where}: {len(fields)} fields, and not start, end and label,"
                " separated by tabs"
            )
        start, end = (
            quantity(field.replace(",", "."), where) for field in fields[:2]
        )
        labels.append(Label(start, end, "".join(fields[2:]).strip(), where))
    return labels


def is_audacity(text: str) -> bool:
    """Whether a text begins as a label track: two numbers before a tab and text."""
    for line in _lines(text):
        if line.strip():
            fields = line.split("\t")
            return len(fields) == 3 and all(
                NUMBER.fullmatch(field.strip().replace(",", "."))
                for field in fields[:2]
            )
    return False


def format_raven(
    labels: Iterable[tuple[float, float, str]],
    highest: float,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """A selection table of start and end, in seconds, and label.

    Selections reach from 0 to the ``highest`` frequency, in Hz; further columns
    hold a text for each. For errors, see :func:`format_audacity`.
    """
    rows = list(labels)
    more = {name: list(texts) for name, texts in (columns or {}).items()}
    head = [SELECTION, "View", "Channel", BEGIN, END]
    lines = [[*head, "Low Freq (Hz)", "High Freq (Hz)", "Label", *more]]
    for number, (start, end, text) in enumerate(rows, start=1):
        band = ["0.0", f"{highest:.1f}"]
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

    A table of several recordings has the columns Begin Path or Begin File, and
    File Offset (s): times are from the start of the file then. A ValueError
    names the row that is none.

    Example
    -------
    >>> table = format_raven([(0.5, 2.25, "wheeze")], 2000)
    >>> parse_raven(table, "a.txt")
    [Label(start=0.5, end=2.25, text='wheeze', where='a.txt:2', file='')]
    """
    lines = _lines(text)
    columns = [name.strip() for name in next(lines, "").split("\t")]
    missing = {BEGIN, END} - {*columns}
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(sorted(missing))}"
        )
    known = {name.casefold(): name for name in columns}
    column = next((known[n] for n in LABEL_COLUMNS if n in known), "")
    views: dict[tuple[str, str], Label] = {}
    untimed = ""  # a row without a time in its file
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        fields = [field.strip() for field in line.split("\t")]
        row = dict.fromkeys(columns, "") | dict(zip(columns, fields))
        start, end = quantity(row[BEGIN], where), quantity(row[END], where)
        if row.get(OFFSET):
            offset = quantity(row[OFFSET], where)
            start, end = offset, offset + (end - start)
        else:
            untimed = untimed or where
        file = next((row[name] for name in FILES if row.get(name)), "")
        found = Label(start, end, row.get(column, ""), where, file)
        selection = row.get(SELECTION) or where
        # Tables that were put together may count anew for each file.
        first = views.setdefault((file, selection), found)
        if first[:3] != found[:3]:
            raise ValueError(
                f"{where}: selection {selection} has other times or another label"
                f" than at {first.where}"
            )
    if untimed and len({file for file, _ in views}) > 1:
        raise ValueError(
            f"{untimed}: the column {OFFSET} is needed in a table of several"
            f" recordings, as Raven counts {BEGIN} from the start of the first"
        )
    return list(views.values())


def is_raven(text: str) -> bool:
    """Whether a text begins with the header of a selection table."""
    head = [name.strip() for name in next(_lines(text), "").split("\t")]
    return {BEGIN, END} <= {*head}


def check_labelled(labels: Sequence[Label]) -> None:
    """Raises a ValueError if a label is without text, or without length."""
    empty = [label.where for label in labels if not label.text]
    if empty:
        raise ValueError(
            f"{empty[0]}: {len(empty)} of {len(labels)} labels have no text: write"
            " what is heard, or remove them"
        )
    for label in labels:
        if label.end <= label.start:
            raise ValueError(
                f"{label.where}: '{label.text}' is at a moment, not a stretch:"
                " give it an end, or remove it"
            )


def _one_line(text: str) -> str:
    if re.search("[\t\r\n]", text) or text != text.strip():
        raise ValueError(
            f"{text!r} has a tab, a line break, or blanks at an end, which labels"
            " cannot have"
        )
    return text


def _lines(text: str) -> Iterator[str]:
    """Lines as Audacity and Raven break them, unlike ``str.splitlines``."""
    return (line.rstrip("\n") for line in StringIO(text, newline=None))
