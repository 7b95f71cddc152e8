"""Tests of what is measured in whole recordings, for training and for use.

Authors
 * qlung_plugin contributors
"""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.dataio.store import store_cycles, store_references
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.lobes.features import (
    EfficientATFeatures,
    MelBand,
    NormalisedFeatures,
    RecordingLevel,
)
from tests.unittests.dataio.stored import folders
from tests.unittests.recording_checks import make_modules

NATIVE = 44100


def normalised(**arguments):
    return CycleFeatures(
        CycleResampler(32000),
        FixedLength(32000, duration=1.0),
        NormalisedFeatures(
            EfficientATFeatures(),
            **{
                "level": RecordingLevel(),
                "band": MelBand(),
                "spectral_mean": True,
                **arguments,
            },
        ),
    )


@pytest.fixture
def data(tmp_path):
    """Two recordings of different levels, half of each annotated."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate("ab"):
        sound = np.random.default_rng(number).normal(size=13 * NATIVE)
        sound[4 * NATIVE : 5 * NATIVE] = 0
        sound *= 0.01 * 10**number
        soundfile.write(folder / f"{name}.wav", sound, NATIVE, "PCM_16")
    return folder


def manifest(folder):
    return {
        f"{name}_{start}": {
            "wav": {
                "file": str(folder / f"{name}.wav"),
                "start": start * NATIVE,
                "stop": (start + 2) * NATIVE,
            },
            "sample_rate": NATIVE,
        }
        for name in "ab"
        for start in (0, 3)
    }


def test_stored_features_are_those_of_classify_file(tmp_path, data):
    """To the last bit; of a cycle on its own they are others."""
    modules = {**make_modules(), "cycle_features": normalised()}
    model = RespiratorySoundClassifier(modules, {"labels": ["no", "yes"]})
    entries = manifest(data)
    store = store_cycles([entries], normalised(), tmp_path / "cache")
    seen = []
    model.mods.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    for name in "ab":
        path = data / f"{name}.wav"
        model.classify_file(path, [(0.0, 2.0), (3.0, 5.0)])
        stored = torch.stack([store[f"{name}_0"], store[f"{name}_3"]]).float()
        assert torch.equal(seen[-1], stored)
    waveform, _ = soundfile.read(path, frames=2 * NATIVE, dtype="float32")
    alone = normalised()(torch.from_numpy(waveform), NATIVE).float()
    assert (alone - stored[0]).abs().max() > 0.05


def test_references_are_stored_once_per_recording(tmp_path, data):
    entries, cache = manifest(data), tmp_path / "cache"
    features = normalised()
    references = store_references([entries], features, cache)
    assert references.keys() == {str(data / f"{name}.wav") for name in "ab"}
    for file, reference in references.items():
        sound, _ = soundfile.read(file, dtype="float32")
        expected = features.recording_reference(torch.from_numpy(sound), NATIVE)
        assert torch.equal(reference, expected)
    # What comes after, and which cycles there are, does not matter.
    few = dict([*entries.items()][1:3])
    for other in (
        normalised(band=None),
        normalised(after=torch.nn.Softmax(-1)),
    ):
        assert store_references([few], other, cache).keys() == references.keys()
    assert len(folders(tmp_path)) == 1
    store_references([entries], normalised(level=None), cache)
    assert len(folders(tmp_path)) == 2
    plain = normalised(level=None, spectral_mean=False)
    assert store_references([entries], plain, cache) is None


def test_the_same_recordings_elsewhere_are_the_same_store(tmp_path, data):
    cache = tmp_path / "cache"
    store_cycles([manifest(data)], normalised(), cache)
    before = folders(tmp_path)
    shutil.move(data, tmp_path / "elsewhere")
    store_cycles([manifest(tmp_path / "elsewhere")], normalised(), cache)
    assert folders(tmp_path) == before and len(before) == 2


def test_nothing_of_another_recording_enters(tmp_path, data):
    """Nor of what lies outside of one's own, which does enter."""
    entries = manifest(data)
    before = store_cycles([entries], normalised(), tmp_path / "cache")
    sound, _ = soundfile.read(data / "b.wav")
    shuffled = np.random.default_rng(0).permutation(sound[6 * NATIVE :])
    sound[6 * NATIVE :] = 5 * shuffled  # no cycle is there
    soundfile.write(data / "b.wav", sound, NATIVE, "PCM_16")
    after = store_cycles([entries], normalised(), tmp_path / "cache")
    for cycle in entries:
        same = torch.equal(before[cycle], after[cycle])
        assert same == cycle.startswith("a")
