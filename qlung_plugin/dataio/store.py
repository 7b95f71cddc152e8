"""What is computed once from every cycle and kept, shared by runs.

Authors
 * qlung_plugin contributors
"""

import hashlib
import json
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.logger import get_logger
from torch import nn
from tqdm import tqdm

from qlung_plugin.dataio.cycles import read_cycle

logger = get_logger(__name__)

GROUP = 8  # cycles that a core takes at a time


class CycleStore:
    """Tensors by cycle id, memory-mapped from a folder.

    The first dimension may differ between cycles, the others not.

    Arguments
    ---------
    folder : str or Path
        What :func:`store_cycles` wrote.

    Raises
    ------
    ValueError
        If a file of the folder is missing or damaged, or the files do not
        belong together.
    """

    def __init__(self, folder):
        self.folder = folder = Path(folder)
        try:
            index = json.loads((folder / "index.json").read_text())
            ids, offsets = index["ids"], index["offsets"]
            self.values = np.load(folder / "values.npy", mmap_mode="r")
            starts, stops = offsets[:-1], offsets[1:]
            if not (
                len(ids) == len(starts)
                and offsets[0] == 0
                and offsets[-1] == len(self.values)
                and all(start <= stop for start, stop in zip(starts, stops))
            ):
                raise ValueError("index and values do not fit together")
        except (OSError, ValueError, EOFError, LookupError, TypeError) as error:
            raise ValueError(
                f"the store {folder} is damaged ({error}): delete the folder,"
                " and it is computed again"
            ) from error
        self.slices = dict(zip(ids, map(slice, starts, stops)))

    def __getitem__(self, cycle):
        """The tensor of one cycle, a copy in memory."""
        return torch.from_numpy(np.array(self.values[self.slices[cycle]]))

    def __len__(self):
        return len(self.slices)

    def __reduce__(self):
        # To another process goes the path, not a copy of the values.
        return CycleStore, (self.folder,)


def store_cycles(manifests, process, folder, data_root=""):
    """Applies a function to every cycle, unless that was done before.

    The result is kept in a sub-folder of ``folder`` whose name is a digest of
    the recordings' bytes, the cycles' boundaries and the function with its
    settings. It is written under another name and moved there when complete,
    so that neither an interruption nor two runs at a time can spoil it.

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
        of one id differ, or the store is damaged.

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
    entries = {}
    for manifest in manifests:
        for cycle, entry in manifest.items():
            content = {key: entry[key] for key in ("wav", "sample_rate")}
            if entries.setdefault(cycle, content) != content:
                raise ValueError(f"the manifests have two cycles {cycle}")
    entries = dict(sorted(entries.items()))
    if not entries:
        raise ValueError("the manifests hold no cycle")
    digest = _digest(entries, process, data_root)
    target = Path(folder) / f"{type(process).__name__}-{digest[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        logger.info("Computing %s of %d cycles", target.name, len(entries))
        unfinished = target.parent / f"partial-{uuid.uuid4().hex}"
        unfinished.mkdir()
        try:
            _write(entries, process, unfinished, data_root)
            os.rename(unfinished, target)
        except OSError:
            # Another run may have been faster: its folder is as good.
            if not target.exists():
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return CycleStore(target)


def _write(entries, process, folder, data_root):
    process.eval()
    offsets = [0]
    shape, dtype = None, None
    raw = folder / "values.raw"
    with (
        open(raw, "wb") as file,
        closing(_values(entries, process, data_root)) as computed,
    ):
        progress = tqdm(
            computed,
            total=len(entries),
            desc=type(process).__name__,
            unit="cycle",
            disable=None,  # no bar where nobody looks: in a file or a pipe
            dynamic_ncols=True,
        )
        for cycle, value in progress:
            if value.ndim == 0:
                raise ValueError(f"cycle {cycle}: a number, not a tensor")
            if shape is None:
                shape, dtype = value.shape[1:], value.dtype
            if (value.shape[1:], value.dtype) != (shape, dtype):
                raise ValueError(
                    f"cycle {cycle}: {value.dtype} of {value.shape[1:]} after"
                    f" the first dimension, the cycles before it {dtype} of"
                    f" {shape}"
                )
            offsets.append(offsets[-1] + len(value))
            file.write(np.ascontiguousarray(value).tobytes())
    # A .npy header needs the final shape, which is known only now.
    values = np.memmap(raw, dtype, mode="r", shape=(offsets[-1], *shape))
    np.save(folder / "values.npy", values)
    raw.unlink()
    index = {"ids": list(entries), "offsets": offsets}
    (folder / "index.json").write_text(json.dumps(index))


def _values(entries, process, data_root):
    """Yields cycles and their results, in order, computed side by side.

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
def _compute(items, process, data_root):
    cycles = [cycle for cycle, _ in items]
    waveforms = [read_cycle(entry["wav"], data_root) for _, entry in items]
    rates = [entry["sample_rate"] for _, entry in items]
    if hasattr(process, "batch"):
        try:
            return list(zip(cycles, process.batch(waveforms, rates).numpy()))
        except (ValueError, RuntimeError):
            pass  # one of them: which, they tell one by one
    values = []
    for cycle, waveform, rate in zip(cycles, waveforms, rates):
        try:
            values.append((cycle, process(waveform, rate).numpy()))
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"cycle {cycle}: {error}") from error
    return values


