"""Qualities made of others, or of something else than the waveform.

Authors
 * qlung_plugin contributors
"""

import math

import torch
from torch import nn

from qlung_plugin.lobes.quality.base import QualityMeasure


class WeightedQuality(QualityMeasure):
    """The weighted mean of several measures.

    Each is fitted for itself. The weights are divided by their sum, so that the
    mean stays in [0, 1].

    Arguments
    ---------
    measures : list of QualityMeasure
        Measures of waveforms, all of one sample rate.
    weights : list of float
        One weight per measure, none negative.

    Raises
    ------
    ValueError
        If the sample rates differ, or the weights are not one per measure, none
        negative, not all 0.

    Example
    -------
    >>> from qlung_plugin.lobes.quality import ClippingScore
    >>> constant = ConstantQuality(0.5)
    >>> measure = WeightedQuality([ClippingScore(16000), constant], [3, 1])
    >>> measure(0.1 * torch.randn(2, 16000))
    tensor([0.8750, 0.8750])
    """

    def __init__(self, measures, weights):
        rates = {measure.sample_rate for measure in measures}
        if len(rates) != 1:
            raise ValueError(
                f"measures need one sample rate, not {sorted(rates)}"
            )
        super().__init__(rates.pop())
        if len(weights) != len(measures):
            raise ValueError(
                f"{len(measures)} measures cannot have {len(weights)} weights"
            )
        if min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ValueError(
                f"weights must not be negative, nor all 0, but are {weights}"
            )
        self.measures = nn.ModuleList(measures)
        self.weights = [weight / sum(weights) for weight in weights]
        # Silence is measured as NaN, but in as many columns as anything.
        silence = torch.zeros(1, self.sample_rate)
        self.columns = [
            measure.measure(silence).shape[1] for measure in measures
        ]
        self.supervision = _combined(
            [measure.supervision for measure in measures]
        )

    def measure_valid(self, waveforms, centred, lengths, native_rates):
        """The measurements of all measures, beside each other."""
        return torch.cat(
            [
                measure.measure_valid(waveforms, centred, lengths, native_rates)
                for measure in self.measures
            ],
            dim=-1,
        )

    def score(self, measurements):
        """The weighted mean of the measures' scores, ``[batch]``."""
        parts = measurements.split(self.columns, dim=-1)
        return sum(
            weight * measure.score(part)
            for weight, measure, part in zip(self.weights, self.measures, parts)
        )

    def fit(self, measurements):
        """Fits each measure to its own measurements."""
        parts = measurements.split(self.columns, dim=-1)
        for measure, part in zip(self.measures, parts):
            measure.fit(part)


def _combined(supervisions):
    """One supervision for all: the patients that any of them learned from."""
    known = [one for one in supervisions if one]
    databases = {one["database"] for one in known}
    if len(databases) > 1:
        raise ValueError(
            f"measures learned from several databases, {sorted(databases)},"
            " cannot be judged apart from all of them"
        )
    if not known:
        return None
    patients = set().union(*(one["patients"] for one in known))
    return {**known[0], "patients": sorted(patients)}


class ConstantQuality(QualityMeasure):
    """The same quality for every cycle, silent or not.

    With it a quality margin is a fixed margin: a baseline.

    Arguments
    ---------
    value : float
        In [0, 1].
    sample_rate : int
        At which waveforms are expected, in Hz; they are not looked at.

    Raises
    ------
    ValueError
        If the value is not in [0, 1].

    Example
    -------
    >>> ConstantQuality(0.5)(torch.randn(2, 16000))
    tensor([0.5000, 0.5000])
    """

    def __init__(self, value, sample_rate=16000):
        super().__init__(sample_rate)
        if not 0 <= value <= 1:
            raise ValueError(f"value must be in [0, 1], not {value}")
        self.value = value

    def measure_valid(self, waveforms, centred, lengths, native_rates):
        """Nothing, in one column."""
        return waveforms.new_zeros(len(waveforms), 1)

    def score(self, measurements):
        """The value, ``[batch]``."""
        return torch.full(
            measurements.shape[:1], self.value, device=measurements.device
        )

    def measure_entries(self, entries, measure_waveforms):
        """Nothing, in one column, whatever the waveforms are."""
        return torch.zeros(len(entries), 1)


class ManifestQuality(QualityMeasure):
    """A quality that each entry of the manifests states.

    For marks of listeners, say: write them as a number in [0, 1] into the
    entries of ``train.json``, ``valid.json`` and ``test.json`` that the
    preparation made, and train with ``--skip_prep True``.

    Arguments
    ---------
    column : str
        The key of an entry.

    Example
    -------
    >>> measure = ManifestQuality("listeners")
    >>> entries = {"101_0": {"listeners": 0.25}}
    >>> measure.score(measure.measure_entries(entries, None))
    tensor([0.2500])
    """

    def __init__(self, column):
        super().__init__(sample_rate=16000)  # which is of no importance
        self.column = column

    def measure_entries(self, entries, measure_waveforms):
        """What the entries state.

        Arguments
        ---------
        entries : dict
            The manifest's entries, by id.
        measure_waveforms : callable
            Not used.

        Returns
        -------
        torch.Tensor
            ``[cycle, 1]``.

        Raises
        ------
        ValueError
            If an entry states no quality, or none in [0, 1].
        """
        stated = {key: entry.get(self.column) for key, entry in entries.items()}
        wrong = [key for key, value in stated.items() if not _is_quality(value)]
        if wrong:
            raise ValueError(
                f"{len(wrong)} of {len(stated)} manifest entries have no"
                f" {self.column!r} in [0, 1], such as {wrong[0]}:"
                f" {stated[wrong[0]]!r}"
            )
        return torch.tensor(list(stated.values())).float().unsqueeze(1)

    def measure_valid(self, waveforms, centred, lengths, native_rates):
        """Not possible: a waveform does not state its quality."""
        raise RuntimeError(
            f"the quality {self.column!r} is read from manifests: it cannot be"
            " measured of a waveform"
        )

    def score(self, measurements):
        """What was stated, ``[batch]``."""
        return measurements.squeeze(1)


def _is_quality(value):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= 1
