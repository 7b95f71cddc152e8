"""How large the margin of each training sample is.

A margin is a module called as ``margin(targets, quality=None,
embeddings=None)`` that returns one margin per sample, ``[batch]``: an angle in
radians, unless the loss subtracts it from the cosine. What it costs to violate
it is in :mod:`qlung_plugin.nnet.losses`.

Values are checked where that is free. On a GPU a check would force a
synchronisation per step, so there a bad value yields a NaN instead of an
error, which SpeechBrain's Brain reports.

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.nnet.margins.base import FixedMargin, Margin, WeightedMargin
from qlung_plugin.nnet.margins.class_frequency import (
    ClassImbalanceMargin,
    LDAMMargin,
)
from qlung_plugin.nnet.margins.norm import MagFaceMargin
from qlung_plugin.nnet.margins.quality import QualityMargin
from qlung_plugin.nnet.margins.schedule import MarginSchedule

__all__ = [
    "ClassImbalanceMargin",
    "FixedMargin",
    "LDAMMargin",
    "MagFaceMargin",
    "Margin",
    "MarginSchedule",
    "QualityMargin",
    "WeightedMargin",
]
