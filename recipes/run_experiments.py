#!/usr/bin/env python3
"""Trains several configurations with several seeds and sets them side by side.

Every configuration is trained on ICBHI with every seed, and judged on SPRSound
if that is given. What is finished is not run again, an interrupted training
goes on where it stopped, and a broken run does not stop the others: the same
command continues. Paths are relative to where it is called.

> python recipes/run_experiments.py --hparams hparams/ce.yaml hparams/qlung.yaml
    --seeds 1 2 3 4 5 --icbhi /path/to/ICBHI --sprsound /path/to/SPRSound
    --output results/ladder
> python recipes/run_experiments.py --collect results/ladder

Of recordings of one's own, with all patients tested in turn:
> python recipes/run_experiments.py --train recipes/CSV/classification/train.py
    --hparams recipes/CSV/classification/hparams/head.yaml --seeds 1 2 3
    --data /path/to/recordings --folds patients --output results/own

Any other option, such as --number_of_epochs 20, goes to every training.

Authors
 * qlung_plugin contributors
"""

import argparse
import sys
from pathlib import Path

from qlung_plugin.runs.debris import sweep
from qlung_plugin.runs.evaluations import Damage
from qlung_plugin.runs.experiment_report import write_experiments
from qlung_plugin.runs.experiments import DEVICES, FOLDS, collect_evaluations
from qlung_plugin.runs.jobs import Step, execute, plan_slots
from qlung_plugin.runs.scripts import (
    INTERRUPTED,
    explain_errors,
    refuse_repeated,
)
from qlung_plugin.runs.slurm import submit
from qlung_plugin.utils.text import guard_terminal, printable, printable_lines

RECIPES = Path(__file__).resolve().parent
TRAIN = RECIPES / "ICBHI" / "classification" / "train.py"
EVALUATE = RECIPES / "SPRSound" / "cross_dataset" / "evaluate.py"
EVALUATE_HPARAMS = EVALUATE.parent / "hparams" / "cross_dataset.yaml"

# What training is told for a fold; the test side is not looked at to compare
# configurations on the training side.
FOLD_OPTIONS = {
    "patients": lambda fold: ["--split", "patient_folds", "--test_fold", fold],
    "training": lambda fold: [
        *("--valid_fraction", str(1 / len(FOLDS)), "--valid_fold", fold),
        *("--test_each_epoch", "False"),
    ],
    "devices": lambda device: [
        *("--valid_device", device, "--test_each_epoch", "False"),
    ],
}


