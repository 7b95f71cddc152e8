"""What a worker of Ray does with recordings.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow
import soundfile
import torch

from qlung_plugin.cli.output import digest_content
from qlung_plugin.cli.recordings import describe_failure, with_warnings
from qlung_plugin.dataio.cycle_tables import CycleRows
from qlung_plugin.dataio.objects import StoredRecording, copied
from qlung_plugin.utils.partitions import PIECE, Partitions
from qlung_plugin.utils.pool import outcome_of

TRIES = 2  # of a recording, by those who know that a worker was lost
LOST = (
    "each worker was lost that worked on this: out of memory, or a fault of a"
    " library"
)
ERROR = "error"  # the column that says why a recording failed
NOISE_RATE, NOISE_SECONDS = 4000, 5


class Item(NamedTuple):
    """A recording, by the name that its rows have, and the source of its cycles."""

    name: str
    place: Path | StoredRecording
    cycles: CycleRows | str


class Outcome(NamedTuple):
    """What is to be said of a recording whose rows are written."""

    name: str
    error: str | None
    warnings: list[str]
    rows: int
    counted: int


class Work(NamedTuple):
    """What is done with each recording; see ``run_on_ray``."""

    prepare: Callable[[], Any]
    function: Callable[..., Any]
    rows_of: Callable[[str, Any], pd.DataFrame]
    tally: Callable[[Any], int] | None
    partitions: Partitions


class Worker:
    """Works on recordings and writes their rows, a partition at a time."""

    def __init__(self, work: Work, columns: pyarrow.Schema) -> None:
        torch.set_num_threads(1)
        self.work, self.columns = work, columns
        self.prepared = work.prepare()

    def write(self, items: Sequence[Item]) -> list[Outcome]:
        """Writes one partition; returns what is to be said then."""
        names = [item.name for item in items]
        partitions = self.work.partitions
        tries = partitions.read_tries(names)
        lost = tries is not None  # whoever began this, by one of these or not
        tries = tries or {}
        partitions.write_tries(names, tries)
        outcomes: list[Outcome] = []
        tables: list[pyarrow.Table] = []
        pieces: dict[str, str | None] = {}
        for item in items:
            if tries.get(item.name, 0) == TRIES:
                result: Any = ChildProcessError(LOST)
            else:
                before = tries.get(item.name, 0)
                tries[item.name] = before + 1
                if lost:
                    partitions.write_tries(names, tries)
                result = outcome_of(self._look_at, self.prepared, item)
                tries[item.name] = before  # it was not lost at this
            if isinstance(result, Exception):
                error = describe_failure(item.name, result)
                outcomes.append(Outcome(item.name, error, [], 0, 0))
                tables.append(failure_row(item.name, error, self.columns))
                pieces[item.name] = None
                continue
            told, warnings, pieces[item.name] = result
            rows = self.work.rows_of(item.name, told)
            counted = self.work.tally(told) if self.work.tally else 0
            outcomes.append(
                Outcome(item.name, None, warnings, len(rows), counted)
            )
            rows = rows.reindex(columns=self.columns.names)
            tables.append(
                pyarrow.Table.from_pandas(
                    rows, self.columns, preserve_index=False
                )
            )
        partitions.write(pyarrow.concat_tables(tables), pieces)
        partitions.write_tries(names, None)
        return outcomes

    def _look_at(
        self, prepared: object, item: Item
    ) -> tuple[Any, list[str], str]:
        with reached(item) as (path, rename):
            outcome = outcome_of(
                partial(
                    with_warnings,
                    self.work.function,
                    partial(digest_content, name=rename),
                ),
                prepared,
                (path, item.cycles),
            )
            if isinstance(outcome, Exception):
                raise RuntimeError(rename(outcome))
            result, warnings, content = outcome
            return result, [rename(text) for text in warnings], content


@contextmanager
def reached(item: Item) -> Iterator[tuple[Path, Callable[[object], str]]]:
    """A recording on this disk, and what tells its own name from that of a copy."""
    place = item.place
    with (
        nullcontext(place) if isinstance(place, Path) else copied(place) as path
    ):
        folder = item.name.removesuffix(path.name)
        yield path, lambda text: str(text).replace(f"{path.parent}/", folder)


def digest_item(_: object, item: Item) -> str:
    """See ``digest_content``; what cannot be reached has none."""
    with reached(item) as (path, rename):
        return digest_content(path, item.cycles, rename)


def failure_row(
    name: str, error: str, columns: pyarrow.Schema
) -> pyarrow.Table:
    """The row of a recording of which nothing else is known."""
    return pyarrow.Table.from_pylist([{PIECE: name, ERROR: error}], columns)


def find_columns(work: Work, channel: int | None) -> pyarrow.Schema:
    """Which columns the rows have: as those of generated noise, and the error."""
    shape = NOISE_RATE * NOISE_SECONDS, channel or 1
    noise = 0.1 * np.random.default_rng(0).standard_normal(shape)
    with TemporaryDirectory(prefix="qlung-") as folder:
        path = Path(folder, "noise.wav")
        soundfile.write(path, noise, NOISE_RATE)
        rows = work.rows_of(
            "", work.function(work.prepare(), path, cycles="windows")
        )
    fields = pyarrow.Schema.from_pandas(rows, preserve_index=False)
    texts = pyarrow.types.is_large_string
    return pyarrow.schema(
        [
            (field.name, pyarrow.string() if texts(field.type) else field.type)
            for field in fields
        ]
        + [(ERROR, pyarrow.string())]
    )
