#!/usr/bin/env python3
"""Recipe for a degradation study of a trained model, on SPRSound.

Every event is degraded in known degrees: the quality measures should fall, and
the model's Score shows what that costs. To run this recipe, use the following
command:
> python degradation.py hparams/degradation.yaml
    --data_folder /path/to/SPRSound --run_folder /path/to/results/qlung/1234

Authors
 * qlung_plugin contributors
"""

import random
import sys
import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml
from tqdm import tqdm

import speechbrain as sb
from qlung_plugin.dataio.cycles import input_of, measure_recording, read_excerpt
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.partitions import check_labels
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.figures.degradation import degradation_figure
from qlung_plugin.inference.model_checks import PARTS
from qlung_plugin.inference.models import open_model
from qlung_plugin.processing.degradations import DEGRADATIONS, degrade
from qlung_plugin.runs.databases import name_database
from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.scripts import explain_errors, set_threads, start_script
from qlung_plugin.scores.icbhi_score import prediction_metrics
from qlung_plugin.scores.intervals import bootstrap_interval, patient_confusions
from qlung_plugin.scores.quality_analysis import measure_name
from qlung_plugin.training.selection import describe_selection
from qlung_plugin.utils.files import write_figure, write_text
from qlung_plugin.utils.markdown import markdown_table
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

SCORES = ("sp", "se", "score")


@torch.no_grad()
def judge_event(entry, seed, conditions, run, measures, device):
    """Class positions and qualities of an event under each condition.

    A condition is the kind and the degree of a degradation; ``none`` leaves the
    event as it is, and the recording around it is as it was. The qualities are
    lists by the measure's name.
    """
    front_end = run["cycle_features"]
    excerpt = read_excerpt(entry["wav"], front_end.input_rate)
    rate = excerpt.sample_rate
    # With what lies around the event, as evaluation resamples it.
    versions = [
        excerpt
        if kind == "none"
        else replace(
            excerpt,
            samples=degrade(excerpt.samples, rate, kind, degree, seed),
        )
        for kind, degree in conditions
    ]
    waveforms = [version.waveform.to(device) for version in versions]
    rates = [rate] * len(versions)
    quality = {
        name: measure.score(measure.measure_recorded(waveforms, rates)).tolist()
        for name, measure in measures.items()
    }
    waveforms = torch.stack(
        [input_of(front_end, version, device)[0] for version in versions]
    )
    waveforms = front_end.fix_length(waveforms)
    references = []
    reference = measure_recording(
        front_end, Recording(entry["wav"]["file"]), device
    )
    if reference is not None:
        references = [reference.expand(len(versions), -1)]
    # Rounded as the features are that the model was trained on.
    features = front_end.compute_features(waveforms, *references)
    features = features.half().float()
    logits, _ = run["classifier"](run["backbone"](features))
    if not logits.isfinite().all():
        raise ValueError(
            f"{entry['wav']['file']}: the model's logits are NaN or infinite"
            " under a degradation: is its training diverged?"
        )
    return logits.argmax(dim=-1).tolist(), quality


def judge_conditions(manifest, conditions, run, measures, hparams, device):
    """The model's scores and the median qualities, a row per condition.

    ``degradation``, ``degree``, ``cycles``; in percent ``sp``, ``se``, ``score``
    and the 95 % interval of the last over patients, ``score_low`` and
    ``score_high``; the median of each measure.
    """
    names = np.array(run["labels"])
    predictions, qualities = [], {name: [] for name in measures}
    for event, entry in tqdm(manifest.items(), "Events", disable=None):
        # The same noise whatever the other events are, and at every level.
        seed = zlib.crc32(f"{hparams['seed']} {event}".encode())
        predicted, quality = judge_event(
            entry, seed, conditions, run, measures, device
        )
        predictions.append(names[predicted])
        for name, values in quality.items():
            qualities[name].append(values)
    events = pd.DataFrame(
        {
            key: [entry[key] for entry in manifest.values()]
            for key in ("patient", "label")
        }
    )
    rows = []
    for place, (kind, degree) in enumerate(conditions):
        table = events.assign(prediction=[p[place] for p in predictions])
        metrics = prediction_metrics(
            table["label"], table["prediction"], run["labels"]
        )
        confusions = patient_confusions(table, run["labels"])
        low, high = bootstrap_interval(confusions)["score"]
        rows.append(
            {
                "degradation": kind,
                "degree": degree,
                "cycles": len(table),
                **{name: metrics[name] for name in SCORES},
                "score_low": low,
                "score_high": high,
                **{
                    name: np.median([values[place] for values in per_event])
                    for name, per_event in qualities.items()
                },
            }
        )
    return pd.DataFrame(rows)


