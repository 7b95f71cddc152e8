"""What is computed once from every cycle and kept, shared by runs.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qlung_plugin.dataio.cycles import input_of, measure_recording, read_excerpt
from qlung_plugin.dataio.manifests import Entries
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.dataio.store_digest import file_digest
from qlung_plugin.dataio.store_values import CycleStore, Items, keep


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
    its checksums: what is damaged is named in a warning and computed again. Of
    what other sub-folders of the same function hold, the same cycles, whatever
    their names, are copied instead of being computed.

    Arguments
    ---------
    manifests : list of dict
        Entries by id, with ``wav`` and ``sample_rate``. What is stored does
        not depend on how the cycles are distributed over the manifests.
    process : nn.Module
        Called as ``process(waveform, rate)`` with a cycle ``[time]``, see
        :func:`qlung_plugin.dataio.cycles.input_of`; returns a tensor of at least
        one dimension. If it has a ``recording_reference``, it is given, as
        ``reference``, what :func:`store_references` has of a cycle's recording.
        One cycle at a time, so that what is stored of it does not depend on
        the others.
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
    entries = _merged(manifests)
    references = store_references([entries], process, folder, data_root)
    compute = partial(
        _compute_cycles,
        process=process,
        data_root=data_root,
        references=references,
    )
    return keep(entries, process, compute, folder, data_root)


def store_references(
    manifests: Iterable[Entries],
    process: nn.Module,
    folder: Path | str,
    data_root: Path | str = "",
) -> dict[str, torch.Tensor] | None:
    """What the cycles of each recording are normalised by, by its file's name.

    It is measured in the whole recording, whatever is annotated of it, and kept
    as :func:`store_cycles` keeps what is computed of cycles: by its bytes and the
    settings.

    Arguments
    ---------
    manifests, folder, data_root
        See :func:`store_cycles`; names of files are as there.
    process : nn.Module
        Its ``recording_reference`` measures a recording, see
        :class:`qlung_plugin.lobes.features.normalised.RecordingReference`.

    Returns
    -------
    dict of torch.Tensor or None
        None if the process has no ``recording_reference``, or it is None.

    Raises
    ------
    OSError, ValueError
        If a recording cannot be read.
    """
    measure = getattr(process, "recording_reference", None)
    if measure is None:
        return None
    files, entries = {}, {}
    for entry in _merged(manifests).values():
        file = entry["wav"]["file"]
        if file not in files:
            path = Path(file.replace("{data_root}", str(data_root)))
            # By what it holds: the same recording elsewhere has another name.
            files[file] = name = file_digest(path)
            wav = {"file": str(path), "start": 0, "stop": None}
            entries[name] = {"wav": wav, "sample_rate": entry["sample_rate"]}
    compute = partial(_compute_references, process=process)
    store = keep(entries, measure, compute, folder, data_root)
    return {file: store[name] for file, name in files.items()}


def recording_reference(
    references: Mapping[str, torch.Tensor], wav: Mapping[str, Any]
) -> torch.Tensor:
    """The reference of a cycle's recording, as a batch is made of it."""
    return references[wav["file"]]


def _merged(manifests: Iterable[Entries]) -> Entries:
    """What is read of the cycles of all manifests."""
    entries: Entries = {}
    for manifest in manifests:
        for cycle, entry in manifest.items():
            content = {key: entry[key] for key in ("wav", "sample_rate")}
            if entries.setdefault(cycle, content) != content:
                raise ValueError(f"the manifests have two cycles {cycle}")
    if not entries:
        raise ValueError("the manifests hold no cycle")
    return entries


@torch.no_grad()
def _compute_cycles(
    items: Items,
    process: nn.Module,
    data_root: Path | str,
    references: Mapping[str, torch.Tensor] | None,
) -> list[np.ndarray]:
    rate = getattr(process, "input_rate", None)
    values = []
    for cycle, entry in items:
        excerpt = read_excerpt(entry["wav"], rate, data_root)
        given = list(input_of(process, excerpt))
        if references is not None:
            given.append(references[entry["wav"]["file"]])
        try:
            values.append(process(*given).numpy())
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"cycle {cycle}: {error}") from error
    return values


def _compute_references(items: Items, process: nn.Module) -> list[np.ndarray]:
    values = []
    for _, entry in items:
        # Cycles past the end are refused where they are read.
        recording = Recording(entry["wav"]["file"], allow_truncated=True)
        reference = measure_recording(process, recording)
        assert reference is not None  # as of store_references
        values.append(reference.numpy())
    return values
