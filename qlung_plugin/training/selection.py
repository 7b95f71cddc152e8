"""The checkpoints that a training keeps, by name: how each is selected.

Authors
 * qlung_plugin contributors
"""

from typing import NamedTuple

from qlung_plugin.utils.choices import check_choice


class Selection(NamedTuple):
    """How a checkpoint is selected, and what it is called."""

    key: str  # of the checkpoint's meta: the best value picks it
    words: str  # how it is selected
    heading: str  # in tables
    legend: str  # in figures
    suffix: str  # of its file of predictions


CHECKPOINTS = {
    "selected": Selection(
        key="score",
        words="best validation score, on patients held out from training",
        heading="selected",
        legend="selected on validation",
        suffix="",
    ),
    "last": Selection(
        key="epoch",
        words="last epoch",
        heading="last",
        legend="last epoch",
        suffix="_last",
    ),
    "test_selected": Selection(
        key="test_score",
        words=(
            "best score on the test set of the training's database:"
            " test-selected (as published results mostly are)"
        ),
        heading="test-selected (as published results mostly are)",
        legend="test-selected",
        suffix="_test_selected",
    ),
}


def describe_selection(checkpoint: str, validated: bool = True) -> str:
    """How a checkpoint was selected, in words."""
    if checkpoint == "selected" and not validated:
        return "last epoch, since there was no validation set"
    return CHECKPOINTS[checkpoint].words


def selection_key(checkpoint: str, validated: bool = True) -> str:
    """The key of the checkpoints' meta whose highest value is this one's."""
    if checkpoint == "selected" and not validated:
        checkpoint = "last"
    return CHECKPOINTS[checkpoint].key


def check_checkpoint(checkpoint: str) -> None:
    """Raises ValueError if no checkpoint is called so."""
    check_choice("checkpoint", checkpoint, CHECKPOINTS)
