"""Kaldi's log-mel filterbank, batched, and the front ends that are built on it.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn
from torchaudio.compliance.kaldi import get_mel_banks

from qlung_plugin.lobes.features.base import NATURAL_DECIBEL, FrontEnd
from qlung_plugin.utils.choices import check_choice

# Kaldi's Povey window is a power of the Hann window.
WINDOW_POWERS = {"hanning": 1.0, "povey": 0.85}


def kaldi_mel_bank(
    n_mels: int, n_fft: int, sample_rate: int, f_min: float, f_max: float
) -> torch.Tensor:
    """Kaldi's mel bank, ``[mel, bin]``; an ``f_max`` of 0 is half the rate."""
    bank, _ = get_mel_banks(
        n_mels, n_fft, sample_rate, f_min, f_max, 100.0, -500.0, 1.0
    )
    # It has no weight for the Nyquist bin.
    return nn.functional.pad(bank, (0, 1))


class KaldiFilterbank(FrontEnd):
    """Base class: log-mel energies as Kaldi has them, of a whole batch.

    The same as :func:`torchaudio.compliance.kaldi.fbank` without dither, which
    takes one waveform: frames of 25 ms every 10 ms that lie within the
    waveform, each without its mean, pre-emphasised by 0.97, windowed; the power
    spectrum of an FFT of 512; mel bands from 20 Hz to 8 kHz.

    Arguments
    ---------
    n_mels : int
        Number of mel bands.
    window_type : str
        ``hanning`` or ``povey``.

    Raises
    ------
    ValueError
        If the window is another, or a waveform shorter than a frame.

    Example
    -------
    >>> filterbank = KaldiFilterbank()
    >>> filterbank(torch.randn(2, 16000)).shape
    torch.Size([2, 98, 128])
    """

    sample_rate: int = 16000
    n_fft = 512
    win_length = 400
    hop_length = 160
    preemphasis = 0.97
    decibel: float = NATURAL_DECIBEL

    window: torch.Tensor
    mel_bank: torch.Tensor

    def __init__(self, n_mels: int = 128, window_type: str = "hanning") -> None:
        super().__init__()
        check_choice("window_type", window_type, WINDOW_POWERS)
        self.n_mels = n_mels
        # Not persistent: they follow from the settings.
        window = torch.hann_window(self.win_length, periodic=False)
        self.register_buffer(
            "window", window ** WINDOW_POWERS[window_type], persistent=False
        )
        bank = kaldi_mel_bank(n_mels, self.n_fft, self.sample_rate, 20.0, 0.0)
        self.register_buffer("mel_bank", bank.T, persistent=False)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Log-mel energies ``[batch, time, mel]``, 100 frames a second.

        The waveforms are ``[batch, time]`` at 16 kHz, of 400 samples or more;
        else it is a ValueError.
        """
        if waveforms.shape[1] < self.win_length:
            raise ValueError(
                f"a frame has {self.win_length} samples, the waveforms only"
                f" {waveforms.shape[1]}"
            )
        with torch.autocast(waveforms.device.type, enabled=False):
            frames = waveforms.float().unfold(
                1, self.win_length, self.hop_length
            )
            frames = frames - frames.mean(dim=2, keepdim=True)
            previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
            frames = (frames - self.preemphasis * previous) * self.window
            power = torch.fft.rfft(frames, self.n_fft).abs().square()
            energies = torch.matmul(power, self.mel_bank)
            return energies.clamp(min=torch.finfo(torch.float32).eps).log()


class ASTFeatures(KaldiFilterbank):
    """The front end of the Audio Spectrogram Transformer.

    Kaldi's filterbank with a Hann window, normalised to ``(x - mean) / (2 *
    std)``. Source: Y. Gong et al., "AST: Audio Spectrogram Transformer",
    Interspeech 2021 (https://arxiv.org/abs/2104.01778).

    Arguments
    ---------
    n_mels : int
        Number of mel bands.
    mean : float
        Of the features of the data that the weights were trained on; the
        default is AudioSet's, which fine-tuned models keep.
    std : float
        Likewise, their standard deviation.

    Example
    -------
    >>> ASTFeatures()(torch.randn(2, 8 * 16000)).shape
    torch.Size([2, 798, 128])
    """

    def __init__(
        self,
        n_mels: int = 128,
        mean: float = -4.2677393,
        std: float = 4.5689974,
    ) -> None:
        super().__init__(n_mels, "hanning")
        self.mean, self.std = mean, std
        self.decibel = NATURAL_DECIBEL / (2 * std)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]`` of waveforms ``[batch, time]``."""
        return (super().forward(waveforms) - self.mean) / (2 * self.std)


class BEATsFeatures(KaldiFilterbank):
    """The front end of BEATs.

    Kaldi's filterbank of 16-bit integers with its Povey window, normalised to
    ``(x - mean) / (2 * std)`` of AudioSet. Source: S. Chen et al., "BEATs: audio
    pre-training with acoustic tokenizers", ICML 2023
    (https://arxiv.org/abs/2212.09058).

    Example
    -------
    >>> BEATsFeatures()(torch.randn(2, 8 * 16000)).shape
    torch.Size([2, 798, 128])
    """

    full_scale = 2**15
    mean = 15.41663
    std = 6.55582
    decibel = NATURAL_DECIBEL / (2 * std)

    def __init__(self) -> None:
        super().__init__(128, "povey")

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]`` of waveforms ``[batch, time]``."""
        energies = super().forward(waveforms.float() * self.full_scale)
        return (energies - self.mean) / (2 * self.std)
