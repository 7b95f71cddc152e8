"""Folders in a cache that runs share: each is there as a whole or not at all.

Authors
 * qlung_plugin contributors
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

UNFINISHED = "partial-"  # what folders that are being written begin with
LOCK = ".lock"


@contextmanager
def unfinished_folder(folder: Path) -> Iterator[Path]:
    """A new folder that is removed at the end, if it is still there."""
    path = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def lock_folder(folder: Path, kind: int) -> Iterator[bool]:
    """Holds the folder's lock where there are locks; yields whether it does.

    Who writes shares it; who sweeps wants it alone, and so meets nobody's work.
    The system lets go of the lock of a process that was killed.
    """
    descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, kind)
            held = True
        except OSError:  # somebody else's, or a file system without locks
            held = False
        yield held
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Removes what killed runs left, unless something is being written."""
    debris = list(folder.glob(f"{UNFINISHED}*"))
    if not debris:
        return
    try:
        with lock_folder(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            for path in debris if alone else []:
                logger.info("Removing %s, left by a run that was killed", path)
                shutil.rmtree(path, ignore_errors=True)
    except OSError:  # somebody else's folder, or one that is read only
        pass


def move_into_place(unfinished: Path, target: Path) -> None:
    """Gives a folder its name, unless another run has done so."""
    try:
        os.rename(unfinished, target)
    except OSError:
        # Another run may have been faster: its folder is as good.
        if not target.exists():
            raise
    sync(target.parent)


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk, not in its buffers."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
