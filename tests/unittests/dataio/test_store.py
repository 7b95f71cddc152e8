"""Tests of the store of what is computed once from every cycle.

Authors
 * qlung_plugin contributors
"""

import errno
import json
import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from qlung_plugin.dataio import store as store_module
from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleMeasurements,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.dataio.store import CycleStore, store_cycles
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.quality import AudioQualityScore
from tests.unittests.dataio.stored import RATE, Scale, entry, folders


class AsPairs(Scale):
    """Rows of two samples in half precision."""

    def forward(self, waveform, native_rate):
        return waveform[: len(waveform) // 2 * 2].reshape(-1, 2).half()


class Columns(Scale):
    """As many columns as the cycle has hundreds of samples."""

    def forward(self, waveform, native_rate):
        return torch.ones(2, len(waveform) // 100)


class Fails(Scale):
    """Fails on a short cycle, and as told."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, waveform, native_rate):
        if len(waveform) < 300:
            raise self.error
        return waveform


# --- what comes back --------------------------------------------------------


def test_cycles_of_their_own_lengths(build, corpus, audio):
    store = build(corpus)
    assert len(store) == 4
    for cycle in corpus:
        assert store[cycle].dtype == torch.float32
        assert torch.equal(store[cycle], 2 * audio(cycle))


def test_half_precision_and_more_dimensions(build, corpus, audio):
    store = build(corpus, process=AsPairs())
    for cycle in corpus:
        expected = audio(cycle)
        expected = expected[: len(expected) // 2 * 2].reshape(-1, 2).half()
        assert store[cycle].dtype == torch.float16
        assert torch.equal(store[cycle], expected)


def test_numbers_are_copies(build, corpus, audio):
    store = build(corpus)
    store["a_0"].zero_()
    assert torch.equal(store["a_0"], 2 * audio("a_0"))


def test_unknown_cycle(build, corpus):
    with pytest.raises(KeyError, match="c_0"):
        build(corpus)["c_0"]


def test_to_another_process_goes_the_path(build, corpus, audio):
    store = build({"b_1": corpus["b_1"]})
    sent = pickle.dumps(store)
    assert len(sent) < 1000 < store["b_1"].numel()
    assert torch.equal(pickle.loads(sent)["b_1"], 2 * audio("b_1"))


def test_real_parts_come_back_as_computed(build, corpus, audio):
    process = CycleFeatures(
        CycleResampler(32000), FixedLength(32000), EfficientATFeatures()
    )
    store = build({"a_1": corpus["a_1"]}, process=process)
    assert torch.equal(store["a_1"], process(audio("a_1"), RATE))
    assert store["a_1"].shape == (800, 128)


# --- what goes wrong --------------------------------------------------------


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


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError("odd")])
def test_cycle_that_fails_is_named(build, corpus, tmp_path, error):
    with pytest.raises(ValueError, match="cycle b_0: odd"):
        build(corpus, process=Fails(error))
    assert folders(tmp_path) == []


def test_other_shape_is_not_stored(build, corpus, tmp_path):
    # In the order of the ids: 5 columns, 8 columns.
    with pytest.raises(ValueError, match="cycle a_1.*(8,).*(5,)"):
        build(corpus, process=Columns())
    assert folders(tmp_path) == []


def test_single_number_is_not_stored(build, corpus, monkeypatch):
    monkeypatch.setattr(Scale, "forward", lambda self, x, rate: x.sum())
    with pytest.raises(ValueError, match="cycle a_0"):
        build(corpus)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_interruption_leaves_nothing(build, corpus, audio, tmp_path, error):
    with pytest.raises(type(error)):
        build(corpus, process=Fails(error))
    assert folders(tmp_path) == []
    assert torch.equal(build(corpus)["b_0"], 2 * audio("b_0"))


class Killed(Scale):
    """Ends its process at once on a short cycle, as a kill does."""

    def forward(self, waveform, native_rate):
        if len(waveform) < 300:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(waveform, native_rate)


def _kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("when", ["compute", "write", "sync", "rename"])
def test_debris_of_a_killed_run_is_swept(
    build, corpus, audio, tmp_path, monkeypatch, when
):
    child = os.fork()
    if child == 0:  # a killed process cannot tidy up
        if when in ("sync", "rename"):
            monkeypatch.setattr(
                os, {"sync": "fsync", "rename": "rename"}[when], _kill
            )
        elif when == "write":
            monkeypatch.setattr(store_module.np, "ascontiguousarray", _kill)
        process = Killed() if when == "compute" else Scale()
        store_cycles([corpus], process, tmp_path / "cache", tmp_path / "data")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    (debris,) = folders(tmp_path)
    assert debris.startswith("partial-")
    stored = build(corpus)
    assert folders(tmp_path) == [stored.folder.name]
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in corpus)


def test_debris_is_swept_where_nothing_is_to_be_computed(
    build, corpus, tmp_path
):
    folder = build(corpus).folder
    (tmp_path / "cache" / "partial-0").mkdir()
    build(corpus)
    assert folders(tmp_path) == [folder.name]


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


def test_unwritable_cache(build, corpus, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(OSError):
        build(corpus)


# --- damaged stores ---------------------------------------------------------


def edit_index(seal=False, **changes):
    """Changes values of the index, with a right digest if sealed."""

    def edit(folder):
        path = folder / "index.json"
        index = json.loads(path.read_text())
        for key, change in changes.items():
            index[key] = change(index[key])
        if seal:
            del index["digest"]
            index["digest"] = store_module._digest(index)
        path.write_text(json.dumps(index))

    return edit


def truncate(name, share):
    def cut(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return cut


def edit_values(change):
    """Changes the values, which are [sample] in single precision."""

    def edit(folder):
        values = np.fromfile(folder / "values.raw", np.float32)
        change(values).tofile(folder / "values.raw")

    return edit


def flip(bit):
    """Another value of one bit, in cycle a_1."""

    def change(values):
        values.view(np.uint32)[600] ^= 1 << bit
        return values

    return change


def zero_page(values):
    values[512:640] = 0  # of cycle a_1
    return values


def swap_samples(values):
    values[[600, 700]] = values[[700, 600]]
    return values


def old_format(folder):
    """As the store was before it had checksums."""
    np.save(folder / "values.npy", np.fromfile(folder / "values.raw", "<f4"))
    (folder / "values.raw").unlink()
    index = json.loads((folder / "index.json").read_text())
    old = {key: index[key] for key in ("ids", "offsets")}
    (folder / "index.json").write_text(json.dumps(old))


DAMAGED_CYCLE = {
    "lowest bit": edit_values(flip(0)),
    "a page of zeros": edit_values(zero_page),
    "samples swapped": edit_values(swap_samples),
}
DAMAGED_STORE = {
    "values truncated": truncate("values.raw", 0.5),
    "values missing": lambda folder: (folder / "values.raw").unlink(),
    "more values": edit_values(lambda values: np.append(values, values[:10])),
    "index truncated": truncate("index.json", 0.5),
    "index missing": lambda folder: (folder / "index.json").unlink(),
    "index is a list": lambda folder: (folder / "index.json").write_text("[]"),
    "a key missing": lambda f: (f / "index.json").write_text('{"ids": []}'),
    "an id too few": edit_index(ids=lambda ids: ids[:-1]),
    "ids reordered": edit_index(ids=lambda ids: ids[::-1]),
    "late start": edit_index(offsets=lambda o: [1, *o[1:]]),
    "offsets of text": edit_index(offsets=lambda o: [str(i) for i in o]),
    "another type": edit_index(dtype=lambda dtype: "int32"),
    "another digest": edit_index(digest=lambda digest: digest[::-1]),
    "old format": old_format,
}


@pytest.mark.parametrize("damage", DAMAGED_CYCLE.values(), ids=DAMAGED_CYCLE)
def test_damaged_cycle_is_named_and_computed_again(
    build, corpus, audio, caplog, tmp_path, damage
):
    folder = build(corpus).folder
    damage(folder)
    assert CycleStore(folder).find_damaged() == ["a_1"]
    process = Scale()
    stored = build(corpus, process=process)
    assert process.calls == 2  # the digest's noise, and the cycle
    assert stored.folder == folder and folders(tmp_path) == [folder.name]
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in corpus)
    assert stored.find_damaged() == []
    (said,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "1 of 4 cycles" in said.message and "a_1" in said.message
    assert str(folder) in said.message


@pytest.mark.parametrize("damage", DAMAGED_STORE.values(), ids=DAMAGED_STORE)
def test_damaged_store_is_named_and_computed_again(
    build, corpus, audio, caplog, tmp_path, damage
):
    folder = build(corpus).folder
    damage(folder)
    with pytest.raises(ValueError, match="damaged.*again") as error:
        CycleStore(folder)
    assert str(folder) in str(error.value)
    stored = build(corpus)
    assert stored.folder == folder and folders(tmp_path) == [folder.name]
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in corpus)
    (said,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert str(folder) in said.message and "again" in said.message


def test_values_are_those_of_no_other_cycle(build, corpus, audio, caplog):
    folder = build(corpus).folder
    exchange = edit_index(
        seal=True,
        offsets=lambda o: o,
        ids=lambda ids: [ids[1], ids[0], *ids[2:]],
    )
    exchange(folder)
    stored = build(corpus)
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in corpus)
    assert "2 of 4 cycles" in caplog.text


def test_a_damaged_store_that_is_in_use_stays_as_it_was(build, corpus):
    before = build(corpus)
    kept = before["b_1"]
    edit_values(flip(0))(before.folder)
    edit_index(ids=lambda ids: ids[::-1])(before.folder)
    build(corpus)
    assert torch.equal(before["b_1"], kept)


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


def test_measured_together_as_one_by_one(corpus, audio, tmp_path):
    measurements = CycleMeasurements(AudioQualityScore(16000))
    store = store_cycles([corpus], measurements, tmp_path, tmp_path / "data")
    for cycle in corpus:
        torch.testing.assert_close(
            store[cycle], measurements(audio(cycle), RATE), atol=1e-6, rtol=1e-5
        )


class Together(Fails):
    """Several cycles at once, none of which may be short."""

    def batch(self, waveforms, native_rates):
        if min(map(len, waveforms)) < 300:
            raise self.error
        return torch.stack([waveform[:300] for waveform in waveforms])


def test_the_one_of_many_that_cannot_be_computed_is_named(build, corpus):
    with pytest.raises(ValueError, match="cycle b_0: odd"):
        build(corpus, process=Together(ValueError("odd")))
