#!/usr/bin/env python3
"""Speed of the quality scores against the backbone's forward pass.

Cycles of three seconds, one at a time, as they are measured before training:
each quality score as a whole, and EfficientAT mn04 on the features of the same
cycle, 8 s as it sees them. Random weights are as fast as trained ones. Use an
idle machine.

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
TARGET = 0.25


@torch.no_grad()
def milliseconds(function, repetitions):
    """The fastest of several calls."""
    times = []
    for _ in range(repetitions):
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
    backbone = EfficientAT(width_mult=0.4).eval()
    features = torch.randn(1, 800, 128)
    forward = milliseconds(lambda: backbone(features), options.repetitions)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"mn04, forward pass of a cycle: {forward:.2f} ms")
    waveform = 0.1 * torch.randn(1, round(CYCLE * RATE))
    for kind in (
        LearnedQualityScore,
        AudioQualityScore,
        FlatnessScore,
        SNRScore,
    ):
        score = kind(RATE)
        took = milliseconds(lambda s=score: s(waveform), options.repetitions)
        print(
            f"{kind.__name__}: {took:.2f} ms, ratio {took / forward:.2f}"
            f" (target {TARGET})"
        )


if __name__ == "__main__":
    main()
