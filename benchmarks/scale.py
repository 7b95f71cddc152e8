#!/usr/bin/env python3
"""What more recordings cost: time and memory of each command, by their number.

Each is a process of its own on so many generated recordings of two breaths, in
ICBHI's layout; what it takes on one core is the processor's time, with all that it
starts, and the memory is the most of any of its processes. Of a command whose cost
is linear, a further recording costs the same among few and among many.

> python benchmarks/scale.py --output /tmp/scale --recordings 100 400 1600

Authors
 * qlung_plugin contributors
"""

import argparse
import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from qlung_plugin.synthetic.icbhi import DEVICES, FOLDER, SPLIT_FILE
from qlung_plugin.synthetic.sounds import Chest

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "ICBHI" / "classification"
DEVICE = "Litt3200"  # of the lowest rate
OF_A_PATIENT = 4  # recordings
LEAST = 40  # patients, so that all labels are on all sides
BREATH = 1.0  # s

PREPARE = (
    "from icbhi_prepare import prepare_icbhi;"
    " prepare_icbhi(data_folder='{data}', output_folder='{out}/manifests')"
)
# By name, what is called; each in the folder of the recipe.
STEPS = {
    "prepare": f'-c "{PREPARE}"',
    "quality": "-m qlung_plugin.cli.main quality {data} --jobs 1"
    " --output {out}/quality.csv",
    "classify": "-m qlung_plugin.cli.main classify {data} --jobs 1"
    " --engine torch --output {out}/cycles.csv",
    "embed": "-m qlung_plugin.cli.main embed {data} --jobs 1"
    " --engine torch --output {out}/embeddings.npz",
    "train": "train.py hparams/qlung.yaml --data_folder {data} --seed 1"
    " --output_folder {out}/runs/qlung/1 --cache_folder {out}/cache"
    " --pretrained_weights none --number_of_epochs 1 --width_mult 0.1"
    " --fix_length '{{duration: 1.0}}'",
    "report": "-m qlung_plugin.cli.main report {out}/runs/qlung/1"
    " --output {out}/report.html",
    "collect": f"{ROOT}/recipes/run_experiments.py --collect {{out}}/runs",
}


def write_recordings(folder, count):
    """Recordings of patients in turn, whose breaths are of all labels in turn."""
    _, device = DEVICES[DEVICE]
    audio = folder / FOLDER
    audio.mkdir(parents=True)
    patients = max(LEAST, count // OF_A_PATIENT)
    split = []
    for number in range(count):
        chest = Chest(device.sample_rate, np.random.default_rng(number))
        visit, patient = divmod(number, patients)
        name = f"{901 + patient}_{visit + 1}b1_Tc_sc_{DEVICE}"
        breaths, lines = [], []
        for place in range(2):
            crackle, wheeze = divmod((patient + place) % 4, 2)
            sounds = "coarse" if crackle else None, 300.0 if wheeze else None
            breaths.append(chest.breath(BREATH, *sounds, 1.0, 100.0))
            lines.append(f"{place}\t{place + 1}\t{crackle}\t{wheeze}\n")
        sound = chest.record(np.concatenate(breaths), 20, (60.0, 90.0), device)
        path = audio / f"{name}.wav"
        soundfile.write(path, sound, device.sample_rate, device.subtype)
        path.with_suffix(".txt").write_text("".join(lines))
        split.append(f"{name}\t{'test' if patient % 5 > 2 else 'train'}\n")
    (folder / SPLIT_FILE).write_text("".join(split))


def measure(step, **places):
    """Seconds of the processor, and MiB at most, of a command."""
    command = [word.format(**places) for word in shlex.split(STEPS[step])]
    with open(places["out"] / f"{step}.txt", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=RECIPE,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{ROOT}:{RECIPE}",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{step} failed, see {log.name}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="a new folder")
    parser.add_argument("--recordings", type=int, nargs="+", required=True)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=[*STEPS])
    options = parser.parse_args()
    output = Path(options.output).absolute()
    counts = sorted(options.recordings)
    found = {step: [] for step in options.steps}
    for count in counts:
        out = output / str(count)
        data = out / "data"
        write_recordings(data, count)
        for step in options.steps:
            found[step].append(measure(step, data=data, out=out))
            seconds, peak = found[step][-1]
            print(
                f"{count} {step}: {seconds:.1f} s, {peak:.0f} MiB", flush=True
            )
    columns = [f"{count} recordings: s (MiB)" for count in counts]
    columns += [f"ms each, {a} to {b}" for a, b in pairwise(counts)]
    print(f"\n| command | {' | '.join(columns)} |")
    print("| --- " * (1 + len(columns)) + "|")
    for step, figures in found.items():
        cells = [f"{seconds:.1f} ({peak:.0f})" for seconds, peak in figures]
        for (few, many), ((less, _), (more, _)) in zip(
            pairwise(counts), pairwise(figures)
        ):
            cells.append(f"{1000 * (more - less) / (many - few):.0f}")
        print(f"| {step} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
