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
import sys
from functools import partial

import pandas as pd
import sklearn
import torch
from hyperpyyaml import load_hyperpyyaml
from quality_figures import (
    calibration_figure,
    coefficients_figure,
    precision_recall_figure,
)
from quality_learning import (
    coefficient_table,
    decide_by_one,
    fit_calibrated,
    group_differences,
    out_of_fold,
    patient_folds,
    resample_coefficients,
)
from quality_measurements import (
    FACTS,
    annotated_recordings,
    measure_cuts,
    measure_recordings,
)
from quality_results import (
    check_coefficients,
    coefficients_content,
    describe_command,
    format_report,
    measurement_ranges,
    rounded,
)
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss
from threadpoolctl import threadpool_limits

import speechbrain as sb
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.dataio.sprsound import ANNOTATIONS
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.figures.quality import quality_roc_figure
from qlung_plugin.figures.results import quality_histogram_figure
from qlung_plugin.lobes.quality import MEASUREMENTS
from qlung_plugin.runs.databases import name_database
from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.scripts import explain_errors, set_threads, start_script
from qlung_plugin.scores.quality_analysis import (
    compare_with_experts,
    measure_name,
)
from qlung_plugin.utils.files import write_figure, write_json, write_text
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

MODELS = ("quality_logistic", "quality_gradient_boosting")
BEST = "best_single_measurement"


def choose_candidates(table, hparams):
    """The measurements that a model may choose from: those of any recording."""
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

    Three tables of the recordings with facts and ``poor``: with a column per model
    (probability of being usable) and per measure; per single measurement; and per
    duration of ``cuts``, by the logistic model.
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
    hparams = load_hyperpyyaml(read_hparams(hparams_file), overrides)

    # Is a folder with results of the same data?
    manifests = [hparams["recordings_annotation"]]
    output.check_data(manifests, hparams["prepare"])

    # Create experiment directory
    sb.create_experiment_directory(hparams["output_folder"])
    explain_errors(output.log)

    # Data preparation
    data_summary = hparams["prepare"]()
    output.claim(manifests, threads)
    manifest, table = annotated_recordings(
        read_manifest(manifests[0], hparams["data_folder"]),
        hparams["poor_annotation"],
    )
    table["degraded"] = False

    # Measurements, which take minutes: a lack of patients is said before
    folds = [
        patient_folds(table, hparams["folds"], hparams["seed"] + repeat)
        for repeat in range(hparams["repeats"])
    ]
    table = measure_recordings(
        table,
        manifest,
        hparams["sample_rate"],
        hparams["degradations"],
        hparams["seed"],
        hparams["cache_folder"],
    )
    cuts = measure_cuts(
        table,
        manifest,
        hparams["sample_rate"],
        hparams["cuts"],
        hparams["seed"],
        hparams["cache_folder"],
    )
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
    database = name_database(data_summary)
    poor = int(scores["poor"].sum())
    about = (
        f"Learned quality: {database}, {hparams['partition']},"
        f" {len(scores)} recordings, {poor} poor"
    )
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
            "area": rounded(logistic["area"]),
            "interval": [rounded(end) for end in logistic["interval"]],
        },
        "average precision": rounded(logistic["average_precision"]),
        "command": describe_command(hparams_file, overrides),
        "scikit-learn": sklearn.__version__,
    }
    write_json(
        coefficients_content(
            coefficients,
            measurement_ranges(table, list(coefficients.index)),
            intercept,
            hparams["limit"],
            provenance,
        ),
        output.path / "coefficients.json",
    )
    recordings = table[~table["degraded"]]
    check_coefficients(
        output.path / "coefficients.json",
        recordings,
        expit(-fitted.decide(recordings)),
        hparams["sample_rate"],
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
        scores[["id", *FACTS, "poor", *MODELS]], output.path / "predictions.csv"
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
        output.run.metrics,
    )
    write_text(report, output.run.markdown)

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
        write_figure(figure, output.run.figure(name))
    logger.info("Results in %s:\n%s", output.path, report)
