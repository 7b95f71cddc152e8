"""The level of a recording in a band, and the parts of it in which there is sound.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Iterator

import torch

from qlung_plugin.processing.cycles import cyclic_pad
from qlung_plugin.processing.quality.silence import (
    SHORTEST_SILENCE,
    constant_runs,
)
from qlung_plugin.processing.spectrum import power_spectrum

# In s. The window is of 4096 samples at 32 kHz; at other rates it lasts as
# long, so that a level does not depend on the rate.
WINDOW = 0.128
PIECE = 10.0  # of a recording, in memory at a time
SHORTEST_PIECE = 1.0


def band_power(
    waveforms: torch.Tensor, sample_rate: int, f_min: float, f_max: float
) -> torch.Tensor:
    """Mean square of waveforms ``[batch, time]`` between two frequencies in Hz.

    By Welch's method: the mean over half overlapping Hann windows of 128 ms,
    without a constant. Source: P. D. Welch, "The use of fast Fourier transform
    for the estimation of power spectra", IEEE Trans. Audio Electroacoust. 15,
    1967. Of what is shorter, one window as long as it.

    Example
    -------
    >>> time = torch.arange(8000) / 8000
    >>> tone = torch.sin(2 * torch.pi * 1000 * time)[None]
    >>> band_power(tone, 8000, 500.0, 2000.0)
    tensor([0.5000])
    >>> band_power(tone, 8000, 2000.0, 4000.0) < 1e-7
    tensor([True])
    """
    size = round(WINDOW * sample_rate)
    if waveforms.shape[-1] < size:  # not min: an export decides it once
        size = waveforms.shape[-1]
    window = torch.hann_window(size, device=waveforms.device)
    power = power_spectrum(waveforms, size, size // 2, window, center=False)
    frequencies = torch.arange(size // 2 + 1, device=waveforms.device) * (
        sample_rate / size
    )
    inside = (frequencies >= f_min) & (frequencies <= f_max) & (frequencies > 0)
    # By Parseval; a bin stands for the negative frequency, too, but the last
    # one of an even number for both at once.
    shares = 2.0 * inside / (size * window.square().sum())
    if size % 2 == 0:
        shares = torch.cat([shares[:-1], shares[-1:] / 2])
    return torch.matmul(shares, power).mean(dim=-1)


def sounding_pieces(
    blocks: Iterable[torch.Tensor], sample_rate: int
) -> Iterator[tuple[torch.Tensor, int]]:
    """A recording without its digital silence, in pieces of 10 s.

    The ``blocks``, ``[time]``, are those of the recording in their order; however
    it was cut, the pieces are the same. Where a sample stays the same for 20 ms
    there is no sound: what is before and after is joined. With each piece comes
    the number of its samples; one of less than a second, such as the last, is
    repeated to it. Nothing comes of silence.

    Example
    -------
    >>> blocks = [torch.zeros(8000), torch.rand(8000), torch.rand(100)]
    >>> [(len(piece), count) for piece, count in sounding_pieces(blocks, 8000)]
    [(8100, 8100)]
    """
    length = round(PIECE * sample_rate)
    kept = torch.empty(0)
    for sound in _without_silence(blocks, sample_rate):
        kept = torch.cat([kept.to(sound), sound])
        while len(kept) >= length:
            yield kept[:length], length
            kept = kept[length:]
    if len(kept):
        shortest = round(SHORTEST_PIECE * sample_rate)
        yield cyclic_pad(kept, max(len(kept), shortest)), len(kept)


def _without_silence(
    blocks: Iterable[torch.Tensor], sample_rate: int
) -> Iterator[torch.Tensor]:
    """What is no digital silence, however a run of it lies in the blocks."""
    shortest = round(SHORTEST_SILENCE * sample_rate)
    held, decided = torch.empty(0), 0

    def sound(stop: int) -> torch.Tensor:
        lengths = torch.tensor([len(held)], device=held.device)
        silent = constant_runs(held.unsqueeze(0), lengths, shortest)[0]
        return held[decided:stop][~silent[decided:stop]]

    for block in blocks:
        held = torch.cat([held.to(block), block])
        # What is nearer to the end may be in a run that goes on.
        stop = len(held) - shortest
        if stop > decided:
            yield sound(stop)
            first = max(0, stop - shortest)
            held, decided = held[first:], stop - first
    yield sound(len(held))


def sounding_frames(waveforms: torch.Tensor, frames: int) -> torch.Tensor:
    """In which of so many stretches of equal length there is a sample but 0.

    Boolean ``[batch, frame]`` of waveforms ``[batch, time]``; nothing depends on
    what they hold, so that it can be exported.

    Example
    -------
    >>> sounding_frames(torch.tensor([[0.0, 0.0, 0.1, 0.0, 0.0, 0.0]]), 3)
    tensor([[False,  True, False]])
    """
    counts = (waveforms != 0).long().cumsum(dim=-1)
    counts = torch.nn.functional.pad(counts, (1, 0))
    edges = torch.arange(frames + 1, device=waveforms.device)
    edges = edges * waveforms.shape[-1] // frames
    return counts[:, edges].diff(dim=-1) > 0
