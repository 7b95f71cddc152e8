"""The log-mel front end of the EfficientAT backbones.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn
from torchaudio.compliance.kaldi import get_mel_banks

from qlung_plugin.lobes.features.base import FrontEnd


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

    # In its recipes compute_features puts the first blocks behind it.
    yaml_key = "log_mel"

    sample_rate = 32000
    n_fft = 1024
    win_length = 800
    hop_length = 320
    preemphasis = 0.97

    def __init__(self, n_mels=128, f_min=0.0, f_max=15000.0):
        super().__init__()
        self.n_mels, self.f_min, self.f_max = n_mels, f_min, f_max
        # Not persistent: they follow from the settings.
        window = torch.hann_window(self.win_length, periodic=False)
        self.register_buffer("window", window, persistent=False)
        bank, _ = get_mel_banks(
            n_mels,
            self.n_fft,
            self.sample_rate,
            f_min,
            f_max,
            100.0,
            -500.0,
            1.0,
        )
        # Kaldi's bank has no weight for the Nyquist bin.
        bank = nn.functional.pad(bank, (0, 1))
        self.register_buffer("mel_bank", bank, persistent=False)

    def forward(self, waveforms):
        """Log-mel features of a batch of waveforms.

        Arguments
        ---------
        waveforms : torch.Tensor
            ``[batch, time]`` at 32 kHz, of more than 513 samples.

        Returns
        -------
        torch.Tensor
            ``[batch, time, mel]``, 100 frames a second; float32, also inside
            autocast.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.float()
            emphasised = waveforms[:, 1:] - self.preemphasis * waveforms[:, :-1]
            spectrum = torch.stft(
                emphasised,
                self.n_fft,
                hop_length=self.hop_length,
                win_length=self.win_length,
                window=self.window,
                center=True,
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()
            mel = torch.matmul(self.mel_bank, power)
            return ((mel + 1e-5).log() + 4.5).div(5).transpose(1, 2)
