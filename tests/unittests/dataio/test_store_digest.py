"""Tests of what tells one store from another.

Authors
 * qlung_plugin contributors
"""

import copy
import json
import os

import numpy as np
import pytest
import torch
from torch import nn

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.dataio.quality import CycleMeasurements
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


def test_the_same_elsewhere_is_the_same_store(build, corpus, tmp_path):
    """And so it is with other facts, which are not processed."""
    folder = build(corpus).folder
    (tmp_path / "data").rename(tmp_path / "moved")
    for content in corpus.values():
        content["label"] = "both"
    arguments = Scale(), tmp_path / "cache", tmp_path / "moved"
    assert store_cycles([corpus], *arguments).folder == folder


def rewrite(corpus, data):
    """Other samples, as if written a second later than the original."""
    path = data / "b.wav"
    before = path.stat()
    write_recording(path, seed=3)
    assert path.stat().st_size == before.st_size
    later = before.st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        lambda corpus, _: corpus["b_0"]["wav"].update(start=11),
        lambda corpus, _: corpus["a_0"]["wav"].update(stop=499),
        lambda corpus, _: corpus["a_0"].update(sample_rate=8000),
        lambda corpus, _: corpus.update(a_9=corpus.pop("a_1")),
        lambda corpus, _: corpus.pop("a_1"),
    ],
    ids=["audio", "start", "stop", "rate", "id", "one less"],
)
def test_other_cycles_are_another_store(build, corpus, audio, tmp_path, change):
    before = build(corpus)
    kept = {cycle: before[cycle] for cycle in corpus}
    change(corpus, tmp_path / "data")
    after = build(corpus)
    assert after.folder != before.folder
    assert all(torch.equal(after[c], 2 * audio(c)) for c in corpus)
    # The one before is still what it was.
    assert all(torch.equal(before[cycle], kept[cycle]) for cycle in kept)


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
        (input_features(), input_features(f_max=14990.0)),
        (input_features(), input_features(duration=5.0)),
        (input_features(), input_features(fade=0.06)),
        (input_features(), input_features(first=True)),
        (measurements(), measurements(entropy="spectrum")),
        # The same FFT, and much the same entropy.
        (measurements(), measurements(window_length=24.0)),
    ],
)
def test_another_function_is_another_store(build, corpus, one, other):
    manifest = {"a_0": corpus["a_0"]}
    first = build(manifest, process=one)
    assert build(manifest, process=copy.deepcopy(one)).folder == first.folder
    assert build(manifest, process=other).folder != first.folder


@pytest.mark.parametrize(
    "code",
    [
        lambda self, x, rate: x * self.factor + 1,
        # Of silence alone.
        lambda self, x, rate: torch.where(x == 0, 1.0, x * self.factor),
    ],
)
def test_changed_code_is_another_store(build, corpus, monkeypatch, code):
    folder = build(corpus).folder
    monkeypatch.setattr(Scale, "forward", code)
    assert build(corpus).folder != folder


class Anything(nn.Module):
    """A module with an attribute of any kind."""

    def __init__(self, value):
        super().__init__()
        self.value = value


@pytest.mark.parametrize(
    "one, other",
    [
        (1, 1.5),
        ("frames", "spectrum"),
        (None, 0),
        ([[1], [2]], [[1], [3]]),
        ({"bands": [1, 2]}, {"bands": [1, 3]}),
        (torch.float16, torch.float32),
        (np.float32(1), np.float32(2)),
        (torch.relu, torch.sigmoid),
        (torch.zeros(2), torch.ones(2)),
        ([torch.zeros(2)], [torch.zeros(3)]),
        (nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=True)),
        (nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))),
        ([Anything(1)], [Anything(2)]),
        (nn.ReLU(), nn.GELU()),
    ],
)
def test_description_tells_settings_apart(one, other):
    described = describe_module(Anything(one))
    assert json.loads(json.dumps(described)) == described
    assert describe_module(Anything(copy.deepcopy(one))) == described
    assert describe_module(Anything(other)) != described


def test_fitting_needs_no_other_store(build, corpus):
    process = measurements(normalisation="fitted")
    store = build(corpus, process=process)
    process.quality.fit(torch.stack([store[cycle] for cycle in corpus]))
    assert build(corpus, process=process.train()).folder == store.folder
