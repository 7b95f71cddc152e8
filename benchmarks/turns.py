"""Times of functions that take turns, and their ratios.

What is compared runs in one process, in rounds: in each, every function once,
in random order, so that a busy machine slows all of them. A ratio is of two
calls of one round; its median over the rounds is told, with its quartiles.

Authors
 * qlung_plugin contributors
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch


class Ratio(NamedTuple):
    """The median over the rounds, and the quartiles.

    Example
    -------
    >>> print(Ratio(0.5, 0.25, 1.0))
    0.50 (0.25 to 1.00)
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class Times:
    """Seconds of one function, a call per round.

    Those of the processor are of all threads, so that they tell what was done,
    not for how long somebody waited.
    """

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    def measure(
        self, function: Callable, wait: Callable = lambda: None
    ) -> None:
        """Adds those of a call; ``wait`` is for what runs on a device."""
        wait()
        clock, processor = time.perf_counter(), time.process_time()
        function()
        wait()
        self.processor.append(time.process_time() - processor)
        self.clock.append(time.perf_counter() - clock)

    @property
    def typical(self) -> float:
        """The median by the clock, in seconds."""
        return statistics.median(self.clock)

    def over(self, other: "Times") -> Ratio:
        """How many times those of another function, by the clock."""
        return ratio(self.clock, other.clock)

    def processor_over(self, other: "Times") -> Ratio:
        """The same of the processor's."""
        return ratio(self.processor, other.processor)


def ratio(ours: list[float], theirs: list[float]) -> Ratio:
    """The ratio of times of the same rounds.

    Example
    -------
    >>> ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    Ratio(median=2.0, low=1.5, high=2.5)
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    if len(ratios) == 1:
        return Ratio(*(ratios * 3))
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high)


def take_turns(
    functions: Mapping[str, Callable],
    rounds: int,
    wait: Callable = lambda: None,
    warm_up: int = 1,
) -> dict[str, Times]:
    """Times functions in rounds, after some that do not count."""
    times = {name: Times() for name in functions}
    order = list(functions)
    for done in range(warm_up + rounds):
        random.shuffle(order)
        for name in order:
            kept = times[name] if done >= warm_up else Times()
            kept.measure(functions[name], wait)
    return times


def describe_machine() -> str:
    """What a ratio depends on."""
    return f"{torch.get_num_threads()} threads, torch {torch.__version__}"
