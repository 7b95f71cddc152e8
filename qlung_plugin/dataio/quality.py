"""The quality of cycles, measured as they are recorded.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from qlung_plugin.dataio.manifests import Entries
from qlung_plugin.dataio.store import store_cycles
from speechbrain.utils.distributed import run_on_main


class QualityMeasure(Protocol):
    """What is asked of a quality score here.

    Its class, :class:`qlung_plugin.lobes.quality.QualityMeasure`, is a floor
    above.
    """

    sample_rate: int

    @property
    def parts(self) -> "Sequence[QualityMeasure]": ...

    def measure_recorded(
        self, waveforms: list[torch.Tensor], native_rates: list[int]
    ) -> torch.Tensor: ...

    def measure_entries(
        self, entries: Mapping[str, dict]
    ) -> torch.Tensor | None: ...

    def fit(self, measurements: torch.Tensor) -> None: ...

    def score(self, measurements: torch.Tensor) -> torch.Tensor: ...

    def __call__(
        self,
        waveforms: torch.Tensor,
        relative_lengths: torch.Tensor | None = None,
        native_rates: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


class CycleMeasurements(nn.Module):
    """The measurements of a quality score on a cycle, before any padding.

    Arguments
    ---------
    quality : qlung_plugin.lobes.quality.QualityMeasure
        The score; what is fitted in it does not enter its measurements.

    Example
    -------
    >>> import torch
    >>> from qlung_plugin.lobes.quality import AudioQualityScore
    >>> measurements = CycleMeasurements(AudioQualityScore(16000))
    >>> measurements(torch.randn(4000), 4000).shape
    torch.Size([2])
    """

    def __init__(self, quality: QualityMeasure):
        super().__init__()
        self.quality = quality

    def forward(self, waveform: torch.Tensor, native_rate: int) -> torch.Tensor:
        """Measurements of a cycle ``[time]`` recorded at ``native_rate``."""
        return self.quality.measure_recorded([waveform], [native_rate])[0]


def measure_quality(
    measure: QualityMeasure, waveforms: list[torch.Tensor], native_rate: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quality of cycles that no manifest has, as of those of a manifest.

    Scores ``[cycle]`` in [0, 1], and measurements ``[cycle, measurement]``, of
    waveforms ``[time]``, unpadded. They are measured one at a time: padded to
    the longest of them they would take longer.
    """
    measurements = torch.cat(
        [measure.measure_recorded([w], [native_rate]) for w in waveforms]
    )
    return measure.score(measurements), measurements


def cycle_quality(
    measure: QualityMeasure,
    manifests: Iterable[Entries],
    cache_folder: Path | str,
    fit_on: Iterable[str] | None = None,
) -> dict[str, float]:
    """Scores every cycle as it is recorded: unpadded, unfaded, unaugmented.

    Arguments
    ---------
    measure : qlung_plugin.lobes.quality.QualityMeasure
        The score.
    manifests : list of dict
        Entries by id, with ``wav`` and ``sample_rate``.
    cache_folder : str or Path
        Where measurements are kept, see
        :func:`qlung_plugin.dataio.store.store_cycles`.
    fit_on : iterable of str, optional
        Ids of the training cycles, to which the measure is fitted first.
        Without them it is used as it is.

    Returns
    -------
    dict
        Quality in [0, 1] by id.

    Raises
    ------
    ValueError
        If two entries of one id differ, or the measure needs of an entry what
        it does not have.
    RuntimeError
        If the measure has to be fitted, and is not.

    Example
    -------
    >>> import numpy, soundfile
    >>> from qlung_plugin.lobes.quality import ClippingScore
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", numpy.sin(numpy.arange(4000)), 4000)
    >>> wav = {"file": str(folder / "a.wav"), "start": 0, "stop": 4000}
    >>> manifest = {"a_0": {"wav": wav, "sample_rate": 4000}}
    >>> cycle_quality(ClippingScore(4000), [manifest], folder / "cache")
    {'a_0': 1.0}
    """
    entries: Entries = {}
    for manifest in manifests:
        for cycle, entry in manifest.items():
            if entries.setdefault(cycle, entry) != entry:
                raise ValueError(f"the manifests have two cycles {cycle}")

    parts = [_measure(part, entries, cache_folder) for part in measure.parts]
    measurements = torch.cat(parts, dim=-1)
    if fit_on is not None:
        rows = {cycle: row for row, cycle in enumerate(entries)}
        measure.fit(measurements[[rows[cycle] for cycle in fit_on]])
    return dict(zip(entries, measure.score(measurements).tolist()))


def quality_tensor(quality: Mapping[str, float], cycle: str) -> torch.Tensor:
    """The quality of one cycle, ``[1]``, as a batch is made of it."""
    return torch.tensor([quality[cycle]])


def _measure(
    measure: QualityMeasure, entries: Entries, cache_folder: Path | str
) -> torch.Tensor:
    """Measurements of all entries, ``[cycle, measurement]``."""
    stated = measure.measure_entries(entries)
    if stated is not None:
        return stated
    store = run_on_main(
        store_cycles, args=[[entries], CycleMeasurements(measure), cache_folder]
    )
    return torch.stack([store[cycle] for cycle in entries])
