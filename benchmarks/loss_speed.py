#!/usr/bin/env python3
"""Speed of the margin loss against SpeechBrain's, measured in the same run.

Forward and backward of ``AngularMarginLoss(FixedMargin)`` and of
``LogSoftmaxWrapper(AdditiveAngularMargin)`` on the same cosines, one thread.
The two take turns in random order, so that a busy machine slows both; the
ratio is that of the medians.

> python benchmarks/loss_speed.py

Authors
 * qlung_plugin contributors
"""

import argparse
import random
import statistics
import time

import torch

from qlung_plugin.nnet.losses import AngularMarginLoss
from qlung_plugin.nnet.margins import FixedMargin
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

BATCH, MARGIN, SCALE = 512, 0.2, 30.0
# Classes, repetitions, and the largest ratio that is accepted.
CASES = ((4, 1000, 1.1), (6000, 30, 0.2))


def seconds(loss, cosines):
    """Time of one forward and backward pass."""
    cosines.grad = None
    start = time.perf_counter()
    loss().backward()
    return time.perf_counter() - start


def compare(classes, repetitions):
    """Median times of ours and SpeechBrain's, in seconds."""
    cosines = torch.empty(BATCH, classes).uniform_(-1, 1).requires_grad_()
    targets = torch.randint(classes, (BATCH,))
    margin_loss = AngularMarginLoss(FixedMargin(MARGIN), SCALE)
    reference = LogSoftmaxWrapper(AdditiveAngularMargin(MARGIN, SCALE))
    losses = {
        "ours": lambda: margin_loss(None, cosines, None, targets),
        "theirs": lambda: reference(cosines.unsqueeze(1), targets.unsqueeze(1)),
    }
    torch.testing.assert_close(losses["ours"](), losses["theirs"]())
    times = {name: [] for name in losses}
    order = list(losses)
    for _ in range(repetitions + repetitions // 10):
        random.shuffle(order)
        for name in order:
            times[name].append(seconds(losses[name], cosines))
    return [statistics.median(t[repetitions // 10 :]) for t in times.values()]


def main():
    """Prints the ratios; fails if one is above its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    torch.manual_seed(seed)
    random.seed(seed)
    torch.set_num_threads(1)

    print(f"Margin loss, forward and backward, batch {BATCH}, one thread")
    print("classes  ours (ms)  SpeechBrain (ms)  ratio  target")
    missed = []
    for classes, repetitions, target in CASES:
        ours, theirs = compare(classes, repetitions)
        ratio = ours / theirs
        print(
            f"{classes:7}  {1e3 * ours:9.3f}  {1e3 * theirs:16.3f}"
            f"  {ratio:5.2f}  {target:6.2f}"
        )
        if ratio > target:
            missed.append(classes)
    if missed:
        raise SystemExit(f"Target missed at {missed} classes")


if __name__ == "__main__":
    main()
