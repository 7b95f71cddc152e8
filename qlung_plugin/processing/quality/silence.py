"""Samples that hold no signal: digital silence, dropouts, a held converter.

Authors
 * qlung_plugin contributors
"""

import torch

from qlung_plugin.processing.quality.frames import sample_mask

# What stays exactly the same for so long is no signal, in s: a whole period of
# 50 Hz, where the bands of most measures begin. A sound of the band rises and
# falls within it, or is fainter than a step of the converter. Shorter runs are
# found in good recordings: the crests of the heart's tones, and pauses at the
# bottom of an 8-bit file's range. Of 374 recordings of SPRSound, in 16 bits,
# the longest run is 13.5 ms.
SHORTEST_SILENCE = 0.02


def constant_runs(
    waveforms: torch.Tensor, lengths: torch.Tensor, shortest: int
) -> torch.Tensor:
    """Marks samples in runs of exactly the same value, boolean ``[batch, time]``.

    Of at least ``shortest`` samples, two or more. The waveforms are those that
    were recorded: a resampler leaves ripples on what was constant, if it was
    not 0. Padding is part of no run.

    Example
    -------
    >>> waveforms = torch.tensor([[0.1, 0.0, 0.0, 0.0, 0.2, 0.2, 0.0]])
    >>> constant_runs(waveforms, torch.tensor([7]), 3).int()
    tensor([[0, 1, 1, 1, 0, 0, 0]], dtype=torch.int32)
    """
    time = waveforms.shape[-1]
    none = torch.zeros_like(waveforms, dtype=torch.bool)
    # A run covers at least four neighbours of a comb of a quarter of its length.
    # Most recordings have none, and a comb tells it in a fiftieth of the time.
    step = max(1, shortest // 4)
    comb = waveforms[:, ::step]
    held = comb[:, 1:] == comb[:, :-1]
    for _ in range(shortest // step - 2):
        held = held[:, 1:] & held[:, :-1]
    if time < shortest or not held.any():
        return none
    held = waveforms[:, 1:] == waveforms[:, :-1]
    held &= sample_mask(held, lengths - 1)
    # Of the windows of a run's shortest length, those that hold throughout,
    # and the samples that any of them covers, by differences of sums.
    sums = torch.nn.functional.pad(held.cumsum(dim=-1), (1, 0))
    starts = sums[:, shortest - 1 :] - sums[:, : 1 - shortest] == shortest - 1
    sums = torch.nn.functional.pad(starts.cumsum(dim=-1), (shortest, 0))
    sums = torch.cat([sums, sums[:, -1:].expand(-1, shortest - 1)], dim=-1)
    return sums[:, shortest:] > sums[:, :time]


def resample_mask(
    mask: torch.Tensor, native_rate: int, sample_rate: int
) -> torch.Tensor:
    """The mask ``[..., time]`` of a resampled waveform, of rates in Hz.

    As long as what :func:`qlung_plugin.processing.cycles.resample` makes. Of
    each sample, what the last one at or before its time had.

    Example
    -------
    >>> resample_mask(torch.tensor([True, False, False]), 4000, 8000).int()
    tensor([1, 1, 0, 0, 0, 0], dtype=torch.int32)
    """
    if native_rate == sample_rate:
        return mask
    time = -(-mask.shape[-1] * sample_rate // native_rate)
    positions = torch.arange(time, device=mask.device)
    return mask[..., positions * native_rate // sample_rate]
