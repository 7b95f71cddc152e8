"""Probabilities and an operating point for one's own patients.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qlung_plugin.dataio.labels import NORMAL
from qlung_plugin.figures.calibration import reliability_figure
from qlung_plugin.inference.adaptation import describe_base
from qlung_plugin.inference.calibration_points import (
    Aim,
    check_supported,
    choose_abstention,
    cross_fit,
    probabilities,
    split_patients,
    truth,
)
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.export import check_new, complete_export, new_folder
from qlung_plugin.inference.labelled_cycles import (
    check_unheard,
    describe_table,
    doubts,
    hear_table,
)
from qlung_plugin.inference.model_checks import PARTS
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.provenance import choose_results
from qlung_plugin.inference.trained_model import write_model
from qlung_plugin.nnet.calibrated import CalibratedClassifier
from qlung_plugin.runs.results import evaluate_predictions
from qlung_plugin.scores.calibration import (
    Calibration,
    cross_entropy,
    expected_calibration_error,
    fit_calibration,
)
from qlung_plugin.scores.operating_point import (
    decide,
    normal_point,
    with_operating_point,
)
from qlung_plugin.utils.files import plain, write_figure

PROTOCOL = "calibration and operating point, cross-fitted by patient"
SELECTION = (
    "Each patient was judged by a calibration and an operating point that were"
    " fitted to others."
)
RELIABILITY = "reliability.png"
CALIBRATED = (
    f"{CalibratedClassifier.__module__}.{CalibratedClassifier.__name__}"
)


class Calibrated(NamedTuple):
    """What :func:`calibrate` did.

    Arguments
    ---------
    errors : dict
        ``expected_calibration_error`` and ``cross_entropy``, each ``before`` and
        ``after``, of patients that were not fitted to.
    before, after : dict
        The figures of the model as it was, and at the new point, of the same
        patients.
    temperature : float
        Of the model that was written, relative to the one that was given.
    rule : str or None
        What the operating point was chosen for.
    abstention : dict or None
        ``errors``, ``threshold`` and ``patients``, who set it; and ``uncertain``,
        which share of their own cycles is.
    notes : list of str
        What makes the figures unsure.
    files : list of str
        What was written.
    """

    errors: dict[str, dict[str, float]]
    before: dict[str, Any]
    after: dict[str, Any]
    temperature: float
    rule: str | None
    abstention: dict[str, float] | None
    notes: list[str]
    files: list[str]


def calibrate(
    source: Path | str,
    table: Path | str,
    out: Path | str,
    aim: Aim = Aim(),
    abstain: float | None = None,
    checkpoint: str | None = None,
    trust: str | Iterable[str] = (),
    device: str = "cpu",
    seed: int = 0,
) -> Calibrated:
    """Calibrates a model for the patients of a labelled table, and writes it.

    Fitted are a temperature and an offset per class, so that probabilities are
    shares, and the operating point on them; what is told of both is of patients
    that they were not fitted to, fold by fold. The model that is written is
    fitted to all. The patients should be others than the model was trained on:
    of a model by :func:`qlung_plugin.inference.adaptation.adapt`, its recordings
    are refused; of others, nobody checks it here.

    To ``abstain``, patients are split in two halves: one is fitted to, as above,
    and the other sets the threshold, with the guarantee of
    :func:`qlung_plugin.scores.calibration.conformal_threshold`: of the cycles
    of new patients, at most so many are called by a wrong class; others are
    called ``uncertain``. Evaluations by the recipes do not abstain.

    Arguments
    ---------
    source : str or Path
        The model, see ``open_model``.
    table : str or Path
        See :func:`qlung_plugin.inference.labelled_cycles.hear_table`; its labels
        are of the model's.
    out : str or Path
        The folder to write: new, or empty.
    aim : Aim
        What the operating point is for: ``Aim("specificity", 0.9)``,
        ``Aim("sensitivity", 0.9)`` (an abnormal cycle called by any abnormal
        class), or the highest Score. None is chosen without a class ``normal``.
    abstain : float, optional
        The share in (0, 1) of cycles that may be called by a wrong class.
    checkpoint, trust, device
        As of :func:`qlung_plugin.inference.adaptation.adapt`.
    seed : int
        Of the folds and halves.

    Returns
    -------
    Calibrated
        What to expect of it.

    Raises
    ------
    FileExistsError
        If something is in the folder.
    FileNotFoundError
        If the model, the table or a recording does not exist.
    ValueError
        If the table is malformed, has other labels, or recordings that the
        model is known to have learned from; or if the point is not
        supported: fewer than 10 patients have a cycle that the rate is of, or on
        patients that were not fitted to, its 95 % interval is wider than 20
        percentage points or leaves out what was wanted; or if there are too
        few patients to abstain.

    Example
    -------
    >>> aim = Aim("specificity", 0.9)
    >>> calibrate("adapted", "table.csv", "calibrated", aim)  # doctest: +SKIP
    """
    check_new(out)
    model = open_model(source, checkpoint, trust)
    check_unheard(table, model["provenance"])
    classifier = RespiratorySoundClassifier(
        {name: model[name] for name in PARTS},
        {k: v for k, v in model.items() if k not in PARTS},
        run_opts={"device": device},
    )
    labels, cycles = model["labels"], hear_table(classifier, table)
    strangers = sorted(set(cycles["label"]) - set(labels))
    if strangers:
        raise ValueError(
            f"{table}: the model knows no {', '.join(strangers)}, but"
            f" {', '.join(labels)}: adapt it first"
        )
    fitted_to, others = split_patients(cycles, labels, abstain, seed)
    shares, codes = probabilities(fitted_to, labels), truth(fitted_to, labels)
    crossed, judged = cross_fit(fitted_to, labels, aim, seed)
    as_it_was = with_operating_point(
        fitted_to.assign(prediction=np.array(labels)[decide(shares)]),
        model["operating_point"],
        labels,
    )
    before, after = (
        plain(evaluate_predictions(cycles, labels))
        for cycles in (as_it_was, judged)
    )
    where = str(table) if len(others) == 0 else f"the half of {table} to fit to"
    check_supported(fitted_to, after, aim, where)
    fitted = fit_calibration(shares, codes)
    rule = point = None
    if NORMAL in labels:
        rule = str(aim)
        offset = aim.offset(fitted.apply(shares), codes)
        point = normal_point(offset, labels)
    abstention = None
    if abstain is not None:
        abstention = choose_abstention(others, labels, fitted, point, abstain)
    both = {"before": shares, "after": crossed}
    errors = {
        function.__name__: {k: function(v, codes) for k, v in both.items()}
        for function in (expected_calibration_error, cross_entropy)
    }
    data = describe_table(cycles, table, PROTOCOL)
    provenance = {
        **{k: model[k] for k in ("checkpoint", "epoch", "validated")},
        "settings": model["provenance"].get("settings", {}),
        "data": model["provenance"].get("data"),
        "operating_point": point,
        "operating_point_rule": rule,
        "calibration": {
            "temperature": fitted.temperature,
            "offsets": dict(zip(labels, fitted.offsets.tolist())),
            "seed": seed,
            "data": data,
            **errors,
        },
        "abstention": abstention,
        "base": describe_base(source, model),
        "results": [
            {"selection": SELECTION, **choose_results(after), "data": data}
        ],
    }
    architecture, module = wrap(model, fitted)
    notes = doubts(cycles, labels)
    written = {**model, "classifier": module}
    with new_folder(out) as partial:
        write_model(partial, architecture, written, provenance)
        figure = reliability_figure(
            both, codes, f"{Path(table).name}: patients not fitted to"
        )
        write_figure(figure, partial / RELIABILITY)
        note = ". ".join(text[0].upper() + text[1:] for text in notes)
        files = complete_export(partial, out, written, note)
    return Calibrated(
        errors,
        before,
        after,
        fitted.temperature,
        rule,
        abstention,
        notes,
        files,
    )


def wrap(
    model: dict[str, Any], fitted: Calibration
) -> tuple[dict[str, Any], CalibratedClassifier]:
    """Architecture and module of a classifier with its calibration.

    One that was calibrated before is calibrated as one.
    """
    inner, told = model["classifier"], model["architecture"]["classifier"]
    temperature, offsets = fitted.temperature, fitted.offsets
    if isinstance(inner, CalibratedClassifier):
        offsets = offsets + inner.offsets.cpu().numpy() / temperature
        temperature *= inner.temperature
        inner, told = inner.classifier, told["arguments"]["classifier"]
    else:
        told = move_references(told)
    arguments = {"temperature": temperature, "offsets": offsets.tolist()}
    module = CalibratedClassifier(inner, **arguments)
    described = {"classifier": told, **arguments}
    architecture = {
        **model["architecture"],
        "classifier": {"class": CALIBRATED, "arguments": described},
    }
    return architecture, module


def move_references(value: Any) -> Any:
    """What is said of a classifier, now that it is a part of another one."""
    if isinstance(value, list):
        return [move_references(part) for part in value]
    if not isinstance(value, dict):
        return value
    place = value.get("reference")
    if isinstance(place, str) and place.startswith("classifier"):
        return {"reference": f"classifier.{place}"}
    return {key: move_references(part) for key, part in value.items()}
