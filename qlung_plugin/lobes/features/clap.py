"""The log-mel front end of LAION-CLAP's audio tower.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn
from torchaudio.functional import melscale_fbanks


class CLAPFeatures(nn.Module):
    """Log-mel features in dB, as the unfused CLAP models were trained with.

    A centred power STFT (FFT and periodic Hann window of 1024 samples, hop of
    480), 64 mel bands of Slaney's scale and norm, and ``10 log10(max(x,
    1e-10))``. The analysis is fixed at 48 kHz, because the published weights
    are. The same as transformers' ``ClapFeatureExtractor`` of
    ``laion/clap-htsat-unfused`` makes of a waveform of up to 10 s that needs no
    padding.

    Arguments
    ---------
    f_min : float
        Lowest frequency of the mel bank, in Hz.
    f_max : float
        Highest frequency of the mel bank, in Hz.

    Example
    -------
    >>> CLAPFeatures()(torch.randn(2, 48000)).shape
    torch.Size([2, 101, 64])
    """

    sample_rate = 48000
    n_fft = 1024
    hop_length = 480
    n_mels = 64
    floor = 1e-10

    def __init__(self, f_min=50.0, f_max=14000.0):
        super().__init__()
        # Not persistent: they follow from the settings.
        window = torch.hann_window(self.n_fft)
        self.register_buffer("window", window, persistent=False)
        bank = melscale_fbanks(
            self.n_fft // 2 + 1,
            f_min,
            f_max,
            self.n_mels,
            self.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("mel_bank", bank, persistent=False)

    def forward(self, waveforms):
        """Log-mel features of a batch of waveforms.

        Arguments
        ---------
        waveforms : torch.Tensor
            ``[batch, time]`` at 48 kHz, of more than 512 samples.

        Returns
        -------
        torch.Tensor
            ``[batch, time, mel]``, 100 frames a second; float32, also inside
            autocast.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            spectrum = torch.stft(
                waveforms.float(),
                self.n_fft,
                hop_length=self.hop_length,
                window=self.window,
                center=True,
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()
            mel = torch.matmul(power.transpose(1, 2), self.mel_bank)
            return 10 * mel.clamp(min=self.floor).log10()
