"""Arguments that are one of a few.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Collection


def check_choice(
    argument: str, value: object, allowed: Collection[str]
) -> None:
    """Raises a ValueError if an argument is none of what it may be.

    Example
    -------
    >>> check_choice("pooling", "max", ("cls", "mean"))
    Traceback (most recent call last):
    ...
    ValueError: pooling='max' is none of cls, mean
    """
    if value not in allowed:
        raise ValueError(
            f"{argument}={value!r} is none of {', '.join(allowed)}"
        )
