"""Confidence intervals by resampling patients, and runs of a configuration.

The cycles of a patient resemble each other, so the patient is the unit that
is drawn: an interval over cycles would be far too narrow.

A configuration that was trained several times, with other seeds, varies with
both patients and runs. Then both are drawn, independently of each other: the
two-way or "pigeonhole" bootstrap (McCullagh, Bernoulli 6(2), 2000; Owen, Annals
of Applied Statistics 1(2), 2007). With few runs it is rather too narrow: the
variance between n runs comes out as (n - 1) / n of what it is.

Authors
-------
 * qlung_plugin contributors
"""

import logging
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from qlung_plugin.dataio.labels import LABELS, has_normal
from qlung_plugin.scores.icbhi_score import label_codes
from qlung_plugin.scores.metrics import metrics_of, ranks_in
from qlung_plugin.scores.roc import Ranking, percentile_interval

logger = logging.getLogger(__name__)


class Outcomes(NamedTuple):
    """What runs made of the same cycles, by patient.

    Counts are ``[run, patient, class, class]``; the rankings, one per run, are
    there if metrics of the probabilities are asked for.
    """

    confusions: np.ndarray
    rankings: tuple[Ranking, ...] = ()
    labels: Sequence[str] = LABELS


def patient_outcomes(
    tables: Sequence[pd.DataFrame], labels: Sequence[str] = LABELS
) -> Outcomes:
    """Outcomes of runs, of their predictions of the same cycles.

    Without ``p_<label>`` per class there is no ranking; for the rest and errors
    see :func:`patient_confusions`.
    """
    confusions = np.stack([patient_confusions(t, labels) for t in tables])
    columns = [f"p_{label}" for label in labels]
    if not all(set(columns) <= set(table) for table in tables):
        return Outcomes(confusions, labels=labels)
    rankings = [
        Ranking(
            table[columns].to_numpy(),
            label_codes(table["label"], labels),
            pd.factorize(table["patient"].astype(str), sort=True)[0],
        )
        for table in tables
    ]
    return Outcomes(confusions, tuple(rankings), labels)


def patient_confusions(
    predictions: pd.DataFrame, labels: Sequence[str] = LABELS
) -> np.ndarray:
    """One confusion matrix per patient: counts ``[patient, class, class]``.

    Rows are the truth, columns the prediction; patients are in the order of
    their names as text. A patient that is missing, and a name that is not among
    the labels, is a ValueError.
    """
    missing = int(predictions["patient"].isna().sum())
    if missing:
        raise ValueError(
            f"{missing} cycles name no patient: intervals over patients need it"
        )
    names = predictions["patient"].astype(str)
    patient, patients = pd.factorize(names, sort=True)
    truth = label_codes(predictions["label"], labels)
    predicted = label_codes(predictions["prediction"], labels)
    shape = (len(patients), len(labels), len(labels))
    confusions = np.zeros(shape, dtype=int)
    np.add.at(confusions, (patient, truth, predicted), 1)
    return confusions


def bootstrap_scores(
    outcomes: Outcomes | npt.ArrayLike,
    n_resamples: int = 10000,
    seed: int = 0,
    place: str = "intervals",
) -> dict[str, np.ndarray]:
    """Scores ``[resample]`` of drawn sets of patients, and of runs, in percent.

    Of the metrics shown in a place, see :func:`patient_outcomes`; or of counts
    ``[patient, class, class]``, see :func:`patient_confusions`, or
    ``[run, patient, class, class]`` of several runs on the same cycles, or it
    is a ValueError. Each resample has as many patients, and as many runs, drawn
    with replacement: the score of a drawn run over all drawn patients, averaged
    over the drawn runs. It is NaN where a resample holds no normal, or no
    abnormal, cycle.

    The resamples depend on the seed and the numbers of patients and runs only:
    two models judged on the same patients are drawn alike.
    """
    confusions, rankings, labels = _with_runs(outcomes)
    runs, patients = confusions.shape[:2]
    draw = np.random.default_rng(seed).multinomial
    weights = draw(patients, np.full(patients, 1 / patients), n_resamples)
    # In floating point for the speed of BLAS; whole numbers stay exact.
    weights = weights.astype(float)
    sums = np.tensordot(weights, confusions, (1, 1))
    ranked = _ranked(rankings, weights, place, labels)
    shares = draw(runs, np.full(runs, 1 / runs), n_resamples) / runs
    return {
        name: (shares * values).sum(1)
        for name, values in metrics_of(sums, place, labels, **ranked).items()
    }


