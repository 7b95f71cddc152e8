"""What a learned quality score has learned, in a file of JSON.

Authors
 * qlung_plugin contributors
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from qlung_plugin.lobes.quality.base import Supervision
from qlung_plugin.lobes.quality.recording import MEASUREMENTS

SHIPPED = Path(__file__).with_name("learned.json")
UNKNOWN = (math.nan, math.nan)
NUMBERS = ("mean", "scale", "coefficient")


class Coefficients(NamedTuple):
    """A logistic model of standardised measurements."""

    names: tuple[str, ...]  # of the measurements
    values: torch.Tensor  # mean, scale and coefficient, [measurement, 3]
    ranges: torch.Tensor  # what most recordings have, [measurement, 2], or NaN
    intercept: float
    limit: float  # of a standardised measurement, either way
    supervision: Supervision


def read_coefficients(path: Path | str | dict | None = None) -> Coefficients:
    """Reads what the recipe of the quality score wrote.

    Of a file in JSON, or of what such a file holds; of the package's own if not
    given. It is a FileNotFoundError if there is no such file, and a ValueError
    if it is truncated, incomplete, of measurements that this version does not
    make, or holds a number that is not finite, a scale or a limit that is not
    above 0, or a range that is none.
    """
    origin: Path | str = "coefficients"
    content: Any = path
    try:
        if not isinstance(path, dict):
            origin = SHIPPED if path is None else path
            with open(origin, encoding="utf-8") as file:
                content = json.load(file)
        measurements = content["measurements"]
        names = tuple(measurements)
        values = torch.tensor(
            [[float(m[key]) for key in NUMBERS] for m in measurements.values()]
        )
        ranges = torch.tensor(
            # Files that are older have none.
            [_pair(m.get("range", UNKNOWN)) for m in measurements.values()]
        )
        intercept = float(content["intercept"])
        limit = float(content["limit"])
        provenance = content["provenance"]
        supervision = Supervision(
            database=str(provenance["database"]),
            patients=[str(patient) for patient in provenance["patients"]],
        )
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{origin} does not hold the coefficients of a quality score:"
            f" {type(error).__name__} {error}"
        ) from error
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown or not names:
        raise ValueError(
            f"{origin} is of measurements that are not made here:"
            f" {', '.join(unknown) or 'none at all'}"
        )
    usable = values.isfinite().all(dim=-1) & (values[:, 1] > 0)
    usable &= ranges.isnan().all(dim=-1) | (ranges[:, 0] < ranges[:, 1])
    wrong = [name for name, fine in zip(names, usable.tolist()) if not fine]
    if not math.isfinite(intercept):
        wrong.append("intercept")
    if not 0 < limit < math.inf:
        wrong.append("limit")
    if wrong:
        raise ValueError(
            f"{origin} holds a number that is not finite, a scale or a limit"
            f" that is not above 0, or a range that is none: {', '.join(wrong)}"
        )
    return Coefficients(names, values, ranges, intercept, limit, supervision)


def _pair(ends: Iterable[float]) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)


def plain_coefficients(path: Path | str | None = None) -> dict:
    """Coefficients as plain data, to be kept where their file is not.

    It is what :func:`read_coefficients`, whose errors are its own, takes
    instead of the file.
    """
    model = read_coefficients(path)
    return {
        "measurements": {
            name: {
                **dict(zip(NUMBERS, row)),
                **({} if math.isnan(ends[0]) else {"range": ends}),
            }
            for name, row, ends in zip(
                model.names, model.values.tolist(), model.ranges.tolist()
            )
        },
        "intercept": model.intercept,
        "limit": model.limit,
        "provenance": dict(model.supervision),
    }
