"""Tests of what is damaged in a store, and of what others hold of its cycles.

Authors
 * qlung_plugin contributors
"""

import json
import os
from functools import partial

import numpy as np
import pytest
import torch

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.dataio.store_values import CycleStore, _digest
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.quality import AudioQualityScore
from tests.unittests.dataio.stored import Scale, folders


def edit_index(seal=False, **changes):
    """Changes values of the index, with a right digest if sealed."""

    def edit(folder):
        path = folder / "index.json"
        index = json.loads(path.read_text())
        for key, change in changes.items():
            index[key] = change(index[key])
        if seal:
            del index["digest"]
            index["digest"] = _digest(index)
        path.write_text(json.dumps(index))

    return edit


def edit_values(change):
    """Changes the values, which are [sample] in single precision."""

    def edit(folder):
        values = np.fromfile(folder / "values.raw", np.float32)
        change(values).tofile(folder / "values.raw")

    return edit


def flip_bit(values):
    values.view(np.uint32)[600] ^= 1  # of cycle a_1
    return values


DAMAGED = {
    "values missing": lambda folder: (folder / "values.raw").unlink(),
    "more values": edit_values(lambda values: np.append(values, values[:10])),
    "index missing": lambda folder: (folder / "index.json").unlink(),
    "index truncated": lambda folder: os.truncate(folder / "index.json", 99),
    "index is a list": lambda folder: (folder / "index.json").write_text("[]"),
    "a key missing": lambda f: (f / "index.json").write_text('{"ids": []}'),
    "ids reordered": edit_index(ids=lambda ids: ids[::-1]),
    "offsets of text": edit_index(
        seal=True, offsets=lambda o: [str(i) for i in o]
    ),
    "another type": edit_index(dtype=lambda dtype: "int32"),
}


def test_damaged_cycle_is_named_and_computed_again(
    build, corpus, audio, caplog, tmp_path
):
    folder = build(corpus).folder
    edit_values(flip_bit)(folder)
    assert CycleStore(folder).find_damaged() == ["a_1"]
    process = Scale()
    stored = build(corpus, process=process)
    assert process.calls == 2  # the digest's noise, and the cycle
    assert stored.folder == folder and folders(tmp_path) == [folder.name]
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in corpus)
    assert stored.find_damaged() == []
    (said,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert (
        f"1 of 4 cycles in {folder}" in said.message and "a_1" in said.message
    )
    # A checksum is of the id, too: values are those of no other cycle.
    exchange = edit_index(seal=True, ids=lambda ids: [ids[1], ids[0], *ids[2:]])
    exchange(folder)
    assert CycleStore(folder).find_damaged() == ["a_1", "a_0"]


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_store_is_named_and_computed_again(
    build, corpus, audio, caplog, tmp_path, damage
):
    folder = build(corpus).folder
    damage(folder)
    with pytest.raises(ValueError, match=f"{folder} is damaged.*again"):
        CycleStore(folder)
    stored = build(corpus)
    assert stored.folder == folder and folders(tmp_path) == [folder.name]
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in corpus)
    assert f"{folder} is damaged" in caplog.text


def test_a_damaged_store_that_is_in_use_stays_as_it_was(build, corpus):
    before = build(corpus)
    kept = before["b_1"]
    edit_values(flip_bit)(before.folder)
    edit_index(ids=lambda ids: ids[::-1])(before.folder)
    build(corpus)
    assert torch.equal(before["b_1"], kept)


def test_only_what_no_other_store_holds_is_computed(
    build, corpus, audio, tmp_path
):
    """Under whatever name; a function of its own computes all."""
    items = list(corpus.items())
    build(dict(items[:2]))
    build(dict(items[1:3]))
    renamed = {f"x_{cycle}": value for cycle, value in items}
    process = Scale()
    stored = build(renamed, process=process)
    assert process.calls == 2  # the digest's noise, and the fourth
    assert all(torch.equal(stored[f"x_{c}"], 2 * audio(c)) for c in corpus)
    assert stored.find_damaged() == []
    assert len(folders(tmp_path)) == 3
    process = Scale(3.0)
    assert torch.equal(build(corpus, process=process)["a_0"], 3 * audio("a_0"))
    assert process.calls == 5


@pytest.mark.parametrize(
    "process",
    [
        CycleFeatures(
            CycleResampler(32000), FixedLength(32000), EfficientATFeatures()
        ),
        CycleMeasurements(AudioQualityScore(16000)),
    ],
    ids=lambda process: type(process).__name__,
)
def test_what_another_store_holds_is_the_same_to_the_bit(
    corpus, tmp_path, process
):
    store = partial(store_cycles, data_root=tmp_path / "data")
    items = list(corpus.items())
    for part in (items[:3], items[2:]):
        store([dict(part)], process, tmp_path / "parts")
    parts = store([corpus], process, tmp_path / "parts")
    whole = store([corpus], process, tmp_path / "whole")
    assert parts.folder.name == whole.folder.name
    for name in ("index.json", "values.raw"):
        expected = (whole.folder / name).read_bytes()
        assert (parts.folder / name).read_bytes() == expected


def test_of_a_damaged_store_the_others_take_what_is_whole(
    build, corpus, audio, caplog
):
    folder = build(corpus).folder
    edit_values(flip_bit)(folder)
    process = Scale()
    part = {cycle: corpus[cycle] for cycle in ("a_0", "a_1")}
    stored = build(part, process=process)
    assert process.calls == 2  # the digest's noise, and a_1
    assert all(torch.equal(stored[c], 2 * audio(c)) for c in part)
    (folder / "index.json").unlink()
    assert torch.equal(build({"b_0": corpus["b_0"]})["b_0"], 2 * audio("b_0"))
    assert "damaged" not in caplog.text


def test_a_damaged_cycle_whose_like_is_whole(build, corpus, audio):
    """It is written again, though nothing is to be computed."""
    twins = {"a_1": corpus["a_1"], "z_1": corpus["a_1"]}
    folder = build(twins).folder
    edit_values(lambda values: np.append(values[:1] + 1, values[1:]))(folder)
    assert CycleStore(folder).find_damaged() == ["a_1"]
    stored = build(twins)
    assert stored.find_damaged() == []
    assert all(torch.equal(stored[c], 2 * audio("a_1")) for c in twins)
