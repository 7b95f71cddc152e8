"""Samples that are no sound: one check, for training and for use.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line imports this module for SHORTEST
    import torch

LARGEST = 1e10  # of a sample; integers of 32 bits, written as floats, are less

# In seconds. Half of ICBHI's shortest cycle (0.2 s), and less than SPRSound's
# (0.126 s): no model has seen shorter ones, of which all that a front end would
# see are a few of its frames of 25 ms, repeated.
SHORTEST = 0.1


def check_samples(
    waveform: "torch.Tensor", path: Path | str, first: int, sample_rate: int
) -> None:
    """Refuses a stretch ``[time]`` that holds what no recording does.

    NaN, infinite, or above :data:`LARGEST`; ``first`` is where it begins.
    """
    # The energy shows it, much faster, unless there is very much of it.
    if waveform.dot(waveform) < LARGEST**2:
        return
    for bad, what in (
        (~waveform.isfinite(), "NaN or infinite samples"),
        (
            waveform.abs() > LARGEST,
            f"samples above {LARGEST:g}, where full scale is 1",
        ),
    ):
        if bad.any():
            time = (first + bad.nonzero()[0].item()) / sample_rate
            raise ValueError(f"{path} holds {what}, the first at {time:.6g} s")
