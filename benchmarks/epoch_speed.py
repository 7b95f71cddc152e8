#!/usr/bin/env python3
"""How much slower is an epoch of the recipe than the bare computation?

The recipe is trained as a user would, on a generated corpus or on one's own
data, without validation and test pass, so that an epoch is the training pass,
the log and the checkpoint. Its epochs take turns with passes over tensors in
memory that do nothing but what cannot be left out, with the same backbone, batch
sizes, optimizer and threads, in the same process:

 * features: the recipe on cached features; backbone, linear layer, cross
   entropy, backward pass and optimizer step
 * waveforms: the recipe on cached waveforms (``cache_features: False``); the
   same after the front end, on cycles that have their length

With --against, they take turns with epochs of the recipe with other arguments
instead: what its arguments cost.

> python benchmarks/epoch_speed.py --data_folder /path/to/ICBHI
> python benchmarks/epoch_speed.py --patients 4 --recordings 1 \\
>     --width_mult 0.1
> python benchmarks/epoch_speed.py --against '--fix_length "{duration: 8.0}"'

Authors
 * qlung_plugin contributors
"""

import argparse
import copy
import runpy
import shlex
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from turns import describe_machine, take_turns

import speechbrain as sb
from qlung_plugin.synthetic.icbhi import generate_icbhi_like

RECIPE = Path(__file__).parents[1] / "recipes" / "ICBHI" / "classification"
TARGET = 1.15


def train(hparams_file, options):
    """Runs the recipe for an epoch; the global names of train.py after its end."""
    arguments, path = sys.argv, sys.path[:]
    sys.argv = [str(RECIPE / "train.py"), str(hparams_file), *options]
    sys.path.insert(0, str(RECIPE))
    try:
        return runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.argv, sys.path[:] = arguments, path


def recipe_epoch(recipe):
    """A function that trains for a further epoch, as Brain's fit does."""
    brain, counter = recipe["brain"], recipe["hparams"]["epoch_counter"]
    loader = brain.make_dataloader(
        recipe["datasets"]["train"], sb.Stage.TRAIN, **recipe["train_options"]
    )

    def epoch():
        counter.limit += 1
        brain._fit_train(train_set=loader, epoch=next(counter), enable=False)

    return epoch


def bare_pass(recipe, batches_in_memory):
    """A function that passes over as many cycles as the training set has.

    Of so many batches, which are used again and again.
    """
    hparams, device = recipe["hparams"], recipe["brain"].device
    batches = [
        [part.to(device) for part in batch]
        for batch in _batches(recipe, batches_in_memory)
    ]
    size, cycles = hparams["batch_size"], len(recipe["datasets"]["train"])
    sizes = [min(size, cycles - done) for done in range(0, cycles, size)]
    backbone = copy.deepcopy(hparams["backbone"]).to(device).train()
    front_end = hparams["compute_features"].to(device)
    head = nn.Linear(
        hparams["backbone"].embedding_dim, hparams["num_classes"]
    ).to(device)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = hparams["opt_class"](parameters)
    targets = torch.arange(size, device=device) % hparams["num_classes"]

    def bare():
        for step, count in enumerate(sizes):
            inputs, *references = (
                part[:count] for part in batches[step % len(batches)]
            )
            if not hparams["cache_features"]:
                inputs = front_end(inputs, *references)
            logits = head(backbone(inputs))
            loss = nn.functional.cross_entropy(logits, targets[: len(inputs)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device

    return bare


def _batches(recipe, count):
    """The first batches: inputs of one length, and references if there are."""
    hparams, dataset = recipe["hparams"], recipe["datasets"]["train"]
    size = hparams["batch_size"]
    number = min(len(dataset), count * size)
    for start in range(0, number, size):
        items = [dataset[i] for i in range(start, min(start + size, number))]
        inputs = [item["inputs"].float() for item in items]
        if not hparams["cache_features"]:
            inputs = [hparams["fix_length"](cycle) for cycle in inputs]
        batch = [torch.stack(inputs)]
        if "reference" in items[0]:
            batch.append(torch.stack([item["reference"] for item in items]))
        yield batch


def compare(name, recipe, sides, epochs, bound=""):
    """Prints how long two sides take that take turns."""
    times = take_turns(sides, epochs)
    ours, theirs = times.values()
    told = ", ".join(f"{side} {t.typical:.2f} s" for side, t in times.items())
    print(
        f"{name}, {describe_machine()}: {told} per epoch of"
        f" {len(recipe['datasets']['train'])} cycles: ratio"
        f" {ours.over(theirs)}{bound}, of the processor's time"
        f" {ours.processor_over(theirs)}",
        flush=True,
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
    parser.add_argument("--epochs", type=int, default=3, help="of each side")
    parser.add_argument(
        "--batches_in_memory", type=int, default=32, help="of the bare pass"
    )
    parser.add_argument(
        "--against", help="of an epoch with these other arguments, instead"
    )
    options, others = parser.parse_known_args()
    if options.epochs < 1 or options.batches_in_memory < 1:
        parser.error("--epochs and --batches_in_memory must be 1 or more")

    with tempfile.TemporaryDirectory() as folder:
        data_folder = options.data_folder
        if data_folder is None:
            data_folder = f"{folder}/data"
            generate_icbhi_like(
                data_folder,
                patients=options.patients,
                recordings=options.recordings,
            )

        def trained(name, arguments, cached=True):
            return train(
                options.hparams,
                [
                    *("--pretrained_weights", "none"),
                    *arguments,
                    *("--data_folder", data_folder),
                    *("--output_folder", f"{folder}/{name}"),
                    *("--cache_folder", f"{folder}/cache"),
                    *("--cache_features", str(cached)),
                    *("--valid_fraction", "0"),
                    *("--test_each_epoch", "False"),
                    *("--number_of_epochs", "1"),
                ],
            )

        if options.against is not None:
            ours = trained("with", others)
            theirs = trained("against", shlex.split(options.against))
            sides = {
                shlex.join(others) or "as it is": recipe_epoch(ours),
                options.against: recipe_epoch(theirs),
            }
            compare("epochs", ours, sides, options.epochs)
            return
        for name, cached in (("features", True), ("waveforms", False)):
            recipe = trained(name, others, cached)
            sides = {
                "recipe": recipe_epoch(recipe),
                "bare pass": bare_pass(recipe, options.batches_in_memory),
            }
            compare(name, recipe, sides, options.epochs, f" (bound {TARGET})")


if __name__ == "__main__":
    main()
