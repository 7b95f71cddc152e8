"""Quality scores that are a formula.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence

import torch

from qlung_plugin.lobes.quality.base import (
    NORMALISATIONS,
    QualityMeasure,
    Signal,
    fitted_values,
)
from qlung_plugin.processing.quality import (
    USABLE,
    band_bins,
    blind_snr,
    clipping_ratio,
    power_frames,
    rms_level,
    spectral_entropy,
    spectral_flatness,
)
from qlung_plugin.utils.choices import check_choice

# What entropy and level can be; a level, in a file whose full scale is not 1.
LARGEST = (1.0, 1e10)
FLOOR = -20.0  # dB, of the signal-to-noise ratio; that of silence


class SpectralMeasure(QualityMeasure):
    """Base class of the measures on a short-time spectrum.

    Arguments
    ---------
    sample_rate : int
        Rate of the analysis and of the waveforms, in Hz.
    f_min : float
        Lowest frequency of the band, in Hz. The default leaves out
        handling noise.
    f_max : float
        Highest frequency of the band, in Hz. The default is the band
        of lung sounds, which every device of ICBHI reaches.
    window_length : float
        Length of the Hann window, in ms.
    hop_length : float
        Time between two frames, in ms.
    n_fft : int, optional
        FFT size; the next power of two if not given.
    """

    window: torch.Tensor
    bins: torch.Tensor

    def __init__(
        self,
        sample_rate: int,
        f_min: float = 50.0,
        f_max: float = 2000.0,
        window_length: float = 25.0,
        hop_length: float = 10.0,
        n_fft: int | None = None,
    ) -> None:
        super().__init__(sample_rate)
        self.f_min, self.f_max = f_min, f_max
        self.hop_samples = round(hop_length * sample_rate / 1000)
        window_samples = round(window_length * sample_rate / 1000)
        self.n_fft = n_fft or 2 ** (window_samples - 1).bit_length()
        if self.n_fft < window_samples:
            raise ValueError(
                f"n_fft={n_fft} is shorter than the window of {window_samples}"
            )
        window = torch.hann_window(window_samples)
        self.register_buffer("window", window, persistent=False)
        # Bins that no recording needs are left out early, for speed.
        bins = band_bins(self.n_fft, sample_rate, f_min, f_max)
        inside = bins[0].nonzero()
        self.band = slice(inside.min().item(), inside.max().item() + 1)
        # Contiguous, of its own memory: DDP writes into every buffer.
        self.register_buffer(
            "bins",
            bins[:, self.band].clone(memory_format=torch.contiguous_format),
            persistent=False,
        )

    def spectrum(
        self, signal: Signal
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Power, frames and bins as the functions of processing take them."""
        _, centred, lengths, native_rates, silent = signal
        power, frames = power_frames(
            centred, lengths, self.window, self.hop_samples, self.n_fft, silent
        )
        power, bins = power[..., self.band], self.bins
        if native_rates is not None and self._any_limited(native_rates):
            bins = band_bins(
                self.n_fft,
                self.sample_rate,
                self.f_min,
                self.f_max,
                native_rates,
            )[..., self.band].to(power.device)
        return power, frames, bins.expand(len(power), -1)

    def _any_limited(self, native_rates: torch.Tensor) -> bool:
        """Whether a recording may lack a part of the band."""
        # Where it can be told without waiting for a GPU.
        return not native_rates.is_cpu or not all(
            USABLE * rate > self.f_max for rate in native_rates.tolist()
        )


