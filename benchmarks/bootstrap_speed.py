#!/usr/bin/env python3
"""Speed of the paired two-way bootstrap beside SciPy's, in the same run.

10,000 resamples of the difference of two configurations, each of 5 seeds, over
tables of the size of the full databases: all five scores and their intervals.
``scipy.stats.bootstrap`` draws patients and seeds as its two samples; its
statistic sums the confusion matrices of the drawn patients in vectorised NumPy,
all scores at once. Both must find the same intervals.

> python benchmarks/bootstrap_speed.py

Authors
 * qlung_plugin contributors
"""

import argparse

import numpy as np
from scipy import stats
from turns import describe_machine, take_turns

from qlung_plugin.scores.intervals import bootstrap_differences
from qlung_plugin.scores.metrics import metrics_of

SEEDS, RESAMPLES, CONFIDENCE = 5, 10000, 0.95
TARGET = 2.0  # seconds
# Patients, and cycles per class (normal, crackle, wheeze, both).
TABLES = {
    "ICBHI, official test side": (49, (1579, 649, 385, 143)),
    "SPRSound, inter": (41, (1040, 83, 305, 1)),
    "SPRSound, intra": (162, (688, 189, 124, 3)),
}


def generate(patients, counts, rng):
    """Confusions ``[configuration, seed, patient, class, class]``."""
    classes = len(counts)
    shape = (2, SEEDS, patients, classes, classes)
    confusions = np.zeros(shape, dtype=int)
    shares = rng.dirichlet(np.ones(patients))
    for truth, count in enumerate(counts):
        cycles = rng.multinomial(count, shares)
        for cell in np.ndindex(2, SEEDS, patients):
            right = np.full(classes, 0.15)
            right[truth] = 0.55
            confusions[(*cell, truth)] = rng.multinomial(
                cycles[cell[-1]], right
            )
    return confusions


def scipy_differences(ours, theirs, seed=0):
    """What SciPy makes of it: the intervals of the five scores."""

    def scores(confusions, patients, seeds):
        cells = confusions[seeds[..., None], patients[..., None, :]]
        values = metrics_of(cells.sum(-3), "intervals")
        return np.stack([value.mean(-1) for value in values.values()])

    def statistic(patients, seeds, axis):
        return scores(ours, patients, seeds) - scores(theirs, patients, seeds)

    return stats.bootstrap(
        (np.arange(ours.shape[1]), np.arange(SEEDS)),
        statistic,
        n_resamples=RESAMPLES,
        batch=100,  # the fastest of 100 to 10,000
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval


def main():
    """Prints the times; fails if one is above its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the data")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)

    print(
        f"Paired two-way bootstrap, {RESAMPLES:,} resamples, {SEEDS} seeds,"
        f" {describe_machine()}"
    )
    missed = []
    for name, (patients, counts) in TABLES.items():
        ours, theirs = generate(patients, counts, rng)
        found = bootstrap_differences(ours, theirs, RESAMPLES, CONFIDENCE)
        intervals = np.array([found[key][1:] for key in found]).T
        expected = scipy_differences(ours, theirs)
        # In percentage points; two independent draws scatter.
        np.testing.assert_allclose(intervals, np.array(expected), atol=0.7)
        times = take_turns(
            {
                "ours": lambda pair=(ours, theirs): bootstrap_differences(
                    *pair, RESAMPLES, CONFIDENCE
                ),
                "SciPy": lambda pair=(ours, theirs): scipy_differences(*pair),
            },
            options.repetitions,
            warm_up=0,
        )
        took = times["ours"].typical
        print(
            f"{name} ({patients} patients): {took:.3f} s (bound {TARGET}),"
            f" SciPy {times['SciPy'].typical:.3f} s, ratio"
            f" {times['ours'].over(times['SciPy'])}"
        )
        if took > TARGET:
            missed.append(name)
    if missed:
        raise SystemExit(f"Target missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
