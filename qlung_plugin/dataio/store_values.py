"""Tensors by the name of what they were computed from, in a folder of a cache.

Authors
 * qlung_plugin contributors
"""

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Container, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from qlung_plugin.dataio.manifests import Entries
from qlung_plugin.dataio.store_digest import (
    cycle_digests,
    process_digest,
    store_digest,
)
from qlung_plugin.dataio.store_folders import (
    lock_folder,
    move_into_place,
    sweep,
    sync,
    unfinished_folder,
)
from qlung_plugin.utils.ordinary_files import (
    LARGEST_TABLE,
    ordinary_size,
    read_json,
)
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

GROUP = 8  # cycles that a core takes at a time
NAMED = 5  # damaged cycles, in a warning

Items = list[tuple[str, dict[str, Any]]]
Compute = Callable[[Items], list[np.ndarray]]  # of entries, in their order


class CycleStore:
    """Tensors by cycle id, memory-mapped from a folder of :func:`keep`.

    The first dimension may differ between cycles, the others not. An index that
    is not as it was written, or values that are missing or of another size, are
    a ValueError. Whether they are the same, :meth:`find_damaged` tells.
    """

    def __init__(self, folder: Path | str):
        self.folder = folder = Path(folder)
        try:
            index = read_json(folder / "index.json", LARGEST_TABLE)
            if index.pop("digest", None) != _digest(index):
                raise ValueError("the index is not what was written")
            ids, offsets = index["ids"], index["offsets"]
            dtype = np.dtype(index["dtype"])
            shape = (offsets[-1], *index["shape"])
            path, size = folder / "values.raw", dtype.itemsize * np.prod(shape)
            if ordinary_size(path, largest=size) != size:
                raise ValueError(f"{path} is too short")
            self.values = np.memmap(path, dtype, mode="r", shape=shape)
        except (
            OSError,
            ValueError,
            AttributeError,
            LookupError,
            TypeError,
        ) as e:
            raise ValueError(
                f"the store {folder} is damaged ({e}): it has to be computed"
                " again, as every run does at its start"
            ) from e
        slices = map(slice, offsets[:-1], offsets[1:])
        self.slices = dict(zip(ids, slices))
        self.checksums = dict(zip(ids, index["checksums"]))
        self.digests = dict(zip(ids, index["digests"]))

    def __getitem__(self, cycle: str) -> torch.Tensor:
        """The tensor of one cycle, a copy in memory."""
        return torch.from_numpy(np.array(self.values[self.slices[cycle]]))

    def __len__(self) -> int:
        return len(self.slices)

    def lengths(self) -> dict[str, int]:
        """The first dimension of each tensor, by cycle; no value is read."""
        return {
            cycle: where.stop - where.start
            for cycle, where in self.slices.items()
        }

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        # To another process goes the path, not a copy of the values.
        return CycleStore, (self.folder,)

    def find_damaged(self) -> list[str]:
        """The cycles whose values are not what was written, by their checksums.

        At four gigabytes a second on one core, and the first epoch finds them in
        memory.
        """
        return [cycle for cycle in self.slices if not self._is_intact(cycle)]

    def intact_values(self, wanted: Container[str]) -> dict[str, np.ndarray]:
        """What was computed of cycles of the wanted digests, by these.

        Without what :meth:`find_damaged` would find; see
        :func:`~qlung_plugin.dataio.store_digest.cycle_digests`.
        """
        return {
            digest: self.values[self.slices[cycle]]
            for cycle, digest in self.digests.items()
            if digest in wanted and self._is_intact(cycle)
        }

    def _is_intact(self, cycle: str) -> bool:
        values = self.values[self.slices[cycle]]
        return _checksum(cycle, values) == self.checksums[cycle]


