"""A quality score that was learned from experts.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path
from typing import TypedDict

import torch

from qlung_plugin.lobes.quality.base import (
    NORMALISATIONS,
    QualityMeasure,
    Signal,
    fitted_values,
)
from qlung_plugin.lobes.quality.coefficients import read_coefficients
from qlung_plugin.lobes.quality.recording import RecordingMeasurements
from qlung_plugin.utils.choices import check_choice

LARGEST = 1e6  # of a mean or scale; most are in dB
SILENT_SHARE = "silent_share"


class Contribution(TypedDict):
    """What a measurement adds to the logit of being usable."""

    value: float
    contribution: float


class Explanation(TypedDict):
    """Why a score is what it is; see :meth:`LearnedQualityScore.explain`."""

    quality: float
    silent_share: float
    intercept: float
    measurements: dict[str, Contribution]


class LearnedQualityScore(QualityMeasure):
    """Probability that a recording is usable, as experts would judge.

    A logistic model of standardised measurements, learned from the recordings
    that SPRSound's experts marked as poor; see ``recipes/SPRSound/quality``. A
    standardised measurement counts up to a limit either way, so that no single
    one decides on a device that was never seen. What is missing counts as its
    mean over the training recordings. The probability is calibrated to the
    share of poor recordings that the model was trained with, a quarter.

    What holds no signal, such as a dropout, is not measured: the score is the
    probability for the rest, times its share of the time.

    Arguments
    ---------
    sample_rate : int
        Rate of the waveforms, in Hz.
    coefficients : str, Path or dict, optional
        A file that the recipe wrote, or what it holds; that of the package if
        not given.
    normalisation : str
        ``absolute``: measurements are standardised as in training, and the
        score is a probability, for recordings like SPRSound's. ``fitted``:
        they are standardised by the recordings at hand, by :meth:`fit`, so that
        what all of them share does not count, such as the frequency response
        of another device; the score says which of them are better.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file or the normalisation is none; see
        :func:`read_coefficients`.
    RuntimeError
        If it is ``fitted`` and used before :meth:`fit`, or before a checkpoint
        of a fitted one was loaded.

    Example
    -------
    >>> time = torch.arange(80000) / 8000
    >>> breath = (torch.sin(torch.pi * 0.5 * time) ** 2) * torch.randn(80000)
    >>> score = LearnedQualityScore(8000)
    >>> score(breath.unsqueeze(0)).shape
    torch.Size([1])
    """

    values: torch.Tensor
    standards: torch.Tensor

    def __init__(
        self,
        sample_rate: int,
        coefficients: Path | str | dict | None = None,
        normalisation: str = "absolute",
    ) -> None:
        super().__init__(sample_rate)
        check_choice("normalisation", normalisation, NORMALISATIONS)
        self.normalisation = normalisation
        model = read_coefficients(coefficients)
        self.measurements = RecordingMeasurements(sample_rate, model.names)
        # The last is no part of the logistic model.
        self.names = (*model.names, SILENT_SHARE)
        self.limit = model.limit
        self.intercept = model.intercept
        self.supervision = model.supervision
        # Not persistent: the file says it all, and may be another one.
        self.register_buffer("values", model.values, persistent=False)
        self.ranges = model.ranges
        # Columns: mean, scale.
        unfitted = torch.full((len(model.names), 2), torch.nan)
        self.register_buffer("standards", unfitted)

    def measure_valid(self, signal: Signal) -> torch.Tensor:
        """The model's measurements and the share of silence."""
        values = self.measurements.measure_valid(signal)
        silent = signal.with_silence(torch.zeros_like(values[:, 0]), 1.0)
        return torch.cat([values, silent.unsqueeze(-1)], dim=-1)

    def contributions(self, measurements: torch.Tensor) -> torch.Tensor:
        """What each measurement adds to the logit of being usable.

        Of ``[batch, measurement]``, NaN where missing, with the share of silence
        or without, to such without: 0 for the mean and where missing.
        """
        measurements = measurements[..., : len(self.values)]
        mean, scale, coefficient = self.values.to(measurements).unbind(dim=-1)
        if self.normalisation == "fitted":
            standards = fitted_values(self, self.standards)
            mean, scale = standards.to(measurements).unbind(dim=-1)
        standardised = (measurements - mean) / scale
        standardised = standardised.clamp(-self.limit, self.limit)
        return standardised.nan_to_num(nan=0.0) * coefficient

    def fit(self, measurements: torch.Tensor) -> None:
        """Standardises by the training set, of two audible recordings or more.

        A measurement that fewer than two recordings have, or that does not
        vary, is standardised as it was in training.
        """
        if self.normalisation != "fitted":
            return
        measurements = measurements[..., : len(self.values)]
        known = ~measurements.isnan()
        if known.any(dim=-1).sum() < 2:
            raise ValueError(
                "fewer than two training cycles are audible: nothing to fit"
            )
        values = measurements.double()
        mean = values.nanmean(dim=0)
        scale = (values - mean).square().nanmean(dim=0).sqrt()
        shipped = self.values[:, :2].to(values)
        usable = (known.sum(dim=0) >= 2) & (scale > 1e-6 * shipped[:, 1])
        fitted = torch.stack([mean, scale], dim=-1)
        self.standards.copy_(torch.where(usable[:, None], fitted, shipped))

    def find_outside(self, measurements: torch.Tensor) -> torch.Tensor:
        """Which recordings are unlike those that the score was learned from.

        Of ``[batch, measurement]`` those, ``[batch]``, that have more than an
        eighth outside the range of 98 % of those recordings, of which the
        absolute score is no probability. None where the file states no ranges.

        Example
        -------
        >>> score = LearnedQualityScore(8000)
        >>> score.find_outside(score.measure(torch.randn(1, 80000)))
        tensor([True])
        """
        measurements = measurements[..., : len(self.values)]
        low, high = self.ranges.to(measurements).unbind(dim=-1)
        outside = (measurements < low) | (measurements > high)
        known = ~measurements.isnan()
        return 8 * outside.sum(dim=-1) > known.sum(dim=-1)

    def check_fitted(self) -> None:
        """Checks the standards; see :class:`QualityMeasure`."""
        if self.normalisation != "fitted":
            return
        if self.standards.isnan().all():
            raise ValueError(
                "standards is NaN: LearnedQualityScore is to be fitted, and was"
                " not"
            )
        for name, (mean, scale) in zip(self.names, self.standards.tolist()):
            if not (abs(mean) <= LARGEST and 0 < scale <= LARGEST):
                raise ValueError(
                    f"standards has {name} with a mean of {mean:g} and a scale"
                    f" of {scale:g}, which no training set has"
                )

    def score(self, measurements: torch.Tensor) -> torch.Tensor:
        """Probability of being usable, times the share of signal.

        Without a last column, the share of silence, there is none.
        """
        logit = self.intercept + self.contributions(measurements).sum(dim=-1)
        nothing = measurements[..., : len(self.values)].isnan().all(dim=-1)
        silent = measurements[..., len(self.values) :].sum(dim=-1)
        return torch.where(nothing, 0.0, logit.sigmoid() * (1 - silent))

    def explain(
        self,
        waveforms: torch.Tensor,
        relative_lengths: torch.Tensor | None = None,
        native_rates: torch.Tensor | None = None,
    ) -> list[Explanation]:
        """Why the score of each waveform is what it is.

        The arguments are those of :meth:`QualityMeasure.measure`.

        Returns
        -------
        list of dict
            ``quality``, the score; ``silent_share``, which is taken from it;
            ``intercept``; and ``measurements``, by name ``value`` (NaN where
            missing) and ``contribution`` to the logit, those that lower the
            score most first. Intercept and contributions add up to the logit.

        Example
        -------
        >>> score = LearnedQualityScore(8000)
        >>> why = score.explain(torch.randn(1, 16000))[0]
        >>> first = next(iter(why["measurements"].values()))
        >>> sorted(first)
        ['contribution', 'value']
        """
        values = self.measure(waveforms, relative_lengths, native_rates)
        return [
            {
                "quality": quality,
                "silent_share": row[-1],
                "intercept": self.intercept,
                "measurements": {
                    name: {"value": value, "contribution": part}
                    for part, name, value in sorted(zip(parts, self.names, row))
                },
            }
            for quality, row, parts in zip(
                self.score(values).tolist(),
                values.tolist(),
                self.contributions(values).tolist(),
            )
        ]
