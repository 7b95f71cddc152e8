"""The table of predictions of an evaluation: made, written, read, checked.

Everything that is reported (scores, strata, intervals, figures) is computed
from the one table that :func:`write_predictions` keeps.

Authors
 * qlung_plugin contributors
"""

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qlung_plugin.scores.icbhi_score import RespiratoryScore
from qlung_plugin.scores.recordings import SHARE
from qlung_plugin.utils.files import replacing
from qlung_plugin.utils.ordinary_files import read_ordinary

METADATA = ("recording", "patient", "device", "age", "sex", "location")
NUMBERS = (
    "age",
    "duration",
    "quality",
    "p_",
    SHARE,
)  # how their columns begin; else it is text
DECIMALS = 6  # of a table that is kept
NEEDED = ("id", *METADATA, "label", "prediction", "quality")
LARGEST_PREDICTIONS = 2**26  # bytes: several hundred thousand cycles
MOST_COLUMNS = 256


def predictions_table(
    stats: RespiratoryScore,
    manifest: Mapping[str, Mapping[str, Any]],
    **quality: Any,
) -> pd.DataFrame:
    """Joins predictions with what the manifest knows of each cycle, by id.

    The quality is a dict or Series by id, as ``quality``, and of further
    measures as ``quality_<name>``; where it was not measured, it is NaN, as is
    a ``duration`` that the manifest does not know, in seconds.
    """
    table = stats.predictions()
    unknown = [key for key in table["id"] if key not in manifest]
    if unknown:
        raise ValueError(
            f"{len(unknown)} predictions have no entry in the manifest, such "
            f"as {unknown[0]!r}: it belongs to another data set or preparation"
        )
    for name in METADATA:
        values = [manifest[key].get(name) for key in table["id"]]
        table[name] = pd.Series(values, dtype=None if name == "age" else "str")
    table["duration"] = [manifest[key].get("duration") for key in table["id"]]
    measures = {"quality": {}, **quality}
    for name, values in measures.items():
        table[name] = table["id"].map(dict(values))
    for name in ("age", "duration", *measures):
        table[name] = pd.to_numeric(table[name]).astype(float)
    scores = [f"p_{name}" for name in stats.labels]
    columns = ["id", *METADATA, "duration", "label", "prediction", *scores]
    columns += measures
    return table[columns].sort_values("id", ignore_index=True)


def write_predictions(table: pd.DataFrame, path: Path | str) -> None:
    """Writes a table of predictions as CSV; equal tables give equal bytes."""
    with replacing(path) as temporary:
        table.to_csv(
            temporary,
            index=False,
            float_format=f"%.{DECIMALS}f",
            lineterminator="\n",
        )


def read_predictions(
    path: Path | str, labels: Sequence[str] | None = None
) -> pd.DataFrame:
    """Reads the table that :func:`write_predictions` wrote to the path.

    Names are text (patient ``007`` stays so). What no evaluation writes is a
    ValueError that names file, column and cycle.
    """
    text = read_ordinary(path, LARGEST_PREDICTIONS)
    try:
        rows = csv.reader(StringIO(text))
        names = next(rows, [])
        needed = [*NEEDED, *(f"p_{label}" for label in labels or ())]
        lacking = [name for name in needed if name not in names]
        if lacking:
            raise ValueError(f"it lacks the columns {', '.join(lacking)}")
        if labels and sum(name.startswith("p_") for name in names) > len(
            labels
        ):
            raise ValueError(f"it has other classes than {', '.join(labels)}")
        if len(set(names)) < len(names) or len(names) > MOST_COLUMNS:
            raise ValueError(
                f"{len(names)} columns, where {MOST_COLUMNS} with different"
                " names is the limit"
            )
        if not text.endswith("\n"):
            raise ValueError("its last line has no end: is it cut off?")
        for number, row in enumerate(rows, start=1):
            if len(row) != len(names):
                raise ValueError(
                    f"row {number} has {len(row)} fields, not {len(names)}"
                )
        numbers = [name for name in names if name.startswith(NUMBERS)]
        types = {**dict.fromkeys(names, str), **dict.fromkeys(numbers, float)}
        # Only an empty field is missing: a device may well be called "NA".
        table = pd.read_csv(
            StringIO(text), dtype=types, keep_default_na=False, na_values=[""]
        )
        _check_predictions(table)
    except (ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error
    return table


def _check_predictions(table: pd.DataFrame) -> None:
    """Raises a ValueError that names what no evaluation writes."""
    if len(table) == 0:
        raise ValueError("it has no row")
    for name in ("id", "patient", "label", "prediction"):
        if table[name].isna().any():
            row = int(table[name].isna().argmax())
            raise ValueError(f"row {row + 1} lacks its {name}")
    if not table["id"].is_unique:
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise ValueError(f"it has the cycle {twice} twice")
    names = list(map(str, table.columns))
    shares = [name for name in names if name.startswith("p_")]
    for name in (*shares, "quality"):
        _check_range(table, name, 0, 1, may_miss=name == "quality")
    for name in names:
        if name == "age" or name.startswith("quality_"):
            _check_range(table, name, -1e12, 1e12, may_miss=True)
    if "duration" in names:  # older versions wrote none
        _check_range(table, "duration", 0, 1e12, may_miss=True)
    # Six decimals of half precision at worst, as where they were made.
    off = (table[shares].sum(axis=1) - 1).abs() >= 0.01
    if off.any():
        row = table[off].iloc[0]
        raise ValueError(
            f"the probabilities of {row['id']} have the sum"
            f" {row[shares].sum():g}, not 1"
        )
    own = pd.Series(np.nan, table.index)
    for name in shares:
        own = own.mask(
            table["prediction"] == name.removeprefix("p_"), table[name]
        )
    called = own >= table[shares].max(axis=1) - 1e-5  # they are rounded
    if not called.all():
        row = table[~called].iloc[0]
        raise ValueError(
            f"{row['id']} is called {row['prediction']}, which is not the most"
            " probable of its classes"
        )


def _check_range(
    table: pd.DataFrame, name: str, low: float, high: float, may_miss: bool
) -> None:
    fine = table[name].between(low, high)
    if may_miss:
        fine |= table[name].isna()
    if not fine.all():
        row = table[~fine].iloc[0]
        raise ValueError(
            f"{name} of {row['id']} is {row[name]}, not in [{low:g}, {high:g}]"
        )
