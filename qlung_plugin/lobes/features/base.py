"""What all front ends have in common.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn


class FrontEnd(nn.Module):
    """Base class of the front ends: waveforms in, features out.

    A subclass has ``sample_rate``, in Hz, and its ``forward`` turns waveforms
    ``[batch, time]`` of that rate into features ``[batch, time, mel]``,
    float32, also inside autocast. ``yaml_key`` is the key of the recipes that
    it goes under, if not ``compute_features``.
    """

    speechbrain_values = {"n_mels": "!ref <n_mels>"}

    sample_rate: int | None = None


def power_spectrum(
    waveforms: torch.Tensor, n_fft: int, hop_length: int, window: torch.Tensor
) -> torch.Tensor:
    """The power of a centred STFT, ``[batch, bin, frame]``."""
    spectrum = torch.stft(
        waveforms,
        n_fft,
        hop_length=hop_length,
        win_length=len(window),
        window=window,
        center=True,
        return_complex=True,
    )
    return spectrum.real.square() + spectrum.imag.square()
