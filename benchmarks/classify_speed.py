#!/usr/bin/env python3
"""Speed of ``classify_file`` against the bare forward pass, and of its engines.

Of each recording, after loading: ``classify_file`` opens and decodes the file,
reads its annotation, measures the quality and makes a table, with its network in
PyTorch and, if it is installed, in onnxruntime; the bare pass takes the front
end, backbone and classifier, as they were trained, on cycles that lie in memory.
Then the network alone on features, and, of a given ``model.onnx``, waveforms to
probabilities in PyTorch, by the engine ``onnx``, and by onnxruntime alone. All
take turns. Use an idle machine.

> python benchmarks/classify_speed.py --model results/qlung/1234 breath.wav

Authors
 * qlung_plugin contributors
"""

import argparse
import statistics

import torch
from turns import describe_machine, take_turns

from qlung_plugin.dataio.cycle_sources import find_cycles
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.engines import missing_packages
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.recording_cycles import BATCH

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


def compare_files(options, classifiers, trained):
    """``classify_file`` with each engine, and the bare pass, by recording."""
    medians = {name: [] for name in classifiers}
    for path in options.recordings:
        recording = Recording(path)
        times = find_cycles(recording, options.cycles).times
        waveforms = [recording.read(start, end) for start, end in times]
        functions = {
            name: lambda model=model: model.classify_file(path, options.cycles)
            for name, model in classifiers.items()
        }
        functions["bare"] = lambda: bare(
            trained, waveforms, recording.sample_rate
        )
        measured = take_turns(functions, options.repetitions)
        told = []
        for name in classifiers:
            base = "bare" if name == "torch" else "torch"
            ratio = measured[name].over(measured[base])
            medians[name].append(ratio.median)
            told.append(
                f"{name} {1000 * measured[name].typical:.0f} ms, {ratio} of"
                f" {base}"
            )
        print(
            f"{recording.path.name}: {recording.duration:.0f} s, {len(times)}"
            f" cycles, classify_file: {'; '.join(told)}",
            flush=True,
        )
    ratios = medians["torch"]
    print(
        f"{len(ratios)} recordings: ratio {statistics.median(ratios):.2f} in"
        f" the median, {max(ratios):.2f} at most; at most {TARGET} for"
        f" {sum(ratio <= TARGET for ratio in ratios)}"
    )
    if "onnx" in medians:
        ratios = medians["onnx"]
        print(
            f"onnx to torch: ratio {statistics.median(ratios):.2f} in the"
            f" median, {max(ratios):.2f} at most"
        )


@torch.inference_mode()
def compare_networks(engine, features, repetitions):
    """The network in PyTorch and in onnxruntime, on features."""
    for count in (1, BATCH):
        batch = features.expand(count, *features.shape[1:]).contiguous()
        measured = take_turns(
            {
                "torch": lambda: engine.whole(batch),
                "onnx": lambda: engine.network(batch),
            },
            repetitions,
        )
        tell(f"network, {count} cycles", measured, count)


@torch.inference_mode()
def compare_exported(path, engine, trained, repetitions):
    """From waveforms of the fixed length to probabilities."""
    from onnxruntime import InferenceSession, SessionOptions

    from qlung_plugin.inference.onnx_export import WaveformClassifier

    settings = SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(path, settings)
    module = WaveformClassifier(trained).eval()
    front_end = trained["cycle_features"]
    rate = front_end.resampler.sample_rate
    for count in (1, BATCH):
        waveforms = 0.1 * torch.randn(count, front_end.fix_length.length)
        given = {"waveforms": waveforms.numpy()}
        measured = take_turns(
            {
                "torch": lambda: module(waveforms),
                "onnx": lambda: engine(list(waveforms), rate),
                "model.onnx": lambda: session.run(None, given),
            },
            repetitions,
        )
        tell(f"waveforms, {count} cycles", measured, count)


def tell(what, measured, count):
    """The times of all, and their ratios to PyTorch's."""
    base = measured["torch"]
    told = [f"torch {1000 * base.typical / count:.1f} ms per cycle"]
    told += [
        f"{name} {1000 * times.typical / count:.1f} ms, ratio"
        f" {times.over(base)}, processor {times.processor_over(base)}"
        for name, times in measured.items()
        if name != "torch"
    ]
    print(f"{what}: {'; '.join(told)}", flush=True)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="of a training")
    parser.add_argument("--exported", metavar="model.onnx", help="of the same")
    parser.add_argument("--cycles", default="auto")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("recordings", nargs="+")
    options = parser.parse_args()
    names = ["torch"] if missing_packages() else ["torch", "onnx"]
    classifiers = {}
    for name in names:
        model = RespiratorySoundClassifier.from_hparams(options.model)
        model.use_engine(name)
        classifiers[name] = model
    trained = open_model(options.model)
    print(describe_machine())
    compare_files(options, classifiers, trained)
    if "onnx" in classifiers:
        engine = classifiers["onnx"].engine
        rate = trained["cycle_features"].resampler.sample_rate
        with torch.inference_mode():
            features = engine.features(0.1 * torch.randn(rate), rate, None)
        compare_networks(engine, features[None], options.repetitions)
        if options.exported:
            compare_exported(
                options.exported, engine, trained, options.repetitions
            )


if __name__ == "__main__":
    main()
