"""The same for every file of a collection, on all cores, in order.

Authors
 * qlung_plugin contributors
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from qlung_plugin.utils.text import guard_terminal

# What a bad file raises; anything else is a mistake of this package.
FILE_ERRORS = (MemoryError, OSError, RuntimeError, ValueError)

# Starting a process and loading a model takes as long as classifying these.
FILES_PER_JOB = 16

KILLED = (
    "its process was killed twice while it worked on this: out of memory, or a"
    " fault of a library"
)

P = TypeVar("P")  # what is prepared
F = TypeVar("F")  # a file
R = TypeVar("R")  # a result

_prepared: Any = None  # of this process


def default_jobs(count: int) -> int:
    """A process per core, if there are enough files to do for each."""
    return max(1, min(count // FILES_PER_JOB, len(os.sched_getaffinity(0))))


def over_files(
    function: Callable[[P, F], R],
    files: Iterable[F],
    prepare: Callable[[], P],
    jobs: int = 1,
) -> Iterator[tuple[F, R | Exception]]:
    """Applies a function to files, of which some may be bad.

    Each file comes, in order, with its result or an exception of
    :data:`FILE_ERRORS`. What ``prepare`` returns, once per process, goes to each
    call; with one job all is done in this process, on all its threads. A file that
    kills its process, and again when it is alone, has failed. A few files wait at a
    time, so that memory does not grow with their number.

    Example
    -------
    >>> def root(exponent, number):
    ...     return number**exponent
    >>> list(over_files(root, [4, 9], lambda: 0.5))
    [(4, 2.0), (9, 3.0)]
    """
    if jobs == 1:
        prepared = prepare()
        for file in files:
            yield file, outcome_of(function, prepared, file)
        return
    prepare()  # what is wrong with it is raised here, not lost in a process
    left = iter(files)
    waiting: deque[tuple[F, Future]] = deque()
    processes = _Processes(function, prepare, jobs)
    try:
        while True:
            for file in islice(left, 2 * jobs - len(waiting)):
                waiting.append((file, processes.submit(file)))
            if not waiting:
                return
            first, future = waiting[0]
            if not _was_killed(future):
                waiting.popleft()
                yield first, future.result()
                continue
            # Which of them did it? They come one by one, and in order.
            while waiting:
                first, future = waiting.popleft()
                if _was_killed(future):
                    future = processes.submit_alone(first)
                if _was_killed(future):
                    yield first, ChildProcessError(KILLED)
                else:
                    yield first, future.result()
    finally:
        processes.close()


class _Processes:
    """A pool of processes, a new one when any of them was killed."""

    def __init__(
        self, function: Callable, prepare: Callable, jobs: int
    ) -> None:
        self.function, self.jobs = function, jobs
        # Pickled here, what a process imports for it waits for what the
        # process does first.
        self.pickled = pickle.dumps(prepare)
        self.start()

    def start(self) -> None:
        # Forked processes would share the state of PyTorch's threads.
        self.pool = ProcessPoolExecutor(
            self.jobs,
            multiprocessing.get_context("spawn"),
            _prepare,
            (self.pickled,),
        )

    def submit(self, file: object) -> Future:
        return self._submit(_call, self.function, file)

    def submit_alone(self, file: object) -> Future:
        """Submits a file while no other is at work, and waits for it."""
        if _was_killed(self._submit(os.getpid)):
            self.close()
            self.start()
            if _was_killed(self._submit(os.getpid)):
                raise ChildProcessError(
                    "processes are killed before they come to a file: is there"
                    " memory for another one? Use one job"
                )
        return self.submit(file)

    def _submit(self, *call: Any) -> Future:
        try:
            with _no_interruption():  # it may start a process
                return self.pool.submit(*call)
        except BrokenProcessPool as error:
            future: Future = Future()
            future.set_exception(error)
            return future

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def _was_killed(future: Future) -> bool:
    """Whether a process was, before the result was there; waits for either."""
    return isinstance(future.exception(), BrokenProcessPool)


@contextmanager
def _no_interruption() -> Iterator[None]:
    """Defers an interruption, also in the processes that are started."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(pickled: bytes) -> None:
    global _prepared
    guard_terminal()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Interrupted, a process ends without a word: the parent has the last one.
    # Of a job in the background, which ignores it, all have to.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    import torch

    torch.set_num_threads(1)
    _prepared = pickle.loads(pickled)()


def _end_with_parent() -> None:
    # A parent that is killed cannot say that there is no more to do.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _call(function: Callable, file: object) -> Any:
    return outcome_of(function, _prepared, file)


def outcome_of(
    function: Callable[[P, F], R], prepared: P, file: F
) -> R | Exception:
    """The result of a function, or what a bad file raised."""
    try:
        return function(prepared, file)
    except FILE_ERRORS as error:
        if isinstance(error, MemoryError) and not str(error):
            return MemoryError("it takes more memory than there is")
        return error
