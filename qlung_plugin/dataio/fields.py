"""Fields of tables and annotations: numbers, and keys that occur once.

Authors
 * qlung_plugin contributors
"""

import math
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# What float() takes beyond this, such as 1_000 or digits of other scripts, is
# more often a slip than a number.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def quantity(text: str, where: str) -> float:
    """A finite number, not negative, in plain digits; else an error at its place."""
    known = NUMBER.fullmatch(text.strip())
    value = float(text) if known else math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{where}: '{text}' is not a number of 0 or more")
    return value


def add_once(table: dict[K, V], key: K, value: V, where: Path | str) -> None:
    """Adds to a dict what must not be there yet."""
    if key in table:
        raise ValueError(f"{where}: '{key}' occurs twice")
    table[key] = value


def some(names: Sequence[str]) -> str:
    """The first few names.

    Example
    -------
    >>> some(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
