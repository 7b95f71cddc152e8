"""Operating points and abstention by patients that were not fitted to.

Of tables of cycles with their label and probabilities, in the memory of
:func:`qlung_plugin.inference.calibration.calibrate`.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from qlung_plugin.dataio.labels import NORMAL
from qlung_plugin.scores.calibration import (
    Calibration,
    certain,
    conformal_threshold,
    fit_calibration,
    patients_needed,
)
from qlung_plugin.scores.icbhi_score import label_codes
from qlung_plugin.scores.judgement import FEW_PATIENTS
from qlung_plugin.scores.operating_point import (
    AT_POINT,
    HIGHEST_SCORE,
    choose_offset,
    choose_offset_for,
    decide,
    normal_point,
    shares_at,
)
from qlung_plugin.training.linear_head import patient_folds

WIDEST = 20.0  # percentage points of an interval that supports a point
# What a wanted rate is of, as reports call it, and the figure it is compared with.
RATES = {"specificity": "sp", "sensitivity": "se_two_class"}


class Aim(NamedTuple):
    """What an operating point is chosen for: a rate of a kind, or the Score."""

    kind: str = "score"  # or one of RATES
    rate: float = np.nan  # in (0, 1)

    def __str__(self) -> str:
        if self.kind == "score":
            return HIGHEST_SCORE
        return f"{self.kind} {self.rate:g}"

    def offset(self, shares: np.ndarray, codes: np.ndarray) -> float:
        """What to add to ``log p`` of normal."""
        if self.kind == "score":
            return choose_offset(shares, codes) or 0.0
        is_normal = self.kind == "specificity"
        return choose_offset_for(self.rate, shares, codes, is_normal)


def probabilities(cycles: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    """``[cycle, class]``."""
    return cycles[[f"p_{label}" for label in labels]].to_numpy(float)


def truth(cycles: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    """Positions of the labels ``[cycle]``."""
    return label_codes(cycles["label"], labels)


def split_patients(
    cycles: pd.DataFrame,
    labels: Sequence[str],
    abstain: float | None,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cycles to fit to, and those of other patients to abstain by."""
    if abstain is None:
        return cycles, cycles[:0]
    patients = cycles["patient"].nunique()
    needed = 2 * patients_needed(abstain)
    if patients < needed:
        raise ValueError(
            f"to leave cycles to a person, with at most {abstain:g} of them called"
            f" wrongly, takes {needed} patients or more, half of them to fit to,"
            f" and there are {patients}"
        )
    codes = truth(cycles, labels)
    halves = patient_folds(codes, cycles["patient"], seed, folds=2)
    fit, rest = next(iter(halves))
    return cycles.iloc[fit], cycles.iloc[rest]


def cross_fit(
    cycles: pd.DataFrame, labels: Sequence[str], aim: Aim, seed: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Calibrated probabilities, and classes at the point, fitted to others."""
    shares, codes = probabilities(cycles, labels), truth(cycles, labels)
    crossed, called = np.zeros_like(shares), np.zeros(len(codes), dtype=int)
    for train, test in patient_folds(codes, cycles["patient"], seed):
        fitted = fit_calibration(shares[train], codes[train])
        crossed[test] = fitted.apply(shares[test])
        # One class alone has no rate.
        if NORMAL in labels and len(np.unique(codes[train] == 0)) == 2:
            own = fitted.apply(shares[train])
            point = normal_point(aim.offset(own, codes[train]), labels)
            called[test] = decide(crossed[test], list(point.values()))
        else:
            called[test] = decide(crossed[test])
    names = np.array(labels)
    judged = cycles.assign(
        prediction=names[decide(crossed)],
        **{f"p_{label}": crossed[:, k] for k, label in enumerate(labels)},
    )
    if NORMAL in labels:
        judged[AT_POINT] = names[called]
    return crossed, judged


def check_supported(
    cycles: pd.DataFrame, after: dict[str, Any], aim: Aim, table: str
) -> None:
    """Refuses a point that the patients do not support, with its interval."""
    figures = after["operating_point"]
    if figures is None:
        if aim.kind in RATES:
            raise ValueError(
                f"{table}: a {aim.kind} needs a class {NORMAL}, which the model"
                " does not know"
            )
        return
    normal = cycles["label"] == NORMAL
    groups = {"specificity": [normal], "sensitivity": [~normal]}
    for rows in groups.get(aim.kind, [normal, ~normal]):
        count = cycles["patient"][rows].nunique()
        if count < FEW_PATIENTS:
            raise ValueError(
                f"{table}: {count} patients have a cycle that is"
                f"{'' if rows is normal else ' not'} {NORMAL}, which do not"
                f" support an operating point for {aim}: {FEW_PATIENTS} do"
            )
    key = RATES.get(aim.kind, "score")
    (low, high), value = figures["interval"][key], figures[key]
    wanted = 100 * aim.rate
    if high - low > WIDEST or (aim.kind in RATES and not low <= wanted <= high):
        why = (
            f"is wider than {WIDEST:g}"
            if high - low > WIDEST
            else f"leaves {wanted:g} out"
        )
        raise ValueError(
            f"{table}: these patients do not support an operating point for"
            f" {aim}: on those that were not fitted to it is {value:.1f} %, and"
            f" the 95 % interval of {low:.1f} to {high:.1f} {why}; label more"
            " patients, or choose another point"
        )


def choose_abstention(
    cycles: pd.DataFrame,
    labels: Sequence[str],
    fitted: Calibration,
    point: dict[str, float] | None,
    errors: float,
) -> dict[str, float]:
    """The threshold by patients of whom nothing was fitted."""
    offsets = None if point is None else list(point.values())
    shares = shares_at(fitted.apply(probabilities(cycles, labels)), offsets)
    codes, patients = truth(cycles, labels), cycles["patient"].to_numpy()
    threshold = conformal_threshold(shares, codes, patients, errors)
    return {
        "errors": errors,
        "threshold": threshold,
        "patients": int(cycles["patient"].nunique()),
        "uncertain": float(1 - certain(shares, threshold).mean()),
    }
