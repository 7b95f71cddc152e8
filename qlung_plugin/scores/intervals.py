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

import numpy as np
import numpy.typing as npt
import pandas as pd

from qlung_plugin.scores.icbhi_score import LABELS, label_codes
from qlung_plugin.scores.metrics import metrics_of

logger = logging.getLogger(__name__)


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
    confusions: npt.ArrayLike, n_resamples: int = 10000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Scores ``[resample]`` of drawn sets of patients, and of runs, in percent.

    Counts are ``[patient, class, class]``, see :func:`patient_confusions`, or
    ``[run, patient, class, class]`` of several runs on the same cycles, or it
    is a ValueError. Each resample has as many patients, and as many runs, drawn
    with replacement: the score of a drawn run over all drawn patients, averaged
    over the drawn runs. It is NaN where a resample holds no normal, or no
    abnormal, cycle.

    The resamples depend on the seed and the numbers of patients and runs only:
    two models judged on the same patients are drawn alike.
    """
    confusions = _with_runs(confusions)
    runs, patients = confusions.shape[:2]
    draw = np.random.default_rng(seed).multinomial
    weights = draw(patients, np.full(patients, 1 / patients), n_resamples)
    # In floating point for the speed of BLAS; whole numbers stay exact.
    sums = np.tensordot(weights.astype(float), confusions, (1, 1))
    shares = draw(runs, np.full(runs, 1 / runs), n_resamples) / runs
    return {
        name: (shares * values).sum(1)
        for name, values in metrics_of(sums, "intervals").items()
    }


def bootstrap_interval(
    confusions: npt.ArrayLike,
    n_resamples: int = 10000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the scores, over patients and runs, in percent.

    The counts are those of :func:`bootstrap_scores`. A resample in which a
    score is undefined (no normal, or no abnormal, cycle was drawn) is left out
    of the interval of that score; a warning counts them. One patient says
    nothing about the spread between patients: the interval is NaN. A single run
    says nothing about that between runs: the interval is one over patients.
    """
    scores = bootstrap_scores(confusions, n_resamples, seed)
    return _intervals(scores, np.shape(confusions)[-3], confidence)


def bootstrap_differences(
    confusions: npt.ArrayLike,
    baseline: npt.ArrayLike,
    n_resamples: int = 10000,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float, float]]:
    """How far one configuration is ahead of another, with intervals.

    Each is the mean over the runs of this configuration minus that of the
    baseline, in percentage points, and the percentile interval of that, NaN as
    in :func:`bootstrap_interval`. The two are compared in pairs: in each
    resample they are judged on the same drawn patients, and with the same drawn
    runs (the first of one belongs to the first of the other: give them in the
    order of their seeds). Other runs, patients or cycles are a ValueError.
    """
    pair = confusions, baseline = _with_runs(confusions), _with_runs(baseline)
    shapes = [list(values.shape) for values in pair]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "only configurations with the same number of runs, patients and "
            f"classes are compared in pairs, got {shapes[0]} and {shapes[1]}"
        )
    if (confusions[0].sum(-1) != baseline[0].sum(-1)).any():
        raise ValueError(
            "the two configurations were judged on different cycles: their "
            "patients have other numbers of cycles per class"
        )
    ours, theirs = (bootstrap_scores(k, n_resamples) for k in pair)
    intervals = _intervals(
        {name: ours[name] - theirs[name] for name in ours},
        confusions.shape[1],
        confidence,
    )
    # [configuration, run]: each run over all its patients.
    scores = metrics_of(np.stack(pair).sum(2), "intervals")
    return {
        name: (float((values[0] - values[1]).mean()), *intervals[name])
        for name, values in scores.items()
    }


def _with_runs(confusions: npt.ArrayLike) -> np.ndarray:
    """Counts ``[run, patient, class, class]``, checked."""
    confusions = np.asarray(confusions, dtype=float)
    shape = list(confusions.shape)
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            "confusions must be [patient, class, class], or [run, patient, "
            f"class, class], of one patient or more, got the shape {shape}"
        )
    if len(shape) == 3:
        return confusions[np.newaxis]
    if (confusions.sum(-1) != confusions[0].sum(-1)).any():
        raise ValueError(
            "the runs were judged on different cycles: their patients have "
            "other numbers of cycles per class"
        )
    return confusions


def _intervals(
    scores: dict[str, np.ndarray], patients: int, confidence: float
) -> dict[str, tuple[float, float]]:
    """``(low, high)`` of resampled scores of so many patients."""
    if patients == 1:
        return dict.fromkeys(scores, (np.nan, np.nan))
    undefined = np.isnan(scores["score"])
    if undefined.any():
        logger.warning(
            "%d of %d resamples of %d patients hold no normal or no abnormal "
            "cycle and are left out of the intervals",
            undefined.sum(),
            len(undefined),
            patients,
        )
    return {
        name: percentile_interval(values, confidence)
        for name, values in scores.items()
    }


def percentile_interval(
    values: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Low and high end of resampled values; NaN of none that is not NaN."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)).tolist()
    return low, high