def bootstrap_interval(
    outcomes: Outcomes | npt.ArrayLike,
    n_resamples: int = 10000,
    confidence: float = 0.95,
    seed: int = 0,
    place: str = "intervals",
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the scores, over patients and runs, in percent.

    The outcomes are those of :func:`bootstrap_scores`. A resample in which a
    score is undefined (no normal, or no abnormal, cycle was drawn) is left out
    of the interval of that score; a warning counts them. One patient says
    nothing about the spread between patients: the interval is NaN. A single run
    says nothing about that between runs: the interval is one over patients.
    """
    outcomes = _with_runs(outcomes)
    scores = bootstrap_scores(outcomes, n_resamples, seed, place)
    shape = outcomes.confusions.shape
    return _intervals(scores, shape[1], confidence, outcomes.labels)


def bootstrap_differences(
    outcomes: Outcomes | npt.ArrayLike,
    baseline: Outcomes | npt.ArrayLike,
    n_resamples: int = 10000,
    confidence: float = 0.95,
    place: str = "intervals",
) -> dict[str, tuple[float, float, float]]:
    """How far one configuration is ahead of another, with intervals.

    Each is the mean over the runs of this configuration minus that of the
    baseline, in percentage points, and the percentile interval of that, NaN as
    in :func:`bootstrap_interval`. The two are compared in pairs: in each
    resample they are judged on the same drawn patients, and with the same drawn
    runs (the first of one belongs to the first of the other: give them in the
    order of their seeds). Other runs, patients or cycles are a ValueError.
    """
    pair = [_with_runs(outcomes), _with_runs(baseline)]
    first, second = (values.confusions for values in pair)
    shapes = [list(first.shape), list(second.shape)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "only configurations with the same number of runs, patients and "
            f"classes are compared in pairs, got {shapes[0]} and {shapes[1]}"
        )
    if (first[0].sum(-1) != second[0].sum(-1)).any():
        raise ValueError(
            "the two configurations were judged on different cycles: their "
            "patients have other numbers of cycles per class"
        )
    ours, theirs = (
        bootstrap_scores(values, n_resamples, place=place) for values in pair
    )
    intervals = _intervals(
        {name: ours[name] - theirs[name] for name in ours},
        first.shape[1],
        confidence,
        pair[0].labels,
    )
    ours, theirs = (run_scores(values, place) for values in pair)
    return {
        name: (float((ours[name] - theirs[name]).mean()), *intervals[name])
        for name in ours
    }


def run_scores(
    outcomes: Outcomes, place: str = "intervals"
) -> dict[str, np.ndarray]:
    """Scores ``[run]`` of each run over all its patients, in percent."""
    confusions, rankings, labels = outcomes
    once = np.ones((1, confusions.shape[1]))
    ranked = _ranked(rankings, once, place, labels)
    ranked = {name: values[0] for name, values in ranked.items()}
    return metrics_of(confusions.sum(1), place, labels, **ranked)


def _ranked(
    rankings: Sequence[Ranking],
    weights: np.ndarray,
    place: str,
    labels: Sequence[str],
) -> dict[str, np.ndarray]:
    """What metrics of a place are of, ``[set, run, ...]``, if it is known."""
    if not rankings:
        return {}
    return {
        name: np.stack([getattr(one, name)(weights) for one in rankings], 1)
        for name in ranks_in(place, labels)
    }


def _with_runs(outcomes: Outcomes | npt.ArrayLike) -> Outcomes:
    """Outcomes whose counts are ``[run, patient, class, class]``, checked."""
    rankings: tuple[Ranking, ...] = ()
    labels: Sequence[str] = LABELS
    if isinstance(outcomes, Outcomes):
        outcomes, rankings, labels = outcomes
    confusions = np.asarray(outcomes, dtype=float)
    shape = list(confusions.shape)
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            "confusions must be [patient, class, class], or [run, patient, "
            f"class, class], of one patient or more, got the shape {shape}"
        )
    if len(shape) == 3:
        return Outcomes(confusions[np.newaxis], rankings, labels)
    if (confusions.sum(-1) != confusions[0].sum(-1)).any():
        raise ValueError(
            "the runs were judged on different cycles: their patients have "
            "other numbers of cycles per class"
        )
    return Outcomes(confusions, rankings, labels)


@cache
def _warn_of_undefined(*counts: object) -> None:
    """Once: of the same patients, all checkpoints and points have the same."""
    logger.warning(
        "%d of %d resamples of %d patients %s and are left out of the intervals",
        *counts,
    )


def _intervals(
    scores: dict[str, np.ndarray],
    patients: int,
    confidence: float,
    labels: Sequence[str],
) -> dict[str, tuple[float, float]]:
    """``(low, high)`` of resampled scores of so many patients."""
    if patients == 1:
        return dict.fromkeys(scores, (np.nan, np.nan))
    undefined = np.isnan(scores["score"])
    if undefined.any():
        _warn_of_undefined(
            undefined.sum(),
            len(undefined),
            patients,
            "hold no normal or no abnormal cycle"
            if has_normal(labels)
            else "do not hold every class",
        )
    return {
        name: percentile_interval(values, confidence)
        for name, values in scores.items()
    }
