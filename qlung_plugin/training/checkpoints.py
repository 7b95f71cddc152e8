"""Checkpoints that survive being interrupted while they are saved.

Authors
 * qlung_plugin contributors
"""

from typing import Any

from qlung_plugin.training.selection import CHECKPOINTS, check_checkpoint
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

COMPLETE = "complete"


class CompleteCheckpointer(Checkpointer):
    """A Checkpointer that takes only completely saved checkpoints for such.

    SpeechBrain's lists a checkpoint from the moment its folder exists. A
    training killed while saving then finds a newest checkpoint without, or
    with half, of its files, and cannot resume. Here the last thing written is
    a mark, and what lacks it is passed over;
    :func:`qlung_plugin.runs.debris.sweep` deletes it when the training resumes.

    The arguments are those of
    :class:`speechbrain.utils.checkpoints.Checkpointer`.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> checkpointer = CompleteCheckpointer(
    ...     folder, {"a": torch.nn.Linear(1, 1)}
    ... )
    >>> checkpoint = checkpointer.save_checkpoint()
    >>> len(checkpointer.list_checkpoints())
    1
    >>> (checkpoint.path / "complete").unlink()
    >>> len(checkpointer.list_checkpoints())
    0
    """

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> Checkpoint:
        """Saves a checkpoint and marks it as complete."""
        checkpoint = super().save_checkpoint(*args, **kwargs)
        if if_main_process():
            (checkpoint.path / COMPLETE).touch()
        # What is deleted next, each process lists for itself: one that has not
        # seen the mark deletes fewer, and waits for the others forever.
        ddp_barrier()
        return checkpoint

    def list_checkpoints(self) -> list[Checkpoint]:
        """The complete checkpoints."""
        return [
            checkpoint
            for checkpoint in super().list_checkpoints()
            if (checkpoint.path / COMPLETE).exists()
        ]


def find_checkpoint(checkpointer: Checkpointer, checkpoint: str) -> Checkpoint:
    """Finds one of :data:`CHECKPOINTS`.

    Where a training had no validation set, ``selected`` is its last epoch.
    """
    check_checkpoint(checkpoint)
    match = checkpointer.find_checkpoint(max_key=CHECKPOINTS[checkpoint].key)
    if match is None and checkpoint == "selected":
        match = checkpointer.find_checkpoint(max_key=CHECKPOINTS["last"].key)
    if match is None:
        raise FileNotFoundError(
            f"{checkpointer.checkpoints_dir} has no checkpoint with"
            f" {CHECKPOINTS[checkpoint].key!r}, so none is {checkpoint}"
        )
    return match
