#!/usr/bin/env python3
"""Speed of the quality scores against the backbone's forward pass.

Cycles of three seconds, in batches and one at a time: each quality score as a
whole, and EfficientAT mn04 on the features of as many cycles, 5 s as it sees
them. Random weights are as fast as trained ones.

> python benchmarks/quality_speed.py

Authors
 * qlung_plugin contributors
"""

import argparse

import torch
from turns import describe_machine, take_turns

from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    FlatnessScore,
    LearnedQualityScore,
    SNRScore,
)

RATE = 8000
CYCLE = 3.0
FRAMES = 500  # of 5 s
BATCHES = (16, 1)
KINDS = (LearnedQualityScore, AudioQualityScore, FlatnessScore, SNRScore)
TARGET = 0.25


@torch.no_grad()
def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=50)
    options = parser.parse_args()

    torch.manual_seed(0)
    print(describe_machine())
    backbone = EfficientAT(width_mult=0.4).eval()
    for cycles in BATCHES:
        features = torch.randn(cycles, FRAMES, 128)
        waveforms = 0.1 * torch.randn(cycles, round(CYCLE * RATE))
        scores = {kind.__name__: kind(RATE) for kind in KINDS}
        functions = {
            name: lambda score=score, waveforms=waveforms: score(waveforms)
            for name, score in scores.items()
        }
        functions["mn04"] = lambda features=features: backbone(features)
        times = take_turns(functions, options.repetitions)
        forward = times.pop("mn04")
        print(
            f"{cycles} at a time: mn04 {1000 * forward.typical / cycles:.2f} ms"
            " per cycle"
        )
        for name, score in times.items():
            print(
                f"    {name}: {1000 * score.typical / cycles:.2f} ms, ratio"
                f" {score.over(forward)} (bound {TARGET})"
            )


if __name__ == "__main__":
    main()
