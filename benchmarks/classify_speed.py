#!/usr/bin/env python3
"""Speed of ``classify_file`` against the bare front end and forward pass.

Both see the cycles of one recording, after loading: ``classify_file`` opens and
decodes the file, reads its annotation, measures the quality and makes a table;
the bare pass takes the front end, backbone and classifier, as they were
trained, on cycles that lie in memory. They alternate. Use an idle machine.

> python benchmarks/classify_speed.py --model results/qlung/1234 breath.wav

Authors
 * qlung_plugin contributors
"""

import argparse
import statistics
import time

import torch

from qlung_plugin.dataio.cycle_sources import find_cycles
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.inference.classifier import BATCH, RespiratorySoundClassifier
from qlung_plugin.inference.models import open_model

TARGET = 1.2


@torch.inference_mode()
def bare(model, waveforms, native_rate):
    """Front end, backbone and classifier on cycles in memory."""
    for start in range(0, len(waveforms), BATCH):
        features = [
            model["cycle_features"](waveform, native_rate)
            for waveform in waveforms[start : start + BATCH]
        ]
        embeddings = model["backbone"](torch.stack(features).float())
        model["classifier"](embeddings)


def seconds(function, *arguments):
    """How long a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="of a training")
    parser.add_argument("--cycles", default="auto")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("recordings", nargs="+")
    options = parser.parse_args()
    model = RespiratorySoundClassifier.from_hparams(options.model)
    trained = open_model(options.model)
    medians = []
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for path in options.recordings:
        recording = Recording(path)
        times = find_cycles(recording, options.cycles).times
        waveforms = [recording.read(start, end) for start, end in times]
        measured, alone = [], []
        for _ in range(options.repetitions + 1):
            measured.append(seconds(model.classify_file, path, options.cycles))
            alone.append(
                seconds(bare, trained, waveforms, recording.sample_rate)
            )
        # The first of each makes kernels that are kept.
        measured, alone = measured[1:], alone[1:]
        ratios = [one / other for one, other in zip(measured, alone)]
        medians.append(statistics.median(ratios))
        print(
            f"{recording.path.name}: {recording.duration:.0f} s,"
            f" {len(times)} cycles, classify_file"
            f" {1000 * statistics.median(measured):.0f} ms, bare"
            f" {1000 * statistics.median(alone):.0f} ms, ratio"
            f" {medians[-1]:.2f}",
            flush=True,
        )
    print(
        f"{len(medians)} recordings: ratio {statistics.median(medians):.2f} in"
        f" the median, {max(medians):.2f} at most; at most {TARGET} for"
        f" {sum(median <= TARGET for median in medians)}"
    )


if __name__ == "__main__":
    main()
