"""Tests of going over files on all cores.

Authors
 * qlung_plugin contributors
"""

import logging
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from qlung_plugin.utils.pool import default_jobs, over_files

MISTAKE = 10**6


def prepare(exponent):
    return exponent


def power(exponent, number):
    if number == MISTAKE:
        raise KeyError(number)
    if number < 0:
        logging.getLogger("another.package").warning("\x1b[2J.wav")
        raise ValueError(f"{number} is negative")
    return number**exponent, os.getpid(), torch.get_num_threads()


def deadly(folder, number):
    """7 is deadly, 8 is it once, and 3 to 5 want too much memory."""
    once = folder / "was here"
    if number == 7 or (number == 8 and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        raise MemoryError
    if number == 4:
        bytearray(2**62)
    if number == 5:
        np.empty(2**60, np.uint8)
    return number


def die(first):
    """Ends every process but the first one."""
    if os.getpid() != first:
        os.kill(os.getpid(), signal.SIGKILL)


def failing():
    raise ValueError("no model")


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_in_order_and_errors_among_them(jobs, capfd):
    numbers, taken, results = [3, -1, *range(20)], [], []

    def files():
        for number in (*numbers, MISTAKE):
            taken.append(number)
            yield number

    with pytest.raises(KeyError):  # what is no error of a file is raised
        for result in over_files(power, files(), partial(prepare, 2), jobs):
            results.append(result)
            # No more is taken than can be worked on.
            assert len(taken) < len(results) + 2 * jobs
    assert [number for number, _ in results] == numbers
    for number, outcome in results:
        if number < 0:
            assert isinstance(outcome, ValueError)
            assert str(outcome) == "-1 is negative"
        else:
            assert outcome[0] == number**2
    processes = {outcome[1] for number, outcome in results if number >= 0}
    assert (os.getpid() in processes) == (jobs == 1)
    if jobs > 1:
        assert {outcome[2] for n, outcome in results if n >= 0} == {1}
        # What a process says controls no terminal either.
        assert r"\x1b[2J.wav" in capfd.readouterr().err


@pytest.mark.parametrize("jobs", [1, 2])
def test_preparation_that_fails_is_told_at_once(jobs):
    with pytest.raises(ValueError, match="no model"):
        next(over_files(power, [1, 2], failing, jobs))


@pytest.mark.slow
def test_a_file_that_kills_its_process_stops_no_other(tmp_path):
    files = list(range(10))
    result = list(over_files(deadly, files, partial(prepare, tmp_path), 2))
    assert [number for number, _ in result] == files
    outcomes = dict(result)
    assert isinstance(outcomes.pop(7), ChildProcessError)
    assert all(isinstance(outcomes.pop(n), MemoryError) for n in (3, 4, 5))
    assert all(outcome == number for number, outcome in outcomes.items())


def test_memory_that_is_not_there_is_a_failure_of_the_file(tmp_path):
    files = [3, 5, 1]
    result = dict(over_files(deadly, files, partial(prepare, tmp_path), 1))
    assert str(result[3]) == "it takes more memory than there is"
    assert isinstance(result[5], MemoryError) and "allocate" in str(result[5])
    assert result[1] == 1


@pytest.mark.slow
def test_processes_that_cannot_be_prepared_are_no_fault_of_the_files():
    results = over_files(power, [1, 2, 3], partial(die, os.getpid()), 2)
    with pytest.raises(ChildProcessError, match="before they come to a file"):
        list(results)


def test_few_files_are_not_worth_a_process():
    cores = len(os.sched_getaffinity(0))
    assert default_jobs(0) == default_jobs(1) == default_jobs(10) == 1
    assert default_jobs(10**6) == cores


SCRIPT = """
import os, signal, sys, time
from qlung_plugin.utils.pool import over_files

def stay(stage):
    if stage == sys.argv[1] and __name__ != "__main__":
        os.write(1, b"here\\n")  # at once, whoever else writes
        time.sleep(float(sys.argv[2]))

def prepare():
    stay("preparing")

def work(prepared, number):
    stay("working")

if __name__ == "__main__":
    # Tests that run in the background hand on that they ignore it.
    signal.signal(signal.SIGINT, getattr(signal, sys.argv[3]))
    try:
        list(over_files(work, range(9), prepare, 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@contextmanager
def running(folder, stage, seconds, interruption="default_int_handler"):
    """The script in a session of its own, when a process has come to a stage."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, stage, str(seconds), interruption],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        assert process.stdout.readline() == "here\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "stage", ["working", pytest.param("preparing", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "end",
    [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)],
)
def test_no_process_survives_and_none_complains(tmp_path, stage, end):
    """Ctrl-C reaches all processes of a terminal, a kill the first one."""
    with running(tmp_path, stage, 600) as process:
        (os.killpg if end == signal.SIGINT else os.kill)(process.pid, end)
        # Ends when nobody has the pipes any more.
        _, errors = process.communicate(timeout=60)
        if end == signal.SIGINT:
            assert (process.returncode, errors) == (130, "")


@pytest.mark.slow
def test_interruption_of_others_is_ignored_in_the_background(tmp_path):
    """As a shell starts a job of a script with ``&``."""
    with running(tmp_path, "working", 0.5, "SIG_IGN") as process:
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
