#!/usr/bin/env python3
"""Speed of a cross-dataset evaluation against the bare forward pass.

The evaluation decodes, measures the quality, computes features and predictions
of every event, and all statistics with their intervals: once with an empty
cache, and once more as every later evaluation of these events runs (another
checkpoint, seed or configuration with the same front end). The bare pass is
front end, backbone and classifier of the same run on waveforms of the same
length that lie in memory, in batches. All see the same number of events. Use an
idle machine.

> python benchmarks/evaluation_speed.py --run_folder results/qlung/1234 \\
>     --data_folder /path/to/SPRSound --partition intra

Authors
 * qlung_plugin contributors
"""

import argparse
import runpy
import sys
import tempfile
import time
from pathlib import Path

import torch

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.inference.models import open_model
from qlung_plugin.runs.predictions import predictions_table
from qlung_plugin.runs.results import evaluate_predictions
from qlung_plugin.scores.icbhi_score import RespiratoryScore

RECIPE = Path(__file__).parents[1] / "recipes" / "SPRSound" / "cross_dataset"
TARGET = 1.1
BATCH_SIZE = 16


def evaluation_seconds(run, options, folder):
    """Time from the manifest to all numbers, and the manifest's entries."""
    recipe = runpy.run_path(str(RECIPE / "evaluate.py"))
    score = RespiratoryScore(run["labels"])
    hparams = {
        "test_annotation": f"{folder}/test.json",
        "data_folder": options.data_folder,
        "cache_folder": f"{folder}/cache",
        "further_quality": {},
        "windows": None,
    }
    start = time.perf_counter()
    dataset, manifest, quality = recipe["dataio_prep"](hparams, run)
    brain = recipe["EvaluationBrain"](
        modules={name: run[name] for name in ("backbone", "classifier")},
        run_opts={"noprogressbar": True},
    )
    brain.score = score
    brain.evaluate(dataset, test_loader_kwargs={"batch_size": BATCH_SIZE})
    table = predictions_table(score, manifest, **quality)
    evaluate_predictions(table, run["labels"])
    return time.perf_counter() - start, list(manifest.values())


@torch.no_grad()
def bare_seconds(run, entries, batches_in_memory):
    """Time of front end, backbone and classifier on waveforms in memory."""
    front_end = run["cycle_features"]
    waveforms = [
        front_end.fix_length(
            front_end.resampler(read_cycle(entry["wav"]), entry["sample_rate"])
        )
        for entry in entries[: BATCH_SIZE * batches_in_memory]
    ]
    batches = torch.stack(waveforms).split(BATCH_SIZE)
    sizes = [
        min(BATCH_SIZE, len(entries) - done)
        for done in range(0, len(entries), BATCH_SIZE)
    ]
    start = time.perf_counter()
    for step, size in enumerate(sizes):
        features = front_end.compute_features(batches[step % len(batches)])
        run["classifier"](run["backbone"](features[:size]))
    return time.perf_counter() - start


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_folder", required=True, help="of a training")
    parser.add_argument("--data_folder", required=True, help="SPRSound")
    parser.add_argument("--partition", default="inter")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--batches_in_memory", type=int, default=16, help="of the bare pass"
    )
    options = parser.parse_args()

    sys.path.insert(0, str(RECIPE))
    from sprsound_prepare import prepare_sprsound

    run = open_model(options.run_folder)
    first, later, bare = [], [], []
    for _ in range(options.repetitions):
        with tempfile.TemporaryDirectory() as folder:
            prepare_sprsound(
                options.data_folder, folder, test=options.partition
            )
            first.append(evaluation_seconds(run, options, folder)[0])
            seconds, entries = evaluation_seconds(run, options, folder)
            later.append(seconds)
        bare.append(bare_seconds(run, entries, options.batches_in_memory))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{len(entries)} events: bare pass {min(bare):.1f} s")
    for name, seconds in (("empty", min(first)), ("filled", min(later))):
        print(
            f"evaluation, {name} cache: {seconds:.1f} s, ratio"
            f" {seconds / min(bare):.2f} (target {TARGET})"
        )


if __name__ == "__main__":
    main()
