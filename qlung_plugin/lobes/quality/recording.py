"""Many measurements of a recording, to learn a quality score from.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch

from qlung_plugin.lobes.quality.base import Measurements, Signal
from qlung_plugin.processing.cycles import resample
from qlung_plugin.processing.quality import (
    USABLE,
    band_bins,
    band_levels,
    band_matrix,
    band_shares,
    blind_snr,
    breathing_course,
    breathing_periodicity,
    breathing_share,
    burst_share,
    clipping_ratio,
    crest_factor,
    entropy_of_frames,
    faint_share,
    level_correlation,
    log_kurtosis,
    mains_hum,
    mean_over_frames,
    power_frames,
    quantile_over_frames,
    resample_mask,
    spectral_entropy,
    spectral_flatness,
    spectral_flux,
    spread_over_frames,
)

Band: TypeAlias = tuple[int, int]  # in Hz
Part: TypeAlias = Band | float  # of a family: a band or a quantile

RATE = 8000  # of the analysis, in Hz: sounds of the chest end below its half
N_FFT = 512  # 64 ms, which resolve 50 Hz
HOP = 128
FRAME_RATE = RATE / HOP

# In Hz. The highest ends where a recording at 8 kHz does.
EDGES = (
    *(0, 50, 100, 150, 200, 300, 400, 500, 600, 800),
    *(1000, 1250, 1500, 2000, 2500, 3000, 3600),
)
BANDS = tuple(zip(EDGES[:-1], EDGES[1:]))
# Sounds of the chest, the heart included, and without it; every device reaches
# their ends.
SOUND = (50, 1800)
ABOVE_HEART = (200, 1800)
BREATHING_BANDS = BANDS[3:8]
# The heart's band, and overlapping ones that breathing is heard in.
COURSES = (
    *((20, 120), (100, 200), (150, 300)),
    *((200, 400), (300, 600), (400, 800)),
)
HEART_BREATHING = ((50, 100), (300, 400))
BREATHING_PAIR = ((200, 300), (400, 500))
TILT = ((200, 800), (1000, 1500))  # of breathing, and what is above it
LEVEL_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass
class Analysis:
    """What the measurements of a batch are made from, each part made once."""

    signal: Signal
    sample_rate: int  # of its waveforms, in Hz
    power: torch.Tensor  # [batch, frame, bin] at the rate of the analysis
    frames: torch.Tensor  # which frames count, boolean [batch, frame]
    highest: torch.Tensor  # end of each recording's own band, in Hz, [batch]
    bands: list[Band]  # whose levels will be asked for, those of courses, too
    courses: list[Band]  # whose course will be asked for

    def reaches(self, bands: Sequence[Band]) -> torch.Tensor:
        """Which recordings have which bands, ``[batch, band]``."""
        ends = torch.tensor([float(end) for _, end in bands])
        return self.highest.unsqueeze(-1) >= ends.to(self.highest)

    def shares(self, bands: Sequence[Band]) -> torch.Tensor:
        """Energy of bands, ``[batch, band]``, in dB; NaN where out of reach."""
        matrix = band_matrix(bands, N_FFT, RATE).to(self.power)
        shares = band_shares(self.power, self.frames, matrix)
        return shares.where(self.reaches(bands), torch.nan)

    @cached_property
    def _levels(self) -> torch.Tensor:
        matrix = band_matrix(self.bands, N_FFT, RATE).to(self.power)
        levels = band_levels(self.power, self.frames, matrix)
        return levels.where(self.reaches(self.bands).unsqueeze(1), torch.nan)

    def levels(self, bands: Sequence[Band]) -> torch.Tensor:
        """Levels of bands, ``[batch, frame, band]``; NaN where out of reach."""
        chosen = [self.bands.index(band) for band in bands]
        return self._levels[..., chosen]

    @cached_property
    def _course(self) -> tuple[torch.Tensor, torch.Tensor]:
        levels = self.levels(self.courses)
        return breathing_course(levels, self.frames, FRAME_RATE)

    def course(
        self, bands: Sequence[Band]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Breathing and what is faster, ``[batch, frame, band]`` each."""
        chosen = [self.courses.index(band) for band in bands]
        breathing, faster = self._course
        return breathing[..., chosen], faster[..., chosen]

    def bins(self, f_min: float, f_max: float) -> torch.Tensor:
        """Bins of a band as far as each recording reaches, ``[batch, bin]``."""
        rates = self.highest / USABLE
        return band_bins(N_FFT, RATE, f_min, f_max, rates)

    @cached_property
    def entropy(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Entropy of the frames above the heart, and which of them count."""
        entropy = entropy_of_frames(self.power, self.bins(*ABOVE_HEART))
        return entropy, self.frames & ~entropy.isnan()


def _level(analysis: Analysis, shares: Sequence[float]) -> torch.Tensor:
    """Quantiles of the level over time, relative to its mean power, in dB."""
    levels = analysis.levels([SOUND])[..., 0]
    power = mean_over_frames(10 ** (levels / 10), analysis.frames)
    quantiles = [
        quantile_over_frames(levels, analysis.frames, share) for share in shares
    ]
    return torch.stack(quantiles, -1) - 10 * power.log10().unsqueeze(-1)


def _flatness(analysis: Analysis, band: Band) -> torch.Tensor:
    flatness = spectral_flatness(
        analysis.power, analysis.frames, analysis.bins(*band)
    )
    return flatness.log()


def _entropy(analysis: Analysis, band: Band) -> torch.Tensor:
    bins = analysis.bins(*band)
    return spectral_entropy(analysis.power, analysis.frames, bins, "spectrum")


def _correlation(analysis: Analysis, first: Band, second: Band) -> torch.Tensor:
    levels = analysis.levels([first, second])
    return level_correlation(levels[..., 0], levels[..., 1], analysis.frames)


def _breathing(analysis: Analysis, bands: Sequence[Band]) -> torch.Tensor:
    breathing, faster = analysis.course(bands)
    return breathing_share(breathing, faster, analysis.frames)


def _faint_share(analysis: Analysis) -> torch.Tensor:
    share = faint_share(analysis.levels([SOUND])[..., 0], analysis.frames)
    return analysis.signal.with_silence(share, 1.0)


# Measurements of one value per band, or per quantile: what makes them of an
# Analysis, and of which bands. The definitions are those of the functions.
FAMILIES: dict[str, tuple[Callable[..., torch.Tensor], Sequence[Part]]] = {
    "share": (Analysis.shares, BANDS),
    "spread": (
        lambda a, bands: spread_over_frames(a.levels(bands), a.frames),
        BANDS,
    ),
    "level": (_level, LEVEL_SHARES),
    "breathing": (_breathing, COURSES),
    "breathing_depth": (
        lambda a, bands: spread_over_frames(a.course(bands)[0], a.frames),
        COURSES,
    ),
    "periodicity": (
        lambda a, bands: breathing_periodicity(
            a.course(bands)[0], a.frames, FRAME_RATE
        ),
        COURSES,
    ),
}
COURSE_FAMILIES = ("breathing", "breathing_depth", "periodicity")
# Measurements of one value.
SINGLE: dict[str, Callable[[Analysis], torch.Tensor]] = {
    "flatness": lambda a: _flatness(a, SOUND),
    "flatness_above_heart": lambda a: _flatness(a, ABOVE_HEART),
    "entropy": lambda a: _entropy(a, SOUND),
    "entropy_above_heart": lambda a: _entropy(a, ABOVE_HEART),
    "entropy_in_frames": lambda a: mean_over_frames(*a.entropy),
    "entropy_spread": lambda a: spread_over_frames(*a.entropy),
    "tilt": lambda a: a.shares(TILT).diff(dim=-1).squeeze(-1),
    "blind_snr": lambda a: blind_snr(a.power, a.frames, a.bins(*ABOVE_HEART)),
    "flux": lambda a: spectral_flux(a.levels(BREATHING_BANDS), a.frames),
    "correlation_heart_breathing": lambda a: _correlation(a, *HEART_BREATHING),
    "correlation_breathing": lambda a: _correlation(a, *BREATHING_PAIR),
    "faint_share": _faint_share,
    "burst_share": lambda a: burst_share(a.levels([SOUND])[..., 0], a.frames),
    "crest_factor": lambda a: crest_factor(
        a.signal.centred, a.signal.lengths, a.signal.silent
    ),
    "kurtosis": lambda a: log_kurtosis(
        a.signal.centred, a.signal.lengths, a.signal.silent
    ),
    "clipping": lambda a: clipping_ratio(
        a.signal.waveforms, a.signal.lengths, a.signal.silent
    ),
    "mains_hum": lambda a: mains_hum(
        a.signal.centred, a.signal.lengths, a.sample_rate
    ),
}


# Bands whose levels these need; of the other families, none or their own.
LEVELS: dict[str, Sequence[Band]] = {
    "level": (SOUND,),
    "flux": BREATHING_BANDS,
    "correlation_heart_breathing": HEART_BREATHING,
    "correlation_breathing": BREATHING_PAIR,
    "faint_share": (SOUND,),
    "burst_share": (SOUND,),
}


def _name(family: str, part: Part) -> str:
    if isinstance(part, float):
        return f"{family}_{100 * part:.0f}"
    return f"{family}_{part[0]}_{part[1]}"


# By name, the family and the band or quantile; None for one value.
MEASUREMENTS: dict[str, tuple[str, Part | None]] = {
    **{
        _name(family, part): (family, part)
        for family, (_, parts) in FAMILIES.items()
        for part in parts
    },
    **{name: (name, None) for name in SINGLE},
}


class RecordingMeasurements(Measurements):
    """Measurements of a recording or a cycle by name.

    They are made at 8 kHz, in windows of 64 ms, whatever the rate of the
    waveforms; the definitions are those of
    :mod:`qlung_plugin.processing.quality`. No gain changes them. What a
    recording cannot have is missing, that is NaN, not empty: a band beyond 0.9
    of its own Nyquist frequency, a rhythm of breaths in less than a second.

    Arguments
    ---------
    sample_rate : int
        Rate of the waveforms, in Hz.
    names : sequence of str
        Those wanted, of ``MEASUREMENTS``; all by default.

    Raises
    ------
    ValueError
        If there is no name, or one is unknown or given twice.

    Example
    -------
    >>> measurements = RecordingMeasurements(8000, ["share_0_50", "flatness"])
    >>> measurements.measure(torch.randn(3, 16000)).shape
    torch.Size([3, 2])
    """

    window: torch.Tensor

    def __init__(
        self, sample_rate: int, names: Collection[str] = tuple(MEASUREMENTS)
    ) -> None:
        super().__init__(sample_rate)
        unknown = [name for name in names if name not in MEASUREMENTS]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(
                f"names must be different ones of {', '.join(MEASUREMENTS)},"
                f" not {', '.join(names)}"
            )
        self.names = tuple(names)
        window = torch.hann_window(N_FFT)
        self.register_buffer("window", window, persistent=False)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """The measurements by name, ``[batch, name]``."""
        _, centred, lengths, rates, silent = signal
        if rates is None:
            rates = torch.full(
                (len(centred),), self.sample_rate, device=centred.device
            )
        if silent is not None:
            silent = resample_mask(silent, self.sample_rate, RATE)
        power, frames = power_frames(
            resample(centred, self.sample_rate, RATE),
            lengths * RATE // self.sample_rate,
            self.window,
            HOP,
            N_FFT,
            silent,
        )
        highest = USABLE * rates.clamp(max=min(self.sample_rate, RATE))
        parts: dict[str, list] = {}
        for name in self.names:
            family, part = MEASUREMENTS[name]
            parts.setdefault(family, []).append(part)
        courses: list[Band] = [
            band for name in COURSE_FAMILIES for band in parts.get(name, ())
        ]
        levels: list[Band] = [
            band
            for name, wanted in parts.items()
            for band in (wanted if name == "spread" else LEVELS.get(name, ()))
        ]
        analysis = Analysis(
            signal,
            self.sample_rate,
            power,
            frames,
            highest,
            bands=list(dict.fromkeys([*levels, *courses])),
            courses=list(dict.fromkeys(courses)),
        )
        columns: dict[tuple[str, Part | None], torch.Tensor] = {}
        for family, wanted in parts.items():
            if family in SINGLE:
                columns[family, None] = SINGLE[family](analysis)
            else:
                values = FAMILIES[family][0](analysis, wanted).unbind(dim=-1)
                columns.update({(family, p): v for p, v in zip(wanted, values)})
        chosen = [columns[MEASUREMENTS[name]] for name in self.names]
        return torch.stack(chosen, dim=-1)
