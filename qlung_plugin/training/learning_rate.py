"""Learning-rate schedulers of SpeechBrain, called as its recipes do.

Authors
 * qlung_plugin contributors
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

# What a parameter of a scheduler is given, by its name, as SpeechBrain's are.
STEP = {"opt", "num_updates"}  # the optimizer, and how many steps it has made
EPOCH = {"epoch", "current_epoch", "optim_list"}  # from 1; [the optimizer]
LOSS = {"metric_value", "current_loss"}  # of the validation: less is better

PLAIN = bool, int, float, str, list, dict, tuple, type(None), torch.Tensor


@register_checkpoint_hooks
class LearningRate:
    """A scheduler of a YAML, called at its time and with what it asks for.

    What its parameters are called says how SpeechBrain's recipes call it. With
    ``opt`` or ``num_updates`` it is called after each step of the optimizer, else
    after each epoch. With ``metric_value`` or ``current_loss`` it is given the
    cross entropy of the validation, less of which is better, as it takes it. A
    method ``on_batch_end`` is called instead, if there is one.

    The plain attributes of the scheduler are its state, which is saved: of
    SpeechBrain's, not all can load what they save.

    Arguments
    ---------
    scheduler : callable
        Sets the optimizer's rate, if it is given the optimizer at each step;
        else it returns the rate of this epoch and that of the next one.

    Raises
    ------
    ValueError
        If it is no scheduler, or has another parameter.

    Example
    -------
    >>> from speechbrain.nnet.schedulers import NewBobScheduler
    >>> rate = LearningRate(NewBobScheduler(1.0))
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    >>> [rate.after_epoch(optimizer, 1 + i, loss=2.0) for i in range(3)]
    [1.0, 1.0, 0.5]
    """

    def __init__(self, scheduler: Callable) -> None:
        self.scheduler = scheduler
        if not callable(scheduler) or inspect.isclass(scheduler):
            self._refuse(repr(scheduler))
        self.call = getattr(scheduler, "on_batch_end", scheduler)
        parameters = inspect.signature(self.call).parameters.values()
        self.names = {p.name for p in parameters if p.default is p.empty}
        if not self.names or not any(
            self.names <= kind for kind in (STEP, EPOCH | LOSS)
        ):
            self._refuse(f"{self.name}({', '.join(sorted(self.names))})")

    @property
    def name(self) -> str:
        """What the scheduler is called in the YAML."""
        return getattr(
            self.scheduler, "__name__", type(self.scheduler).__name__
        )

    def _refuse(self, told: str) -> None:
        raise ValueError(
            "lr_annealing: a scheduler is needed that is called with some of"
            f" {', '.join(sorted(STEP | EPOCH | LOSS))}, such as those of"
            f" speechbrain.nnet.schedulers, not {told}"
        )

    def check_validation(self, validates: bool) -> None:
        """Raises a ValueError if a loss is needed that will not be there."""
        if self.names & LOSS and not validates:
            raise ValueError(
                f"lr_annealing: {self.name} needs the loss of a validation set,"
                " and there is none: pass a valid_fraction above 0, or take a"
                " scheduler that is called with the epoch or the optimizer"
            )

    def after_step(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """After a step of the optimizer, of so many that it has made."""
        if self.names & STEP:
            values = {"opt": optimizer, "num_updates": steps}
            self.call(**{name: values[name] for name in self.names})

    def after_epoch(
        self,
        optimizer: torch.optim.Optimizer,
        epoch: int,
        loss: float | None = None,
    ) -> float:
        """After an epoch: the rate that it had, or has come to by its steps."""
        if self.names & STEP:
            return optimizer.param_groups[0]["lr"]
        values: dict[str, Any] = dict.fromkeys(LOSS, loss)
        values |= {"epoch": epoch, "current_epoch": epoch}
        values["optim_list"] = [optimizer]
        old, new = self.call(**{name: values[name] for name in self.names})
        update_learning_rate(optimizer, new)
        return old

    @mark_as_saver
    def _save(self, path: Path) -> None:
        state = {
            name: value
            for name, value in _attributes(self.scheduler).items()
            if isinstance(value, PLAIN)
        }
        torch.save(state, path)

    @mark_as_loader
    def _load(self, path: Path, end_of_epoch: bool) -> None:
        del end_of_epoch
        _attributes(self.scheduler).update(torch.load(path))


def _attributes(scheduler: Callable) -> dict[str, Any]:
    """Those of an object; a function has no state."""
    return getattr(scheduler, "__dict__", {})
