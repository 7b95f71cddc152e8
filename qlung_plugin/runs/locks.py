"""A run folder is written to by one process at a time.

Authors
 * qlung_plugin contributors
"""

import fcntl
import os
from pathlib import Path
from typing import IO

from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.utils.ordinary_files import LARGEST_TEXT, ordinary_size

# Of this process, by the file's device and number.
_locks: dict[tuple[int, int], IO[str]] = {}


def lock(run: RunFolder) -> None:
    """Locks a run folder, which is made, until this process ends.

    If another process has locked it, or what is locked is no file, it is a
    ValueError.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    # A file that is there in every run folder: nothing is left behind.
    if run.hyperparameters.exists():
        ordinary_size(run.hyperparameters, LARGEST_TEXT)
    file = open(run.hyperparameters, "a", encoding="utf-8")
    status = os.fstat(file.fileno())
    key = (status.st_dev, status.st_ino)
    if key in _locks:
        file.close()
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ValueError(
            f"{run.path} is in use by {_lock_holder(status.st_ino)}: wait for"
            " it, or give another --output_folder"
        ) from error
    _locks[key] = file


def unlock_all() -> None:
    """Unlocks what this process locked, for one that goes on."""
    while _locks:
        _locks.popitem()[1].close()


def _lock_holder(inode: int) -> str:
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        # 1: FLOCK  ADVISORY  WRITE 6303 fe:00:2147970 0 EOF
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].split(":")[-1] == str(inode):
            return f"process {fields[4]}"
    return "another process"
