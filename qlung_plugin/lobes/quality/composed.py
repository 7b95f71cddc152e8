"""Quality scores made of others, of a constant, or of the manifest.

Authors
 * qlung_plugin contributors
"""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from qlung_plugin.lobes.quality.base import QualityMeasure, Signal, Supervision

ANY_RATE = 16000  # Hz, of waveforms that nobody looks at


class WeightedQuality(QualityMeasure):
    """The weighted mean of several measures.

    Each is fitted for itself, and silence counts as each scores it. The weights
    are divided by their sum. In a recipe the measurements of each are stored by
    themselves, for any other run with this measure.

    Arguments
    ---------
    measures : list of QualityMeasure
        The measures. Those that measure waveforms have one sample rate.
    weights : list of float
        One weight per measure, none negative.

    Raises
    ------
    ValueError
        If the sample rates differ; if the weights are not one per measure, none
        negative, not all 0; or if measures were learned from different
        databases, which a run could not be set apart on.

    Example
    -------
    >>> from qlung_plugin.lobes.quality import ClippingScore
    >>> constant = ConstantQuality(0.5)
    >>> measure = WeightedQuality([ClippingScore(8000), constant], [3, 1])
    >>> measure(0.1 * torch.randn(2, 8000).clamp(-1, 1)).shape
    torch.Size([2])
    """

    yaml_values = {
        "measures": ["!new:SNRScore", "!new:ClippingScore"],
        "weights": [0.5, 0.5],
    }

    def __init__(
        self, measures: Sequence[QualityMeasure], weights: Sequence[float]
    ) -> None:
        if len(measures) != len(weights):
            raise ValueError(
                f"{len(measures)} measures cannot have {len(weights)} weights"
            )
        total = math.fsum(weights)
        if not (
            all(weight >= 0 for weight in weights) and 0 < total < math.inf
        ):
            raise ValueError(
                "weights must be finite, not negative, nor all 0, but are"
                f" {list(weights)}"
            )
        columns = [
            sum(_measure_nothing(part).shape[1] for part in measure.parts)
            for measure in measures
        ]
        rates = [
            part.sample_rate
            for measure in measures
            for part in measure.parts
            if part.measure_entries({}) is None
        ]
        if len(set(rates)) > 1:
            raise ValueError(
                "the measures must have one sample_rate, not"
                f" {', '.join(map(str, rates))}"
            )
        super().__init__(rates[0] if rates else ANY_RATE)
        self.measures = cast(
            "Sequence[QualityMeasure]", nn.ModuleList(measures)
        )
        self.weights = tuple(weight / total for weight in weights)
        self.columns = tuple(columns)
        self.of_waveforms = all(measure.of_waveforms for measure in measures)
        names = [
            name
            for measure, count in zip(measures, columns)
            for name in measure.names or [type(measure).__name__] * count
        ]
        # Two measures may both have an entropy, of different bands.
        self.names = tuple(
            name if names.count(name) == 1 else f"{name}_{column}"
            for column, name in enumerate(names)
        )
        self.supervision = _combined(
            [m.supervision for m, weight in zip(measures, weights) if weight]
        )

    @property
    def parts(self) -> tuple[QualityMeasure, ...]:
        """Those of all measures."""
        return tuple(part for m in self.measures for part in m.parts)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """The measurements of all measures, beside each other."""
        parts = [measure.measure_valid(signal) for measure in self.measures]
        return torch.cat(parts, dim=-1)

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """The weighted mean of the measures' scores, ``[batch]``."""
        parts = measurements.split(self.columns, dim=-1)
        mean = sum(
            (
                weight * measure.score(part)
                for weight, measure, part in zip(
                    self.weights, self.measures, parts
                )
            ),
            start=measurements.new_zeros(()),
        )
        return mean.clamp(0, 1)  # rounding may leave it

    def fit(self, measurements: torch.Tensor) -> None:
        """Fits each measure to its own measurements."""
        parts = measurements.split(self.columns, dim=-1)
        for measure, part in zip(self.measures, parts):
            measure.fit(part)

    def check_fitted(self) -> None:
        """Checks each measure."""
        for number, measure in enumerate(self.measures):
            try:
                measure.check_fitted()
            except ValueError as error:
                raise ValueError(f"measures.{number}.{error}") from error


def _measure_nothing(measure: QualityMeasure) -> torch.Tensor:
    """What it makes of no cycle at all: as many columns as of any."""
    stated = measure.measure_entries({})
    return measure.measure(torch.zeros(0, 1)) if stated is None else stated


