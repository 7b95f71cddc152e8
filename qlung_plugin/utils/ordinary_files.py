"""Reading files that may be anything: what is no ordinary file is not opened.

A FIFO would hang its reader, ``/dev/zero`` fill the memory, and JSON may hold
what json.loads takes without a word.

Authors
 * qlung_plugin contributors
"""

import json
import math
import stat
from pathlib import Path
from typing import Any

LARGEST_TEXT = 2**22  # bytes of a text, such as a model.json
LARGEST_TABLE = 2**28  # bytes of a manifest or a table of predictions
LONGEST_INTEGER = 20  # digits


def ordinary_size(path: Path | str, largest: int) -> int:
    """The size of a file in bytes, which is checked before it is opened.

    A folder, FIFO or device, or what is larger, is a ValueError.

    Example
    -------
    >>> ordinary_size("/dev/zero", largest=10)
    Traceback (most recent call last):
    ...
    ValueError: /dev/zero is no ordinary file
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no ordinary file")
    if status.st_size > largest:
        raise ValueError(
            f"{path} is too large: {status.st_size} bytes, when {largest} is"
            " the limit"
        )
    return status.st_size


def read_ordinary(
    path: Path | str, largest: int = LARGEST_TEXT, errors: str = "strict"
) -> str:
    """Reads a text in UTF-8, with or without a byte order mark."""
    ordinary_size(path, largest)
    content = Path(path).read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is in UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error


def read_json(path: Path | str, largest: int = LARGEST_TEXT) -> Any:
    """Reads JSON strictly; see :func:`read_ordinary` and :func:`parse_json`."""
    return parse_json(read_ordinary(path, largest), path)


def parse_json(text: str, origin: Path | str) -> Any:
    """Parses JSON strictly: no key twice, no NaN, nothing without bounds.

    Example
    -------
    >>> parse_json('{"a": 1, "a": 2}', "a.json")
    Traceback (most recent call last):
    ...
    ValueError: a.json is no valid JSON: the key 'a' is there twice
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_mapping,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError as error:
        raise ValueError(f"{origin} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{origin} is no valid JSON: {error}") from error


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key {key[:100]!r} is there twice")
        mapping[key] = value
    return mapping


def _integer(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:100]} is no finite number")
    return value
