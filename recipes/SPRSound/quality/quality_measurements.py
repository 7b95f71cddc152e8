"""Annotated recordings, and measurements of them, of degraded copies
and of parts.

Authors
 * qlung_plugin contributors
"""

import zlib

import numpy as np
import pandas as pd
import torch

from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.lobes.quality import MEASUREMENTS, RecordingMeasurements
from qlung_plugin.processing.degradations import degrade

FACTS = ("patient", "recording", "age", "sex", "location", "annotation")


def annotated_recordings(manifest, poor_annotation):
    """The recordings of which the experts said something, as manifest and table.

    The table has a row each: ``id``, :data:`FACTS` and ``poor``.
    """
    # The others are counted by the preparation.
    manifest = {
        name: entry
        for name, entry in manifest.items()
        if entry["annotation"] is not None
    }
    table = pd.DataFrame(
        [
            {"id": name, **{fact: entry[fact] for fact in FACTS}}
            for name, entry in manifest.items()
        ],
        columns=["id", *FACTS],
    )
    table["poor"] = table["annotation"] == poor_annotation
    return manifest, table


class DegradedMeasurements(torch.nn.Module):
    """Measurements of degraded copies of a recording, one per kind.

    ``degradations`` are degrees by kind, of which one is drawn. What is drawn
    depends on the seed and on the recording's samples.
    """

    def __init__(self, measurements, degradations, seed):
        super().__init__()
        self.measurements = CycleMeasurements(measurements)
        self.degradations = degradations
        self.seed = seed

    def forward(self, waveform, native_rate):
        """Measurements of the copies of ``[time]``, ``[kind, measurement]``."""
        seed = zlib.crc32(waveform.numpy().tobytes()) + self.seed
        draw = np.random.default_rng(seed)
        copies = []
        for kind, degrees in self.degradations.items():
            degree = degrees[draw.integers(len(degrees))]
            copy = degrade(waveform, native_rate, kind, degree, seed)
            copies.append(self.measurements(copy, native_rate))
        return torch.stack(copies)


def measure_recordings(
    table, manifest, sample_rate, degradations, seed, cache_folder
):
    """Measures recordings and, after them, degraded copies of the usable ones.

    ``table`` is of :func:`annotated_recordings`, with ``degraded``, which is False;
    ``sample_rate`` is that of the measurements, in Hz; ``degradations`` are degrees by
    kind, none leaves a kind out.
    """
    measurements = RecordingMeasurements(sample_rate)
    store = store_cycles(
        [manifest], CycleMeasurements(measurements), cache_folder
    )
    parts = [_with_measurements(table, [store[name] for name in table["id"]])]
    usable = table[~table["poor"]]
    kinds = {kind: d for kind, d in degradations.items() if d}
    if kinds:
        module = DegradedMeasurements(measurements, kinds, seed)
        entries = {name: manifest[name] for name in usable["id"]}
        store = store_cycles([entries], module, cache_folder)
        values = torch.stack([store[name] for name in usable["id"]])
        copies = usable.assign(poor=True, degraded=True)
        parts += [_with_measurements(copies, of) for of in values.unbind(1)]
    return pd.concat(parts, ignore_index=True)


def _with_measurements(table, values):
    values = np.stack([value.numpy() for value in values]).astype(float)
    measured = pd.DataFrame(values, table.index, MEASUREMENTS)
    return pd.concat([table, measured], axis=1)


class CutMeasurements(torch.nn.Module):
    """Measurements of a part of a recording, one per duration in seconds.

    Of a shorter recording, all of it. Where the part lies depends on the seed and
    on the recording's samples.
    """

    def __init__(self, measurements, durations, seed):
        super().__init__()
        self.measurements = CycleMeasurements(measurements)
        self.durations = durations
        self.seed = seed

    def forward(self, waveform, native_rate):
        """Measurements of parts of ``[time]``, ``[duration, measurement]``."""
        seed = zlib.crc32(waveform.numpy().tobytes()) + self.seed
        draw = np.random.default_rng(seed)
        parts = []
        for duration in self.durations:
            length = min(round(duration * native_rate), len(waveform))
            start = draw.integers(len(waveform) - length + 1)
            part = waveform[start : start + length]
            parts.append(self.measurements(part, native_rate))
        return torch.stack(parts)


def measure_cuts(table, manifest, sample_rate, durations, seed, cache_folder):
    """By duration in seconds, the recordings with measurements of a part.

    ``table`` is of :func:`measure_recordings`.
    """
    if not durations:
        return {}
    measurements = RecordingMeasurements(sample_rate)
    module = CutMeasurements(measurements, durations, seed)
    measured = store_cycles([manifest], module, cache_folder)
    recordings = table[~table["degraded"]]
    values = torch.stack([measured[name] for name in recordings["id"]])
    return {
        duration: recordings.assign(**dict(zip(MEASUREMENTS, part.T.numpy())))
        for duration, part in zip(durations, values.unbind(dim=1))
    }
