"""Quality scores of auscultation recordings, between 0 and 1, 1 being best.

Every score has one interface, :class:`QualityMeasure`: called on waveforms it
gives a score per waveform. It does so in two steps, so that the expensive one
can be stored and the cheap one can follow what was learned from the training
set: ``measure`` (waveforms to numbers) and ``score`` (numbers to [0, 1]).

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.lobes.quality.base import Measurements, QualityMeasure, Signal
from qlung_plugin.lobes.quality.coefficients import read_coefficients
from qlung_plugin.lobes.quality.composed import (
    ConstantQuality,
    ManifestQuality,
    WeightedQuality,
)
from qlung_plugin.lobes.quality.learned import LearnedQualityScore
from qlung_plugin.lobes.quality.measures import (
    AudioQualityScore,
    ClippingScore,
    FlatnessScore,
    SNRScore,
)
from qlung_plugin.lobes.quality.recording import (
    MEASUREMENTS,
    RecordingMeasurements,
)
from qlung_plugin.lobes.quality.tap import QualityTap

__all__ = [
    "MEASUREMENTS",
    "AudioQualityScore",
    "ClippingScore",
    "ConstantQuality",
    "FlatnessScore",
    "LearnedQualityScore",
    "ManifestQuality",
    "Measurements",
    "QualityMeasure",
    "QualityTap",
    "RecordingMeasurements",
    "SNRScore",
    "Signal",
    "WeightedQuality",
    "read_coefficients",
]
