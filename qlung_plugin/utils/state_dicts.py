"""Reading files of weights.

Authors
 * qlung_plugin contributors
"""

import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

# What torch.load raises on files that are truncated, overwritten, or pickles of
# something else, tried out by damaging files at every place.
DAMAGED = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    pickle.UnpicklingError,
    struct.error,
)


# What makes NumPy's arrays, under its names of before and since version 2: some
# files of weights hold arrays beside them. Nothing else is called.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
ARRAYS: list[Any] = [
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(
        kind
        for kind in vars(np.dtypes).values()
        if isinstance(kind, type) and issubclass(kind, np.dtype)
    ),
]


def read_state_dict(
    path: Path | str, entry: str | None = None
) -> dict[str, torch.Tensor]:
    """Reads named tensors, or those of an entry, to the CPU; see read_file."""
    state = read_file(path)
    if entry is not None:
        if not isinstance(state, dict) or entry not in state:
            raise ValueError(f"{path} has no entry {entry!r} of a state dict")
        state = state[entry]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value)
        for name, value in state.items()
    ):
        raise ValueError(f"{path} holds no state dict of named tensors")
    return state


def read_file(path: Path | str) -> Any:
    """Reads tensors, arrays and plain values; nothing in the file is executed."""
    try:
        with torch.serialization.safe_globals(ARRAYS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise ValueError(
            f"{path} is not a readable state dict: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """What torch.load says, without its advice to run what the file holds."""
    text = str(error)
    refused = re.search(
        r"unsupported (global|class|operand).*?(?=\. |\n|$)", text, re.I
    )
    if refused:
        return refused[0]
    return "it is damaged" if "weights_only" in text else text
