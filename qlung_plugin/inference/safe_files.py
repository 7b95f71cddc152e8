"""Reading files of strangers: nothing in them is run, and sizes are checked.

A file is looked at before it is read. What is too large, no ordinary file, or a
link out of its folder is refused; JSON may not repeat a key, nor hold a number
that is none; tensors have to be those that are expected, by name, type and
shape, before any of them is read. Every refusal is a ValueError that names the
file.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from qlung_plugin.utils.ordinary_files import (
    LARGEST_TEXT,
    ordinary_size,
    read_ordinary,
)
from qlung_plugin.utils.state_dicts import DAMAGED

LARGEST_WEIGHTS = 2**31  # bytes of a model: six times the largest backbone

# What safetensors calls the types that weights have.
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def check_file(path: Path, folder: Path, largest: int) -> None:
    """Checks a file before it is opened.

    It may be no link out of its folder. That of a snapshot in the cache of the
    Hugging Face hub counts as the cached repository, where its links lead to.
    """
    home = folder.resolve()
    repository = home.parent.parent
    if home.parent.name == "snapshots" and repository.name.startswith(
        "models--"
    ):
        home = repository
    try:
        target = path.resolve(strict=True)
    except RuntimeError as error:  # until Python 3.13; then it is an OSError
        raise ValueError(f"{path} is a link to itself") from error
    if not target.is_relative_to(home):
        raise ValueError(
            f"{path} is a link out of its folder, to {target}: put the file"
            " itself there"
        )
    ordinary_size(path, largest)


def read_text(path: Path, folder: Path) -> str:
    """Reads a text; see :func:`check_file`."""
    check_file(path, folder, LARGEST_TEXT)
    return read_ordinary(path)


def read_tensors(
    path: Path, folder: Path, expected: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Reads a safetensors file, if its tensors are the expected ones.

    These may be on the device ``meta``. If one is missing, unknown, or of
    another type or shape, nothing is read, and a ValueError names the first
    three of them.
    """
    wanted = {
        name: (DTYPES.get(tensor.dtype), tuple(tensor.shape))
        for name, tensor in expected.items()
    }
    check_file(path, folder, LARGEST_WEIGHTS)
    try:
        # Checked and read by one parser, from one file.
        with safe_open(path, "pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}
            there = {
                name: (part.get_dtype(), tuple(part.get_shape()))
                for name, part in slices.items()
            }
            if there == wanted:
                return {name: tensors.get_tensor(name) for name in wanted}
    except (*DAMAGED, SafetensorError) as error:
        # It quotes what the file says, which may be of any length.
        raise ValueError(f"{path} is damaged: {str(error)[:200]}") from error
    problems = [f"missing: {name}" for name in wanted if name not in there]
    problems += [f"unknown: {name}" for name in there if name not in wanted]
    problems += [
        f"{name}: {there[name]} instead of {wanted[name]}"
        for name in wanted
        if name in there and there[name] != wanted[name]
    ]
    raise ValueError(
        f"{path} does not fit its architecture: {len(problems)} tensors"
        f" differ ({'; '.join(problem[:200] for problem in problems[:3])})"
    )
