"""What tells one store of cycles from another: a digest of all that enters it.

Authors
 * qlung_plugin contributors
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qlung_plugin.dataio.manifests import Entries


def process_digest(process: nn.Module) -> str:
    """Digest, in hexadecimal, of a function that is called with a cycle."""
    responses = [_response(process)]
    # What features do with the whole recording, one cycle does not show.
    measure = getattr(process, "recording_reference", None)
    if measure is not None:
        responses.append(_response(measure))
    # Of resampling with what lies around a cycle, noise alone shows nothing.
    if getattr(process, "input_rate", None) is not None:
        responses.append("resampled within the recording")
    return _digest_plain([describe_module(process), *responses])


def cycle_digests(entries: Entries, data_root: Path | str) -> dict[str, str]:
    """Digests of what is read of each cycle, by its id.

    That is its recording's bytes and its boundaries: two cycles of other names
    may be the same. The entries have ``wav`` and ``sample_rate``.
    """
    digests = {}
    for cycle, entry in entries.items():
        wav = entry["wav"]
        path = Path(wav["file"].replace("{data_root}", str(data_root)))
        digests[cycle] = _digest_plain(
            [
                file_digest(path),
                wav["start"],
                wav["stop"],
                entry["sample_rate"],
                *wav.get("channels", ()),
            ]
        )
    return digests


def store_digest(cycles: Mapping[str, str]) -> str:
    """Digest of all cycles of a store, by their :func:`cycle_digests`."""
    return _digest_plain(list(cycles.items()))


def _digest_plain(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    state = path.stat()
    return _digest_file(path, state.st_size, state.st_mtime_ns)


@cache
def _digest_file(path: Path, size: int, modified: int) -> str:
    # A run asks for several stores over the same recordings.
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe_module(module: nn.Module) -> dict[str, Any]:
    """The settings of a module and its parts, as plain data.

    That is the class, attributes, and digests of tensors, recursively.
    Persistent buffers are left out: what was fitted after construction is
    there. Of an attribute that is no plain data, only the class is there, or
    its name if it has one.
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


def _describe(value: object) -> Any:
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


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


@torch.no_grad()
def _response(process: nn.Module) -> str:
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