def format_report(table, measures, about):
    """The report in Markdown; ``about`` names data, partition and selection."""
    units = {"none": "", **{k: v.unit for k, v in DEGRADATIONS.items()}}
    shown = pd.DataFrame(
        {
            "degradation": table["degradation"].str.replace("_", " "),
            "degree": [
                "" if kind == "none" else f"{degree:g} {units[kind]}"
                for kind, degree in zip(table["degradation"], table["degree"])
            ],
            **{
                name.capitalize(): table[name].map("{:.2f}".format)
                for name in SCORES
            },
            "95 % interval": [
                f"{low:.1f} to {high:.1f}"
                for low, high in zip(table["score_low"], table["score_high"])
            ],
            **{
                measure_name(name): table[name].map("{:.3f}".format)
                for name in measures
            },
        }
    )
    return (
        f"{about}\n\n{markdown_table(shown)}\n\n"
        "Sp, Se (exact class) and Score of the model in percent, the interval"
        " of the Score by bootstrap over patients; of each quality measure the"
        " median over the events, 1 is best. `quality` is the measure that the"
        " model was trained with.\n"
    )


if __name__ == "__main__":
    # Reading command line arguments
    start_script(__doc__)
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    for key, what in (
        ("data_folder", "SPRSound: --data_folder /path/to/SPRSound"),
        (
            "run_folder",
            "a trained model: --run_folder /path/to/results/qlung/1",
        ),
    ):
        if f"{key}:" not in overrides:
            sys.exit(f"Pass {what}")

    # Before anything is written or weights are looked for
    output = OutputFolder(__file__, hparams_file, run_opts, overrides)
    output.check()
    threads = set_threads(output.threads)

    # Load hyperparameters file with command-line overrides
    hparams = load_hyperpyyaml(read_hparams(hparams_file), overrides)

    # Before anything is prepared: is there a model?
    run = open_model(
        hparams["run_folder"], hparams["checkpoint"], hparams["trust"]
    )
    device = run_opts.device or "cpu"
    for name in PARTS:
        run[name].to(device)

    labels = list(run["labels"])
    check_labels(labels, f"the run {hparams['run_folder']}")

    # Is a folder with results of the same data?
    manifests = [hparams["test_annotation"]]
    prepare = partial(hparams["prepare"], num_classes=len(labels))
    output.check_data(manifests, prepare)

    # Create experiment directory
    sb.create_experiment_directory(hparams["output_folder"])
    explain_errors(output.log)

    # Data preparation
    data_summary = prepare()
    output.claim(manifests, threads)
    manifest = read_manifest(hparams["test_annotation"], hparams["data_folder"])
    events = len(manifest)
    if hparams["max_cycles"] is not None and hparams["max_cycles"] < events:
        chosen = random.Random(hparams["seed"]).sample(
            sorted(manifest), hparams["max_cycles"]
        )
        manifest = {event: manifest[event] for event in sorted(chosen)}

    # Every event under every condition
    measures = {"quality": run["quality"]}
    for name, measure in hparams["further_quality"].items():
        measures[f"quality_{name}"] = measure.to(device)
    conditions = [("none", None)] + [
        (kind, degree)
        for kind, degrees in hparams["degradations"].items()
        for degree in degrees
    ]
    table = judge_conditions(
        manifest, conditions, run, measures, hparams, device
    )

    # Results
    database = name_database(data_summary)
    selection = describe_selection(hparams["checkpoint"], run["validated"])
    about = (
        f"Degradations: {database}, {hparams['partition']} partition,"
        f" {len(manifest)} of {events} events; {selection}"
        f" (epoch {run['epoch']})"
    )
    report = format_report(table, measures, about)
    write_predictions(table, output.path / "degradation.csv")
    write_text(report, output.run.degradation)
    figure = degradation_figure(table, list(measures), about)
    write_figure(figure, output.run.figure("degradation"))
    logger.info("Results in %s:\n%s", output.path, report)
