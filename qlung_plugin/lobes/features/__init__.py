"""Front ends from waveforms to features, one per backbone family.

Each takes ``[batch, time]`` at its ``sample_rate`` and returns ``[batch, time,
mel]``, float32, also inside autocast.

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.lobes.features.base import FrontEnd
from qlung_plugin.lobes.features.efficientat import EfficientATFeatures
from qlung_plugin.lobes.features.kaldi import ASTFeatures, BEATsFeatures
from qlung_plugin.lobes.features.normalised import (
    MelBand,
    NormalisedFeatures,
    RecordingLevel,
)
from qlung_plugin.lobes.features.slaney import CLAPFeatures, PANNsFeatures

__all__ = [
    "ASTFeatures",
    "BEATsFeatures",
    "CLAPFeatures",
    "EfficientATFeatures",
    "FrontEnd",
    "MelBand",
    "NormalisedFeatures",
    "PANNsFeatures",
    "RecordingLevel",
]
