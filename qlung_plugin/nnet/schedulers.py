"""Learning-rate schedules.

Authors
 * qlung_plugin contributors
"""

import math


class CosineScheduler:
    """Half a cosine from one value to another, a step per epoch.

    It has no state: the value depends on the epoch alone. Called as
    SpeechBrain's :class:`speechbrain.nnet.schedulers.LinearScheduler`.

    Arguments
    ---------
    initial_value : float
        Learning rate of the first epoch.
    final_value : float
        What the rate has fallen to after the last epoch.
    epoch_count : int
        Number of epochs.

    Example
    -------
    >>> scheduler = CosineScheduler(1.0, 0.0, 4)
    >>> old, new = scheduler(2)
    >>> round(old, 3), round(new, 3)
    (0.854, 0.5)
    """

    yaml_values = {
        "initial_value": "!ref <lr>",
        "final_value": "!ref <final_lr>",
        "epoch_count": "!ref <number_of_epochs>",
    }
    speechbrain_values = {"final_value": 0.0}

    def __init__(
        self, initial_value: float, final_value: float, epoch_count: int
    ) -> None:
        self.initial_value = initial_value
        self.final_value = final_value
        self.epoch_count = epoch_count

    def __call__(self, epoch: int) -> tuple[float, float]:
        """The rates of an epoch, counted from 1, and of the one after it."""
        return self._value_after(epoch - 1), self._value_after(epoch)

    def _value_after(self, epochs: int) -> float:
        progress = min(epochs / self.epoch_count, 1.0)
        share = (1 + math.cos(math.pi * progress)) / 2
        return self.final_value + share * (
            self.initial_value - self.final_value
        )
