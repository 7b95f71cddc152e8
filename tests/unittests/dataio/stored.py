"""What is stored of cycles in the tests of the store.

Authors
 * qlung_plugin contributors
"""

import threading

import numpy as np
import soundfile
import torch
from torch import nn

RATE = 4000
COUNTING = threading.Lock()  # cycles are computed side by side


class Scale(nn.Module):
    """The cycle times a factor; counts its calls."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, waveform, native_rate):
        with COUNTING:
            self.calls += 1
        return waveform * self.factor


def write_recording(path, seed, samples=2000):
    sound = np.random.default_rng(seed).uniform(-0.9, 0.9, samples)
    soundfile.write(path, sound, RATE, "PCM_16")


def entry(file, start, stop):
    wav = {"file": "{data_root}/" + file, "start": start, "stop": stop}
    return {"wav": wav, "sample_rate": RATE, "label": "normal"}


def folders(tmp_path):
    cache = tmp_path / "cache"
    return sorted(path.name for path in cache.iterdir() if path.is_dir())
