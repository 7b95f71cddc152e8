"""The commands over recordings on many machines, by Ray Data.

Authors
 * qlung_plugin contributors
"""

import argparse
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qlung_plugin.cli.models import planned_engine
from qlung_plugin.cli.output import check_recordings, settings_of
from qlung_plugin.cli.recordings import BAR, check_cycles, print_counts
from qlung_plugin.utils.text import print_note

if TYPE_CHECKING:
    import pandas as pd

    from qlung_plugin.cli.ray_work import Item

RUNNING = """\
With --runner ray, what is read and written may be in an object store (s3://,
gs://, ...): --output is a folder there or here, of Parquet files with the same
columns, and error, which says why a recording failed; the rows come in any
order. See docs/many_machines.md."""

NEEDED = ("fsspec", "pyarrow", "ray")
OBJECT_STORE = 100 * 2**20  # bytes, of a Ray of our own: no sound goes through


def add_runner(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that says where the work is done."""
    parser.add_argument(
        "--runner",
        choices=("local", "ray"),
        default="local",
        help="processes here, or workers of Ray, on many machines (default:"
        " local)",
    )


def run_on_ray(
    arguments: argparse.Namespace,
    prepare: Callable[[], Any],
    function: Callable[..., Any],
    rows_of: "Callable[[str, Any], pd.DataFrame]",
    describe: Callable[[argparse.Namespace], dict[str, str]] = lambda _: {},
    tally: Callable[[Any], int] | None = None,
    local_alone: Mapping[str, Any] = {"format": None},
) -> tuple[int, int, int]:
    """Does on Ray what :func:`qlung_plugin.cli.recordings.for_each` does here.

    What ``function(prepared, path, cycles=...)`` gives, ``rows_of(name, result)``
    makes a table of, which goes into a partition of the ``--output``; ``prepare``
    is called once per worker. Returned are the exit code, how many rows were
    written, and the sum of ``tally(result)``. Options that the local runner alone
    has, given with their defaults, are refused.
    """
    check_usage(arguments, local_alone)
    if hasattr(arguments, "engine"):  # the same one on all machines
        arguments.engine = planned_engine(arguments)
    from tqdm import tqdm

    from qlung_plugin.cli import ray_work
    from qlung_plugin.utils.partitions import Partitions
    from qlung_plugin.utils.stores import exists

    items, unreachable, repeated = find_items(arguments)
    partitions = Partitions(arguments.output, settings_of(arguments, describe))
    partitions.open(arguments.resume)
    check_recordings(
        arguments.output, partitions.names, [i.name for i in items], exists
    )
    work = ray_work.Work(prepare, function, rows_of, tally, partitions)
    failed = rows = counted = 0
    with connected(arguments) as pool:
        columns = pool.find_columns(work, arguments.channel)
        finished = pool.find_finished(items, partitions.finished)
        partitions.keep(finished)
        left = [item for item in items if item.name not in finished]
        before = len(items) - len(left)
        bar = tqdm(total=len(items), initial=before, **BAR)
        for outcome in pool.work_off(left, work, columns):
            with tqdm.external_write_mode(sys.stdout):
                for warning in outcome.warnings:
                    print_note(warning)
                if outcome.error is not None:
                    failed += 1
                    print_note(outcome.error)
            rows += outcome.rows
            counted += outcome.counted
            bar.update()
        bar.close()
    print_counts(len(items), before, failed, unreachable, repeated)
    return int(bool(failed or unreachable)), rows, counted


def check_usage(
    arguments: argparse.Namespace, local_alone: Mapping[str, Any]
) -> None:
    """Raises a ValueError that says what has to be given or installed."""
    missing = [
        name for name in NEEDED if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ValueError(
            f"--runner ray needs {', '.join(missing)}: pip install"
            ' "qlung_plugin[ray]"'
        )
    if arguments.output is None:
        raise ValueError(
            "--runner ray needs an --output: a folder, for its partitions"
        )
    for name, default in local_alone.items():
        if getattr(arguments, name, default) != default:
            raise ValueError(
                f"--{name} needs --runner local: what Ray writes are Parquet"
                " files, row by row"
            )


def find_items(
    arguments: argparse.Namespace,
) -> tuple[list["Item"], int, int]:
    """The recordings, here and in stores, each with the source of its cycles.

    Also how many cannot be reached, and are second names, which is told.
    """
    from qlung_plugin.cli.ray_work import Item
    from qlung_plugin.dataio.finding import FoundRecordings, find_recordings
    from qlung_plugin.dataio.objects import find_objects
    from qlung_plugin.dataio.shares import share_out
    from qlung_plugin.utils.stores import is_remote, local_path

    found = FoundRecordings([], [], [])
    local = [local_path(p) for p in arguments.paths if not is_remote(p)]
    if local:
        found = find_recordings(local)
    places: dict[str, Any] = {
        str(path): path.absolute() for path in found.recordings
    }
    for url in filter(is_remote, arguments.paths):
        places.update({stored.url: stored for stored in find_objects(url)})
    check_cycles(arguments.cycles, len(places))
    cycles = arguments.cycles
    if os.path.exists(cycles):  # workers may be in another folder
        cycles = os.path.abspath(cycles)
    shares, notes = share_out(cycles, [Path(name) for name in places])
    for sentence in found.unreachable + found.repeated + notes:
        print_note(sentence)
    items = [
        Item(name.encode("utf-8", "backslashreplace").decode(), place, share)
        for (name, place), share in zip(places.items(), shares)
    ]
    return items, len(found.unreachable), len(found.repeated)


@contextmanager
def no_stderr() -> Iterator[None]:
    """Nothing of this process is seen on stderr, whatever language says it."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[Any]:
    """The workers of the cluster at RAY_ADDRESS, or else of this machine.

    An interruption is told, and leaves no process behind.
    """
    # Read when ray is imported. What is printed would be for whoever runs Ray.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    from qlung_plugin.cli.ray_pool import Pool

    own = not ray.is_initialized()
    if own:
        address = os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"address": address}
        if not address:
            options = {
                "address": "local",
                "num_cpus": arguments.jobs or len(os.sched_getaffinity(0)),
                "object_store_memory": OBJECT_STORE,
                "include_dashboard": False,
            }
        with no_stderr():  # an error is raised
            ray.init(
                **options, log_to_driver=False, logging_level=logging.ERROR
            )
    try:
        yield Pool(arguments.jobs, getattr(arguments, "device", "cpu"))
    except KeyboardInterrupt:
        print_note(
            f"{arguments.output} is not complete: --resume goes on with it"
        )
        raise
    finally:
        if own:
            ray.shutdown()
