"""The statistics of past epochs.

Authors
 * qlung_plugin contributors
"""

import json
import math
from pathlib import Path

import pandas as pd

from qlung_plugin.utils.files import plain
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)


@register_checkpoint_hooks
class TrainingHistory:
    """One row of statistics per epoch, kept across interruptions.

    A log file alone would repeat the epochs that a resumed training repeats.

    Example
    -------
    >>> history = TrainingHistory()
    >>> history.append(epoch=1, train_loss=1.5)
    >>> history.table()
       epoch  train_loss
    0      1         1.5
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def append(self, **row: float) -> None:
        """Adds the statistics of one epoch, plain numbers."""
        self.rows.append(row)

    def table(self) -> pd.DataFrame:
        """A pandas DataFrame, a row per epoch."""
        return pd.DataFrame(self.rows)

    @mark_as_saver
    def _save(self, path: Path) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(plain(self.rows), file)

    @mark_as_loader
    def _load(self, path: Path, end_of_epoch: bool) -> None:
        del end_of_epoch
        with open(path, encoding="utf-8") as file:
            rows = json.load(file)
        self.rows = [
            {name: math.nan if v is None else v for name, v in row.items()}
            for row in rows
        ]
