#!/usr/bin/env python3
"""Recipe for learning a quality score from experts, on SPRSound.

The experts annotated some recordings as poor. A logistic model of a few
measurements learns to find them, and is compared with other models, with every
single measurement and with the quality measures that are formulas, by nested
cross-validation over patients.

To run this recipe, use the following command:
> python train.py hparams/quality.yaml --data_folder /path/to/SPRSound

Authors
 * qlung_plugin contributors
"""

import datetime
import itertools
import shlex
import sys
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss
from speechbrain.utils.logger import get_logger
from threadpoolctl import threadpool_limits

from qlung_plugin.dataio.cycles import CycleMeasurements
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.sprsound import ANNOTATIONS
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.figures.quality import measure_name, quality_roc_figure
from qlung_plugin.figures.quality_learning import (
    calibration_figure,
    coefficients_figure,
    precision_recall_figure,
)
from qlung_plugin.figures.results import quality_histogram_figure
from qlung_plugin.lobes.quality import (
    MEASUREMENTS,
    LearnedQualityScore,
    RecordingMeasurements,
)
from qlung_plugin.processing.degradations import degrade
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.scripts import (
    explain_errors,
    set_threads,
    start_script,
)
from qlung_plugin.scores.quality_analysis import compare_with_experts
from qlung_plugin.scores.quality_learning import (
    coefficient_table,
    decide_by_one,
    fit_calibrated,
    group_differences,
    out_of_fold,
    patient_folds,
    resample_coefficients,
)
from qlung_plugin.scores.roc import format_area
from qlung_plugin.utils.files import write_figure, write_json, write_text
from qlung_plugin.utils.markdown import markdown_table

logger = get_logger(__name__)

FACTS = ("patient", "recording", "age", "sex", "location", "annotation")
MODELS = ("quality_logistic", "quality_gradient_boosting")
BEST = "best_single_measurement"
REPORTED = 15  # single measurements; metrics.json has all
DIGITS = 6  # significant ones, of the coefficients
RANGE = (1, 99)  # percentiles: what lies outside is unlike the recordings
TOLERANCE = 1e-4  # of the probability with so many digits
FOLDERS = ("data_folder", "output_folder", "cache_folder")


class DegradedMeasurements(torch.nn.Module):
    """Measurements of degraded copies of a recording, one per kind.

    Arguments
    ---------
    measurements : qlung_plugin.lobes.quality.Measurements
        What is measured.
    degradations : dict
        Per kind, the degrees from which one is drawn.
    seed : int
        What is drawn depends on this and on the recording's samples.
    """

    def __init__(self, measurements, degradations, seed):
        super().__init__()
        self.measurements = CycleMeasurements(measurements)
        self.degradations = degradations
        self.seed = seed

    def forward(self, waveform, native_rate):
        """Measurements of the copies of ``[time]``, ``[kind, measurement]``."""
        seed = zlib.crc32(waveform.numpy().tobytes()) + self.seed
        draw = np.random.default_rng(seed)
        copies = []
        for kind, degrees in self.degradations.items():
            degree = degrees[draw.integers(len(degrees))]
            copy = degrade(waveform, native_rate, kind, degree, seed)
            copies.append(self.measurements(copy, native_rate))
        return torch.stack(copies)


def recordings_table(hparams):
    """The annotated recordings.

    Arguments
    ---------
    hparams : dict
        The loaded YAML.

    Returns
    -------
    manifest : dict
        Their entries.
    table : pandas.DataFrame
        As :mod:`qlung_plugin.scores.quality_learning` describes it, with ``id``
        and what the manifest knows; without measurements and copies.
    """
    manifest = read_manifest(
        hparams["recordings_annotation"], hparams["data_folder"]
    )
    # Those of which the experts said nothing are counted by the preparation.
    manifest = {
        name: entry
        for name, entry in manifest.items()
        if entry["annotation"] is not None
    }
    table = pd.DataFrame(
        [
            {"id": name, **{fact: entry[fact] for fact in FACTS}}
            for name, entry in manifest.items()
        ],
        columns=["id", *FACTS],
    )
    table["poor"] = table["annotation"] == hparams["poor_annotation"]
    table["degraded"] = False
    return manifest, table


