"""The cycles of a recording through a model, some at a time.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence
from itertools import compress
from math import nan
from typing import Any, NamedTuple

import torch

from qlung_plugin.dataio.cycles import input_of, measure_recording
from qlung_plugin.dataio.quality import measure_quality
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.dataio.stretches import Excerpt
from qlung_plugin.inference.engines import TorchEngine
from qlung_plugin.processing.quality.silence import (
    SHORTEST_SILENCE,
    constant_runs,
)

BATCH = 16  # cycles in memory at a time


class ClassifiedCycles(NamedTuple):
    """What a model says of cycles, on the CPU; NaN of those that are unusable.

    Arguments
    ---------
    probabilities : torch.Tensor
        ``[cycle, class]``; NaN of unusable cycles alone.
    embeddings : torch.Tensor
        ``[cycle, dim]``; ``[cycle, 0]`` if all are unusable.
    quality : torch.Tensor
        Quality and named measurements, ``[cycle, 1 + measurement]``.
    """

    probabilities: torch.Tensor
    embeddings: torch.Tensor
    quality: torch.Tensor


def classify_cycles(
    engine: TorchEngine,
    measure: Any,
    recording: Recording,
    times: Sequence[tuple[float, float]],
    shortest: float,
    num_classes: int,
    device: torch.device | str = "cpu",
) -> ClassifiedCycles:
    """Classifies the cycles of a recording.

    Arguments
    ---------
    engine : TorchEngine
        The model.
    measure : qlung_plugin.lobes.quality.QualityMeasure
        Its quality score.
    recording : Recording
        From which the cycles are read.
    times : list of tuple
        Their beginnings and ends, in seconds.
    shortest : float
        In seconds: a cycle with less sound is unusable.
    num_classes : int
        Of the model.
    device : torch.device or str
        Where the model is.

    Returns
    -------
    ClassifiedCycles
        In the order of the times.

    Raises
    ------
    ValueError
        If a cycle cannot be read, or a probability is not finite.
    """
    reference = measure_recording(engine.front_end, recording, device)
    parts = [
        ClassifiedCycles(
            torch.empty(0, num_classes),
            torch.empty(0, 0),
            torch.empty(0, 1 + len(measure.names) * measure.of_waveforms),
        )
    ]
    for i in range(0, len(times), BATCH):
        batch = times[i : i + BATCH]
        rate = getattr(engine.front_end, "input_rate", recording.sample_rate)
        excerpts = [recording.excerpt(*time, rate) for time in batch]
        quality = _measure(measure, excerpts, device)
        usable = [
            sounding_samples(excerpt.waveform, excerpt.sample_rate)
            >= max(1, round(shortest * excerpt.sample_rate))
            for excerpt in excerpts
        ]
        probabilities = torch.full((len(batch), num_classes), torch.nan)
        embeddings = torch.empty(len(batch), 0)
        if any(usable):
            inputs = [
                input_of(engine.front_end, excerpt, device)[0]
                for excerpt in compress(excerpts, usable)
            ]
            try:
                shares, embedded = classify_waveforms(
                    engine, inputs, rate, reference
                )
            except ValueError as error:
                raise ValueError(
                    f"{recording.path}, cycles from {batch[0][0]:g} to"
                    f" {batch[-1][1]:g} s: {error}"
                ) from error
            rows = torch.tensor(usable)
            probabilities[rows] = shares.cpu()
            embeddings = torch.full((len(batch), embedded.shape[1]), torch.nan)
            embeddings[rows] = embedded.cpu()
        parts.append(ClassifiedCycles(probabilities, embeddings, quality))
    dim = max(part.embeddings.shape[1] for part in parts)
    return ClassifiedCycles(
        torch.cat([part.probabilities for part in parts]),
        torch.cat([_widen(part.embeddings, dim) for part in parts]),
        torch.cat([part.quality for part in parts]),
    )


def classify_waveforms(
    engine: TorchEngine,
    waveforms: list[torch.Tensor],
    sample_rate: int,
    reference: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities ``[cycle, class]`` and embeddings ``[cycle, dim]``.

    Of waveforms ``[time]`` on the model's device; probabilities that are not
    finite are a ValueError.
    """
    embeddings, logits = engine(waveforms, sample_rate, reference)
    probabilities = logits.float().softmax(dim=-1)
    check_probabilities(probabilities)
    return probabilities, embeddings.float().flatten(1)


def check_probabilities(probabilities: torch.Tensor) -> None:
    """Raises a ValueError unless all are finite."""
    if not probabilities.isfinite().all():
        raise ValueError(
            "the model's probabilities are not finite: its weights are"
            " damaged, or too large for this sound"
        )


def sounding_samples(waveform: torch.Tensor, sample_rate: int) -> int:
    """How many samples ``[time]`` lie outside digital silence."""
    if waveform.min() == waveform.max():  # however short
        return 0
    lengths = torch.tensor([len(waveform)])
    shortest = round(SHORTEST_SILENCE * sample_rate)
    silent = constant_runs(waveform.unsqueeze(0), lengths, shortest)
    return len(waveform) - int(silent.sum())


def _measure(
    measure: Any, excerpts: list[Excerpt], device: torch.device | str
) -> torch.Tensor:
    """Quality and measurements, ``[cycle, 1 + measurement]``."""
    if not measure.of_waveforms:
        return torch.full((len(excerpts), 1), torch.nan)
    score, measurements = measure_quality(
        measure,
        [excerpt.waveform.to(device) for excerpt in excerpts],
        excerpts[0].sample_rate,
    )
    named = measurements[:, : len(measure.names)]
    return torch.cat([score.unsqueeze(-1), named], dim=-1).cpu()


def _widen(embeddings: torch.Tensor, dim: int) -> torch.Tensor:
    """NaN ``[cycle, dim]`` in the place of none, ``[cycle, 0]``."""
    if embeddings.shape[1]:
        return embeddings
    return embeddings.new_full((len(embeddings), dim), nan)
