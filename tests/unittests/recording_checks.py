"""Recordings to try, and what every way to use one has to make of them.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import torch

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.inference.classification import UNUSABLE
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.quality import (
    MEASUREMENTS,
    MEASURES,
    make_measures,
    measure_recording,
)
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.quality import AudioQualityScore
from qlung_plugin.nnet.classifiers import LinearClassifier

LABELS = ["normal", "abnormal"]


def make_modules(labels=LABELS, quality=None):
    torch.manual_seed(0)
    return {
        "quality": quality or AudioQualityScore(16000),
        "cycle_features": CycleFeatures(
            CycleResampler(32000),
            FixedLength(32000, duration=1.0),
            EfficientATFeatures(),
        ),
        "backbone": EfficientAT(width_mult=0.1),
        "classifier": LinearClassifier(96, len(labels)),
    }


def make_model(labels=LABELS, quality=None):
    modules = make_modules(labels, quality)
    return RespiratorySoundClassifier(modules, {"labels": list(labels)})


def breaths(seconds, rate):
    """Noise that comes and goes every 2.5 s, at most 0.5."""
    time = np.arange(max(1, round(seconds * rate))) / rate
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(time))
    return noise * np.sin(np.pi * time / 2.5) ** 2


class Checks:
    """Classifies recordings and measures their quality, and checks the form."""

    def __init__(self):
        self.model, self.measures = make_model(), make_measures()

    def classified(self, path, cycles):
        """The table of cycles."""
        table, summary = self.model.classify_file(path, cycles)
        assert summary["cycle_count"] == len(table)
        assert len(table)
        usable = table[table["prediction"] != UNUSABLE]
        assert summary["unusable_count"] == len(table) - len(usable)
        names = [f"p_{label}" for label in LABELS]
        assert table.drop(usable.index)[names].isna().all(axis=None)
        shares = usable[names].to_numpy()
        assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
        assert table["quality"].between(0, 1).all()
        assert (table["start"] < table["end"]).all()
        assert table["end"].max() <= summary["duration"]
        fraction = summary["abnormal_fraction"]
        assert 0 <= fraction <= 1 if len(usable) else fraction is None
        confidence = summary["confidence"]
        assert confidence is None or 0 <= confidence <= 1
        return table

    def measured(self, path, silent=False):
        """The row of a recording; of a silent one, values may be missing."""
        (row,) = measure_recording(self.measures, path)
        assert all(0 <= row[name] <= 1 for name in MEASURES)
        for name in (*MEASUREMENTS, "clipping_ratio"):
            assert not math.isinf(row[name]), name
        if not silent:
            assert all(math.isfinite(row[name]) for name in MEASUREMENTS)
        return row
