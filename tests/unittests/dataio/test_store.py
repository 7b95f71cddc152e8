"""Tests of the store of what is computed once from every cycle.

Authors
 * qlung_plugin contributors
"""

import errno
import os
import pickle
import signal
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.lobes.features import EfficientATFeatures
from tests.unittests.dataio.stored import RATE, Scale, entry, folders


class Fails(Scale):
    """Fails on a short cycle, and as told."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, waveform, native_rate):
        if len(waveform) < 300:
            raise self.error
        return waveform


class AsPairs(Scale):
    """Rows of two samples in half precision."""

    def forward(self, waveform, native_rate):
        return waveform[: len(waveform) // 2 * 2].reshape(-1, 2).half()


@pytest.mark.parametrize("process", [Scale(), AsPairs()])
def test_cycles_of_their_own_lengths(build, corpus, audio, process):
    """And of their own type and dimensions; what is read is a copy."""
    store = build(corpus, process=process)
    assert len(store) == 4
    for cycle in corpus:
        expected = process(audio(cycle), RATE)
        assert store[cycle].dtype == expected.dtype
        assert torch.equal(store[cycle].clone(), expected)
        store[cycle].zero_()
        assert torch.equal(store[cycle], expected)


def test_to_another_process_goes_the_path(build, corpus, audio):
    store = build({"b_1": corpus["b_1"]})
    sent = pickle.dumps(store)
    assert len(sent) < 1000 < store["b_1"].numel()
    assert torch.equal(pickle.loads(sent)["b_1"], 2 * audio("b_1"))


def test_no_cycle(build):
    with pytest.raises(ValueError, match="no cycle"):
        build({}, {})


def test_two_cycles_of_one_name(build, corpus):
    other = {"a_0": entry("a.wav", 0, 501)}
    with pytest.raises(ValueError, match="two cycles a_0"):
        build(corpus, other)


def test_missing_recording_is_named(build, corpus, tmp_path):
    (tmp_path / "data" / "b.wav").unlink()
    with pytest.raises(FileNotFoundError, match="b.wav"):
        build(corpus)


def test_cycle_that_fails_is_named(build, corpus, tmp_path):
    with pytest.raises(ValueError, match="cycle b_0: odd"):
        build(corpus, process=Fails(RuntimeError("odd")))
    assert folders(tmp_path) == []


@pytest.mark.parametrize("shape", [(2, -1), ()])
def test_other_shapes_are_not_stored(build, corpus, tmp_path, shape):
    """After the first dimension they are one; a number has none."""

    class Shaped(Scale):
        def forward(self, waveform, native_rate):
            return (waveform if shape else waveform.sum()).reshape(shape)

    with pytest.raises(ValueError, match="cycle (a_0: a number|b_1: .*1000)"):
        build({key: corpus[key] for key in ("a_0", "b_1")}, process=Shaped())
    assert folders(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_interruption_leaves_nothing(build, corpus, audio, tmp_path, error):
    with pytest.raises(type(error)):
        build(corpus, process=Fails(error))
    assert folders(tmp_path) == []
    assert torch.equal(build(corpus)["b_0"], 2 * audio("b_0"))


@pytest.mark.parametrize("when", ["fsync", "rename"])
def test_debris_of_a_killed_run_is_swept(
    build, corpus, audio, tmp_path, monkeypatch, when
):
    child = os.fork()
    if child == 0:  # a killed process cannot tidy up
        killed = partial(os.kill, os.getpid(), signal.SIGKILL)
        monkeypatch.setattr(os, when, lambda *arguments: killed())
        store_cycles([corpus], Scale(), tmp_path / "cache", tmp_path / "data")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    (debris,) = folders(tmp_path)
    assert debris.startswith("partial-")
    stored = build(corpus)
    assert folders(tmp_path) == [stored.folder.name]
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in corpus)
    # Also where nothing is to be computed.
    (tmp_path / "cache" / debris).mkdir()
    build(corpus)
    assert folders(tmp_path) == [stored.folder.name]


def test_a_cache_that_is_read_only_is_used_as_it_is(
    build, corpus, audio, tmp_path, monkeypatch
):
    folder = build(corpus).folder
    (tmp_path / "cache" / "partial-0").mkdir()
    opened = os.open

    def read_only(path, flags, *mode):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", path)
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    stored = build(corpus)
    assert stored.folder == folder
    assert torch.equal(stored["a_0"], 2 * audio("a_0"))


class Waits(Scale):
    """Computes when it is told to."""

    def __init__(self, started, go_on):
        super().__init__(5.0)
        self.started, self.go_on = started, go_on

    def forward(self, waveform, native_rate):
        if len(waveform) != 8000:  # that of the digest
            self.started.set()
            assert self.go_on.wait(30)
        return super().forward(waveform, native_rate)


def test_what_another_run_is_writing_is_not_swept(
    build, corpus, audio, tmp_path
):
    started, go_on, stores = threading.Event(), threading.Event(), []
    process = Waits(started, go_on)
    other = threading.Thread(
        target=lambda: stores.append(build(corpus, process=process))
    )
    other.start()
    assert started.wait(30)
    dead = tmp_path / "cache" / "partial-0"
    dead.mkdir()
    build(corpus)
    assert len(folders(tmp_path)) == 3
    go_on.set()
    other.join()
    assert torch.equal(stores[0]["a_0"], 5 * audio("a_0"))
    build(corpus)
    assert not dead.exists() and len(folders(tmp_path)) == 2


def test_four_runs_at_a_time(build, corpus, audio, tmp_path, monkeypatch):
    rename, barrier = os.rename, threading.Barrier(4, timeout=30)

    def together(source, target):
        barrier.wait()
        rename(source, target)

    monkeypatch.setattr(os, "rename", together)
    stores = []
    threads = [
        threading.Thread(target=lambda: stores.append(build(corpus)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 4 and barrier.n_waiting == 0
    assert folders(tmp_path) == [stores[0].folder.name]
    for store in stores:
        assert all(torch.equal(store[c], 2 * audio(c)) for c in corpus)


def test_files_are_synced_before_they_are_in_their_place(
    build, corpus, tmp_path, monkeypatch
):
    done = []

    def sync(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    rename = os.rename
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(
        os, "rename", lambda *paths: (done.append("moved"), rename(*paths))
    )
    build(corpus)
    files, partial, moved, cache = done[:2], *done[2:]
    assert files == ["values.raw", "index.json"]
    assert partial.startswith("partial-")
    assert (moved, cache) == ("moved", "cache")


@pytest.fixture
def set_threads():
    """Sets the number of PyTorch's threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_any_number_of_threads_stores_the_same(
    corpus, audio, tmp_path, set_threads
):
    features = CycleFeatures(
        CycleResampler(32000), FixedLength(32000), EfficientATFeatures()
    )
    stores = []
    for threads in (1, 3):
        set_threads(threads)
        stores.append(
            store_cycles(
                [corpus], features, tmp_path / f"{threads}", tmp_path / "data"
            )
        )
        assert torch.get_num_threads() == threads
        assert not stores[-1]["a_0"].requires_grad
    np.testing.assert_array_equal(stores[0].values, stores[1].values)


def test_a_failure_leaves_the_number_of_threads(build, corpus, set_threads):
    set_threads(3)
    with pytest.raises(ValueError, match="cycle b_0"):
        build(corpus, process=Fails(ValueError("no")))
    assert torch.get_num_threads() == 3
    started = []
    thread = threading.Thread(
        target=lambda: started.append(torch.get_num_threads())
    )
    thread.start()
    thread.join()
    assert started == [3]
