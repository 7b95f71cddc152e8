"""What all front ends have in common.

Authors
 * qlung_plugin contributors
"""

import math

import torch
from torch import nn

# How much a natural logarithm of power rises by in 1 dB.
NATURAL_DECIBEL = math.log(10) / 10


class FrontEnd(nn.Module):
    """Base class of the front ends: waveforms in, features out.

    A subclass has ``sample_rate``, in Hz, and its ``forward`` turns waveforms
    ``[batch, time]`` of that rate into features ``[batch, time, mel]``,
    float32, also inside autocast. In the recipes it goes under ``log_mel``, and
    ``compute_features`` normalises what it makes. One that has a ``mel_bank``, of
    an FFT of ``n_fft`` samples, tells the frequencies of its mel bands;
    ``decibel`` is how much its features rise by when the sound rises by 1 dB,
    which augmentation has to know.
    """

    yaml_key = "log_mel"
    speechbrain_values = {"n_mels": "!ref <n_mels>"}

    sample_rate: int
    decibel: float | None = None
    n_fft: int
    mel_bank: torch.Tensor

    def band_frequencies(self) -> torch.Tensor:
        """The centre of each mel band's weights, ``[mel]`` in Hz.

        NaN of a band that is too narrow to have a bin of the FFT.
        """
        bins = self.n_fft // 2 + 1
        bank = self.mel_bank.double()
        if bank.shape[-1] != bins:
            bank = bank.T
        frequencies = torch.arange(bins) * (self.sample_rate / self.n_fft)
        return (bank @ frequencies.to(bank) / bank.sum(dim=-1)).float()