def parse_arguments(arguments):
    """Options of this script, and those that go to every training."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Any other option goes to every training.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--hparams", nargs="+", metavar="YAML", help="one per configuration")
    add("--seeds", nargs="+", type=int, metavar="SEED")
    add(
        *("--icbhi", "--data"),
        metavar="FOLDER",
        help="the data to train on: ICBHI 2017, or that of --train's recipe",
    )
    add("--train", metavar="SCRIPT", help="default: train.py of ICBHI's recipe")
    add("--sprsound", metavar="FOLDER", help="the SPRSound database")
    add("--partition", default="inter", help="of SPRSound (default: inter)")
    add("--output", metavar="FOLDER", help="for all runs and the tables")
    add("--cache_folder", metavar="FOLDER", help="default: OUTPUT/cache")
    add(
        "--jobs",
        type=int,
        help="runs at a time (default: GPUs, else free cores)",
    )
    add(
        "--slurm",
        metavar="OPTIONS",
        help="submit each run to Slurm, with these options of sbatch, such as"
        ' "--gres gpu:1 --time 2:00:00"; --collect FOLDER afterwards',
    )
    add(
        "--folds",
        choices=list(FOLD_OPTIONS),
        help="cross-validate: over all patients, or those of the training side,"
        f" or leave one of its devices out ({', '.join(DEVICES)})",
    )
    add(
        "--collect",
        metavar="FOLDER",
        help="only write the tables, of the runs in this folder; --hparams"
        " gives the order of the configurations",
    )
    options, others = parser.parse_known_args(arguments)
    refuse_repeated(sys.argv[1:] if arguments is None else arguments)
    if options.collect:
        if others:
            parser.error(f"--collect trains nothing: what is {others[0]}?")
        return options, others
    for name in ("hparams", "seeds", "icbhi", "output"):
        if not getattr(options, name):
            parser.error(f"--{name} is missing (or --collect FOLDER)")
    for path in options.hparams:
        if not Path(path).is_file():
            parser.error(f"--hparams {path} is no file")
    if options.train and not Path(options.train).is_file():
        parser.error(f"--train {options.train} is no file")
    for path in (options.icbhi, options.sprsound):
        if path and not Path(path).is_dir():
            parser.error(f"{path} is no folder")
    names = [Path(path).stem for path in options.hparams]
    for values in (names, options.seeds):
        if len(set(values)) < len(values):
            parser.error(f"these are to be different: {values}")
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if options.jobs and options.slurm is not None:
        parser.error("--jobs is for this machine: Slurm has its own limits")
    if options.folds == "devices" and options.train:
        parser.error(
            f"the devices of --folds {options.folds} are ICBHI's: omit --train"
        )
    if options.folds in ("training", "devices") and options.sprsound:
        parser.error(
            f"--folds {options.folds} looks at no test set: omit --sprsound"
        )
    own = {"--seed", "--data_folder", "--output_folder"}
    if options.folds:
        own |= {arg for arg in FOLD_OPTIONS[options.folds]("0") if "--" in arg}
    for argument in others:
        if argument.split("=")[0] in own:
            parser.error(f"{argument} is set by this script")
    return options, others


def plan_runs(options, others):
    """All runs: lists of steps by name, those of one seed together."""
    runs, folds = {}, (None,)
    if options.folds:
        folds = DEVICES if options.folds == "devices" else FOLDS
    for seed in map(str, options.seeds):
        for hparams in options.hparams:
            for fold in folds:
                name = f"{Path(hparams).stem}/{seed}"
                if fold is not None:
                    name += f"/fold_{fold}"
                runs[name] = plan_run(options, others, hparams, seed, fold)
    return runs


def plan_run(options, others, hparams, seed, fold):
    """The steps of one run: the training, and the evaluation if wanted."""
    folder = Path(options.output, Path(hparams).stem, seed)
    fold_options = []
    if fold is not None:
        folder /= f"fold_{fold}"
        fold_options = FOLD_OPTIONS[options.folds](str(fold))
    settings = ["--seed", seed, *fold_options, *others]
    cache = options.cache_folder or f"{options.output}/cache"

    about = {
        "configuration": Path(hparams).stem,
        "seed": seed,
        "fold": fold,
    }

    def step(script, hparams, data_folder, output, settings):
        command = [str(script), str(hparams), "--data_folder", data_folder]
        command += ["--output_folder", str(output), "--cache_folder", cache]
        return Step(output, [*command, *settings], data_folder, about)

    train = Path(options.train).absolute() if options.train else TRAIN
    steps = [step(train, hparams, options.icbhi, folder, settings)]
    if options.sprsound:
        steps.append(
            step(
                EVALUATE,
                EVALUATE_HPARAMS,
                options.sprsound,
                folder / "sprsound",
                [
                    *("--partition", options.partition, "--checkpoint", "all"),
                    *("--run_folder", str(folder)),
                ],
            )
        )
    return steps


def collect(folder, output, configurations):
    """Writes the tables of a folder of runs; returns the exit code."""
    try:
        evaluations, notes = collect_evaluations(folder)
        if not evaluations:
            raise ValueError("No run is finished:\n" + "\n".join(notes))
        write_experiments(output, evaluations, configurations, notes)
    except (FileNotFoundError, ValueError) as error:
        text = printable_lines(f"No tables: {error}")
        raise SystemExit(text) from error
    damaged = [note for note in notes if isinstance(note, Damage)]
    for note in damaged:
        print(printable(note), file=sys.stderr)
    tables = Path(output, "results.md")
    print(printable(f"Tables: {tables}, results.csv, scores.png"))
    return int(bool(damaged))


def main(arguments=None):
    """The command line; returns the exit code."""
    options, others = parse_arguments(arguments)
    names = [Path(path).stem for path in options.hparams or ()]
    if options.collect:
        return collect(
            options.collect, options.output or options.collect, names
        )

    runs = plan_runs(options, others)
    steps = [step for steps in runs.values() for step in steps]
    conflicts = [c for c in (step.find_conflict() for step in steps) if c]
    if conflicts:
        raise SystemExit(
            printable_lines("\n".join(conflicts))
            + "\nNothing was run. Choose another --output, give the old"
            " configuration and options again, or delete what is to be made"
            " anew."
        )
    sweep(options.output)
    if options.slurm is not None:
        count = submit(runs, options.slurm)
        if count:
            print(
                f"Submitted {count} of {len(runs)} runs. When they are through:"
                f" --collect {printable(options.output)}"
            )
            return 0
    try:
        broken = execute(runs, plan_slots(options.jobs))
    except KeyboardInterrupt:
        raise SystemExit(f"Interrupted: {INTERRUPTED}") from None
    for name, message in broken.items():
        print(printable_lines(f"\n{name}: {message}"), file=sys.stderr)
    damaged = collect(options.output, options.output, names)
    return 1 if broken else damaged


if __name__ == "__main__":
    guard_terminal()
    explain_errors()
    sys.exit(main())