class AudioQualityScore(SpectralMeasure):
    """The audio quality score of QLung, from spectral entropy and RMS energy.

    ``AQS = clip(1 - alpha * H + beta * R, 0, 1)``, with ``H`` the normalised
    spectral entropy (high: noise-like) and ``R`` the normalised RMS energy
    (low: a weak recording). Source: Kim et al., "Quality Adaptive Angular
    Margin Learning for Respiratory Sound Classification", Interspeech 2026.
    What the paper leaves open is an argument here; those of the spectrum are
    described in :class:`SpectralMeasure`.

    Arguments
    ---------
    sample_rate : int
        Rate of the analysis and of the waveforms, in Hz.
    alpha : float
        Weight of the entropy.
    beta : float
        Weight of the level.
    normalisation : str
        ``absolute``: entropy over the logarithm of the number of bins, RMS
        relative to full scale. ``fitted``: both of these ranged between two
        percentiles of the training set, by :meth:`fit`.
    entropy : str
        ``frames``: mean of the frames' entropies. ``spectrum``: entropy of the
        mean spectrum.
    percentiles : tuple of float
        The two percentiles that ``fitted`` ranges between.

    Raises
    ------
    RuntimeError
        If it is ``fitted`` and used before :meth:`fit`, or before a checkpoint
        of a fitted one was loaded.

    Example
    -------
    >>> time = torch.arange(16000) / 16000
    >>> tone = 0.1 * torch.sin(2 * torch.pi * 440 * time)
    >>> noise = 0.07 * torch.randn(16000)
    >>> scores = AudioQualityScore(16000)(torch.stack([tone, noise, 0 * tone]))
    >>> bool(scores[0] > scores[1] > scores[2] == 0)
    True
    """

    names = ("spectral_entropy", "rms")
    ranges: torch.Tensor

    def __init__(
        self,
        sample_rate: int,
        alpha: float = 0.7,
        beta: float = 0.3,
        normalisation: str = "absolute",
        entropy: str = "frames",
        f_min: float = 50.0,
        f_max: float = 2000.0,
        window_length: float = 25.0,
        hop_length: float = 10.0,
        n_fft: int | None = None,
        percentiles: Sequence[float] = (5.0, 95.0),
    ) -> None:
        super().__init__(
            sample_rate, f_min, f_max, window_length, hop_length, n_fft
        )
        check_choice("normalisation", normalisation, NORMALISATIONS)
        check_choice("entropy", entropy, ("frames", "spectrum"))
        self.alpha, self.beta = alpha, beta
        self.normalisation, self.entropy = normalisation, entropy
        self.percentiles = tuple(percentiles)
        # Rows: entropy, level. Columns: low, high.
        self.register_buffer("ranges", torch.full((2, 2), torch.nan))

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """Entropy and level, ``[batch, 2]``."""
        entropy = spectral_entropy(*self.spectrum(signal), self.entropy)
        level = rms_level(signal.centred, signal.lengths)
        return torch.stack([signal.with_silence(entropy, 1.0), level], dim=-1)

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """The formula, on entropy and level as normalised."""
        if self.normalisation == "fitted":
            ranges = fitted_values(self, self.ranges).to(measurements)
            low, high = ranges.unbind(dim=-1)
            measurements = (measurements - low) / (high - low)
        entropy, level = measurements.clamp(0, 1).unbind(dim=-1)
        return _or_zero(1 - self.alpha * entropy + self.beta * level)

    def fit(self, measurements: torch.Tensor) -> None:
        """Ranges entropy and level; a ValueError if they do not spread."""
        if self.normalisation != "fitted":
            return
        valid = measurements[~measurements.isnan().any(dim=-1)].double()
        if len(valid) == 0:
            raise ValueError("no training cycle is audible: nothing to fit")
        shares = torch.tensor(self.percentiles, dtype=torch.float64) / 100
        ranges = torch.quantile(valid, shares.to(valid.device), dim=0).t()
        if not (ranges[:, 0] < ranges[:, 1]).all():
            raise ValueError(
                f"entropy and level of {len(valid)} training cycles do not"
                f" spread: {ranges.tolist()}"
            )
        self.ranges.copy_(ranges)

    def check_fitted(self) -> None:
        """Checks the ranges; see :class:`QualityMeasure`."""
        if self.normalisation != "fitted":
            return
        if self.ranges.isnan().all():
            raise ValueError(
                "ranges is NaN: AudioQualityScore is to be fitted, and was not"
            )
        for name, (low, high), largest in zip(
            self.names, self.ranges.tolist(), LARGEST
        ):
            if not 0 <= low < high <= largest:
                raise ValueError(
                    f"ranges has {name} from {low:g} to {high:g}, which no"
                    f" training set has: it lies between 0 and {largest:g}"
                )