def measure_recordings(table, manifest, hparams):
    """Measures recordings and degraded copies of them.

    Arguments
    ---------
    table : pandas.DataFrame
        Of :func:`recordings_table`.
    manifest : dict
        The same recordings.
    hparams : dict
        The loaded YAML.

    Returns
    -------
    pandas.DataFrame
        The table with measurements, followed by the copies.
    """
    measurements = RecordingMeasurements(hparams["sample_rate"])
    folder = hparams["cache_folder"]
    store = store_cycles([manifest], CycleMeasurements(measurements), folder)
    parts = [_with_measurements(table, [store[name] for name in table["id"]])]
    usable = table[~table["poor"]]
    kinds = {kind: d for kind, d in hparams["degradations"].items() if d}
    if kinds:
        module = DegradedMeasurements(measurements, kinds, hparams["seed"])
        entries = {name: manifest[name] for name in usable["id"]}
        store = store_cycles([entries], module, folder)
        values = torch.stack([store[name] for name in usable["id"]])
        copies = usable.assign(poor=True, degraded=True)
        parts += [_with_measurements(copies, of) for of in values.unbind(1)]
    return pd.concat(parts, ignore_index=True)


def _with_measurements(table, values):
    values = np.stack([value.numpy() for value in values]).astype(float)
    measured = pd.DataFrame(values, table.index, MEASUREMENTS)
    return pd.concat([table, measured], axis=1)


class CutMeasurements(torch.nn.Module):
    """Measurements of a part of a recording, one per duration.

    Arguments
    ---------
    measurements : qlung_plugin.lobes.quality.Measurements
        What is measured.
    durations : list of float
        In seconds; of a shorter recording, all of it.
    seed : int
        Where the part lies depends on this and on the recording's samples.
    """

    def __init__(self, measurements, durations, seed):
        super().__init__()
        self.measurements = CycleMeasurements(measurements)
        self.durations = durations
        self.seed = seed

    def forward(self, waveform, native_rate):
        """Measurements of parts of ``[time]``, ``[duration, measurement]``."""
        seed = zlib.crc32(waveform.numpy().tobytes()) + self.seed
        draw = np.random.default_rng(seed)
        parts = []
        for duration in self.durations:
            length = min(round(duration * native_rate), len(waveform))
            start = draw.integers(len(waveform) - length + 1)
            part = waveform[start : start + length]
            parts.append(self.measurements(part, native_rate))
        return torch.stack(parts)


def measure_cuts(table, manifest, hparams):
    """The recordings of a table, cut.

    Arguments
    ---------
    table : pandas.DataFrame
        Of :func:`measure_recordings`.
    manifest : dict
        The recordings.
    hparams : dict
        The loaded YAML.

    Returns
    -------
    dict
        By duration in seconds, the rows of the recordings with the
        measurements of a part.
    """
    if not hparams["cuts"]:
        return {}
    measurements = RecordingMeasurements(hparams["sample_rate"])
    module = CutMeasurements(measurements, hparams["cuts"], hparams["seed"])
    measured = store_cycles([manifest], module, hparams["cache_folder"])
    recordings = table[~table["degraded"]]
    values = torch.stack([measured[name] for name in recordings["id"]])
    return {
        duration: recordings.assign(**dict(zip(MEASUREMENTS, part.T.numpy())))
        for duration, part in zip(hparams["cuts"], values.unbind(dim=1))
    }


def choose_candidates(table, hparams):
    """The measurements that a model may choose from.

    Arguments
    ---------
    table : pandas.DataFrame
        Of :func:`measure_recordings`.
    hparams : dict
        The loaded YAML.

    Returns
    -------
    list of str
        Without those excluded, and those that no recording has.
    """
    recordings = table[~table["degraded"]]
    return [
        name
        for name in MEASUREMENTS
        if not name.startswith(tuple(hparams["excluded"]))
        and recordings[name].notna().any()
    ]


