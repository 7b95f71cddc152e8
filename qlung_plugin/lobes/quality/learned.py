"""A quality score that was learned from experts.

Authors
 * qlung_plugin contributors
"""

import json
import math
from importlib.resources import files
from typing import NamedTuple

import torch

from qlung_plugin.lobes.quality.base import QualityMeasure
from qlung_plugin.lobes.quality.recording import (
    MEASUREMENTS,
    RecordingMeasurements,
)
from qlung_plugin.processing.quality import average_with_silence

SHIPPED = files("qlung_plugin.lobes.quality") / "learned.json"
LARGEST = 1e6  # of a mean or scale; most are in dB
UNKNOWN = (math.nan, math.nan)
SILENT_SHARE = "silent_share"
NUMBERS = ("mean", "scale", "coefficient")


class Coefficients(NamedTuple):
    """A logistic model of standardised measurements."""

    names: tuple  # of the measurements
    values: torch.Tensor  # mean, scale and coefficient, [measurement, 3]
    ranges: torch.Tensor  # what most recordings have, [measurement, 2], or NaN
    intercept: float
    limit: float  # of a standardised measurement, either way
    supervision: dict  # the database, and the patients, that it is learned from


def read_coefficients(path=None):
    """Reads what the recipe of the quality score wrote.

    Arguments
    ---------
    path : str, Path or dict, optional
        A file in JSON, or what such a file holds; that of the package if not
        given.

    Returns
    -------
    Coefficients
        The model.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is truncated, incomplete, of measurements that this version does
        not make, or holds a number that is not finite, a scale or a limit that
        is not above 0, or a range that is none.

    Example
    -------
    >>> coefficients = read_coefficients()
    >>> len(coefficients.names) == len(coefficients.values) <= 20
    True
    """
    path, content = SHIPPED if path is None else path, path
    try:
        if isinstance(content, dict):
            path = "coefficients"
        else:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        measurements = content["measurements"]
        names = tuple(measurements)
        values = torch.tensor(
            [[float(m[key]) for key in NUMBERS] for m in measurements.values()]
        )
        ranges = torch.tensor(
            # Files that are older have none.
            [_pair(m.get("range", UNKNOWN)) for m in measurements.values()]
        )
        intercept = float(content["intercept"])
        limit = float(content["limit"])
        supervision = {
            "database": str(content["provenance"]["database"]),
            "patients": [str(p) for p in content["provenance"]["patients"]],
        }
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{path} does not hold the coefficients of a quality score:"
            f" {type(error).__name__} {error}"
        ) from error
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown or not names:
        raise ValueError(
            f"{path} is of measurements that are not made here:"
            f" {', '.join(unknown) or 'none at all'}"
        )
    usable = values.isfinite().all(dim=-1) & (values[:, 1] > 0)
    usable &= ranges.isnan().all(dim=-1) | (ranges[:, 0] < ranges[:, 1])
    wrong = [name for name, fine in zip(names, usable.tolist()) if not fine]
    if not math.isfinite(intercept):
        wrong.append("intercept")
    if not 0 < limit < math.inf:
        wrong.append("limit")
    if wrong:
        raise ValueError(
            f"{path} holds a number that is not finite, a scale or a limit"
            f" that is not above 0, or a range that is none: {', '.join(wrong)}"
        )
    return Coefficients(names, values, ranges, intercept, limit, supervision)


def _pair(ends):
    low, high = ends
    return float(low), float(high)


