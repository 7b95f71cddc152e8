#!/usr/bin/env python3
"""Recipe for a degradation study of quality measures, on SPRSound.

Recordings that the experts did not mark as poor are spoilt in known degrees:
every measure should fall. And they are changed in ways that leave their quality
as it is: no measure should move.

To run this recipe, use the following command:
> python degradation.py hparams/degradation.yaml
    --data_folder /path/to/SPRSound

Authors
 * qlung_plugin contributors
"""

import sys
import zlib

import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml
from tqdm import tqdm

import speechbrain as sb
from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.figures.degradation import degradation_figure
from qlung_plugin.processing.degradations import DEGRADATIONS, degrade, gain
from qlung_plugin.runs.databases import name_database
from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.scripts import explain_errors, set_threads, start_script
from qlung_plugin.scores.degradation_study import (
    median_scores,
    score_changes,
    severity_correlations,
)
from qlung_plugin.scores.metrics import format_number
from qlung_plugin.scores.quality_analysis import measure_name
from qlung_plugin.utils.files import write_figure, write_json, write_text
from qlung_plugin.utils.markdown import markdown_table
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# What changes nothing, and its unit.
INVARIANCES = {"gain": "dB", "resampling": "Hz", "cut": "s"}


def choose_recordings(manifest, hparams):
    """Some recordings that experts did not call poor, and of how many.

    One of every patient is chosen before a second of any.
    """
    judged = [
        (name, entry["patient"])
        for name, entry in sorted(manifest.items())
        if entry["annotation"] not in (None, hparams["poor_annotation"])
    ]
    if not judged:
        raise ValueError(
            f"none of {len(manifest)} recordings is annotated as anything but"
            f" {hparams['poor_annotation']!r}: choose another partition"
        )
    table = pd.DataFrame(judged, columns=["recording", "patient"])
    table = table.sample(frac=1, random_state=hparams["seed"])
    # The first of every patient, then the second of every patient, ...
    turn = table.groupby("patient").cumcount().sort_values(kind="stable")
    chosen = table.loc[turn.index[: hparams["max_recordings"]], "recording"]
    return {name: manifest[name] for name in sorted(chosen)}, len(table)


def vary(waveform, rate, seed, hparams):
    """All versions of a recording ``[time]``.

    Yields what was done, how much of it, the version ``[time]`` and the rate at
    which it is to be analysed, in Hz.
    """
    usual = hparams["sample_rate"]
    yield "none", None, waveform, usual
    for kind, degrees in hparams["degradations"].items():
        for degree in degrees:
            version = degrade(waveform, rate, kind, degree, seed)
            yield kind, degree, version, usual
    for decibels in hparams["gains"]:
        if waveform.abs().max() * 10 ** (decibels / 20) <= 1:
            yield "gain", decibels, gain(waveform, decibels), usual
    for analysis_rate in hparams["resampled_rates"]:
        yield "resampling", analysis_rate, waveform, analysis_rate
    for seconds in hparams["cuts"]:
        start = round(seconds * rate)
        if 2 * start <= len(waveform):
            yield "cut", seconds, waveform[start:], usual


@torch.no_grad()
def score_versions(manifest, hparams):
    """A row per recording and version, with a column per measure."""
    measures = {
        rate: {
            name: CycleMeasurements(make(sample_rate=rate).eval())
            for name, make in hparams["measures"].items()
        }
        for rate in {hparams["sample_rate"], *hparams["resampled_rates"]}
    }
    rows = []
    for name, entry in tqdm(manifest.items(), "Recordings", disable=None):
        waveform, rate = read_cycle(entry["wav"]), entry["sample_rate"]
        # The same whatever the other recordings are, and at every degree.
        seed = zlib.crc32(f"{hparams['seed']} {name}".encode())
        for kind, degree, version, analysis_rate in vary(
            waveform, rate, seed, hparams
        ):
            facts = {
                "recording": name,
                "patient": entry["patient"],
                "degradation": kind,
                "degree": degree,
            }
            scores = {
                key: measure.quality.score(measure(version, rate)[None]).item()
                for key, measure in measures[analysis_rate].items()
            }
            rows.append({**facts, **scores})
    return pd.DataFrame(rows)


def format_report(medians, correlations, changes, about):
    """The report in Markdown of what the degradation study found."""
    names = list(correlations)
    falling = pd.DataFrame(
        {
            "degradation": correlations.index.str.replace("_", " "),
            **{
                measure_name(name): correlations[name].map(format_number)
                for name in names
            },
        }
    )
    scores = pd.DataFrame(
        {
            **_conditions(medians),
            **{
                measure_name(name): medians[name].map("{:.3f}".format)
                for name in names
            },
        }
    )
    steady = pd.DataFrame(
        {
            **_conditions(changes),
            "recordings": changes["recordings"],
            **{
                measure_name(name): [
                    f"{middle:.3f} ({most:.3f})"
                    for middle, most in zip(
                        changes[f"{name}_median"], changes[f"{name}_p95"]
                    )
                ]
                for name in names
            },
        }
    )
    return (
        f"{about}\n\n"
        "## What should lower a score\n\n"
        f"{markdown_table(falling)}\n\n"
        "Spearman's correlation of the median score with how bad the"
        " degradation is, the undegraded recordings included: at -1 it falls"
        " with every degree, however little (n/a: it does not move).\n\n"
        f"{markdown_table(scores)}\n\n"
        "Median score over the recordings, 1 is best.\n\n"
        "## What should not\n\n"
        f"{markdown_table(steady)}\n\n"
        "Absolute change of a recording's score: the median, and the 95th"
        " percentile in brackets. A gain is given to the recordings that it"
        " leaves within full scale, a cut takes the first seconds of those that"
        " last twice as long, and resampling is to the rate of the analysis.\n"
    )


def _conditions(table):
    units = {
        **{kind: known.unit for kind, known in DEGRADATIONS.items()},
        **INVARIANCES,
    }
    return {
        "degradation": table["degradation"].str.replace("_", " "),
        "degree": [
            "" if kind == "none" else f"{degree:g} {units[kind]}"
            for kind, degree in zip(table["degradation"], table["degree"])
        ],
    }


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
    manifest = read_manifest(
        hparams["recordings_annotation"], hparams["data_folder"]
    )

    # Every recording in every version
    manifest, candidates = choose_recordings(manifest, hparams)
    table = score_versions(manifest, hparams)
    names = list(hparams["measures"])
    steady = table["degradation"].isin(INVARIANCES)
    medians = median_scores(table[~steady], names)
    correlations = severity_correlations(medians, names)
    none = table["degradation"] == "none"
    changes = score_changes(table[steady | none], names)

    # Results
    database = name_database(data_summary)
    about = (
        f"Quality under degradations: {database}, {hparams['partition']},"
        f" {len(manifest)} of {candidates} recordings not annotated as"
        f" {hparams['poor_annotation']},"
        f" of {table['patient'].nunique()} patients"
    )
    report = format_report(medians, correlations, changes, about)
    write_predictions(table, output.path / "degradation.csv")
    write_json(
        {
            "spearman": correlations.to_dict(),
            "changes": changes.to_dict("records"),
            "recordings": len(manifest),
            "data": data_summary,
        },
        output.run.metrics,
    )
    write_text(report, output.run.markdown)
    write_figure(
        degradation_figure(medians, names, about),
        output.run.figure("degradation"),
    )
    logger.info("Results in %s:\n%s", output.path, report)
