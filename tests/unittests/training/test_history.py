"""The statistics of past epochs survive an interruption.

Authors
 * qlung_plugin contributors
"""

import json
import math

import numpy as np

from qlung_plugin.training.history import TrainingHistory
from speechbrain.utils.checkpoints import Checkpointer


def test_history_continues_where_it_was(tmp_path):
    history = TrainingHistory()
    history.append(epoch=1, lr=0.1, train_loss=1.5)
    history.append(epoch=2, lr=0.05, train_loss=math.nan, valid_score=51.25)
    Checkpointer(tmp_path, {"history": history}).save_checkpoint()
    resumed = TrainingHistory()
    # The epoch after the checkpoint, interrupted, is forgotten.
    resumed.append(epoch=3, lr=0.01, train_loss=9.0)
    Checkpointer(tmp_path, {"history": resumed}).recover_if_possible()
    resumed.append(epoch=3, lr=0.01, train_loss=0.5, valid_score=60.0)
    table = resumed.table()
    assert list(table.columns) == ["epoch", "lr", "train_loss", "valid_score"]
    assert table["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_equal(table["train_loss"].tolist(), [1.5, np.nan, 0.5])
    np.testing.assert_equal(
        table["valid_score"].tolist(), [np.nan, 51.25, 60.0]
    )


def test_history_is_a_json_file(tmp_path):
    history = TrainingHistory()
    history.append(epoch=1, train_loss=1.5)
    history.append(epoch=2, train_loss=0.25)
    checkpoint = Checkpointer(tmp_path, {"history": history}).save_checkpoint()
    assert json.loads(checkpoint.paramfiles["history"].read_text()) == [
        {"epoch": 1, "train_loss": 1.5},
        {"epoch": 2, "train_loss": 0.25},
    ]