def estimators(hparams):
    """The models to be fitted, by name and setting."""
    return {
        "quality_logistic": {
            (number, regularisation): hparams["logistic"](
                measurements=number, regularisation=regularisation
            )
            for number, regularisation in itertools.product(
                hparams["numbers_of_measurements"], hparams["regularisations"]
            )
        },
        "quality_gradient_boosting": {None: hparams["boosting"]},
    }


def score_out_of_fold(table, cuts, candidates, folds, manifest, hparams):
    """Scores recordings by models and measures fitted to other patients.

    Arguments
    ---------
    table : pandas.DataFrame
        Of :func:`measure_recordings`.
    cuts : dict
        Of :func:`measure_cuts`.
    candidates : list of str
        The measurements.
    folds : list of list of set
        Per repeat those of :func:`patient_folds`.
    manifest : dict
        The recordings.
    hparams : dict
        The loaded YAML.

    Returns
    -------
    scores : pandas.DataFrame
        Of the recordings: facts, ``poor``, and a column per model (probability
        of being usable) and per measure.
    singles : pandas.DataFrame
        The same with a column per single measurement.
    parts : pandas.DataFrame
        The same with a column per duration, of cut recordings by the logistic
        model.
    """
    recordings = table.loc[~table["degraded"], ["id", *FACTS, "poor"]]
    scores = {}
    parts = {name: pd.Series(0.0, recordings.index) for name in cuts}
    for name, settings in estimators(hparams).items():
        logger.info("Cross-validating %s", measure_name(name))

        def predict(train, test, name=name, settings=settings):
            model = fit_model(train, candidates, settings, hparams)
            if name == MODELS[0]:
                for duration, cut in cuts.items():
                    decided = model.decide(cut.loc[test.index])
                    parts[duration][test.index] += decided / len(folds)
            return model.decide(test)

        scores[name] = expit(-out_of_fold(table, folds, predict))
    for name, measure in hparams["measures"].items():
        values = store_cycles(
            [manifest], CycleMeasurements(measure), hparams["cache_folder"]
        )

        def predict(train, test, measure=measure, values=values):
            known = train.loc[~train["degraded"], "id"]
            measure.fit(torch.stack([values[k] for k in known]))
            tested = torch.stack([values[k] for k in test["id"]])
            return -measure.score(tested).double().numpy()

        scores[name] = -out_of_fold(table, folds, predict)
    singles = {
        name: -out_of_fold(table, folds, partial(decide_by_one, name))
        for name in candidates
    }
    parts = {f"{name:g} s": expit(-part) for name, part in parts.items()}
    return (
        recordings.assign(**scores),
        recordings.assign(**singles),
        recordings.assign(**parts),
    )


def fit_model(table, candidates, settings, hparams):
    """Chooses a setting, fits it and calibrates it, by the inner folds."""
    return fit_calibrated(
        table,
        candidates,
        settings,
        hparams["inner_folds"],
        hparams["seed"],
        hparams["degraded_weight"],
    )


def compare(table, names, hparams):
    """Areas under the ROC curve, and average precision, of scores."""
    found = compare_with_experts(
        table, names, hparams["resamples"], hparams["seed"]
    )
    for name, figures in found.items():
        rows = table[table[name].notna()]
        figures["average_precision"] = float(
            average_precision_score(rows["poor"], -rows[name])
        )
    return dict(sorted(found.items(), key=lambda item: -item[1]["area"]))


def measurement_ranges(table, names):
    """Between which values the measurements of most recordings lie.

    Arguments
    ---------
    table : pandas.DataFrame
        Of :func:`measure_recordings`.
    names : list of str
        Of the measurements.

    Returns
    -------
    pandas.DataFrame
        By measurement, the percentiles of :data:`RANGE` over the recordings,
        the poor ones included and the degraded copies not, in two columns.
    """
    recordings = table.loc[~table["degraded"], names]
    return recordings.quantile([end / 100 for end in RANGE]).T


