"""Reads the text files of ICBHI 2017: annotations, split, folds, people.

Authors
 * qlung_plugin contributors
"""

import re

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


def parse_recording_name(name):
    """Splits a recording's name into its parts.

    Arguments
    ---------
    name : str
        File name without suffix.

    Returns
    -------
    parts : dict
        Strings by "patient", "index", "location", "mode" and "device".

    Example
    -------
    >>> parse_recording_name("101_1b1_Al_sc_Meditron")["device"]
    'Meditron'
    """
    match = RECORDING.fullmatch(name)
    if match is None:
        raise ValueError(
            f"'{name}' is not <patient>_<index>_<location>_<sc|mc>_<device>"
        )
    return match.groupdict()


def read_annotation(path):
    """Reads the cycles of one recording.

    Arguments
    ---------
    path : str or pathlib.Path
        File with a line `start end crackle wheeze` per cycle, in seconds.

    Returns
    -------
    cycles : list
        Tuples (where, start, end, label), the first as "file:line".

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or a line is malformed.

    Example
    -------
    >>> path = getfixture("tmp_path") / "101_1b1_Al_sc_Meditron.txt"
    >>> _ = path.write_text("0.036\\t0.579\\t0\\t0\\n0.579\\t2.45\\t1\\t0\\n")
    >>> [cycle[1:] for cycle in read_annotation(path)]
    [(0.036, 0.579, 'normal'), (0.579, 2.45, 'crackle')]
    """
    cycles = []
    for where, (start, end, crackle, wheeze) in _read_fields(path, 4):
        if {crackle, wheeze} - {"0", "1"}:
            raise ValueError(f"{where}: crackle and wheeze must be 0 or 1")
        label = LABELS[int(crackle) + 2 * int(wheeze)]
        times = quantity(start, where), quantity(end, where)
        cycles.append((where, *times, label))
    return cycles


def read_split(path):
    """Reads the side of each recording.

    Arguments
    ---------
    path : str or pathlib.Path
        File with a line `recording train|test` each.

    Returns
    -------
    sides : dict
        "train" or "test" by the recording's name.

    Raises
    ------
    OSError, ValueError
        As for `read_annotation`.
    """
    sides = {}
    for where, (recording, side) in _read_fields(path, 2):
        if not RECORDING.fullmatch(recording):
            raise ValueError(f"{where}: '{recording}' names no recording")
        if side not in ("train", "test"):
            raise ValueError(f"{where}: side is '{side}', not train or test")
        add_once(sides, recording, side, where)
    return sides


def read_folds(path):
    """Reads the fold of each patient.

    Arguments
    ---------
    path : str or pathlib.Path
        File with a line `patient fold` each.

    Returns
    -------
    folds : dict
        Numbers by the patient.

    Raises
    ------
    OSError, ValueError
        As for `read_annotation`.
    """
    folds = {}
    for where, (patient, fold) in _read_fields(path, 2):
        if not re.fullmatch("[0-9]+", fold):
            raise ValueError(f"{where}: '{fold}' is not the number of a fold")
        add_once(folds, patient, int(fold), where)
    return folds


def read_demographics(path):
    """Reads age and sex of each patient, from any of the copies that go round.

    Arguments
    ---------
    path : str or pathlib.Path
        File with a line per patient, separated by white space, commas or
        semicolons, with or without a header: patient, age in years, sex, and
        more columns, which are not looked at.

    Returns
    -------
    people : dict
        {"age": ..., "sex": ...} by patient, None where it is unknown.
    odd : list of str
        The places, as "file:line", of lines that are not understood, or tell
        of a patient what a line before them does not.

    Raises
    ------
    OSError, ValueError
        If it cannot be read at all.

    Example
    -------
    >>> path = getfixture("tmp_path") / "demographic_info.txt"
    >>> _ = path.write_text("Patient,Age,Sex,BMI\\n101,3,F,NULL\\n102,,m,\\n")
    >>> read_demographics(path)
    ({'101': {'age': 3.0, 'sex': 'F'}, '102': {'age': None, 'sex': 'M'}}, [])
    """
    people, odd, header = {}, [], None
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


def _split_any(line):
    """Fields between semicolons, commas or white space, in this order."""
    for separator in ";,":
        if separator in line:
            return [field.strip(' \t"') for field in line.split(separator)]
    return line.split()


def _person(fields, header, where):
    """The patient of a line; age and sex."""
    columns = range(len(COLUMNS))
    if len(header) == len(fields):
        named = [
            next((i for i, n in enumerate(header) if n.startswith(names)), None)
            for names in COLUMNS
        ]
        columns = columns if None in named else named
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


def _read_fields(path, n_fields):
    """Yields "file:line" and the fields of every line that is not blank."""
    for where, fields in _read_lines(path, str.split):
        if len(fields) != n_fields:
            raise ValueError(f"{where}: {len(fields)} fields, not {n_fields}")
        yield where, fields


def _read_lines(path, split):
    # Bytes that are no UTF-8 become characters that no field may contain.
    text = read_ordinary(path, errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", split(line)
