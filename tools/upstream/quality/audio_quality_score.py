"""What is put into speechbrain/lobes/features.py, beside VocalFeatures.

Authors
 * qlung_plugin contributors
"""

import torch
import torch.nn.functional as F

from speechbrain.processing.vocal_features import (
    compute_spectral_entropy,
    mean_over_frames,
)
from speechbrain.utils.autocast import fwd_default_precision


class AudioQualityScore(torch.nn.Module):
    """Scores the quality of recordings in [0, 1] without a reference.

    ``clip(1 - alpha * H + beta * R, 0, 1)``, with ``H`` the normalised spectral
    entropy (high: noise-like) and ``R`` the RMS level relative to full scale
    (low: a weak recording). Source: Kim et al., "Quality Adaptive Angular
    Margin Learning for Respiratory Sound Classification", Interspeech 2026.

    Arguments
    ---------
    sample_rate: int
        The number of samples in a second.
    alpha: float
        The weight of the entropy.
    beta: float
        The weight of the level.
    f_min: float
        The lowest frequency of the entropy, in Hz. The default band is that of
        lung sounds; for speech, 50 to 8000 Hz are a beginning.
    f_max: float
        The highest frequency of the entropy, in Hz.
    window_size: float
        The size of the analysis window (in seconds).
    step_size: float
        The time between analysis windows (in seconds).
    entropy_range: tuple of float
        What counts as an entropy of 0 and of 1, such as two percentiles of a
        training set, on which the score then has its spread.
    level_range: tuple of float
        What counts as a level of 0 and of 1.

    Example
    -------
    >>> time = torch.arange(16000) / 16000
    >>> tone = 0.1 * torch.sin(2 * torch.pi * 440 * time)
    >>> audio = torch.stack([tone, 0.07 * torch.randn(16000), 0.0 * tone])
    >>> scores = AudioQualityScore()(audio, torch.tensor([1.0, 1.0, 0.5]))
    >>> bool(scores[0] > scores[1] > scores[2] == 0)
    True
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        alpha: float = 0.7,
        beta: float = 0.3,
        f_min: float = 50.0,
        f_max: float = 2000.0,
        window_size: float = 0.025,
        step_size: float = 0.01,
        entropy_range: tuple = (0.0, 1.0),
        level_range: tuple = (0.0, 1.0),
    ):
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.window_samples = round(window_size * sample_rate)
        self.step_samples = round(step_size * sample_rate)
        self.n_fft = 2 ** (self.window_samples - 1).bit_length()
        window = torch.hann_window(self.window_samples)
        window = window / window.square().sum().sqrt()
        frequencies = torch.fft.rfftfreq(self.n_fft, 1 / sample_rate)
        bins = (frequencies >= f_min) & (frequencies <= f_max)
        ranges = torch.tensor([entropy_range, level_range])
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("ranges", ranges, persistent=False)

    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, audio: torch.Tensor, lengths=None):
        """Compute the scores.

        Arguments
        ---------
        audio: torch.Tensor
            The audio signal, full scale at 1, shape [batch, sample].
        lengths: torch.Tensor, optional
            The relative lengths of the signals, shape [batch]. What lies behind
            them is not looked at.

        Returns
        -------
        scores: torch.Tensor
            Shape [batch], in [0, 1], 1 is best; 0 where there is no sound.
        """
        time = audio.shape[1]
        if lengths is None:
            lengths = torch.ones(len(audio), device=audio.device)
        samples = (lengths.double() * time).round().long()
        valid = torch.arange(time, device=audio.device) < samples.unsqueeze(1)

        # Without an offset, and with zeros behind the end
        audio = audio.masked_fill(~valid, 0.0)
        offset = audio.sum(dim=1) / samples.clamp(min=1)
        audio = audio - offset.unsqueeze(1)
        audio = audio.masked_fill(~valid, 0.0)
        level = audio.square().sum(dim=1) / samples.clamp(min=1)
        level = level.sqrt()

        # Frames that lie wholly within the signal; of a short one, the first
        missing = max(0, self.window_samples - time)
        frames = F.pad(audio, (0, missing))
        frames = frames.unfold(-1, self.window_samples, self.step_samples)
        power = (
            torch.fft.rfft(frames * self.window, n=self.n_fft).abs().square()
        )
        counts = (samples - self.window_samples).clamp(min=0)
        counts = counts // self.step_samples + 1
        index = torch.arange(power.shape[1], device=audio.device)
        entropy = compute_spectral_entropy(power, self.bins.unsqueeze(0))
        inside = (index < counts.unsqueeze(1)) & ~entropy.isnan()
        entropy = mean_over_frames(entropy, inside)

        low, high = self.ranges.unbind(dim=1)
        measured = torch.stack([entropy, level], dim=1)
        measured = ((measured - low) / (high - low)).clamp(0, 1)
        entropy, level = measured.unbind(dim=1)
        scores = 1 - self.alpha * entropy + self.beta * level
        return scores.clamp(0, 1).nan_to_num(nan=0.0)
