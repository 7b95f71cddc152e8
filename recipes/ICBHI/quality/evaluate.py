#!/usr/bin/env python3
"""Recipe for the quality of ICBHI's recordings, by device.

Nobody annotated the quality of ICBHI: what is shown is how a score is spread
over recordings, cycles and devices, and the recordings that it likes least. To
run this recipe, use the following command:
> python evaluate.py hparams/quality.yaml --data_folder /path/to/ICBHI

Authors
 * qlung_plugin contributors
"""

import sys

import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.quality import cycle_quality
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.figures.quality import quality_groups_figure
from qlung_plugin.figures.spectrograms import spectrogram_figure
from qlung_plugin.processing.cycles import resample
from qlung_plugin.runs.databases import name_database
from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.runs.output_folder import OutputFolder
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.scripts import explain_errors, set_threads, start_script
from qlung_plugin.utils.files import write_figure, write_json, write_text
from qlung_plugin.utils.markdown import markdown_table
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

PARTITIONS = ("train", "valid", "test")
FACTS = ("recording", "patient", "device", "age", "sex", "location")
SHARES = {"lowest tenth": 0.1, "median": 0.5, "highest tenth": 0.9}


def read_cycles(manifests, data_folder):
    """Entries of all cycles, by id, and of whole recordings, by name."""
    cycles, recordings = {}, {}
    for path in manifests:
        cycles.update(read_manifest(path, data_folder))
    for cycle in cycles.values():
        if cycle["recording"] not in recordings:
            file = cycle["wav"]["file"]
            frames = Recording(file, allow_truncated=True).frames
            wav = {"file": file, "start": 0, "stop": frames}
            facts = {name: cycle[name] for name in FACTS}
            recordings[cycle["recording"]] = {
                **facts,
                "wav": wav,
                "sample_rate": cycle["sample_rate"],
            }
    return cycles, recordings


def score(entries, hparams):
    """The quality of cycles or recordings, one row each, with what is known."""
    quality = cycle_quality(
        hparams["quality"], [entries], hparams["cache_folder"], fit_on=entries
    )
    return pd.DataFrame(
        [
            {
                "id": name,
                **{fact: entry[fact] for fact in FACTS},
                "label": entry.get("label"),
                "sample_rate": entry["sample_rate"],
                "quality": quality[name],
            }
            for name, entry in entries.items()
        ]
    )


def summarise(table, group):
    """How quality is spread over the members of each group."""
    rows = []
    for name, members in table.groupby(group, sort=True):
        row = {group: name, "number": len(members)}
        row["patients"] = members["patient"].nunique()
        for what, share in SHARES.items():
            row[what] = f"{members['quality'].quantile(share):.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def explain(worst, recordings, hparams):
    """The worst recordings with the measurements that lowered the score most."""
    measure, reasons = hparams["quality"], []
    for name in worst["id"]:
        entry = recordings[name]
        rate = entry["sample_rate"]
        waveform = resample(read_cycle(entry["wav"]), rate, measure.sample_rate)
        why = measure.explain(waveform.unsqueeze(0), None, torch.tensor([rate]))
        first = list(why[0]["measurements"].items())[: hparams["reasons"]]
        reasons.append(
            ", ".join(f"{name} {m['contribution']:+.1f}" for name, m in first)
        )
    return pd.DataFrame(
        {
            "recording": worst["id"],
            "quality": worst["quality"].map("{:.3f}".format),
            "lowered most by (logit)": reasons,
        }
    )


if __name__ == "__main__":
    # Reading command line arguments
    start_script(__doc__)
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    if "data_folder:" not in overrides:
        sys.exit("Pass the ICBHI database: --data_folder /path/to/ICBHI")

    # Before anything is written or weights are looked for
    output = OutputFolder(__file__, hparams_file, run_opts, overrides)
    output.check()
    threads = set_threads(output.threads)

    # Load hyperparameters file with command-line overrides
    hparams = load_hyperpyyaml(read_hparams(hparams_file), overrides)

    # Is a folder with results of the same data?
    manifests = [output.run.manifest(name) for name in PARTITIONS]
    output.check_data(manifests, hparams["prepare"])

    # Create experiment directory
    sb.create_experiment_directory(hparams["output_folder"])
    explain_errors(output.log)

    # Data preparation
    data_summary = hparams["prepare"]()
    output.claim(manifests, threads)

    # Quality of recordings and of their cycles
    cycles, recordings = read_cycles(manifests, hparams["data_folder"])
    tables = {"cycles": score(cycles, hparams)}
    # Last, so that the measure stays fitted to what is explained.
    tables["recordings"] = score(recordings, hparams)
    worst = tables["recordings"].sort_values(["quality", "id"])
    worst = worst.head(hparams["worst"])

    # Results
    database = name_database(data_summary)
    parts = [f"Quality: {database}"]
    for name, table in tables.items():
        write_predictions(table, output.path / f"quality_{name}.csv")
        for group in ("device", "label"):
            if table[group].notna().all():
                summary = summarise(table, group)
                parts.append(f"{name.capitalize()} by {group}")
                parts.append(markdown_table(summary))
        write_figure(
            quality_groups_figure(table, "device", f"{database}, {name}"),
            output.run.figure(f"quality_{name}"),
        )
    parts.append(f"The {len(worst)} recordings of the lowest quality")
    parts.append(markdown_table(explain(worst, recordings, hparams)))
    report = "\n\n".join(parts) + "\n"
    write_text(report, output.run.markdown)
    write_json(data_summary, output.path / "data.json")
    panels = [
        {
            "waveform": read_cycle(recordings[row.id]["wav"]),
            "sample_rate": row.sample_rate,
            "title": f"{row.id}: {row.quality:.2f}",
        }
        for row in worst.itertuples()
    ]
    write_figure(
        spectrogram_figure(panels, f"{database}: lowest quality"),
        output.run.figure("worst"),
    )
    logger.info("Results in %s:\n%s", output.path, report)
