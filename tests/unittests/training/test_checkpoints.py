"""Tests of the checkpointer that ignores what was not saved completely.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from qlung_plugin.training.checkpoints import CompleteCheckpointer


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
    # Nor does anybody else find it from now on.
    best = Checkpointer(tmp_path).find_checkpoint(max_key="score")
    assert best.meta["score"] == 1.0


def test_the_next_checkpoints_are_kept_and_found(tmp_path):
    model, checkpointer = make(tmp_path)
    save_interrupted(checkpointer, model, {"score": 9.0})
    for score in (1.0, 3.0, 2.0):
        checkpointer.save_and_keep_only(
            meta={"score": score}, max_keys=["score"]
        )
    results = {c.meta["score"] for c in checkpointer.list_checkpoints()}
    assert results == {3.0, 2.0}
