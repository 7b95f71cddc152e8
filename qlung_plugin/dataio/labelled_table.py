"""Reads a table of labelled recordings, or stretches of them: one's own data.

Authors
 * qlung_plugin contributors
"""

import csv
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from qlung_plugin.dataio.fields import quantity, some
from qlung_plugin.dataio.icbhi_tables import SEXES, UNKNOWN
from qlung_plugin.utils.ordinary_files import LARGEST_TABLE, read_ordinary

REQUIRED = ("path", "label", "patient")
TIMES = ("start", "end")
FACTS = ("device", "age", "sex", "location")
SPLIT = "split"
ALIASES = {"recording": "path"}  # what other tables of qlung call it
SEPARATORS = ",;\t"  # by locale, Excel writes any of them

logger = logging.getLogger(__name__)


def read_labelled_table(
    path: Path | str,
    mapping: Mapping[str, str | None] | None = None,
    locate: bool = True,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Reads which label each recording has, or each stretch of a recording.

    The table is CSV in UTF-8 with commas, semicolons or tabs, and has a header
    with the columns ``path`` (from the table's folder, or absolute), ``label``
    and ``patient``. It may have ``start`` and ``end`` in seconds: where there are
    none, or both are empty, the whole recording is meant; and ``device``,
    ``age`` (years), ``sex``, ``location`` and ``split``. Others are not read.

    Arguments
    ---------
    path : str
        The table.
    mapping : dict, optional
        What labels of the table are called in the result: what it lacks stays
        as it is. None as the new name leaves the rows out, and says so. A name
        that no row has is an error.
    locate : bool
        Whether the recordings have to be there. If not, ``path`` is left as it
        is written, and the column may be called ``recording``.
    notes : list of str, optional
        Gains what would else be logged as a warning.

    Returns
    -------
    table : pandas.DataFrame
        ``path`` (absolute), ``start`` and ``end`` (NaN: the whole recording),
        ``label``, ``patient``, and those of the others that are there: ``age``
        is a number, NaN where unknown, and the others are texts, None where
        unknown. The index is the number of the row in the file: that below the
        header is 2. Rows that repeat another one are left out, and counted in
        a warning.

    Raises
    ------
    ValueError
        If the table, or a row of it, is malformed, a stretch has two labels, or
        a recording two patients. Names file and row.
    FileNotFoundError
        If the table or recordings do not exist.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "a.wav").touch()
    >>> _ = (folder / "table.csv").write_text(
    ...     "path,start,end,label,patient\\n"
    ...     "a.wav,0,1.5,Fine Crackle,7\\n"
    ...     "a.wav,1.5,3.25,Normal,7\\n"
    ... )
    >>> names = {"Fine Crackle": "crackle", "Normal": "normal"}
    >>> table = read_labelled_table(folder / "table.csv", names)
    >>> table[["start", "end", "label", "patient"]]
       start   end    label patient
    2    0.0  1.50  crackle       7
    3    1.5  3.25   normal       7
    """
    path = Path(os.path.abspath(path))
    rows = {
        number: _parse(
            row, f"{path} row {number}", path.parent if locate else None
        )
        for number, row in _read_rows(path, {} if locate else ALIASES)
    }
    if rows:
        table = pd.DataFrame.from_dict(rows, orient="index")
        table, dropped = _rename(table, mapping or {}, path)
    if not rows or table.empty:
        raise ValueError(
            f"{path} has no rows below its header, or none is left"
        )
    if locate:
        _check_files(table, path)
    _check_agreement(table, ["path"], "patient", path)
    _check_agreement(table, ["path", *TIMES], "label", path)
    repeated = table.duplicated(["path", *TIMES])
    odd = []
    if dropped:
        odd.append(f"{path}: rows left out with the labels {dropped}")
    if repeated.any():
        places = [f"row {number}" for number in table.index[repeated]]
        odd.append(
            f"{path}: {repeated.sum()} rows left out that repeat another one:"
            f" {some(places)}"
        )
    if notes is not None:
        notes += odd
    else:
        for note in odd:
            logger.warning(note)
    return table[~repeated]


def _read_rows(
    path: Path, aliases: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and known fields of each row that is not blank."""
    text = read_ordinary(path, LARGEST_TABLE)
    head = text.partition("\n")[0]
    separator = max(SEPARATORS, key=head.count)
    lines = csv.reader(
        StringIO(text, newline=""), delimiter=separator, strict=True
    )
    try:
        names = [name.strip().casefold() for name in next(lines, [])]
        names = [aliases.get(name, name) for name in names]
        _check_header(names, path)
        for number, fields in enumerate(lines, start=2):
            fields = [field.strip() for field in fields]
            if any(fields[len(names) :]):
                raise ValueError(
                    f"{path} row {number}: {len(fields)} fields, but the header"
                    f" has {len(names)}: put quotes around a text with"
                    f" '{separator}'"
                )
            row = dict.fromkeys(names, "") | dict(zip(names, fields))
            if separator != ",":
                # Where semicolons separate fields, commas are in numbers.
                row |= {
                    name: row[name].replace(",", ".")
                    for name in (*TIMES, "age")
                    if name in row
                }
            if any(fields):
                yield number, row
    except csv.Error as error:
        raise ValueError(f"{path} is not readable as CSV: {error}") from error


def _check_header(names: list[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}: its first line is to"
            f" name {', '.join(REQUIRED)}, and names {', '.join(names)}"
        )
    for name in (*REQUIRED, *TIMES, *FACTS, SPLIT):
        if names.count(name) > 1:
            raise ValueError(f"{path} has several columns {name}")


def _parse(
    row: Mapping[str, str], where: str, folder: Path | None
) -> dict[str, Any]:
    """The values of a row."""
    for name in REQUIRED:
        if not row[name]:
            raise ValueError(f"{where}: {name} is empty")
    if row["patient"].casefold() in UNKNOWN:
        raise ValueError(
            f"{where}: patient is '{row['patient']}': name the person, as no one"
            " may be both trained on and tested; if that cannot be known, name"
            " each recording's own"
        )
    times = {}
    for name in TIMES:
        text = row.get(name, "")
        times[name] = quantity(text, f"{where}: {name}") if text else math.nan
    if math.isnan(times["start"]) != math.isnan(times["end"]):
        raise ValueError(
            f"{where}: start or end is missing: give both, or none for the whole"
            " recording"
        )
    if times["start"] >= times["end"]:
        raise ValueError(
            f"{where}: start {times['start']:g} is not before end"
            f" {times['end']:g}"
        )
    facts: dict[str, Any] = {}
    for name in (*FACTS, SPLIT):
        if name in row:
            known = row[name].casefold() not in UNKNOWN
            facts[name] = row[name] if known else None
    if "age" in facts:
        age = facts["age"]
        facts["age"] = quantity(age, f"{where}: age") if age else math.nan
    if facts.get("sex"):
        facts["sex"] = SEXES.get(facts["sex"].casefold(), facts["sex"])
    return {
        "path": _locate(row["path"], folder) if folder else row["path"],
        **times,
        "label": row["label"],
        "patient": row["patient"],
        **facts,
    }


def _locate(name: str, folder: Path) -> str:
    """The path of a recording; with the separators of Windows, if need be."""
    path = os.path.abspath(folder / name)
    if "\\" in name and not os.path.lexists(path):
        return os.path.abspath(folder / name.replace("\\", "/"))
    return path


def _rename(
    table: pd.DataFrame, mapping: Mapping[str, str | None], path: Path
) -> tuple[pd.DataFrame, str]:
    """The table with the new labels, and which were left out how often."""
    there = Counter(table["label"])
    strangers = [name for name in mapping if name not in there]
    if strangers:
        raise ValueError(
            f"{path}: labels that are to be renamed, but no row has:"
            f" {some(strangers)}; there are {', '.join(sorted(there))}"
        )
    dropped = {name for name, new in mapping.items() if new is None}
    counts = ", ".join(f"{name} ({there[name]})" for name in sorted(dropped))
    table = table[~table["label"].isin(dropped)]
    labels = [mapping.get(label, label) for label in table["label"]]
    return table.assign(label=labels), counts


def _check_files(table: pd.DataFrame, path: Path) -> None:
    paths = table["path"].drop_duplicates()
    missing = paths[[not os.path.isfile(name) for name in paths]]
    if len(missing):
        places = [f"row {number} ({name})" for number, name in missing.items()]
        raise FileNotFoundError(
            f"{path}: {len(missing)} of {len(paths)} recordings do not exist:"
            f" {some(places)}; paths are taken from the table's folder"
        )


def _check_agreement(
    table: pd.DataFrame, key: list[str], column: str, path: Path
) -> None:
    """Refuses rows that are of the same thing and say different things of it."""
    things = table.groupby(key, dropna=False).ngroup()
    differing = table.groupby(things)[column].transform("nunique") > 1
    if differing.any():
        first = table[things == things[differing].iloc[0]]
        told = [f"row {number} ({x})" for number, x in first[column].items()]
        what = "recordings" if key == ["path"] else "stretches"
        raise ValueError(
            f"{path}: {things[differing].nunique()} {what} with more than one"
            f" {column}, such as {first['path'].iloc[0]}: {some(told)}; give one"
        )
