"""How the recipes' scripts speak: help, errors, interruptions, threads.

Authors
 * qlung_plugin contributors
"""

import logging
import os
import re
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.utils.text import (
    guard_terminal,
    print_traceback,
    printable_lines,
)

logger = logging.getLogger(__name__)

INTERRUPTED = "the same command continues"
# Set for a script that is to end with the process that started it: what the
# latter holds the other end of.
PARENT = "QLUNG_PARENT"
# What the package raises if the input is wrong: the message says it all.
USER_ERRORS = (OSError, ValueError)


def start_script(about: str) -> None:
    """Help, errors of one line, interruptions: of a script with a docstring."""
    guard_terminal()
    explain_errors()
    refuse_repeated(sys.argv[1:])
    own = os.getpid()

    def terminate(signum: int, frame: object) -> NoReturn:
        if os.getpid() == own:  # not a process of a DataLoader
            print(f"\nTerminated: {INTERRUPTED}", file=sys.stderr)
        sys.exit(128 + signum)

    signal.signal(signal.SIGTERM, terminate)
    if PARENT in os.environ:
        descriptor = int(os.environ.pop(PARENT))
        threading.Thread(
            target=_end_with_parent, args=[descriptor], daemon=True
        ).start()
    if not {"-h", "--help"}.isdisjoint(sys.argv[1:]):
        print(printable_lines(describe_options(about, sys.argv)))


def refuse_repeated(arguments: list[str]) -> None:
    """Refuses a command line on which an option is given twice.

    Example
    -------
    >>> refuse_repeated(["a.yaml", "--lr", "0.1", "--seed=1", "--lr=0.2"])
    Traceback (most recent call last):
    ...
    ValueError: --lr is given 2 times: which one is meant?
    """
    names = [a.split("=")[0] for a in arguments if a.startswith("--")]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(
                f"{name} is given {count} times: which one is meant?"
            )


def describe_options(about: str, arguments: list[str]) -> str:
    """The help of a script: its options are the keys of its YAML."""
    given = [a for a in arguments[1:] if a.endswith(".yaml")]
    [name, *_] = given or re.findall(r"hparams/\S+\.yaml", about)
    path = Path(name)
    if not given:
        script = Path(arguments[0])
        # A script that is linked to from another recipe describes that one's.
        folders = script.absolute().parent, script.resolve().parent
        path = next(f / name for f in folders if (f / name).is_file())
    text = read_hparams(path)
    # Without the title, and what is not to be changed.
    text = re.sub(r"\A(#.*\n)+", "", text)
    text = re.sub(r"^__.*\n(\s.*\n)*", "", text, flags=re.M)
    text = re.sub(r"^(\w+):", r"--\1", text, flags=re.M)
    return (
        f"{about.split('Authors')[0]}"
        f"Options, with what they are in {path}. A nested one is"
        ' given so: --quality "{normalisation: absolute}"\n'
        "An error is told in a line: --debug shows where it arises, too.\n"
        f"\n{text}\nOptions of SpeechBrain:\n"
    )


def explain_errors(log: Path | str | None = None) -> None:
    """An error is told in a line; its traceback is in the log, if there is one.

    SpeechBrain sets a hook of its own when it makes the experiment's folder.
    """

    def explain(
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType | None,
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(f"\nInterrupted: {INTERRUPTED}", file=sys.stderr)
            return
        if log is not None:
            _log_traceback(kind, error, trace)
        if "--debug" in sys.argv:
            print_traceback(kind, error, trace)
        print(printable_lines(describe_error(error)), file=sys.stderr)
        if "--debug" not in sys.argv and not issubclass(kind, USER_ERRORS):
            more = f"in {log}" if log else "with --debug"
            print(f"The traceback is {more}", file=sys.stderr)

    sys.excepthook = explain


def describe_error(error: BaseException) -> str:
    """What went wrong, in the words of the exception."""
    kind = "Error" if isinstance(error, USER_ERRORS) else type(error).__name__
    # HyperPyYAML puts several texts into one exception.
    several = not isinstance(error, OSError) and error.args
    text = ", ".join(map(str, error.args)) if several else str(error)
    return f"{kind}: {text}"


def _log_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    record = logging.getLogRecordFactory()(
        *(__name__, logging.ERROR, __file__, 0, "Exception:", ()),
        (kind, error, trace),
    )
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _end_with_parent(descriptor: int) -> None:
    # The other end is never written to: it closes when the parent ends.
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def set_threads(recorded: int | None = None) -> int:
    """Computes on the cores that are free, and says on how many threads.

    What was begun with a number keeps it: others change the last digits.
    """
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        threads = torch.get_num_threads()
        why = "as OMP_NUM_THREADS says"
        if recorded not in (None, threads):
            logger.warning(
                "Begun on %d threads, now on %d: the last digits may differ",
                recorded,
                threads,
            )
    elif recorded is not None:
        threads, why = recorded, "as it was begun"
    else:
        threads, cores = free_cores(), len(os.sched_getaffinity(0))
        why = f"of {cores} cores, by the machine's load"
    torch.set_num_threads(threads)
    print(
        f"Threads: {threads}, {why} (OMP_NUM_THREADS={threads} for the same"
        " numbers again)",
        file=sys.stderr,
    )
    return threads


def free_cores() -> int:
    """How many of this process's cores have nothing to do, one at least."""
    cores = len(os.sched_getaffinity(0))
    return max(1, cores - round(os.getloadavg()[0]))
