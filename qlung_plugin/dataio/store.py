"""What is computed once from every cycle and kept, shared by runs.

Authors
 * qlung_plugin contributors
"""

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.manifests import Entries
from qlung_plugin.dataio.store_digest import store_digest
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


class CycleStore:
    """Tensors by cycle id, memory-mapped from a folder of :func:`store_cycles`.

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

    def __getitem__(self, cycle: str) -> torch.Tensor:
        """The tensor of one cycle, a copy in memory."""
        return torch.from_numpy(np.array(self.values[self.slices[cycle]]))

    def __len__(self) -> int:
        return len(self.slices)

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        # To another process goes the path, not a copy of the values.
        return CycleStore, (self.folder,)

    def find_damaged(self) -> list[str]:
        """The cycles whose values are not what was written, by their checksums.

        At four gigabytes a second on one core, and the first epoch finds them in
        memory.
        """
        return [
            cycle
            for cycle, where in self.slices.items()
            if _checksum(cycle, self.values[where]) != self.checksums[cycle]
        ]


def store_cycles(
    manifests: Iterable[Entries],
    process: nn.Module,
    folder: Path | str,
    data_root: Path | str = "",
) -> CycleStore:
    """Applies a function to every cycle, unless that was done before.

    The result is kept in a sub-folder of ``folder`` whose name is a digest of
    the recordings' bytes, the cycles' boundaries and the function with its
    settings. It is written under another name and moved there when complete,
    so that neither an interruption nor two runs at a time can spoil it; what a
    killed run left is removed by the next one. Every time, all is compared with
    its checksums: what is damaged is named in a warning and computed again.

    Arguments
    ---------
    manifests : list of dict
        Entries by id, with ``wav`` and ``sample_rate``. What is stored does
        not depend on how the cycles are distributed over the manifests.
    process : nn.Module
        Called as ``process(waveform, native_rate)`` with a cycle ``[time]``;
        returns a tensor of at least one dimension. If it has a method
        ``batch(waveforms, native_rates)`` of lists, which returns the stacked
        results, that is called instead.
    folder : str or Path
        Where stores are kept.
    data_root : str
        Replaces ``{data_root}`` in file names.

    Returns
    -------
    CycleStore
        The results, by id.

    Raises
    ------
    ValueError
        If a cycle cannot be processed: the message names it. If two entries
        of one id differ.

    Example
    -------
    >>> import soundfile
    >>> from qlung_plugin.dataio.cycles import CycleResampler
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", np.zeros(8000), 4000)
    >>> wav = {"file": "{data_root}/a.wav", "start": 0, "stop": 4000}
    >>> manifest = {"a_0": {"wav": wav, "sample_rate": 4000}}
    >>> store = store_cycles(
    ...     [manifest], CycleResampler(16000), folder / "cache", folder
    ... )
    >>> store["a_0"].shape
    torch.Size([16000])
    """
    entries: Entries = {}
    for manifest in manifests:
        for cycle, entry in manifest.items():
            content = {key: entry[key] for key in ("wav", "sample_rate")}
            if entries.setdefault(cycle, content) != content:
                raise ValueError(f"the manifests have two cycles {cycle}")
    entries = dict(sorted(entries.items()))
    if not entries:
        raise ValueError("the manifests hold no cycle")
    digest = store_digest(entries, process, data_root)
    folder = Path(folder)
    target = folder / f"{type(process).__name__}-{digest[:16]}"
    sweep(folder)
    damaged = target.exists()
    known = _intact_cycles(target) if damaged else {}
    missing = [cycle for cycle in entries if cycle not in known]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        logger.info("Computing %s of %d cycles", target.name, len(missing))
        with (
            lock_folder(folder, fcntl.LOCK_SH),
            unfinished_folder(folder) as unfinished,
        ):
            _write(entries, process, unfinished, data_root, known)
            if damaged:
                with (
                    suppress(FileNotFoundError),
                    unfinished_folder(folder) as aside,
                ):
                    os.rename(target, aside)
            move_into_place(unfinished, target)
    return CycleStore(target)


def _intact_cycles(target: Path) -> dict[str, np.ndarray]:
    """Values by cycle of a store; of a damaged one, those that are not."""
    try:
        store = CycleStore(target)
    except ValueError as error:
        logger.warning("%s", error)
        return {}
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
    return {
        cycle: store.values[where]
        for cycle, where in store.slices.items()
        if cycle not in damaged
    }


def _checksum(cycle: str, values: np.ndarray) -> int:
    # Of the id, too: the values are those of no other cycle.
    return zlib.crc32(values.data, zlib.crc32(cycle.encode()))


def _digest(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


def _write(
    entries: Entries,
    process: nn.Module,
    folder: Path,
    data_root: Path | str,
    known: Mapping[str, np.ndarray],
) -> None:
    process.eval()
    offsets = [0]
    checksums: list[int] = []
    shape: tuple[int, ...] = ()
    dtype = np.dtype(float)
    missing = {c: entry for c, entry in entries.items() if c not in known}
    with (
        open(folder / "values.raw", "wb") as file,
        closing(_values(missing, process, data_root)) as computed,
    ):
        progress = tqdm(
            entries,
            desc=type(process).__name__,
            unit="cycle",
            disable=None,  # no bar where nobody looks: in a file or a pipe
            dynamic_ncols=True,
        )
        for cycle in progress:
            value = known[cycle] if cycle in known else next(computed)
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
        "dtype": dtype.name,
        "shape": list(shape),
    }
    index["digest"] = _digest(index)
    (folder / "index.json").write_text(json.dumps(index))
    # Else a power cut after the move could leave files of zeros in its place.
    for path in (folder / "values.raw", folder / "index.json", folder):
        sync(path)


def _values(
    entries: Entries, process: nn.Module, data_root: Path | str
) -> Generator[np.ndarray, None, None]:
    """Yields the cycles' results, in order, computed side by side.

    A cycle is too short for PyTorch to spread over cores, so every core takes
    cycles of its own. One thread each also makes the last bits of what is
    stored independent of the number of cores.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        threads, initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        compute = partial(_compute, process=process, data_root=data_root)
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


@torch.no_grad()
def _compute(
    items: list[tuple[str, dict[str, Any]]],
    process: nn.Module,
    data_root: Path | str,
) -> list[np.ndarray]:
    waveforms = [read_cycle(entry["wav"], data_root) for _, entry in items]
    rates = [entry["sample_rate"] for _, entry in items]
    if callable(batch := getattr(process, "batch", None)):
        try:
            return list(batch(waveforms, rates).numpy())
        except (ValueError, RuntimeError):
            pass  # one of them: which, they tell one by one
    values = []
    for (cycle, _), waveform, rate in zip(items, waveforms, rates):
        try:
            values.append(process(waveform, rate).numpy())
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"cycle {cycle}: {error}") from error
    return values
