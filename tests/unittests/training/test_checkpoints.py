"""Tests of the checkpointer that ignores what was not saved completely.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch

from qlung_plugin.training.checkpoints import (
    CompleteCheckpointer,
    find_checkpoint,
)
from qlung_plugin.training.selection import selection_key
from speechbrain.utils.checkpoints import Checkpointer


class Interrupted(Exception):
    """Stands for the kill."""


def save_interrupted(checkpointer, model, meta):
    """Stops in the middle of saving, after the first recoverable."""

    def interrupt(obj, path):
        path.write_bytes(b"half a file")
        raise Interrupted

    checkpointer.custom_save_hooks["second"] = interrupt
    with pytest.raises(Interrupted):
        checkpointer.save_checkpoint(meta=meta)
    del checkpointer.custom_save_hooks["second"]


def make(folder):
    model = torch.nn.Linear(1, 1)
    second = torch.nn.Linear(1, 1)
    recoverables = {"first": model, "second": second}
    return model, CompleteCheckpointer(folder, recoverables)


def test_recovery_after_an_interrupted_save(tmp_path):
    model, checkpointer = make(tmp_path)
    torch.nn.init.constant_(model.weight, 1.0)
    checkpointer.save_checkpoint(meta={"score": 1.0})
    torch.nn.init.constant_(model.weight, 2.0)
    save_interrupted(checkpointer, model, {"score": 2.0})

    model, checkpointer = make(tmp_path)
    assert len(Checkpointer(tmp_path).list_checkpoints()) == 2
    assert checkpointer.recover_if_possible().meta["score"] == 1.0
    assert model.weight.item() == 1.0


def test_the_next_checkpoints_are_kept_and_found(tmp_path):
    model, checkpointer = make(tmp_path)
    save_interrupted(checkpointer, model, {"score": 9.0})
    for score in (1.0, 3.0, 2.0):
        checkpointer.save_and_keep_only(
            meta={"score": score}, max_keys=["score"]
        )
    results = {c.meta["score"] for c in checkpointer.list_checkpoints()}
    assert results == {3.0, 2.0}


# Epoch 2 is the best on validation, epoch 3 on the test, epoch 4 the last.
SCORES = {1: (50, 52), 2: (61.5, 53), 3: (60, 58), 4: (55, 51)}


def save_epochs(folder, keys):
    """Checkpoints of four epochs, and one within an epoch, which is none."""
    checkpointer = Checkpointer(folder, {"layer": torch.nn.Linear(1, 1)})
    for epoch, scores in SCORES.items():
        meta = dict(zip(("score", "test_score"), scores))
        meta = {"epoch": epoch, **{key: meta[key] for key in keys}}
        checkpointer.save_checkpoint(meta=meta)
    within = {"brain_intra_epoch_ckpt": True}
    checkpointer.save_checkpoint(meta=within, end_of_epoch=False)
    return checkpointer


@pytest.mark.parametrize(
    "keys, epochs",
    [
        (["score", "test_score"], {"selected": 2, "test_selected": 3}),
        (["test_score"], {"selected": 4, "test_selected": 3}),
        (["score"], {"selected": 2, "test_selected": None}),
    ],
)
def test_each_name_finds_its_checkpoint(tmp_path, keys, epochs):
    """Without a validation set, the last epoch is what is selected."""
    checkpointer = save_epochs(tmp_path, keys)
    for name, epoch in {**epochs, "last": 4}.items():
        if epoch is None:
            with pytest.raises(FileNotFoundError, match=f"none is {name}"):
                find_checkpoint(checkpointer, name)
        else:
            found = find_checkpoint(checkpointer, name)
            assert found.meta["epoch"] == epoch
            key = selection_key(name, validated="score" in keys)
            best = checkpointer.find_checkpoint(max_key=key)
            assert best.meta["epoch"] == epoch


def test_checkpoint_that_is_none(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    with pytest.raises(FileNotFoundError, match="none is last") as error:
        find_checkpoint(checkpointer, "last")
    assert str(tmp_path) in str(error.value)
    with pytest.raises(ValueError, match="'best' is none of selected, last"):
        find_checkpoint(checkpointer, "best")