def coefficients_content(coefficients, ranges, intercept, provenance, hparams):
    """The file that :class:`LearnedQualityScore` reads.

    Arguments
    ---------
    coefficients : pandas.DataFrame
        By measurement ``mean``, ``scale``, ``coefficient``, ``low``, ``high``.
    ranges : pandas.DataFrame
        Of :func:`measurement_ranges`.
    intercept : float
        Of the logit of being usable.
    provenance : dict
        Where it all comes from.
    hparams : dict
        The loaded YAML.

    Returns
    -------
    dict
    """
    ordered = coefficients.sort_values("coefficient", key=lambda c: -c.abs())
    return {
        "measurements": {
            row.Index: {
                "mean": _rounded(row.mean),
                "scale": _rounded(row.scale),
                "coefficient": _rounded(row.coefficient),
                "interval": [_rounded(row.low), _rounded(row.high)],
                "range": [_rounded(end) for end in ranges.loc[row.Index]],
            }
            for row in ordered.itertuples()
        },
        "intercept": _rounded(intercept),
        "limit": hparams["limit"],
        "provenance": provenance,
    }


def _rounded(value):
    return float(f"{value:.{DIGITS}g}")


def describe_command(hparams_file, overrides):
    """The command without the names of this machine's folders."""
    words = ["python", "train.py", f"hparams/{Path(hparams_file).name}"]
    words += ["--data_folder", "/path/to/SPRSound"]
    for line in overrides.splitlines():
        key, _, value = line.partition(": ")
        if key not in FOLDERS:
            words += [f"--{key}", value]
    return shlex.join(words)


def check_coefficients(path, table, expected, hparams):
    """Refuses a file that does not give the scores of the fitted model.

    Arguments
    ---------
    path : Path
        What was written.
    table : pandas.DataFrame
        The recordings with their measurements.
    expected : numpy.ndarray
        Probability of being usable, by the fitted model.
    hparams : dict
        The loaded YAML.

    Raises
    ------
    ValueError
        If a probability differs.
    """
    score = LearnedQualityScore(hparams["sample_rate"], path)
    values = table[list(score.measurements.names)]
    found = score.score(torch.tensor(values.to_numpy())).numpy()
    measured = values.notna().any(axis=1)  # the score of nothing is 0
    difference = np.abs(found - expected)[measured].max()
    if difference > TOLERANCE:
        raise ValueError(
            f"{path} gives probabilities that differ by {difference:.1e} from"
            " those of the fitted model"
        )


def format_report(
    areas, singles, cuts, groups, coefficients, fitted, brier, about
):
    """The report in Markdown.

    Arguments
    ---------
    areas, singles, cuts : dict
        Of :func:`compare`: of models and measures, of single measurements, and
        of cut recordings.
    groups : dict
        Of :func:`qlung_plugin.scores.quality_learning.group_differences`.
    coefficients : pandas.DataFrame
        Of the final model.
    fitted : CalibratedModel
        The final model.
    brier : float
        Brier score of the logistic model.
    about : str
        What the data are.

    Returns
    -------
    str
        Several lines.
    """
    number, regularisation = fitted.setting
    first = dict(itertools.islice(singles.items(), REPORTED))
    by_group = pd.DataFrame(
        {
            "annotation": list(groups),
            "recordings": [found["recordings"] for found in groups.values()],
            "mean quality": [
                f"{found['mean']:.2f}" for found in groups.values()
            ],
            "difference (95 % interval)": [
                format_area({**found, "area": found["difference"]})
                for found in groups.values()
            ],
        }
    )
    ordered = coefficients.sort_values("coefficient", key=lambda c: -c.abs())
    by_measurement = pd.DataFrame(
        {
            "measurement": map(measure_name, ordered.index),
            "coefficient (95 % interval)": [
                format_area({"area": c, "interval": [low, high]})
                for c, low, high in ordered[
                    ["coefficient", "low", "high"]
                ].to_numpy()
            ],
            "chosen in": [f"{100 * c:.0f} %" for c in ordered["chosen"]],
        }
    )
    return (
        f"{about}\n\n{_area_table('model or measure', areas)}\n\n"
        "Area under the ROC curve, and average precision, of finding the poor"
        " recordings by a low score, by models and measures that were chosen,"
        " calibrated and fitted without the recording's patient (nested"
        " cross-validation); intervals by bootstrap over the patients.\n\n"
        f"## Single measurements\n\n{_area_table('measurement', first)}\n\n"
        f"The first {len(first)} of {len(singles)}; the sign of each is"
        " learned. The best of so many is better by chance, too.\n\n"
        f"## Quality by annotation\n\n{markdown_table(by_group)}\n\n"
        "Of the logistic model, out of fold.\n"
        f"Brier score: {brier:.4f} (0 is best).\n\n"
        f"## Cut recordings\n\n{_area_table('duration', cuts)}\n\n"
        "Of the same model on a part of each recording, wherever it lies; the"
        " expert judged the whole.\n\n"
        f"## The final model\n\n{markdown_table(by_measurement)}\n\n"
        f"Chosen by cross-validation: {number} measurements,"
        f" C = {regularisation}. A coefficient is the change of the logit of"
        " being usable per standard deviation. Its interval is by bootstrap"
        " over the patients, choosing measurements anew every time; one that"
        " is not chosen has a coefficient of 0.\n"
    )


