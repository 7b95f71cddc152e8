#!/usr/bin/env python3
"""Speed and memory of every backbone, at its published size, on cycles.

Training is forward, backward and an Adam step on features in memory, inference
the forward pass without gradients; the front end is timed for itself. Weights
are random, which costs the same. Each backbone runs in a process of its own, so
that its peak memory is its own. AST and CLAP take turns with transformers used
directly, with the same weights on the same tensors.

A large product of matrices in the same precision takes turns with the training:
the operations of a step, three times those that PyTorch counts in the forward
pass, by the time that it takes, are told as a part of that peak. With
--compile_mode, so do compiled steps: their speed, and their part of the time.

> python benchmarks/backbone_speed.py
> python benchmarks/backbone_speed.py --device cuda --precision bf16 \\
>     --batch_size 64 --compile_mode reduce-overhead

Authors
 * qlung_plugin contributors
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode
from turns import Ratio, describe_machine, take_turns

from qlung_plugin.lobes import features as front_ends
from qlung_plugin.lobes.models.ast import AST
from qlung_plugin.lobes.models.beats import BEATs
from qlung_plugin.lobes.models.clap import CLAP
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.models.panns import PANNs

TARGET = 1.05
PRECISIONS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# Rows of the square matrices whose product is the peak.
PEAK_SIZE = {"cpu": 512, "cuda": 8192}
MODES = ("default", "reduce-overhead", "max-autotune")

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


def measure(options):
    """All figures of one backbone."""
    device, batch = options.device, options.batch_size
    dtype = PRECISIONS[options.precision]
    front_end, build = BACKBONES[options.alone]
    front_end, backbone = front_end().to(device), build().to(device)
    waveforms = 0.1 * torch.randn(
        batch, round(options.seconds * front_end.sample_rate), device=device
    )
    features = front_end(waveforms)
    optimizer = torch.optim.Adam(backbone.parameters(), lr=1e-5)
    forwards = {"ours": backbone}
    if options.alone in DIRECTLY:
        forwards["directly"] = DIRECTLY[options.alone](backbone)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    precision = contextlib.nullcontext
    if options.precision != "fp32":
        precision = lambda: torch.autocast(device, dtype)  # noqa: E731

    def train(forward):
        def step():
            optimizer.zero_grad(set_to_none=True)
            with precision():
                loss = forward(features).float().square().mean()
            loss.backward()
            optimizer.step()

        return step

    def infer(forward):
        def run():
            with torch.inference_mode(), precision():
                forward(features)

        return run

    def turns(functions):
        return take_turns(functions, options.repetitions, wait)

    backbone.eval()
    if len(forwards) > 1:
        with torch.no_grad():
            torch.testing.assert_close(
                forwards["ours"](features), forwards["directly"](features)
            )
    front = turns({"front end": lambda: front_end(waveforms)})["front end"]
    inference = turns({kind: infer(f) for kind, f in forwards.items()})
    backbone.train()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(features)
    train(backbone)()
    # Of a step, before anything that takes turns with it takes memory of its own.
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = {kind: train(f) for kind, f in forwards.items()}
    if options.compile_mode is not None:
        compiled = torch.compile(
            backbone, mode=options.compile_mode, dynamic=False
        )
        steps["compiled"] = train(compiled)
    size = PEAK_SIZE[device]
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    training = turns({**steps, "peak": lambda: left @ right})
    ours = training["ours"]
    # Of a step over the product's: backward takes twice what forward does
    # (PyTorch's own count of it is too high where convolutions have groups).
    work = 3 * counter.get_total_flops() / (2 * size**3)
    best = training.get("compiled", ours)
    return {
        "parameters": sum(p.numel() for p in backbone.parameters()),
        "inference": batch / inference["ours"].typical,
        "training": batch / ours.typical,
        "front_end": batch / front.typical,
        "memory": memory,
        "peak": 2 * size**3 / training["peak"].typical / 1e12,
        "share": [work * part for part in training["peak"].over(best)],
        "to_transformers": [
            times["ours"].over(times["directly"])
            for times in (inference, training)
            if "directly" in times
        ],
        "compiled": [
            [batch / times.typical, times.over(ours)]
            for kind, times in training.items()
            if kind == "compiled"
        ],
    }


def main():
    """Prints a table; fails if AST or CLAP are slower than they may be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0, help="a cycle")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=tuple(PEAK_SIZE))
    parser.add_argument(
        "--precision", default="fp32", choices=tuple(PRECISIONS)
    )
    parser.add_argument(
        "--compile_mode", choices=MODES, help="compiled steps beside the others"
    )
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is not None:
        torch.manual_seed(0)
        print(json.dumps(measure(options)))
        return

    print(
        f"Cycles of {options.seconds:g} s a second, batch {options.batch_size},"
        f" {options.precision} on the {options.device}, {describe_machine()};"
        " of peak: a training step's operations, as a part of those of a product"
        " of matrices in its time; to transformers: inference, training"
    )
    print(
        "| backbone | parameters (M) | front end | inference | training | peak"
        " memory (GiB) | peak (TFLOP/s) | of peak | to transformers | compiled |"
    )
    print("| --- |" + 9 * " --- |")
    missed = []
    for name in options.backbones:
        finished = subprocess.run(
            [sys.executable, *sys.argv, "--alone", name],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        figures = json.loads(finished.stdout.splitlines()[-1])
        columns = [
            name,
            f"{figures['parameters'] / 1e6:.2f}",
            *(f"{figures[k]:.4g}" for k in ("front_end", "inference")),
            f"{figures['training']:.4g}",
            f"{figures['memory'] / 2**30:.1f}",
            f"{figures['peak']:.3g}",
            Ratio(*figures["share"]),
            ", ".join(str(Ratio(*r)) for r in figures["to_transformers"]),
            *(f"{v:.4g}: {Ratio(*r)}" for v, r in figures["compiled"]),
        ]
        print(f"| {' | '.join(map(str, columns))} |", flush=True)
        if any(Ratio(*r).median > TARGET for r in figures["to_transformers"]):
            missed.append(name)
    if missed:
        raise SystemExit(f"Target {TARGET} missed by {missed}")


if __name__ == "__main__":
    main()