def _digest(entries, process, data_root):
    """Digest of the recordings, the boundaries, and the function."""
    recordings = {}
    for entry in entries.values():
        file = entry["wav"]["file"]
        if file not in recordings:
            path = Path(file.replace("{data_root}", str(data_root)))
            state = path.stat()
            recordings[file] = _digest_file(
                path, state.st_size, state.st_mtime_ns
            )
    content = [
        [
            cycle,
            recordings[entry["wav"]["file"]],
            entry["wav"]["start"],
            entry["wav"]["stop"],
            entry["sample_rate"],
        ]
        for cycle, entry in entries.items()
    ]
    text = json.dumps([content, describe_module(process), _response(process)])
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=None)
def _digest_file(path, size, modified):
    # A run asks for several stores over the same recordings.
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe_module(module):
    """The settings of a module and its parts, as plain data.

    Arguments
    ---------
    module : nn.Module
        Any module.

    Returns
    -------
    dict
        Class, attributes, and digests of tensors, recursively. Persistent
        buffers are left out: what was fitted after construction is there, see
        :class:`qlung_plugin.dataio.cycles.CycleMeasurements`. Of an attribute
        that is no plain data, only the class is told, or its name if it has
        one.
    """
    skipped = set(vars(nn.Module())) | {"training"}
    saved = module.state_dict()
    return {
        "class": _name(type(module)),
        "settings": {
            name: _describe(value)
            for name, value in vars(module).items()
            if name not in skipped
        },
        "parameters": {
            name: _describe(value)
            for name, value in module.named_parameters(recurse=False)
        },
        # A setting may have left no other trace than a window or a bank.
        "buffers": {
            name: _describe(value)
            for name, value in module.named_buffers(recurse=False)
            if name not in saved
        },
        "modules": {
            name: describe_module(child)
            for name, child in module.named_children()
        },
    }


def _describe(value):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _describe(item) for key, item in value.items()}
    if isinstance(value, (np.generic, torch.dtype, Path)):
        return str(value)
    if torch.is_tensor(value):
        data = value.detach().cpu().contiguous().numpy()
        return [list(data.shape), hashlib.sha256(data.tobytes()).hexdigest()]
    if isinstance(value, nn.Module):
        return describe_module(value)
    return _name(value if hasattr(value, "__qualname__") else type(value))


def _name(value):
    return f"{value.__module__}.{value.__qualname__}"


@torch.no_grad()
def _response(process):
    """Digest of the function's answer to a fixed noise with a silent gap.

    It changes with the code, which the description of the settings does not.
    """
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(8000, generator=generator)
    noise[2000:3000] = 0.0  # what is made of silence is a part of the function
    answer = process.eval()(noise, 16000)
    # Rounded, because the last bits differ with the number of threads.
    rounded = answer.double().numpy().round(2) + 0.0
    return hashlib.sha256(rounded.tobytes()).hexdigest()
