"""Averaging of weights between steps.

Authors
 * qlung_plugin contributors
"""

import torch


class StepAveraging:
    """Moves back part of the way that an optimizer step went.

    After a step ``w = share * w_before + (1 - share) * w_after``. With a share
    of a half this is what the code of Patch-Mix does (its ``ma_update`` with
    ``ma_beta`` 0.5, so far unnamed in the papers that use it). It is no average
    over the training: nothing older than a step is kept.

    Arguments
    ---------
    share : float
        Share of the weights before the step, in [0, 1).

    Raises
    ------
    ValueError
        If the share is not in [0, 1).

    Example
    -------
    >>> averaging = StepAveraging(0.5)
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    >>> with torch.no_grad():
    ...     _ = layer.weight.fill_(3.0)
    >>> layer(torch.ones(1)).backward()
    >>> averaging.before_step(optimizer)
    >>> optimizer.step()  # to 2
    >>> averaging.after_step()
    >>> layer.weight.item()
    2.5
    """

    def __init__(self, share: float = 0.5) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share must be in [0, 1), not {share}")
        self.share = share
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Remembers the weights that the optimizer is about to change."""
        self._before = [
            (parameter, parameter.detach().clone())
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]

    @torch.no_grad()
    def after_step(self) -> None:
        """Averages them with what they have become."""
        for parameter, before in self._before:
            parameter.lerp_(before, self.share)
        self._before = []