def plain_coefficients(path=None):
    """Coefficients as plain data, to be kept where their file is not.

    Arguments
    ---------
    path : str or Path, optional
        See :func:`read_coefficients`, also for errors.

    Returns
    -------
    dict
        What :func:`read_coefficients` takes instead of the file.

    Example
    -------
    >>> plain = plain_coefficients()
    >>> read_coefficients(plain).names == read_coefficients().names
    True
    """
    model = read_coefficients(path)
    return {
        "measurements": {
            name: {
                **dict(zip(NUMBERS, row)),
                **({} if math.isnan(ends[0]) else {"range": ends}),
            }
            for name, row, ends in zip(
                model.names, model.values.tolist(), model.ranges.tolist()
            )
        },
        "intercept": model.intercept,
        "limit": model.limit,
        "provenance": dict(model.supervision),
    }


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

    def __init__(
        self, sample_rate, coefficients=None, normalisation="absolute"
    ):
        super().__init__(sample_rate)
        if normalisation not in ("absolute", "fitted"):
            raise ValueError(
                f"normalisation={normalisation!r} is neither absolute nor fitted"
            )
        self.normalisation = normalisation
        model = read_coefficients(coefficients)
        self.measurements = RecordingMeasurements(sample_rate, model.names)
        self.limit = model.limit
        self.intercept = model.intercept
        self.supervision = model.supervision
        # Not persistent: the file says it all, and may be another one.
        self.register_buffer("values", model.values, persistent=False)
        self.ranges = model.ranges
        # Columns: mean, scale.
        unfitted = torch.full((len(model.names), 2), torch.nan)
        self.register_buffer("standards", unfitted)

    @property
    def names(self):
        """Of the measurements; the last is no part of the logistic model."""
        return (*self.measurements.names, SILENT_SHARE)

    def measure_valid(self, waveforms, centred, lengths, native_rates, silent):
        """The model's measurements and the share of silence."""
        values = self.measurements.measure_valid(
            waveforms, centred, lengths, native_rates, silent
        )
        share = average_with_silence(
            torch.zeros_like(values[:, 0]), 1.0, lengths, silent
        )
        return torch.cat([values, share.unsqueeze(-1)], dim=-1)

    def contributions(self, measurements):
        """What each measurement adds to the logit of being usable.

        Arguments
        ---------
        measurements : torch.Tensor
            ``[batch, measurement]``; NaN where missing. The share of silence
            adds nothing, and may be left out.

        Returns
        -------
        torch.Tensor
            ``[batch, measurement]`` without the share of silence; 0 for the
            mean and where missing.
        """
        measurements = measurements[..., : len(self.values)]
        mean, scale, coefficient = self.values.to(measurements).unbind(dim=-1)
        if self.normalisation == "fitted":
            mean, scale = self.standards.to(measurements).unbind(dim=-1)
            if mean.isnan().any():
                raise RuntimeError(
                    "LearnedQualityScore(normalisation='fitted') is not fitted:"
                    " call fit on the measurements of the training set, or load"
                    " a checkpoint"
                )
        standardised = (measurements - mean) / scale
        standardised = standardised.clamp(-self.limit, self.limit)
        return standardised.nan_to_num(nan=0.0) * coefficient

    def fit(self, measurements):
        """Standardises by the training set; see :class:`QualityMeasure`.

        A measurement that fewer than two recordings have, or that does not
        vary, is standardised as it was in training.

        Raises
        ------
        ValueError
            If fewer than two recordings are audible.
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

    def find_outside(self, measurements):
        """Which recordings are unlike those that the score was learned from.

        They have more than an eighth of their measurements outside the range of
        98 % of those recordings. What the absolute score says of them is no
        probability.

        Arguments
        ---------
        measurements : torch.Tensor
            ``[batch, measurement]``; NaN where missing.

        Returns
        -------
        torch.Tensor
            Boolean, ``[batch]``; False where the file states no ranges.

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

    def check_fitted(self):
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

    def score(self, measurements):
        """Probability of being usable, times the share of signal.

        Without a last column, the share of silence, there is none.
        """
        logit = self.intercept + self.contributions(measurements).sum(dim=-1)
        nothing = measurements[..., : len(self.values)].isnan().all(dim=-1)
        silent = measurements[..., len(self.values) :].sum(dim=-1)
        return torch.where(nothing, 0.0, logit.sigmoid() * (1 - silent))

    def explain(self, waveforms, relative_lengths=None, native_rates=None):
        """Why a score is what it is.

        Arguments
        ---------
        waveforms, relative_lengths, native_rates
            See :meth:`QualityMeasure.measure`.

        Returns
        -------
        list of dict
            Per waveform: ``quality``, the score; ``silent_share``, which is
            taken from it; ``intercept``; and ``measurements``, by name
            ``value`` (NaN where missing) and ``contribution`` to the logit,
            those that lower the score most first. Intercept and contributions
            add up to the logit.

        Example
        -------
        >>> score = LearnedQualityScore(8000)
        >>> why = score.explain(torch.randn(1, 16000))[0]
        >>> first = next(iter(why["measurements"].values()))
        >>> sorted(first)
        ['contribution', 'value']
        """
        values = self.measure(waveforms, relative_lengths, native_rates)
        found = zip(
            self.score(values).tolist(),
            values.tolist(),
            self.contributions(values).tolist(),
        )
        explained = []
        for quality, row, parts in found:
            ordered = sorted(zip(parts, self.names, row))
            explained.append(
                {
                    "quality": quality,
                    SILENT_SHARE: row[-1],
                    "intercept": self.intercept,
                    "measurements": {
                        name: {"value": value, "contribution": part}
                        for part, name, value in ordered
                    },
                }
            )
        return explained
