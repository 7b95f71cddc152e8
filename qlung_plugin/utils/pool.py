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
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

# What a bad file raises; anything else is a mistake of this package.
FILE_ERRORS = (OSError, RuntimeError, ValueError)

# Starting a process and loading a model takes as long as classifying these.
FILES_PER_JOB = 16

_prepared = None  # of this process


def default_jobs(count):
    """A process per core, if there is enough to do for each.

    Arguments
    ---------
    count : int
        Number of files.

    Returns
    -------
    int

    Example
    -------
    >>> default_jobs(1)
    1
    """
    return max(1, min(count // FILES_PER_JOB, len(os.sched_getaffinity(0))))


def over_files(function, files, prepare, jobs=1):
    """Applies a function to files, of which some may be bad.

    Results come in the order of the files, each as soon as it and those before
    it are there. No more than a few wait at a time, so that memory does not
    grow with the number of files.

    Arguments
    ---------
    function : callable
        ``function(prepared, file)``; of a module, to be found by its name.
    files : list
        What it is called with.
    prepare : callable
        Called once per process, without arguments; what it returns goes to
        each call of the function. Of a module, too.
    jobs : int
        Number of processes. With 1 all is done in this one, on all its
        threads; else each works on one thread.

    Yields
    ------
    tuple
        The file; and the result, or the exception (OSError, RuntimeError or
        ValueError) that the function raised. What ``prepare`` raises is raised.

    Example
    -------
    >>> def root(exponent, number):
    ...     return number ** exponent
    >>> list(over_files(root, [4, 9], lambda: 0.5))
    [(4, 2.0), (9, 3.0)]
    """
    if jobs == 1:
        prepared = prepare()
        for file in files:
            yield file, _outcome(function, prepared, file)
        return
    prepare()  # what is wrong with it is raised here, not lost in a process
    # Forked processes would share the state of PyTorch's threads. Pickled here,
    # what a process imports for it waits for what the process does first.
    pool = ProcessPoolExecutor(
        jobs,
        multiprocessing.get_context("spawn"),
        _prepare,
        (pickle.dumps(prepare),),
    )
    with pool:
        waiting = deque()
        try:
            for file in files:
                if len(waiting) == 2 * jobs:
                    first, future = waiting.popleft()
                    yield first, future.result()
                with _no_interruption():  # it may start a process
                    future = pool.submit(_call, function, file)
                waiting.append((file, future))
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _no_interruption():
    """Defers an interruption, also in the processes that are started."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(pickled):
    global _prepared
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Interrupted, a process ends without a word: the parent has the last one.
    # Of a job in the background, which ignores it, all have to.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    import torch

    torch.set_num_threads(1)
    _prepared = pickle.loads(pickled)()


def _end_with_parent():
    # A parent that is killed cannot say that there is no more to do.
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(function, file):
    return _outcome(function, _prepared, file)


def _outcome(function, prepared, file):
    try:
        return function(prepared, file)
    except FILE_ERRORS as error:
        return error
