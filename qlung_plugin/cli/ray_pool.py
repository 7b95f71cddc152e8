"""The workers of Ray, and what is given to them.

Authors
 * qlung_plugin contributors
"""

import logging
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError, RayTaskError, UserCodeException

from qlung_plugin.cli.ray_work import (
    Item,
    Outcome,
    Work,
    Worker,
    digest_item,
    find_columns,
)
from qlung_plugin.utils.pool import outcome_of

PARTITION = 64  # recordings, at most: what is done again if a worker is lost
SHARES = 4  # partitions per worker, at least: the last ones end together


class Pool:
    """Workers of the cluster that this process is connected to.

    Each has a core, and a GPU if the model computes there; as many as there are,
    if not told otherwise. One that is lost is replaced by Ray, for ever.
    """

    def __init__(self, jobs: int | None, device: str) -> None:
        kind = "GPU" if device.startswith("cuda") else "CPU"
        there = int(ray.cluster_resources().get(kind, 0))
        if not there:
            raise RuntimeError(f"this cluster of Ray has no {kind}")
        self.workers = min(jobs or there, there)
        self.gpus = int(kind == "GPU")  # of each
        DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)

    def find_columns(self, work: Work, channel: int | None) -> pyarrow.Schema:
        """See there; what is wrong with the work is raised, before all else."""
        task = ray.remote(num_cpus=1, num_gpus=self.gpus)(find_columns)
        try:
            return ray.get(task.remote(work, channel))
        except RayError as error:
            raise _explain(error) from error

    def find_finished(
        self, items: Sequence[Item], contents: dict[str, str]
    ) -> set[str]:
        """Those of which there are rows by the same content."""
        known = [item for item in items if item.name in contents]
        found = self._over(known, _digest_all)
        return {name for name, content in found if contents[name] == content}

    def work_off(
        self, items: Sequence[Item], work: Work, columns: pyarrow.Schema
    ) -> Iterator[Outcome]:
        """Each recording's outcome, in any order, once its rows are written."""
        return self._over(
            items,
            _Partition,
            fn_constructor_args=(work, columns),
            num_gpus=self.gpus,
        )

    def _over(
        self, items: Sequence[Item], function: Callable, **options: Any
    ) -> Iterator[Any]:
        """What a function or an actor makes of items, some of them at a time."""
        if not items:
            return
        share = math.ceil(len(items) / (SHARES * self.workers))
        size = min(PARTITION, share)
        parts = [items[i : i + size] for i in range(0, len(items), size)]
        if isinstance(function, type):
            options["compute"] = ActorPoolStrategy(
                size=min(self.workers, len(parts))
            )
        rows = ray.data.from_items(
            [{"items": pickle.dumps(part)} for part in parts],
            override_num_blocks=len(parts),
        ).flat_map(function, num_cpus=1, **options)
        try:
            for row in rows.iter_rows():
                yield pickle.loads(row["result"])
        except RayError as error:
            raise _explain(error) from error


class _Partition:
    """A worker, as Ray Data calls it."""

    def __init__(self, work: Work, columns: pyarrow.Schema) -> None:
        self.worker = Worker(work, columns)

    def __call__(self, row: dict[str, bytes]) -> list[dict[str, bytes]]:
        outcomes = self.worker.write(pickle.loads(row["items"]))
        return [{"result": pickle.dumps(outcome)} for outcome in outcomes]


def _digest_all(row: dict[str, bytes]) -> list[dict[str, bytes]]:
    items = pickle.loads(row["items"])
    return [
        {"result": pickle.dumps((i.name, outcome_of(digest_item, None, i)))}
        for i in items
    ]


def _explain(error: BaseException) -> BaseException:
    """What was raised in a worker; else what Ray says, as an error of its own."""
    while isinstance(error, (RayTaskError, UserCodeException)):
        cause = getattr(error, "cause", None) or error.__cause__
        if cause is None:
            break
        error = cause
    if isinstance(error, RayError):
        return RuntimeError(f"Ray gave up: {error}")
    return error
