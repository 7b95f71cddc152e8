"""What the parts of a training objective have in common.

Authors
 * qlung_plugin contributors
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import nn

# Training samples per class.
ClassCounts: TypeAlias = Sequence[int] | torch.Tensor


class ObjectivePart(nn.Module):
    """Base class of losses and margins: they are told about the training.

    Both methods pass on what they are told to the parts within, so that a
    container does not override them.

    Example
    -------
    >>> class Counting(ObjectivePart):
    ...     def fit(self, class_counts):
    ...         self.total = sum(class_counts)
    >>> container = ObjectivePart()
    >>> container.part = Counting()
    >>> container.fit([6, 2])
    >>> container.part.total
    8
    """

    def fit(self, class_counts: ClassCounts) -> None:
        """Learns from the class counts of the training set, before it starts.

        Arguments
        ---------
        class_counts : sequence of int or torch.Tensor
            Training samples per class, ``[class]``.
        """
        for part in self._parts():
            part.fit(class_counts)

    def set_progress(self, epoch: int, step: int) -> None:
        """Is told before each training step where the training stands.

        Arguments
        ---------
        epoch : int
            The current epoch, counted from 1.
        step : int
            Optimizer steps that were made.
        """
        for part in self._parts():
            part.set_progress(epoch, step)

    def _parts(self) -> Iterator["ObjectivePart"]:
        for child in self.children():
            members = child if isinstance(child, nn.ModuleList) else [child]
            for member in members:
                if isinstance(member, ObjectivePart):
                    yield member


class ClassValues(ObjectivePart, ABC):
    """Base class of what has a value per class that follows from the counts.

    A subclass overrides :meth:`values_of`.

    Arguments
    ---------
    num_classes : int
        Number of classes.
    class_counts : sequence of int or torch.Tensor, optional
        Training samples per class, ``[class]``, to use without :meth:`fit`,
        which replaces them by those of the training set.
    """

    values: torch.Tensor

    def __init__(
        self, num_classes: int, class_counts: ClassCounts | None = None
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes must be 2 or more, not {num_classes}"
            )
        # NaN until fitted, in its final shape, so that checkpoints load.
        self.register_buffer("values", torch.full((num_classes,), math.nan))
        if class_counts is not None:
            self.fit(class_counts)

    def fit(self, class_counts: ClassCounts) -> None:
        """Computes the values; of one positive count per class, or ValueError."""
        counts = torch.as_tensor(class_counts, dtype=torch.float64).cpu()
        if counts.shape != self.values.shape:
            raise ValueError(
                f"class_counts must hold {len(self.values)} counts, not"
                f" {counts.tolist()}"
            )
        if not (counts > 0).all():
            raise ValueError(
                f"every class needs training samples, but class_counts is"
                f" {counts.tolist()}"
            )
        self.values.copy_(self.values_of(counts))

    @abstractmethod
    def values_of(self, counts: torch.Tensor) -> torch.Tensor:
        """The values ``[class]`` from counts, ``[class]`` float64."""

    def check_fitted(self) -> None:
        """Raises a RuntimeError if there are no values yet; on the CPU only."""
        if self.values.device.type == "cpu" and self.values.isnan().any():
            raise RuntimeError(
                f"{type(self).__name__} needs class_counts: give them, or call"
                " fit with those of the training set"
            )


def check_targets(targets: torch.Tensor, num_classes: int) -> None:
    """Raises a ValueError unless all targets are classes; on the CPU only."""
    if targets.device.type != "cpu" or targets.numel() == 0:
        return
    low, high = (extreme.item() for extreme in targets.aminmax())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise ValueError(
            f"targets must lie in 0..{num_classes - 1}, but hold {wrong}"
        )


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the precision that margins need: float64 if it was, or float32.

    Half precision rounds cosines near 1 to 1. Autocast lowers nothing of what
    follows: it casts the inputs of matrix products, and there are none.
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, made its sum over the processes of a distributed training."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor
