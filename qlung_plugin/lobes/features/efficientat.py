"""The log-mel front end of the EfficientAT backbones.

Authors
 * qlung_plugin contributors
"""

import torch

from qlung_plugin.lobes.features.base import NATURAL_DECIBEL, FrontEnd
from qlung_plugin.lobes.features.kaldi import kaldi_mel_bank
from qlung_plugin.processing.spectrum import power_spectrum


class EfficientATFeatures(FrontEnd):
    """The log-mel front end that the EfficientAT backbones were trained with.

    Pre-emphasis of 0.97 without padding, a centred power STFT (FFT of 1024
    samples, symmetric Hann window of 800, hop of 320), a Kaldi mel bank, and
    ``(log(x + 1e-5) + 4.5) / 5``. The analysis is fixed at 32 kHz, because the
    published weights are.

    Arguments
    ---------
    n_mels : int
        Number of mel bands.
    f_min : float
        Lowest frequency of the mel bank, in Hz.
    f_max : float
        Highest frequency of the mel bank, in Hz.

    Example
    -------
    >>> features = EfficientATFeatures()(torch.randn(2, 32000))
    >>> features.shape
    torch.Size([2, 100, 128])
    """

    sample_rate: int = 32000
    n_fft = 1024
    win_length = 800
    hop_length = 320
    preemphasis = 0.97
    decibel = NATURAL_DECIBEL / 5

    window: torch.Tensor
    mel_bank: torch.Tensor

    def __init__(
        self, n_mels: int = 128, f_min: float = 0.0, f_max: float = 15000.0
    ) -> None:
        super().__init__()
        self.n_mels, self.f_min, self.f_max = n_mels, f_min, f_max
        # Not persistent: they follow from the settings.
        window = torch.hann_window(self.win_length, periodic=False)
        self.register_buffer("window", window, persistent=False)
        bank = kaldi_mel_bank(
            n_mels, self.n_fft, self.sample_rate, f_min, f_max
        )
        self.register_buffer("mel_bank", bank, persistent=False)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]``, 100 frames a second, of waveforms.

        They are ``[batch, time]`` at 32 kHz, of more than 513 samples.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.float()
            emphasised = waveforms[:, 1:] - self.preemphasis * waveforms[:, :-1]
            power = power_spectrum(
                emphasised,
                self.n_fft,
                self.hop_length,
                self.window,
                bins=self.mel_bank.shape[1],
            )
            mel = torch.matmul(self.mel_bank, power)
            return ((mel + 1e-5).log() + 4.5).div(5).transpose(1, 2)
