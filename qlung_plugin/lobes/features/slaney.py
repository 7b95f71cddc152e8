"""Log-mel features in dB with Slaney's bank, and the front ends that use it.

Authors
 * qlung_plugin contributors
"""

import torch
from torchaudio.functional import melscale_fbanks

from qlung_plugin.lobes.features.base import FrontEnd
from qlung_plugin.processing.spectrum import power_spectrum


class SlaneyFeatures(FrontEnd):
    """Base class: a subclass says at what rate and with what hop.

    A centred power STFT (FFT and periodic Hann window of 1024 samples), 64 mel
    bands of Slaney's scale and norm from 50 Hz to 14 kHz, and ``10
    log10(max(x, 1e-10))``: what librosa makes with its defaults.
    """

    sample_rate: int
    hop_length: int
    n_fft = 1024
    n_mels = 64
    f_min = 50.0
    f_max = 14000.0
    floor = 1e-10
    decibel = 1.0

    window: torch.Tensor
    mel_bank: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not persistent: they follow from the settings.
        window = torch.hann_window(self.n_fft)
        self.register_buffer("window", window, persistent=False)
        bank = melscale_fbanks(
            self.n_fft // 2 + 1,
            self.f_min,
            self.f_max,
            self.n_mels,
            self.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("mel_bank", bank, persistent=False)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]``, 100 frames a second, of waveforms.

        They are ``[batch, time]`` at ``sample_rate``, of more than 512 samples.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            power = power_spectrum(
                waveforms.float(), self.n_fft, self.hop_length, self.window
            )
            mel = torch.matmul(power.transpose(1, 2), self.mel_bank)
            return 10 * mel.clamp(min=self.floor).log10()


class CLAPFeatures(SlaneyFeatures):
    """The front end of LAION-CLAP's unfused models.

    The analysis is fixed at 48 kHz, because the published weights are. It is
    what transformers' ``ClapFeatureExtractor`` of ``laion/clap-htsat-unfused``
    makes of a waveform of up to 10 s that needs no padding. Source: Y. Wu et
    al., "Large-scale contrastive language-audio pretraining with feature fusion
    and keyword-to-caption augmentation", ICASSP 2023
    (https://arxiv.org/abs/2211.06687).

    Example
    -------
    >>> CLAPFeatures()(torch.randn(2, 48000)).shape
    torch.Size([2, 101, 64])
    """

    sample_rate: int = 48000
    hop_length = 480


class PANNsFeatures(SlaneyFeatures):
    """The front end of the PANNs.

    The analysis is fixed at 32 kHz, because the published weights are. Source:
    Q. Kong et al., "PANNs: large-scale pretrained audio neural networks for
    audio pattern recognition", IEEE/ACM TASLP 28, 2020
    (https://arxiv.org/abs/1912.10211).

    Example
    -------
    >>> PANNsFeatures()(torch.randn(2, 32000)).shape
    torch.Size([2, 101, 64])
    """

    sample_rate: int = 32000
    hop_length = 320
