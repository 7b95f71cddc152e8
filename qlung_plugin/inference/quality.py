"""The quality of a recording or its cycles, by all measures and no model.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from qlung_plugin.dataio.cycle_sources import Source, find_cycles
from qlung_plugin.dataio.quality import measure_quality
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ClippingScore,
    FlatnessScore,
    LearnedQualityScore,
    QualityMeasure,
    SNRScore,
)

LONGEST = 60.0  # s that are measured at once
UNITS = ("recording", "cycle")

# By the names of their columns, each at the rate of its recipes.
MEASURES: dict[str, tuple[Callable[..., QualityMeasure], int]] = {
    "audio_quality": (AudioQualityScore, 16000),
    "learned_quality": (LearnedQualityScore, 8000),
    "snr_quality": (SNRScore, 8000),
    "flatness_quality": (FlatnessScore, 8000),
    "clipping_quality": (ClippingScore, 8000),
}
# Of what a score is computed from, that which means something by itself.
MEASUREMENTS = ("spectral_entropy", "rms", "snr_db", "spectral_flatness")
COLUMNS = (
    "start",
    "end",
    "sample_rate",
    "channels",
    "truncated",
    *MEASURES,
    *MEASUREMENTS,
    "clipping_ratio",
)
# Measures that have a form that is fitted to the recordings at hand.
FITTED = ("audio_quality", "learned_quality")


def make_measures(fitted: bool = False) -> dict[str, QualityMeasure]:
    """All measures that need no model, by the names of their columns.

    Those of :data:`FITTED` may be such as are to be fitted, by :func:`fit_scores`.
    """
    return {
        name: make(rate, normalisation="fitted")
        if fitted and name in FITTED
        else make(rate)
        for name, (make, rate) in MEASURES.items()
    }


def measure_recording(
    measures: dict[str, QualityMeasure],
    path: Path | str,
    unit: str = "recording",
    cycles: Source | None = None,
    channel: int | None = None,
    allow_truncated: bool = False,
) -> list[dict[str, Any]]:
    """Measures the quality of a recording, or of each of its cycles.

    The ``unit`` is ``recording`` or ``cycle``; the other options are those of
    :class:`qlung_plugin.dataio.recordings.Recording` and
    :func:`qlung_plugin.dataio.cycle_sources.find_cycles`, also for errors. A
    recording longer than a minute is measured in equal stretches of at most
    that, and the means of these are told, a silent one counting 0 in a score
    and not at all in a measurement.

    It returns per recording or cycle the values of :data:`COLUMNS`, scores in
    [0, 1], 1 being best, and measurements, NaN in silence; and under
    ``measured`` all measurements of each measure, per stretch.
    """
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r} is none of {', '.join(UNITS)}")
    recording = Recording(path, channel, allow_truncated)
    if unit == "recording":
        times: Sequence[tuple[float, float]] = [(0.0, recording.duration)]
    else:
        times = find_cycles(recording, cycles).times
    return [
        {
            "start": start,
            "end": end,
            "sample_rate": recording.sample_rate,
            "channels": recording.channels,
            "truncated": int(recording.truncated),
            **_measure(measures, recording, start, end),
        }
        for start, end in times
    ]


@torch.inference_mode()
def _measure(
    measures: dict[str, QualityMeasure],
    recording: Recording,
    start: float,
    end: float,
) -> dict[str, Any]:
    """Means over the stretches of a recording or cycle."""
    count = math.ceil((end - start) / LONGEST)
    length = (end - start) / count
    parts: list[dict[str, float]] = []
    measured: dict[str, list[list[float]]] = {name: [] for name in measures}
    for number in range(count):
        first = start + number * length
        stretch = recording.read(first, first + length)
        part: dict[str, float] = {}
        for name, measure in measures.items():
            score, values = measure_quality(
                measure, [stretch], recording.sample_rate
            )
            part[name] = score.item()
            part.update(zip(measure.names, values[0].tolist()))
            measured[name] += values.tolist()
        parts.append(part)
    names = [name for name in COLUMNS if name in parts[0]]
    table = torch.tensor([[part[name] for name in names] for part in parts])
    means = dict(zip(names, table.nanmean(dim=0).tolist()))
    return {**means, "measured": measured}


def fit_scores(rows: list[dict[str, Any]]) -> None:
    """Scores rows of :func:`measure_recording` anew, relative to each other.

    Those of :data:`FITTED` are replaced; too few or too alike are a ValueError.
    """
    measures = make_measures(fitted=True)
    for name in FITTED:
        parts = [torch.tensor(row["measured"][name]) for row in rows]
        if parts:
            measures[name].fit(torch.cat(parts))
        for row, part in zip(rows, parts):
            row[name] = measures[name].score(part).mean().item()


def count_outside(rows: list[dict[str, Any]]) -> int:
    """How many rows are unlike the recordings of the learned score.

    More than half of their stretches lie outside; see
    :meth:`qlung_plugin.lobes.quality.LearnedQualityScore.find_outside`.
    """
    score = LearnedQualityScore(MEASURES["learned_quality"][1])
    outside = (
        score.find_outside(torch.tensor(row["measured"]["learned_quality"]))
        for row in rows
    )
    return sum(part.float().mean().item() > 0.5 for part in outside)