def _area_table(kind, areas):
    table = pd.DataFrame(
        {
            kind: [measure_name(name) for name in areas],
            "recordings": [found["recordings"] for found in areas.values()],
            "poor": [found["poor"] for found in areas.values()],
            "patients": [found["patients"] for found in areas.values()],
            "area (95 % interval)": map(format_area, areas.values()),
            "average precision": [
                f"{found['average_precision']:.2f}" for found in areas.values()
            ],
        }
    )
    return markdown_table(table)


if __name__ == "__main__":
    # Reading command line arguments
    start_script(__doc__)
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    if "data_folder:" not in overrides:
        sys.exit("Pass the SPRSound database: --data_folder /path/to/SPRSound")

    # Before anything is written or weights are looked for
    output = OutputFolder(__file__, hparams_file, run_opts, overrides)
    output.check()
    threads = set_threads(output.threads)

    # Load hyperparameters file with command-line overrides
    with open(hparams_file, encoding="utf-8") as fin:
        hparams = load_hyperpyyaml(fin, overrides)

    # Is a folder with results of the same data?
    from sprsound_prepare import prepare_recordings

    manifests = [hparams["recordings_annotation"]]
    preparation = {
        "data_folder": hparams["data_folder"],
        "output_folder": hparams["output_folder"],
        "partition": hparams["partition"],
    }
    output.check_data(manifests, prepare_recordings, preparation)

    # Create experiment directory
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    explain_errors(output.log)

    # Data preparation
    data_summary = prepare_recordings(**preparation)
    output.claim(manifests, threads)
    manifest, table = recordings_table(hparams)

    # Measurements, which take minutes: a lack of patients is said before
    folds = [
        patient_folds(table, hparams["folds"], hparams["seed"] + repeat)
        for repeat in range(hparams["repeats"])
    ]
    table = measure_recordings(table, manifest, hparams)
    cuts = measure_cuts(table, manifest, hparams)
    candidates = choose_candidates(table, hparams)

    # Models and measures in cross-validation, and the final model. Tables as
    # small as these are slower to fit on several threads.
    with threadpool_limits(1):
        scores, singles, parts = score_out_of_fold(
            table, cuts, candidates, folds, manifest, hparams
        )
        fitted = fit_model(
            table, candidates, estimators(hparams)["quality_logistic"], hparams
        )
        resampled = resample_coefficients(
            table,
            fitted,
            hparams["coefficient_resamples"],
            hparams["seed"],
            hparams["degraded_weight"],
        )

    # What they are worth
    names = [*MODELS, *hparams["measures"]]
    areas = compare(scores, names, hparams)
    single_areas = compare(singles, candidates, hparams)
    cut_areas = compare(parts, [f"{name:g} s" for name in cuts], hparams)
    groups = group_differences(
        scores,
        MODELS[0],
        hparams["reference_annotation"],
        hparams["resamples"],
        hparams["seed"],
    )
    groups = {name: groups[name] for name in ANNOTATIONS if name in groups}
    brier = brier_score_loss(~scores["poor"], scores[MODELS[0]])
    coefficients, intercept = coefficient_table(fitted)
    ends = resampled[coefficients.index].quantile([0.025, 0.975])
    chosen = (resampled != 0).mean()
    coefficients = coefficients.assign(
        low=ends.iloc[0], high=ends.iloc[1], chosen=chosen
    )

    # Results
    database = data_summary["database"]
    if data_summary["subset"]:
        database += f", subset ({data_summary['subset']})"
    poor = int(scores["poor"].sum())
    about = (
        f"Learned quality: {database}, {hparams['partition']},"
        f" {len(scores)} recordings, {poor} poor"
    )
    folder = Path(hparams["output_folder"])
    logistic = areas[MODELS[0]]
    provenance = {
        "database": data_summary["database"],
        "subset": data_summary["subset"],
        "partition": hparams["partition"],
        "recordings": len(scores),
        "poor": poor,
        # By name: the score is not to be judged on them.
        "patients": sorted(scores["patient"].unique()),
        "degraded copies": int(table["degraded"].sum()),
        "date": datetime.date.today().isoformat(),
        "area under the ROC curve (nested cross-validation)": {
            "area": _rounded(logistic["area"]),
            "interval": [_rounded(end) for end in logistic["interval"]],
        },
        "average precision": _rounded(logistic["average_precision"]),
        "command": describe_command(hparams_file, overrides),
        "scikit-learn": sklearn.__version__,
    }
    write_json(
        coefficients_content(
            coefficients,
            measurement_ranges(table, list(coefficients.index)),
            intercept,
            provenance,
            hparams,
        ),
        folder / "coefficients.json",
    )
    recordings = table[~table["degraded"]]
    check_coefficients(
        folder / "coefficients.json",
        recordings,
        expit(-fitted.decide(recordings)),
        hparams,
    )
    report = format_report(
        areas,
        single_areas,
        cut_areas,
        groups,
        coefficients,
        fitted,
        brier,
        about,
    )
    write_predictions(
        scores[["id", *FACTS, "poor", *MODELS]], folder / "predictions.csv"
    )
    write_json(
        {
            "areas": areas,
            "single_measurements": single_areas,
            "cut_recordings": cut_areas,
            "groups": groups,
            "brier_score": brier,
            "setting": {
                "measurements": fitted.setting[0],
                "regularisation": fitted.setting[1],
            },
            "inner_areas": [
                {"measurements": k, "regularisation": c, "area": area}
                for (k, c), area in fitted.areas.items()
            ],
            "chosen_in_resamples": chosen.to_dict(),
            "data": data_summary,
        },
        folder / "metrics.json",
    )
    write_text(report, folder / "report.md")

    # Figures
    best = next(iter(single_areas))
    drawn = {**areas, BEST: single_areas[best]}
    with_best = scores.assign(**{BEST: singles[best]})
    precisions = {k: found["average_precision"] for k, found in drawn.items()}
    held_out = f"{about}, out of fold"
    figures = {
        "roc": quality_roc_figure(with_best, drawn, held_out),
        "precision_recall": precision_recall_figure(
            with_best, precisions, held_out
        ),
        "calibration": calibration_figure(scores, MODELS, held_out),
        "coefficients": coefficients_figure(coefficients, about),
        "quality_by_annotation": quality_histogram_figure(
            scores[MODELS[0]], scores["annotation"], list(groups), held_out
        ),
    }
    for name, figure in figures.items():
        write_figure(figure, folder / "figures" / f"{name}.png")
    logger.info("Results in %s:\n%s", folder, report)
