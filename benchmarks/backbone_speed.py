#!/usr/bin/env python3
"""Speed and memory of every backbone, at its published size, on 8 s cycles.

Training is forward, backward and an Adam step on features in memory, inference
the forward pass without gradients; the front end is timed for itself. Weights
are random, which costs the same. Each backbone runs in a process of its own, so
that its peak memory is its own. AST and CLAP take turns with transformers used
directly, with the same weights on the same tensors.

On a GPU the fraction of its peak is told, if --peak_tflops says what that is:
the operations that PyTorch counts in a training step, by the time that it takes.

> python benchmarks/backbone_speed.py

Authors
 * qlung_plugin contributors
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from qlung_plugin.lobes import features as front_ends
from qlung_plugin.lobes.models.ast import AST
from qlung_plugin.lobes.models.beats import BEATs
from qlung_plugin.lobes.models.clap import CLAP
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.models.panns import PANNs

SECONDS = 8
TARGET = 1.05

BACKBONES = {
    "mn04": (front_ends.EfficientATFeatures, lambda: EfficientAT(0.4)),
    "mn10": (front_ends.EfficientATFeatures, lambda: EfficientAT(1.0)),
    "Cnn6": (front_ends.PANNsFeatures, lambda: PANNs("Cnn6")),
    "Cnn10": (front_ends.PANNsFeatures, lambda: PANNs("Cnn10")),
    "Cnn14": (front_ends.PANNsFeatures, lambda: PANNs("Cnn14")),
    "CLAP": (front_ends.CLAPFeatures, CLAP),
    "AST": (front_ends.ASTFeatures, AST),
    "BEATs": (front_ends.BEATsFeatures, BEATs),
}

# What transformers' own model makes of the same features.
DIRECTLY = {
    "AST": lambda backbone: lambda x: backbone.model(x).pooler_output,
    "CLAP": lambda backbone: lambda x: backbone.projection(
        backbone.audio_model(input_features=x[:, None]).pooler_output
    ),
}


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(function, device):
    """Time of one call."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def in_turns(functions, repetitions, device):
    """Times of functions that take turns, after a call to warm up."""
    times = {name: [] for name in functions}
    order = list(functions)
    for _ in range(repetitions + 1):
        random.shuffle(order)
        for name in order:
            times[name].append(seconds(functions[name], device))
    return {name: t[1:] for name, t in times.items()}


def typical(times):
    """The time that speeds are told by."""
    return statistics.median(times)


def measure(name, batch, repetitions, device):
    """All figures of one backbone."""
    front_end, build = BACKBONES[name]
    front_end, backbone = front_end().to(device), build().to(device)
    waveforms = 0.1 * torch.randn(
        batch, SECONDS * front_end.sample_rate, device=device
    )
    features = front_end(waveforms)
    optimizer = torch.optim.Adam(backbone.parameters(), lr=1e-5)
    forwards = {"ours": backbone}
    if name in DIRECTLY:
        forwards["directly"] = DIRECTLY[name](backbone)

    def train(forward):
        def step():
            optimizer.zero_grad(set_to_none=True)
            forward(features).square().mean().backward()
            optimizer.step()

        return step

    def infer(forward):
        def run():
            with torch.inference_mode():
                forward(features)

        return run

    backbone.eval()
    if len(forwards) > 1:
        with torch.no_grad():
            torch.testing.assert_close(
                forwards["ours"](features), forwards["directly"](features)
            )
    inference = in_turns(
        {kind: infer(f) for kind, f in forwards.items()}, repetitions, device
    )
    backbone.train()
    training = in_turns(
        {kind: train(f) for kind, f in forwards.items()}, repetitions, device
    )
    front = in_turns(
        {"front end": lambda: front_end(waveforms)}, repetitions, device
    )
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FlopCounterMode(display=False) as counter:
        train(backbone)()
    return {
        "parameters": sum(p.numel() for p in backbone.parameters()),
        "inference": batch / typical(inference["ours"]),
        "training": batch / typical(training["ours"]),
        "front_end": batch / typical(front["front end"]),
        "memory": memory,
        "tflops": counter.get_total_flops() / typical(training["ours"]) / 1e12,
        # Of the shortest times, which a busy machine disturbs least.
        "ratios": [
            min(times["ours"]) / min(times["directly"])
            for times in (inference, training)
            if "directly" in times
        ],
    }


def main():
    """Prints a table; fails if AST or CLAP are slower than they may be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--peak_tflops", type=float)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is not None:
        torch.manual_seed(0)
        figures = measure(
            options.alone,
            options.batch_size,
            options.repetitions,
            options.device,
        )
        print(json.dumps(figures))
        return

    print(
        f"Cycles of {SECONDS} s a second, batch {options.batch_size}, on the"
        f" {options.device}, {torch.get_num_threads()} threads"
    )
    print(
        "backbone  parameters (M)  front end  inference  training  peak (GiB)"
        "  TFLOP/s  of peak  to transformers"
    )
    missed = []
    for name in options.backbones:
        finished = subprocess.run(
            [sys.executable, *sys.argv, "--alone", name],
            check=True,
            capture_output=True,
            text=True,
        )
        figures = json.loads(finished.stdout.splitlines()[-1])
        share = "-"
        if options.peak_tflops:
            share = f"{figures['tflops'] / options.peak_tflops:.2f}"
        ratios = " ".join(f"{ratio:.2f}" for ratio in figures["ratios"]) or "-"
        print(
            f"{name:8}  {figures['parameters'] / 1e6:14.2f}"
            f"  {figures['front_end']:9.1f}  {figures['inference']:9.2f}"
            f"  {figures['training']:8.2f}  {figures['memory'] / 2**30:10.2f}"
            f"  {figures['tflops']:7.2f}  {share:>7}  {ratios}",
            flush=True,
        )
        if any(ratio > TARGET for ratio in figures["ratios"]):
            missed.append(name)
    if missed:
        raise SystemExit(f"Target {TARGET} missed by {missed}")


if __name__ == "__main__":
    main()
