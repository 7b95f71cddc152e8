#!/usr/bin/env python3
"""How well breath cycles are found, against annotated recordings of ICBHI.

The boundaries are all starts and ends of cycles, those less than 50 ms apart
counting as one. A boundary that is found and one that is annotated match if
they are at most 0.25 s apart, each at most once. Those within 0.25 s of where
the sound starts or ends do not count: to find them takes no segmentation, and
in the ICBHI-sc subset the silence before the first cycle gives it away.

F1, precision and recall are over all boundaries; their 95 % intervals resample
patients. Beside the segmentation: cycles that all have the median length of
those on the training side, and as many boundaries as were found, at random.

> python benchmarks/segmentation_accuracy.py --data_folder /path/to/ICBHI

Authors
 * qlung_plugin contributors
"""

import argparse
from itertools import groupby

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from qlung_plugin.dataio.cycle_sources import segment_recording
from qlung_plugin.dataio.icbhi import read_corpus
from qlung_plugin.dataio.recordings import Recording

TOLERANCE = 0.25  # s
JOINT = 0.05  # s between two boundaries that are one
COUNTS = ["matched", "annotated", "found"]
ENOUGH = 30  # recordings, to look at thirds of them
TRAINING_LENGTH = 2.54  # s, median on the training side of ICBHI-sc


def boundaries(times, heard):
    """The boundaries of cycles that count, in order."""
    bounds = np.unique(times)
    bounds = bounds[np.diff(bounds, prepend=-np.inf) > JOINT]
    start, end = heard
    return bounds[(bounds > start + TOLERANCE) & (bounds < end - TOLERANCE)]


def count_matches(annotated, found):
    """The most pairs within the tolerance: on a line, the first that fit."""
    i = j = matches = 0
    while i < len(annotated) and j < len(found):
        if abs(annotated[i] - found[j]) <= TOLERANCE:
            matches += 1
            i, j = i + 1, j + 1
        elif annotated[i] < found[j]:
            i += 1
        else:
            j += 1
    return matches


def extent(recording):
    """From the first sound of a recording to the last, in seconds."""
    samples = recording.read(0, recording.duration).numpy()
    heard = np.flatnonzero(samples)
    if len(heard) == 0:
        return 0.0, recording.duration
    return heard[[0, -1]] / recording.sample_rate


def judge(path, annotation, generator):
    """A row per method for one recording."""
    recording = Recording(path)
    heard = extent(recording)
    found = segment_recording(recording)
    fixed = np.arange(*heard, TRAINING_LENGTH)
    fixed = list(zip(fixed, [*fixed[1:], heard[1]]))
    drawn = np.sort(generator.uniform(*heard, len(found.times) - 1))
    drawn = [heard[0], *drawn, heard[1]]
    drawn = list(zip(drawn, drawn[1:]))
    truth = boundaries(annotation, heard)
    for method, times in (
        ("segmentation", found.times),
        ("fixed length", fixed),
        ("random", drawn),
    ):
        bounds = boundaries(times, heard)
        yield {
            "method": method,
            "matched": count_matches(truth, bounds),
            "annotated": len(truth),
            "found": len(bounds),
            "difference": len(times) - len(annotation),
            "relative": abs(len(times) - len(annotation)) / len(annotation),
            "confidence": found.confidence,
        }


def scores(counts):
    """F1, precision and recall of counts ``[..., 3]``, in percent."""
    matched, annotated, found = np.moveaxis(np.asarray(counts, float), -1, 0)
    return 100 * np.stack(
        [
            2 * matched / (annotated + found),
            matched / found,
            matched / annotated,
        ]
    )


def with_interval(rows, resamples=10000):
    """Scores in words, with their intervals over patients."""
    patients = rows.groupby("patient")[COUNTS].sum().to_numpy()
    weights = np.random.default_rng(0).multinomial(
        len(patients), np.full(len(patients), 1 / len(patients)), resamples
    )
    limits = np.nanquantile(scores(weights @ patients), (0.025, 0.975), axis=1)
    return [
        f"{value:.1f} ({low:.1f} to {high:.1f})"
        for value, low, high in zip(scores(patients.sum(0)), *limits)
    ]


def print_table(rows):
    """A line per method, and per device and third of the confidence of ours."""
    print("| | F1 | precision | recall | cycles too many | off by | median |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ours = rows[rows["method"] == "segmentation"]
    parts = dict(list(rows.groupby("method", sort=False)))
    parts.update(list(ours.groupby("device")))
    if len(ours) >= ENOUGH:
        ranks = ours["confidence"].rank(method="first")
        for _, third in ours.groupby(pd.qcut(ranks, 3, labels=False)):
            low, high = third["confidence"].agg(["min", "max"])
            parts[f"confidence {low:.2f} to {high:.2f}"] = third
    for name, part in parts.items():
        error = part["difference"]
        print(
            f"| {name} ({len(part)}) | {' | '.join(with_interval(part))} |"
            f" {error.mean():+.1f} | {error.abs().mean():.1f} |"
            f" {100 * part['relative'].median():.0f} % |"
        )
    print(f"\nMean confidence {ours['confidence'].mean():.2f}", end="")
    if len(ours) >= ENOUGH:
        own = scores(ours[COUNTS])[0]
        rank = spearmanr(own, ours["confidence"], nan_policy="omit").statistic
        print(f"; Spearman's rank correlation with the F1: {rank:.2f}", end="")
    print("\n")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_folder", required=True, help="of ICBHI 2017")
    options = parser.parse_args()

    cycles, _, _ = read_corpus(options.data_folder)
    generator = np.random.default_rng(0)
    rows = []
    for path, group in groupby(cycles, key=lambda cycle: cycle["wav"]):
        group = list(group)
        if path is None:
            continue
        times = [(cycle["start"], cycle["end"]) for cycle in group]
        facts = {name: group[0][name] for name in ("side", "patient", "device")}
        rows += [{**facts, **row} for row in judge(path, times, generator)]
    rows = pd.DataFrame(rows)
    for side, part in rows.groupby("side"):
        count = len(part) // part["method"].nunique()
        patients = part["patient"].nunique()
        print(f"{side}: {count} recordings of {patients} patients\n")
        print_table(part)


if __name__ == "__main__":
    main()
