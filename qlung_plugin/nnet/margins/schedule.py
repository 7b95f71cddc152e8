"""A margin that grows during the training.

Authors
 * qlung_plugin contributors
"""

import torch

from qlung_plugin.nnet.margins.base import Margin

TOLD = -1


class MarginSchedule(Margin):
    """Ramps any margin: ``share * margin``, the share rising linearly.

    It is ``initial`` until ``start`` and 1 from ``start + duration`` on, in
    epochs or in optimizer steps. A training tells it where it stands by
    ``set_progress``, which the recipes of this package call before each step.
    Where nobody ever did, it counts steps by itself, each call in training with
    gradients being one (so a batch, where gradients of several are accumulated);
    epochs it cannot see, and says so by an error. Share and steps are part of
    the state, so that a checkpoint holds them. Speaker verification ramps margins
    likewise (wespeaker).

    Arguments
    ---------
    margin : Margin
        The margin to ramp.
    duration : int
        Length of the ramp.
    start : int
        Epochs or steps before it begins.
    initial : float
        Share of the margin before the ramp.
    unit : str
        ``epoch`` or ``step``.

    Raises
    ------
    ValueError
        If the unit is neither, or the duration not positive.
    RuntimeError
        If it is called in training with epochs as unit, and was never told one.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> margin = MarginSchedule(FixedMargin(0.4), duration=4)
    >>> for epoch in (1, 2, 5, 9):
    ...     margin.set_progress(epoch, step=0)
    ...     print(margin(torch.tensor([0])))
    tensor([0.])
    tensor([0.1000])
    tensor([0.4000])
    tensor([0.4000])
    >>> margin = MarginSchedule(FixedMargin(0.4), duration=2, unit="step")
    >>> [round(margin(torch.tensor([0])).item(), 1) for step in range(4)]
    [0.0, 0.2, 0.4, 0.4]
    """

    yaml_values = {"margin": "!new:FixedMargin", "duration": 5}
    speechbrain_values = {"duration": 1000, "unit": "step"}

    share: torch.Tensor

    def __init__(
        self,
        margin: Margin,
        duration: int,
        start: int = 0,
        initial: float = 0.0,
        unit: str = "epoch",
    ) -> None:
        super().__init__()
        if unit not in ("epoch", "step"):
            raise ValueError(f"unit must be epoch or step, not {unit!r}")
        if duration <= 0:
            raise ValueError(f"duration must be positive, not {duration}")
        self.margin = margin
        self.duration, self.start = duration, start
        self.initial, self.unit = initial, unit
        self.own_steps = 0  # that were counted here; TOLD: somebody else counts
        self.register_buffer("share", torch.tensor(float(initial)))

    def set_progress(self, epoch: int, step: int) -> None:
        """Sets the share of the margin; see :class:`ObjectivePart`."""
        super().set_progress(epoch, step)
        self.own_steps = TOLD
        self._set_share(epoch - 1 if self.unit == "epoch" else step)

    def _set_share(self, passed: int) -> None:
        """Sets the share by the epochs or steps that have passed."""
        progress = min(max((passed - self.start) / self.duration, 0.0), 1.0)
        self.share.fill_(self.initial + progress * (1.0 - self.initial))

    def forward(
        self,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Margins, ``[batch]``; the arguments go to the ramped margin."""
        if self.training and torch.is_grad_enabled() and self.own_steps != TOLD:
            if self.unit == "epoch":
                raise RuntimeError(
                    "a MarginSchedule with unit: epoch has to be told the epoch,"
                    " and was not: let it count by itself with unit: step (and"
                    " duration and start in steps), or call set_progress(epoch,"
                    " step) of the loss before each training step"
                )
            self._set_share(self.own_steps)
            self.own_steps += 1
        # A copy: the share may change before the gradient of this is taken.
        share = self.share.clone()
        return share * self.margin(targets, quality, embeddings)

    def get_extra_state(self) -> torch.Tensor:
        """The steps that were counted here, for the state."""
        return torch.tensor(self.own_steps)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Takes over the steps that were counted."""
        self.own_steps = int(state)
