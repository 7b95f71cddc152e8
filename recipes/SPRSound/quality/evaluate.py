#!/usr/bin/env python3
"""Recipe for comparing quality measures with experts, on SPRSound.

The experts annotated some recordings as poor. For every quality measure, the
area under the ROC curve says how well a low value finds them.

To run this recipe, use the following command:
> python evaluate.py hparams/experts.yaml --data_folder /path/to/SPRSound

Authors
 * qlung_plugin contributors
"""

import sys

from hyperpyyaml import load_hyperpyyaml
from quality_measurements import annotated_recordings
from quality_results import area_table

import speechbrain as sb
from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.quality import cycle_quality
from qlung_plugin.figures.quality import quality_roc_figure
from qlung_plugin.figures.spectrograms import spectrogram_figure
from qlung_plugin.runs.databases import name_database
from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.scripts import explain_errors, set_threads, start_script
from qlung_plugin.scores.quality_analysis import compare_with_experts
from qlung_plugin.utils.files import write_figure, write_json, write_text
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


def measure_recordings(manifest, table, hparams):
    """The table of annotated recordings with a column per measure."""
    if table["poor"].nunique() < 2:
        raise ValueError(
            f"{table['poor'].sum()} of {len(table)} recordings are annotated"
            f" as {hparams['poor_annotation']!r}: poor ones and others are"
            " needed; choose another partition"
        )
    for name, measure in hparams["measures"].items():
        quality = cycle_quality(
            measure, [manifest], hparams["cache_folder"], fit_on=manifest
        )
        table = table.assign(**{name: table["id"].map(quality)})
    return table


def choose_examples(manifest, table, hparams):
    """Panels of poor recordings and of others, of different patients."""
    panels = []
    shuffled = table.sample(frac=1, random_state=hparams["seed"])
    for poor in (True, False):
        rows = shuffled[shuffled["poor"] == poor].drop_duplicates("patient")
        for row in rows.head(hparams["examples"]).itertuples():
            entry = manifest[row.id]
            panels.append(
                {
                    "waveform": read_cycle(entry["wav"]),
                    "sample_rate": entry["sample_rate"],
                    "title": f"{row.annotation}: {row.id}",
                }
            )
    return panels


def format_report(table, about, hparams):
    """The report in Markdown of a table of how measures compare with experts."""
    return (
        f"{about}\n\n{table}\n\n"
        f"Area under the ROC curve of finding the recordings annotated as"
        f" {hparams['poor_annotation']} by a low quality (0.5 is chance, below"
        f" it poor recordings score higher), with the percentile interval of"
        f" {hparams['resamples']} bootstraps over the patients. Fitted measures"
        f" are ranged on these very recordings, without their annotation.\n"
    )


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

    # Quality of every recording, and how it compares with the experts
    manifest, table = annotated_recordings(
        read_manifest(manifests[0], hparams["data_folder"]),
        hparams["poor_annotation"],
    )
    table = measure_recordings(manifest, table, hparams)
    areas = compare_with_experts(
        table, list(hparams["measures"]), hparams["resamples"], hparams["seed"]
    )

    # Results
    database = name_database(data_summary)
    about = (
        f"Quality against experts: {database}, {hparams['partition']},"
        f" {len(table)} recordings, {table['poor'].sum()} poor"
    )
    report = format_report(area_table("measure", areas), about, hparams)
    write_predictions(table, output.path / "quality.csv")
    write_json({"areas": areas, "data": data_summary}, output.run.metrics)
    write_text(report, output.run.markdown)
    examples = choose_examples(manifest, table, hparams)
    for name, figure in {
        "quality_roc": quality_roc_figure(table, areas, about),
        "recordings": spectrogram_figure(examples, about),
    }.items():
        write_figure(figure, output.run.figure(name))
    logger.info("Results in %s:\n%s", output.path, report)
