"""Numbers in the arguments of a command line, checked as they are read.

Authors
 * qlung_plugin contributors
"""

import argparse
import math


def whole_number(
    text: str, low: int, high: int | None = None, meaning: str = "number"
) -> int:
    """A whole number from ``low`` to ``high``, for argparse."""
    if (
        not (text.isascii() and text.isdecimal())
        or int(text) < low
        or (high is not None and int(text) > high)
    ):
        raise argparse.ArgumentTypeError(f"{text} is no {meaning}")
    return int(text)


def seconds(text: str) -> float:
    """A time of 0 s or more, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def share(text: str) -> float:
    """A share above 0 and below 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1")
    return value
