#!/usr/bin/env python3
"""Speed of a cross-dataset evaluation against the bare forward pass.

The evaluation decodes, measures the quality, computes features and predictions
of every event, and all statistics with their intervals: once with an empty
cache, and once more as every later evaluation of these events runs (another
checkpoint, seed or configuration with the same front end). The bare pass is
front end, backbone and classifier of the same model on waveforms of the same
length that lie in memory, in batches. All see the same number of events, and take
turns.

> python benchmarks/evaluation_speed.py --run_folder results/qlung/1234 \\
>     --data_folder /path/to/SPRSound --partition intra

Authors
 * qlung_plugin contributors
"""

import argparse
import runpy
import sys
import tempfile
from pathlib import Path

import torch
from turns import describe_machine, take_turns

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.inference.models import open_model
from qlung_plugin.runs.predictions import predictions_table
from qlung_plugin.runs.results import evaluate_predictions
from qlung_plugin.scores.icbhi_score import RespiratoryScore

RECIPE = Path(__file__).parents[1] / "recipes" / "SPRSound" / "cross_dataset"
TARGET = 1.1
BATCH_SIZE = 16


def evaluate(run, options, folder, cache):
    """From the manifest to all numbers; the manifest's entries."""
    recipe = runpy.run_path(str(RECIPE / "evaluate.py"))
    score = RespiratoryScore(run["labels"])
    hparams = {
        "test_annotation": f"{folder}/test.json",
        "data_folder": options.data_folder,
        "cache_folder": cache,
        "further_quality": {},
        "standardise_devices": False,
        "windows": None,
    }
    dataset, manifest, quality, _ = recipe["dataio_prep"](hparams, run)
    brain = recipe["EvaluationBrain"](
        modules={name: run[name] for name in ("backbone", "classifier")},
        run_opts={"noprogressbar": True},
    )
    brain.score = score
    brain.evaluate(dataset, test_loader_kwargs={"batch_size": BATCH_SIZE})
    table = predictions_table(score, manifest, **quality)
    evaluate_predictions(table, run["labels"])
    return list(manifest.values())


def bare_pass(run, entries, batches_in_memory):
    """A function: front end, backbone and classifier on waveforms in memory."""
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

    @torch.no_grad()
    def bare():
        for step, size in enumerate(sizes):
            features = front_end.compute_features(batches[step % len(batches)])
            run["classifier"](run["backbone"](features[:size]))

    return bare


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
    with tempfile.TemporaryDirectory() as folder:
        prepare_sprsound(options.data_folder, folder, test=options.partition)
        filled = f"{folder}/cache"
        entries = evaluate(run, options, folder, filled)

        def with_empty_cache():
            with tempfile.TemporaryDirectory() as cache:
                evaluate(run, options, folder, cache)

        times = take_turns(
            {
                "empty cache": with_empty_cache,
                "filled cache": lambda: evaluate(run, options, folder, filled),
                "bare": bare_pass(run, entries, options.batches_in_memory),
            },
            options.repetitions,
        )
    bare = times.pop("bare")
    print(f"{describe_machine()}: {len(entries)} events")
    print(f"bare pass {bare.typical:.1f} s")
    for name, evaluation in times.items():
        print(
            f"evaluation, {name}: {evaluation.typical:.1f} s, ratio"
            f" {evaluation.over(bare)} (bound {TARGET}), of the processor's"
            f" time {evaluation.processor_over(bare)}"
        )


if __name__ == "__main__":
    main()
