#!/usr/bin/env python3
"""Speed of the margin loss against others, measured in the same run.

Forward and backward of ``AngularMarginLoss(FixedMargin)``, of SpeechBrain's
``LogSoftmaxWrapper(AdditiveAngularMargin)`` and of pytorch-metric-learning's
``ArcFaceLoss``, whose own classifier is left out, on the same cosines. All three
are the same function.

> python benchmarks/loss_speed.py

Authors
 * qlung_plugin contributors
"""

import argparse
import math
import random

import torch
from turns import describe_machine, take_turns

from qlung_plugin.nnet.losses import AngularMarginLoss
from qlung_plugin.nnet.margins import FixedMargin
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

try:
    from pytorch_metric_learning.losses import ArcFaceLoss
except ImportError as error:
    raise SystemExit(
        "pytorch-metric-learning is needed: pip install -e .[benchmarks]"
    ) from error

MARGIN, SCALE = 0.2, 30.0
# Batch, classes, rounds, and the largest ratio to SpeechBrain's that is accepted.
CASES = ((32, 4, 1000, 1.1), (512, 4, 1000, 1.1), (512, 6000, 30, 0.2))


class ArcFaceOfCosines(ArcFaceLoss):
    """Of cosines instead of embeddings."""

    def get_cosine(self, cosines):
        return cosines


def compare(batch, classes, rounds):
    """Times of the three losses."""
    # Where SpeechBrain's sine is not bounded by its own small number.
    cosines = torch.empty(batch, classes).uniform_(-0.99, 0.99)
    cosines.requires_grad_()
    targets = torch.randint(classes, (batch,))
    margin_loss = AngularMarginLoss(FixedMargin(MARGIN), SCALE)
    speechbrain = LogSoftmaxWrapper(AdditiveAngularMargin(MARGIN, SCALE))
    arcface = ArcFaceOfCosines(classes, 1, math.degrees(MARGIN), SCALE)
    losses = {
        "ours": lambda: margin_loss(None, cosines, None, targets),
        "SpeechBrain": lambda: speechbrain(
            cosines.unsqueeze(1), targets.unsqueeze(1)
        ),
        "pytorch-metric-learning": lambda: arcface(cosines, targets),
    }
    values = [loss() for loss in losses.values()]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])

    def step(loss):
        cosines.grad = None
        loss().backward()

    return take_turns(
        {name: lambda loss=loss: step(loss) for name, loss in losses.items()},
        rounds,
        warm_up=rounds // 10 + 1,
    )


def main():
    """Prints the ratios; fails if one is above its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the rounds"
    )
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    missed = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(f"Forward and backward, {describe_machine()}")
        for batch, classes, rounds, target in CASES:
            times = compare(batch, classes, math.ceil(options.share * rounds))
            ours = times.pop("ours")
            case = f"batch {batch}, {classes} classes"
            print(f"{case}: {1e3 * ours.typical:.3f} ms")
            for name, theirs in times.items():
                print(
                    f"    to {name}: {ours.over(theirs)}, of the processor's"
                    f" time {ours.processor_over(theirs)}"
                )
            found = ours.over(times["SpeechBrain"]).median
            if found > target:
                missed.append(
                    f"{found:.2f} of SpeechBrain's time at {case}, {threads}"
                    f" threads, not {target}"
                )
    if missed:
        raise SystemExit(f"Target missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