def _combined(supervisions: list[Supervision | None]) -> Supervision | None:
    """One supervision for all: the patients that any of them learned from."""
    known = [part for part in supervisions if part is not None]
    if not known:
        return None
    databases = sorted({part["database"] for part in known})
    if len(databases) > 1:
        raise ValueError(
            "measures that were learned from different databases cannot be"
            f" weighted together: {', '.join(databases)}"
        )
    patients = set().union(*(part["patients"] for part in known))
    return {"database": databases[0], "patients": sorted(patients)}


class ConstantQuality(QualityMeasure):
    """The same quality for every cycle, silent or not.

    With it a quality margin is a fixed margin: a baseline. No waveform is
    looked at.

    Arguments
    ---------
    value : float
        In [0, 1]; else it is a ValueError.

    Example
    -------
    >>> ConstantQuality(0.5)(torch.randn(2, 16000))
    tensor([0.5000, 0.5000])
    """

    yaml_values = {"value": 0.5}

    names = ("nothing",)

    def __init__(self, value: float) -> None:
        super().__init__(ANY_RATE)
        if not 0 <= value <= 1:
            raise ValueError(f"a quality lies in [0, 1], which {value} is not")
        self.value = value

    def measure_entries(self, entries: Mapping[str, Mapping]) -> torch.Tensor:
        """Nothing, in one column; no waveform is measured."""
        return torch.zeros(len(entries), 1)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """Nothing, in one column."""
        return signal.waveforms.new_zeros(len(signal.waveforms), 1)

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """The value, ``[batch]``."""
        return measurements.new_full((len(measurements),), self.value)


class ManifestQuality(QualityMeasure):
    """A quality that each entry of the manifests states.

    To use one's own, such as the marks of listeners: prepare the data once, add
    a number in [0, 1] under a key of one's choice to every entry of
    ``train.json``, ``valid.json`` and ``test.json``, name the key in the YAML
    as in the example, and train with ``--skip_prep True --manifest_folder <the
    folder of the three>``.

    It is no measure of waveforms: a run that was trained with it tells no quality
    of recordings without a manifest that has the column. Nor does it know what
    database the numbers were learned from, if any: its ``supervision`` is None.

    Arguments
    ---------
    column : str
        The key of the number. Not ``quality``, which is what the recipes' data
        sets call the result.

    Raises
    ------
    ValueError
        If the column is called quality; and when waveforms are measured.

    Example
    -------
    >>> from hyperpyyaml import load_hyperpyyaml
    >>> from qlung_plugin.dataio.quality import cycle_quality
    >>> hparams = load_hyperpyyaml('''
    ... quality: !new:qlung_plugin.lobes.quality.ManifestQuality
    ...     column: listeners
    ... ''')
    >>> manifest = {"101_0": {"listeners": 0.25}, "101_1": {"listeners": 1}}
    >>> cycle_quality(hparams["quality"], [manifest], "cache")
    {'101_0': 0.25, '101_1': 1.0}
    """

    yaml_values = {"column": "listeners"}
    not_in_speechbrain = (
        "it is read from manifests of this package, and does not measure"
        " waveforms, which are all that passes a QualityTap"
    )

    of_waveforms = False

    def __init__(self, column: str) -> None:
        super().__init__(ANY_RATE)
        if column == "quality":
            raise ValueError(
                "the manifest's column cannot be called 'quality', as what"
                " becomes of it is: rename it"
            )
        self.column = column
        self.names = (column,)

    def measure_entries(self, entries: Mapping[str, Mapping]) -> torch.Tensor:
        """What the entries state, ``[cycle, 1]``; else it is a ValueError."""
        stated = {key: entry.get(self.column) for key, entry in entries.items()}
        wrong = [key for key, value in stated.items() if not _is_quality(value)]
        if wrong:
            raise ValueError(
                f"{len(wrong)} of {len(stated)} manifest entries have no number"
                f" in [0, 1] as {self.column!r}: {wrong[0]} has"
                f" {stated[wrong[0]]!r}"
            )
        values = torch.tensor(list(stated.values()), dtype=torch.float32)
        return values.unsqueeze(-1)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """Not possible: a waveform does not state its quality."""
        raise ValueError(
            f"the quality is {self.column!r} of a manifest, which a waveform"
            " does not tell: measure it with another measure"
        )

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """What was stated, ``[batch]``."""
        return measurements.squeeze(-1)


def _is_quality(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value <= 1
    )
