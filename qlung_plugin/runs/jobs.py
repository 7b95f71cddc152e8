"""Scripts that are run several at a time, each into a folder of its own.

What is finished is not run again, and a folder tells how it was made.

Authors
 * qlung_plugin contributors
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

import speechbrain as sb
from qlung_plugin.runs.configuration import find_differences
from qlung_plugin.runs.folder import EXPERIMENT, RunFolder
from qlung_plugin.runs.output_folder import OutputFolder, compare
from qlung_plugin.runs.schema import MADE_BY, read_checked
from qlung_plugin.runs.scripts import PARENT, free_cores
from qlung_plugin.utils.files import write_json
from qlung_plugin.utils.text import printable

TAIL = 15  # lines of what a script printed, shown where it broke
POLL = 0.2  # seconds
PATIENCE = 20  # seconds that a script may take to end when it is told to


@dataclass
class Step:
    """One call of a script, which writes ``metrics.json`` when it is through.

    What it could not be called with is refused at once, as by ``OutputFolder``.
    """

    folder: Path  # where its results go
    command: list[str]  # script, YAML and options
    data_folder: str  # what it reads
    about: dict[str, Any]  # what else experiment.json is to say

    def __post_init__(self) -> None:
        self.run = RunFolder(self.folder)
        script, *arguments = self.command
        output = OutputFolder(script, *sb.parse_arguments(arguments))
        output.check_places()
        self.made_with = {
            **output.configuration,
            # Of a finished run nobody looks at the data again.
            "data folder": os.path.abspath(self.data_folder),
        }

    def is_finished(self) -> bool:
        """Whether its results are there."""
        return self.run.metrics.is_file()

    def find_conflict(self) -> str | None:
        """How what is in the folder was made otherwise, in words, or None."""
        if not self.run.experiment.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                return f"{self.folder} holds files, but no {EXPERIMENT}"
            return None
        record = read_checked(self.run.experiment, {"made_with": MADE_BY})
        before, key = record["made_with"], "data folder"
        changes, _ = find_differences(
            {key: before.get(key)}, {key: self.made_with[key]}
        )
        # What the script wrote itself is more recent.
        if self.run.configuration.is_file():
            before = self.run.read_configuration()
        # More epochs, too: a finished run is not gone on with here.
        changes += chain(*compare(before, self.made_with))
        if not changes:
            return None
        return f"{self.folder} was made otherwise: {'; '.join(changes)}"

    def start(
        self, environment: dict[str, str], lifeline: int
    ) -> subprocess.Popen:
        """Starts the script; what it prints goes to a file in the folder.

        When the other end of the lifeline, a pipe, closes, the script ends.
        """
        self.record(environment)
        with open(self.run.console, "wb") as console:
            return subprocess.Popen(
                [sys.executable, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=[lifeline],
                env={**os.environ, **environment, PARENT: str(lifeline)},
            )

    def record(self, environment: dict[str, str]) -> None:
        """Writes into the folder how its results are made."""
        record = {
            **self.about,
            "command": self.command,
            "environment": environment,
            "made_with": self.made_with,
        }
        write_json(record, self.run.experiment)

    def describe_failure(self, returncode: int) -> str:
        """What is said where the script broke."""
        path = self.run.console
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "".join(f"\n    {line}" for line in lines[-TAIL:])
        return f"exit code {returncode}, the end of {path}:{tail}"


def plan_slots(jobs: int | None = None) -> list[dict[str, str]]:
    """Environment variables for each run at a time: a GPU, or threads.

    What else the machine does changes how many run at a time, not how many threads
    each has: those change the last digits of a result.
    """
    count = torch.cuda.device_count()
    if count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = (
            visible.split(",") if visible else list(map(str, range(count)))
        )
        return [
            {"CUDA_VISIBLE_DEVICES": devices[slot % count]}
            for slot in range(jobs or count)
        ]
    threads = str(max(1, len(os.sched_getaffinity(0)) // jobs) if jobs else 1)
    jobs = jobs or free_cores()
    key = "OMP_NUM_THREADS"
    return [{key: os.environ.get(key, threads)} for _ in range(jobs)]


def execute(
    runs: dict[str, list[Step]], slots: list[dict[str, str]]
) -> dict[str, str]:
    """Runs the steps that are not finished, as many runs at a time as slots.

    Returned is what is to be said of each run that broke, by its name.
    """
    left = {
        name: [step for step in steps if not step.is_finished()]
        for name, steps in runs.items()
    }
    queue = deque((name, steps) for name, steps in left.items() if steps)
    progress = tqdm(
        total=len(runs),
        initial=len(runs) - len(queue),
        desc="Runs",
        dynamic_ncols=True,
    )
    running: dict[int, tuple[str, list[Step], subprocess.Popen]] = {}
    broken: dict[str, str] = {}
    shown = ""
    # As an exception, a termination ends the scripts like an interruption.
    before = signal.signal(signal.SIGTERM, _terminate)
    lifeline, own_end = os.pipe()
    try:
        while queue or running:
            for slot, environment in enumerate(slots):
                if slot in running:
                    name, (step, *later), process = running[slot]
                    if process.poll() is None:
                        continue
                    del running[slot]
                    if process.returncode or not step.is_finished():
                        broken[name] = step.describe_failure(process.returncode)
                        place = f"{name} broke: {step.run.console}"
                        progress.write(printable(place))
                        later = []
                    if later:
                        queue.appendleft((name, later))
                    else:
                        progress.update()
                if queue:
                    name, steps = queue.popleft()
                    process = steps[0].start(environment, lifeline)
                    running[slot] = name, steps, process
            current = ", ".join(name for name, *_ in running.values())
            if current != shown:
                progress.set_postfix_str(printable(current))
                shown = current
            time.sleep(POLL)
    finally:
        _stop([process for *_, process in running.values()])
        for end in (lifeline, own_end):
            os.close(end)
        signal.signal(signal.SIGTERM, before)
        progress.close()
    return broken


def _terminate(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)


def _stop(processes: list[subprocess.Popen]) -> None:
    """Ends processes, in a friendly way first."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
