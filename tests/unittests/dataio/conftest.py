"""A small corpus, and its store.

Authors
 * qlung_plugin contributors
"""

import pytest
import soundfile
import torch

from qlung_plugin.dataio.store import store_cycles
from tests.unittests.dataio.stored import Scale, entry, write_recording


@pytest.fixture
def corpus(tmp_path):
    """Two recordings, four cycles."""
    data = tmp_path / "data"
    data.mkdir()
    write_recording(data / "a.wav", seed=1)
    write_recording(data / "b.wav", seed=2)
    return {
        "a_0": entry("a.wav", 0, 500),
        "a_1": entry("a.wav", 500, 1301),
        "b_0": entry("b.wav", 10, 210),
        "b_1": entry("b.wav", 0, 2000),
    }


@pytest.fixture
def build(tmp_path):
    """Stores manifests in the test's cache."""

    def build(*manifests, process=None):
        process = Scale() if process is None else process
        return store_cycles(
            manifests, process, tmp_path / "cache", tmp_path / "data"
        )

    return build


@pytest.fixture
def audio(tmp_path, corpus):
    """What a cycle of the corpus sounds like."""

    def audio(cycle):
        wav = corpus[cycle]["wav"]
        path = wav["file"].replace("{data_root}", str(tmp_path / "data"))
        sound, _ = soundfile.read(path, dtype="float32")
        return torch.from_numpy(sound[wav["start"] : wav["stop"]])

    return audio
