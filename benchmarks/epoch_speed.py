#!/usr/bin/env python3
"""How much slower is an epoch of the recipe than the bare computation?

The recipe is trained as a user would, on a generated corpus or on one's own
data, without validation and test pass, so that an epoch is the training pass,
the log and the checkpoint. It is set against a loop over tensors in memory
that does nothing but what cannot be left out, with the same backbone, batch
sizes, optimizer and threads, in the same process:

 * features: the recipe on cached features; backbone, linear layer, cross
   entropy, backward pass and optimizer step
 * waveforms: the recipe on cached waveforms (``cache_features: False``); the
   same after the log-mel front end

Of either, the fastest pass after the first counts; with ``--epochs 2`` that is
the second epoch. Use an idle machine.

> python benchmarks/epoch_speed.py --data_folder /path/to/ICBHI
> python benchmarks/epoch_speed.py --patients 4 --recordings 1 \\
>     --width_mult 0.1

Authors
 * qlung_plugin contributors
"""

import argparse
import copy
import runpy
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from speechbrain.utils.epoch_loop import EpochCounter

RECIPE = Path(__file__).parents[1] / "recipes" / "ICBHI" / "classification"
TARGET = 1.15


def train(hparams_file, options):
    """Runs the recipe.

    Arguments
    ---------
    hparams_file : str or Path
        Its YAML.
    options : list of str
        Command-line arguments.

    Returns
    -------
    recipe : dict
        The global names of train.py after its end.
    seconds : list of float
        Of each epoch, from one call of the epoch counter to the next.
    """
    times = []
    count = EpochCounter.__next__

    def timed_count(counter):
        times.append(time.perf_counter())
        return count(counter)

    arguments, path = sys.argv, sys.path[:]
    EpochCounter.__next__ = timed_count
    sys.argv = [str(RECIPE / "train.py"), str(hparams_file), *options]
    sys.path.insert(0, str(RECIPE))
    try:
        recipe = runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        EpochCounter.__next__ = count
        sys.argv, sys.path[:] = arguments, path
    return recipe, [end - start for start, end in zip(times, times[1:])]


def bare_passes(recipe, passes, batches_in_memory):
    """Times the bare loop.

    Arguments
    ---------
    recipe : dict
        What :func:`train` returned.
    passes : int
        How often to pass over as many cycles as the training set has.
    batches_in_memory : int
        So many batches are held and used again and again.

    Returns
    -------
    list of float
        Seconds of each pass.
    """
    hparams, device = recipe["hparams"], recipe["brain"].device
    inputs = [item["inputs"] for item in _first(recipe, batches_in_memory)]
    size = hparams["batch_size"]
    batches = [
        torch.stack(inputs[start : start + size]).float().to(device)
        for start in range(0, len(inputs), size)
    ]
    cycles = len(recipe["datasets"]["train"])
    sizes = [min(size, cycles - done) for done in range(0, cycles, size)]
    backbone = copy.deepcopy(hparams["backbone"]).to(device).train()
    front_end = hparams["compute_features"].to(device)
    head = nn.Linear(
        hparams["backbone"].embedding_dim, hparams["num_classes"]
    ).to(device)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = hparams["opt_class"](parameters)
    targets = torch.arange(size, device=device) % hparams["num_classes"]

    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        for step, count in enumerate(sizes):
            batch = batches[step % len(batches)][:count]
            if not hparams["cache_features"]:
                batch = front_end(batch)
            logits = head(backbone(batch))
            loss = nn.functional.cross_entropy(logits, targets[: len(batch)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return seconds


def _first(recipe, batches):
    dataset = recipe["datasets"]["train"]
    count = min(len(dataset), batches * recipe["hparams"]["batch_size"])
    return (dataset[index] for index in range(count))


def compare(name, recipe, recipe_seconds, bare_seconds):
    """Prints the fastest passes after the first, and their ratio."""
    ours, bare = min(recipe_seconds[1:]), min(bare_seconds[1:])
    cycles = len(recipe["datasets"]["train"])
    print(
        f"{name}: recipe {ours:.2f} s, bare loop {bare:.2f} s per epoch of"
        f" {cycles} cycles: ratio {ours / bare:.3f} (target {TARGET})"
    )


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Other arguments go to train.py.",
        allow_abbrev=False,
    )
    parser.add_argument("--data_folder", help="ICBHI; else one is generated")
    parser.add_argument("--patients", type=int, default=16, help="generated")
    parser.add_argument("--recordings", type=int, default=3, help="generated")
    parser.add_argument(
        "--hparams", default=RECIPE / "hparams" / "qlung.yaml", help="a YAML"
    )
    parser.add_argument("--epochs", type=int, default=2, help="2 or more")
    parser.add_argument(
        "--batches_in_memory", type=int, default=32, help="of the bare loop"
    )
    options, others = parser.parse_known_args()
    if options.epochs < 2 or options.batches_in_memory < 1:
        parser.error("--epochs must be 2 or more, --batches_in_memory 1")

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        data_folder = options.data_folder
        if data_folder is None:
            data_folder = f"{folder}/data"
            generate_icbhi_like(
                data_folder,
                patients=options.patients,
                recordings=options.recordings,
            )
        for name, cached in (("features", True), ("waveforms", False)):
            recipe, seconds = train(
                options.hparams,
                [
                    *("--pretrained_weights", "none"),
                    *others,
                    *("--data_folder", data_folder),
                    *("--output_folder", f"{folder}/{name}"),
                    *("--cache_folder", f"{folder}/cache"),
                    *("--cache_features", str(cached)),
                    *("--valid_fraction", "0"),
                    *("--test_each_epoch", "False"),
                    *("--number_of_epochs", str(options.epochs)),
                ],
            )
            bare = bare_passes(
                recipe, options.epochs, options.batches_in_memory
            )
            results[name] = recipe, seconds, bare
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, result in results.items():
        compare(name, *result)


if __name__ == "__main__":
    main()
