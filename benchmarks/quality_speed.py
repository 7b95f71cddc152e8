#!/usr/bin/env python3
"""Speed of the quality scores against the backbone's forward pass.

Cycles of three seconds, in batches and one at a time: each quality score as a
whole, and EfficientAT mn04 on the features of as many cycles, 8 s as it sees
them. Random weights are as fast as trained ones. Use an idle machine.

> python benchmarks/quality_speed.py

Authors
 * qlung_plugin contributors
"""

import argparse
import time

import torch

from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    FlatnessScore,
    LearnedQualityScore,
    SNRScore,
)

RATE = 8000
CYCLE = 3.0
BATCHES = (16, 1)
KINDS = (LearnedQualityScore, AudioQualityScore, FlatnessScore, SNRScore)
TARGET = 0.25


@torch.no_grad()
def milliseconds(function, options):
    """The fastest of several calls."""
    times = []
    for _ in range(options.repetitions):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=50)
    options = parser.parse_args()

    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    backbone = EfficientAT(width_mult=0.4).eval()
    for cycles in BATCHES:
        features = torch.randn(cycles, 800, 128)
        forward = milliseconds(lambda f=features: backbone(f), options)
        print(f"{cycles} at a time: mn04 {forward / cycles:.2f} ms per cycle")
        waveforms = 0.1 * torch.randn(cycles, round(CYCLE * RATE))
        for kind in KINDS:
            score = kind(RATE)
            took = milliseconds(lambda s=score, w=waveforms: s(w), options)
            print(
                f"    {kind.__name__}: {took / cycles:.2f} ms, ratio"
                f" {took / forward:.2f} (target {TARGET})"
            )


if __name__ == "__main__":
    main()