def keep(
    entries: Entries,
    process: nn.Module,
    compute: Compute,
    folder: Path | str,
    data_root: Path | str,
) -> CycleStore:
    """What is computed of entries, from the cache or put there.

    The process is what a digest tells apart; see :mod:`.store`. Of what the same
    process made of other cycles, those that are here, too, are taken over.
    """
    entries = dict(sorted(entries.items()))
    process.eval()
    digests = cycle_digests(entries, data_root)
    folder, title = Path(folder), type(process).__name__
    name = f"{title}-{process_digest(process)[:16]}"
    target = folder / f"{name}-{store_digest(digests)[:16]}"
    sweep(folder)
    there = target.exists()
    known, whole = _open_values(target) if there else ({}, False)
    if not whole:
        for other in sorted(set(folder.glob(f"{name}-*")) - {target}):
            wanted = set(digests.values()) - known.keys()
            if not wanted:
                break
            # Another's damage is the concern of the runs that use it.
            with suppress(ValueError):
                known |= CycleStore(other).intact_values(wanted)
        missing = sum(digest not in known for digest in digests.values())
        folder.mkdir(parents=True, exist_ok=True)
        logger.info(
            "Computing %d of %d cycles of %s",
            missing,
            len(entries),
            target.name,
        )
        with (
            lock_folder(folder, fcntl.LOCK_SH),
            unfinished_folder(folder) as unfinished,
        ):
            _write(entries, digests, compute, title, unfinished, known)
            if there:
                with (
                    suppress(FileNotFoundError),
                    unfinished_folder(folder) as aside,
                ):
                    os.rename(target, aside)
            move_into_place(unfinished, target)
    return CycleStore(target)


def _open_values(target: Path) -> tuple[dict[str, np.ndarray], bool]:
    """What is not damaged of a store, and whether that is all of it.

    What is damaged is named in a warning.
    """
    try:
        store = CycleStore(target)
    except ValueError as error:
        logger.warning("%s", error)
        return {}, False
    damaged = dict.fromkeys(store.find_damaged())
    if damaged:
        names = ", ".join(list(damaged)[:NAMED])
        logger.warning(
            "%d of %d cycles in %s are damaged and computed again: %s",
            len(damaged),
            len(store),
            target,
            names + ", ..." * (len(damaged) > NAMED),
        )
    values = {
        store.digests[cycle]: store.values[where]
        for cycle, where in store.slices.items()
        if cycle not in damaged
    }
    return values, not damaged


def _checksum(cycle: str, values: np.ndarray) -> int:
    # Of the id, too: the values are those of no other cycle.
    return zlib.crc32(values.data, zlib.crc32(cycle.encode()))


def _digest(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


def _write(
    entries: Entries,
    digests: Mapping[str, str],
    compute: Compute,
    title: str,
    folder: Path,
    known: Mapping[str, np.ndarray],
) -> None:
    offsets = [0]
    checksums: list[int] = []
    shape: tuple[int, ...] = ()
    dtype = np.dtype(float)
    missing = {
        cycle: entry
        for cycle, entry in entries.items()
        if digests[cycle] not in known
    }
    with (
        open(folder / "values.raw", "wb") as file,
        closing(_values(missing, compute)) as computed,
    ):
        progress = tqdm(
            entries,
            desc=title,
            unit="cycle",
            disable=None,  # no bar where nobody looks: in a file or a pipe
            dynamic_ncols=True,
        )
        for cycle in progress:
            value = known.get(digests[cycle])
            if value is None:
                value = next(computed)
            if value.ndim == 0:
                raise ValueError(f"cycle {cycle}: a number, not a tensor")
            if not checksums:
                shape, dtype = value.shape[1:], value.dtype
            if (value.shape[1:], value.dtype) != (shape, dtype):
                raise ValueError(
                    f"cycle {cycle}: {value.dtype} of {value.shape[1:]} after"
                    f" the first dimension, the cycles before it {dtype} of"
                    f" {shape}"
                )
            value = np.ascontiguousarray(value)
            offsets.append(offsets[-1] + len(value))
            checksums.append(_checksum(cycle, value))
            file.write(value.tobytes())
    index: dict[str, Any] = {
        "ids": list(entries),
        "offsets": offsets,
        "checksums": checksums,
        "digests": list(digests.values()),
        "dtype": dtype.name,
        "shape": list(shape),
    }
    index["digest"] = _digest(index)
    (folder / "index.json").write_text(json.dumps(index))
    # Else a power cut after the move could leave files of zeros in its place.
    for path in (folder / "values.raw", folder / "index.json", folder):
        sync(path)


def _values(
    entries: Entries, compute: Compute
) -> Generator[np.ndarray, None, None]:
    """Yields the entries' results, in order, computed side by side.

    A cycle is too short for PyTorch to spread over cores, so every core takes
    cycles of its own. One thread each also makes the last bits of what is
    stored independent of the number of cores.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        threads, initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        items = list(entries.items())
        groups = [items[i : i + GROUP] for i in range(0, len(items), GROUP)]
        # What waits to be written is held in memory: not too much of it.
        for start in range(0, len(groups), 2 * threads):
            for group in pool.map(compute, groups[start : start + 2 * threads]):
                yield from group
    finally:
        pool.shutdown(cancel_futures=True)
        # Threads that start later take the number that was set last.
        torch.set_num_threads(threads)
