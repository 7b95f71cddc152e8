"""Reads the text files of ICBHI 2017: annotations, split, folds, people.

A malformed line is a ValueError, unless said otherwise.

Authors
 * qlung_plugin contributors
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from qlung_plugin.dataio.fields import add_once, quantity
from qlung_plugin.dataio.labels import LABELS
from qlung_plugin.utils.ordinary_files import read_ordinary

RECORDING = re.compile(
    "(?P<patient>[0-9]+)_(?P<index>[0-9A-Za-z]+)_(?P<location>[A-Za-z]+)_"
    "(?P<mode>sc|mc)_(?P<device>[0-9A-Za-z]+)"
)
# How the copies that go round write what is not known.
UNKNOWN = frozenset(["", "-", "?", "na", "n/a", "nan", "none", "null"])
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
# How the demographics' columns are called; without a header, the first three.
COLUMNS = (("patient", "subject", "id"), ("age",), ("sex", "gender"))


class Person(TypedDict):
    """What is known of a patient."""

    age: float | None  # years
    sex: str | None  # M or F


def parse_recording_name(name: str) -> dict[str, str]:
    """A recording's "patient", "index", "location", "mode" and "device"."""
    match = RECORDING.fullmatch(name)
    if match is None:
        raise ValueError(
            f"'{name}' is not <patient>_<index>_<location>_<sc|mc>_<device>"
        )
    return match.groupdict()


def read_annotation(path: Path | str) -> list[tuple[str, float, float, str]]:
    """Reads the cycles of one recording, from lines `start end crackle wheeze`.

    Of each its place, as "file:line", its start and end in seconds, its label.
    """
    cycles = []
    for where, (start, end, crackle, wheeze) in _read_fields(path, 4):
        if {crackle, wheeze} - {"0", "1"}:
            raise ValueError(f"{where}: crackle and wheeze must be 0 or 1")
        label = LABELS[int(crackle) + 2 * int(wheeze)]
        times = quantity(start, where), quantity(end, where)
        cycles.append((where, *times, label))
    return cycles


def read_split(path: Path | str) -> dict[str, str]:
    """Reads "train" or "test" by recording, from lines `recording side`."""
    sides: dict[str, str] = {}
    for where, (recording, side) in _read_fields(path, 2):
        if not RECORDING.fullmatch(recording):
            raise ValueError(f"{where}: '{recording}' names no recording")
        if side not in ("train", "test"):
            raise ValueError(f"{where}: side is '{side}', not train or test")
        add_once(sides, recording, side, where)
    return sides


def read_folds(path: Path | str) -> dict[str, int]:
    """Reads the number of a fold by patient, from lines `patient fold`."""
    folds: dict[str, int] = {}
    for where, (patient, fold) in _read_fields(path, 2):
        if not re.fullmatch("[0-9]+", fold):
            raise ValueError(f"{where}: '{fold}' is not the number of a fold")
        add_once(folds, patient, int(fold), where)
    return folds


def read_demographics(path: Path | str) -> tuple[dict[str, Person], list[str]]:
    """Reads age and sex of each patient, from any of the copies that go round.

    They have a line per patient, separated by white space, commas or
    semicolons, with or without a header: patient, age in years, sex, and more
    columns, which are not looked at.

    Also returns the places, as "file:line", of lines that are not understood,
    or say of a patient what a line before them does not.
    """
    people: dict[str, Person] = {}
    odd: list[str] = []
    header: list[str] | None = None
    for where, fields in _read_lines(path, _split_any):
        if header is None:
            header = [name.casefold() for name in fields]
            if not any(name.isdecimal() for name in fields):
                continue
        try:
            patient, person = _person(fields, header, where)
            if people.setdefault(patient, person) != person:
                raise ValueError(f"{where}: another line differs")
        except ValueError:
            odd.append(where)
    return people, odd


def _split_any(line: str) -> list[str]:
    """Fields between semicolons, commas or white space, in this order."""
    for separator in ";,":
        if separator in line:
            return [field.strip(' \t"') for field in line.split(separator)]
    return line.split()


def _person(
    fields: list[str], header: list[str], where: str
) -> tuple[str, Person]:
    """The patient of a line; age and sex."""
    columns = list(range(len(COLUMNS)))
    if len(header) == len(fields):
        named = [
            next((i for i, n in enumerate(header) if n.startswith(names)), -1)
            for names in COLUMNS
        ]
        columns = columns if -1 in named else named
    if len(fields) < len(COLUMNS):
        raise ValueError(f"{where}: {len(fields)} fields")
    patient, age, sex = (fields[column] for column in columns)
    if not re.fullmatch("[0-9]+", patient):
        raise ValueError(f"{where}: '{patient}' is no patient")
    if sex.casefold() not in UNKNOWN | set(SEXES):
        raise ValueError(f"{where}: sex is '{sex}', not M, F or NA")
    known = age.casefold() not in UNKNOWN
    return patient, {
        "age": quantity(age.replace(",", "."), where) if known else None,
        "sex": SEXES.get(sex.casefold()),
    }


def _read_fields(
    path: Path | str, n_fields: int
) -> Iterator[tuple[str, list[str]]]:
    """Yields "file:line" and the fields of every line that is not blank."""
    for where, fields in _read_lines(path, str.split):
        if len(fields) != n_fields:
            raise ValueError(f"{where}: {len(fields)} fields, not {n_fields}")
        yield where, fields


def _read_lines(
    path: Path | str, split: Callable[[str], list[str]]
) -> Iterator[tuple[str, list[str]]]:
    # Bytes that are no UTF-8 become characters that no field may contain.
    text = read_ordinary(path, errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", split(line)