class FlatnessScore(SpectralMeasure):
    """One minus the spectral flatness of the mean spectrum.

    The formula is
    :func:`qlung_plugin.processing.quality.spectral_flatness`; the arguments are
    those of :class:`SpectralMeasure`.

    Example
    -------
    >>> tone = torch.sin(2 * torch.pi * 440 * torch.arange(8000) / 8000)
    >>> score = FlatnessScore(8000)
    >>> bool(score(tone[None]) > 0.9 > 0.5 > score(torch.randn(1, 8000)))
    True
    """

    names = ("spectral_flatness",)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """Flatness, ``[batch, 1]``."""
        flatness = spectral_flatness(*self.spectrum(signal))
        return signal.with_silence(flatness, 1.0).unsqueeze(-1)

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """One minus the flatness."""
        return _or_zero(1 - measurements.squeeze(-1))


class SNRScore(SpectralMeasure):
    """Blind signal-to-noise ratio, mapped linearly from a range in dB.

    The formula is :func:`qlung_plugin.processing.quality.blind_snr`; arguments
    of the spectrum are described in :class:`SpectralMeasure`.

    Arguments
    ---------
    sample_rate : int
        Rate of the analysis and of the waveforms, in Hz.
    snr_range : tuple of float
        The ratios that score 0 and 1, in dB.

    Example
    -------
    >>> noise = 0.01 * torch.randn(1, 16000)
    >>> bursts = torch.randn(1, 16000) * (torch.arange(16000) % 4000 < 1000)
    >>> score = SNRScore(8000)
    >>> bool(score(noise + bursts) > score(noise))
    True
    """

    names = ("snr_db",)

    def __init__(
        self,
        sample_rate: int,
        snr_range: Sequence[float] = (-10.0, 30.0),
        f_min: float = 50.0,
        f_max: float = 2000.0,
        window_length: float = 25.0,
        hop_length: float = 10.0,
        n_fft: int | None = None,
    ) -> None:
        super().__init__(
            sample_rate, f_min, f_max, window_length, hop_length, n_fft
        )
        self.snr_range = tuple(snr_range)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """Signal-to-noise ratio in dB, ``[batch, 1]``."""
        ratio = blind_snr(*self.spectrum(signal), floor=FLOOR)
        return signal.with_silence(ratio, FLOOR).unsqueeze(-1)

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """Position within the range."""
        low, high = self.snr_range
        return _or_zero((measurements.squeeze(-1) - low) / (high - low))


class ClippingScore(QualityMeasure):
    """One minus the share of clipped samples.

    The formula is :func:`qlung_plugin.processing.quality.clipping_ratio`.

    Example
    -------
    >>> tone = torch.sin(2 * torch.pi * 50 * torch.arange(8000) / 8000)
    >>> clipped = (2 * tone).clamp(-1, 1)
    >>> ClippingScore(8000)(torch.stack([tone, clipped])).round(decimals=1)
    tensor([1.0000, 0.3000])
    """

    names = ("clipping_ratio",)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """Share of clipped samples, ``[batch, 1]``."""
        waveforms, _, lengths, _, silent = signal
        return clipping_ratio(waveforms, lengths, silent).unsqueeze(-1)

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """One minus the share."""
        return _or_zero(1 - measurements.squeeze(-1))


def _or_zero(score: torch.Tensor) -> torch.Tensor:
    return score.clamp(0, 1).nan_to_num(nan=0.0)
