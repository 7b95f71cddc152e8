"""Tests of what tells one store from another.

Authors
 * qlung_plugin contributors
"""

import copy
import json
import os
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleMeasurements,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.dataio.store_digest import describe_module
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.quality import AudioQualityScore
from tests.unittests.dataio.stored import Scale, folders, write_recording


class ScaleToo(Scale):
    """Another class that does the same."""


def test_computed_once(build, corpus, tmp_path):
    first, second = Scale(), Scale()
    folder = build(corpus, process=first).folder
    assert build(corpus, process=second).folder == folder
    assert folders(tmp_path) == [folder.name]
    # The second answered to the digest's noise alone.
    assert first.calls == second.calls + len(corpus)


def test_distribution_over_manifests_is_all_the_same(build, corpus):
    items = list(corpus.items())
    folder = build(corpus).folder
    assert build(dict(items[:2]), dict(items[2:])).folder == folder
    assert build(dict(items[2:]), {}, dict(items[:2])).folder == folder
    assert build(dict(items[::-1])).folder == folder
    assert build(corpus, dict(items[1:3])).folder == folder


def test_same_data_elsewhere(build, corpus, tmp_path):
    folder = build(corpus).folder
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    shutil.rmtree(tmp_path / "data")
    store = store_cycles(
        [corpus], Scale(), tmp_path / "cache", tmp_path / "copy"
    )
    assert store.folder == folder


def test_what_is_not_processed_does_not_matter(build, corpus):
    folder = build(corpus).folder
    for content in corpus.values():
        content["label"] = "both"
    assert build(corpus).folder == folder


def change_audio(corpus, data):
    path = data / "b.wav"
    before = path.stat()
    write_recording(path, seed=3)
    assert path.stat().st_size == before.st_size
    # As if it had been written a second later than the original.
    later = before.st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


def change_start(corpus, data):
    corpus["b_0"]["wav"]["start"] += 1


def change_stop(corpus, data):
    corpus["a_0"]["wav"]["stop"] -= 1


def change_rate(corpus, data):
    corpus["a_0"]["sample_rate"] = 8000


def change_id(corpus, data):
    corpus["a_9"] = corpus.pop("a_1")


def drop_cycle(corpus, data):
    del corpus["a_1"]


@pytest.mark.parametrize(
    "change",
    [
        change_audio,
        change_start,
        change_stop,
        change_rate,
        change_id,
        drop_cycle,
    ],
)
def test_other_cycles_are_another_store(build, corpus, audio, tmp_path, change):
    before = build(corpus)
    kept = {cycle: before[cycle] for cycle in corpus}
    change(corpus, tmp_path / "data")
    after = build(corpus)
    assert after.folder != before.folder
    for cycle in corpus:
        assert torch.equal(after[cycle], 2 * audio(cycle))
    # The one before is still what it was.
    assert all(torch.equal(before[cycle], kept[cycle]) for cycle in kept)


def test_swapped_recordings_are_another_store(build, corpus, tmp_path):
    folder = build(corpus).folder
    a, b = tmp_path / "data" / "a.wav", tmp_path / "data" / "b.wav"
    a.rename(tmp_path / "c.wav")
    b.rename(a)
    (tmp_path / "c.wav").rename(b)
    assert build(corpus).folder != folder


def input_features(rate=32000, duration=8.0, fade=0.0625, first=False, **mel):
    return CycleFeatures(
        CycleResampler(rate),
        FixedLength(rate, duration, fade, first),
        EfficientATFeatures(**mel),
    )


def measurements(**settings):
    return CycleMeasurements(AudioQualityScore(16000, **settings))


@pytest.mark.parametrize(
    "one, other",
    [
        (Scale(), Scale(3.0)),
        (Scale(), ScaleToo()),
        (CycleResampler(32000), CycleResampler(16000)),
        (input_features(), input_features(n_mels=64)),
        (input_features(), input_features(f_min=50.0)),
        (input_features(), input_features(f_max=14990.0)),
        (input_features(), input_features(duration=5.0)),
        (input_features(), input_features(fade=0.06)),
        (input_features(), input_features(first=True)),
        (measurements(), measurements(entropy="spectrum")),
        (measurements(), measurements(f_max=1999.0)),
        (measurements(), measurements(hop_length=12.0)),
        # The same FFT, and much the same entropy.
        (measurements(), measurements(window_length=24.0)),
    ],
)
def test_another_function_is_another_store(build, corpus, one, other):
    manifest = {"a_0": corpus["a_0"]}
    first = build(manifest, process=one)
    assert build(manifest, process=copy.deepcopy(one)).folder == first.folder
    assert build(manifest, process=other).folder != first.folder


def test_changed_code_is_another_store(build, corpus, monkeypatch):
    folder = build(corpus).folder
    monkeypatch.setattr(
        Scale, "forward", lambda self, x, rate: x * self.factor + 1
    )
    store = build(corpus)
    assert store.folder != folder
    assert store["a_0"].mean() > 0.5


def test_other_code_for_silence_is_another_store(build, corpus, monkeypatch):
    folder = build(corpus).folder
    monkeypatch.setattr(
        Scale,
        "forward",
        lambda self, x, rate: torch.where(x == 0, 1.0, x * self.factor),
    )
    assert build(corpus).folder != folder


# --- description ------------------------------------------------------------


class Anything(nn.Module):
    """A module with an attribute of any kind."""

    def __init__(self, value):
        super().__init__()
        self.value = value


def half(x):
    return x / 2


def double(x):
    return x * 2


@pytest.mark.parametrize(
    "one, other",
    [
        (1, 2),
        (1.0, 1.5),
        ("frames", "spectrum"),
        (None, 0),
        (True, False),
        ((1, 2), (2, 1)),
        ([[1], [2]], [[1], [3]]),
        ({"order": 2}, {"order": 3}),
        ({"bands": [1, 2]}, {"bands": [1, 3]}),
        (torch.float16, torch.float32),
        (np.float32(1), np.float32(2)),
        (half, double),
        (torch.zeros(2), torch.ones(2)),
        (torch.zeros(2), torch.zeros(3)),
        ([torch.zeros(2)], [torch.ones(2)]),
        (nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=True)),
        (nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))),
        (Anything(1), Anything(2)),
        ([Anything(1)], [Anything(2)]),
        (nn.ReLU(), nn.GELU()),
    ],
)
def test_description_tells_settings_apart(one, other):
    described = json.dumps(describe_module(Anything(one)))
    assert (
        json.dumps(describe_module(Anything(copy.deepcopy(one)))) == described
    )
    assert json.dumps(describe_module(Anything(other))) != described


def test_description_ignores_what_was_fitted():
    measure = measurements(normalisation="fitted")
    described = describe_module(measure)
    measure.quality.fit(torch.tensor([[0.1, 0.0], [0.9, 0.5]]))
    assert describe_module(measure) == described
    assert describe_module(copy.deepcopy(measure).train()) == described


def test_fitting_needs_no_other_store(build, corpus):
    process = measurements(normalisation="fitted")
    store = build(corpus, process=process)
    process.quality.fit(torch.stack([store[cycle] for cycle in corpus]))
    assert build(corpus, process=process).folder == store.folder
