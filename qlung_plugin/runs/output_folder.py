"""The output folder of a script, which belongs to one configuration.

Whoever comes with another one is refused before a byte of it changes. One process
at a time writes to it.

Authors
 * qlung_plugin contributors
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from ruamel.yaml import YAML

from qlung_plugin.dataio.folders import check_data_folder, check_outside
from qlung_plugin.runs.configuration import (
    digest_file,
    file_checksums,
    find_differences,
    flatten,
    resolve_yaml,
    run_options,
)
from qlung_plugin.runs.debris import sweep
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.hparams import check_keys
from qlung_plugin.utils.files import write_json, write_text
from qlung_plugin.utils.ordinary_files import (
    LARGEST_TABLE,
    LARGEST_TEXT,
    ordinary_size,
    read_json,
)
from speechbrain.utils.run_opts import RunOptions

logger = logging.getLogger(__name__)

# Options that name what is written.
WRITTEN = (
    "output_folder",
    "save_folder",
    "validation_folder",
    "manifest_folder",
    "cache_folder",
    "train_log",
)
# The locked files of this process, by device and number.
_locks: dict[tuple[int, int], IO[str]] = {}


class OutputFolder:
    """Where a script writes, and what it writes there depends on.

    A YAML that is none, that lacks a key of the script, or that an option does not
    fit, is a ValueError, and so is what a folder is refused for.
    """

    def __init__(
        self,
        script: str,
        hparams_file: str,
        run_opts: RunOptions,
        overrides: str,
    ) -> None:
        self.keys = resolve_yaml(hparams_file, overrides)
        check_keys(script, hparams_file, self.keys)
        self.origin = Path(hparams_file).absolute()
        self.run = RunFolder(
            self.keys["output_folder"], self.keys.get("save_folder")
        )
        self.path, self.log = self.run.path, self.run.log
        self.configuration = {
            "script": Path(script).name,
            "options": flatten(self.keys),
            "run_options": run_options(run_opts, self.keys),
        }
        self.before: dict[str, Any] | None = None
        self.replaced_by: list[str] = []  # what makes the results anew

    @property
    def threads(self) -> int | None:
        """The number of threads with which it was begun, or None."""
        return None if self.before is None else self.before["threads"]

    def check(self) -> None:
        """Refuses places, a folder in use, and one that was made otherwise."""
        self.check_places()
        if self.path.exists():
            self._lock_and_compare()

    def check_places(self) -> None:
        """Refuses data that are not there, and to write where they are."""
        check_data_folder(self.keys["data_folder"])
        places = {key: self.keys.get(key) for key in WRITTEN}
        for data in (
            self.keys["data_folder"],
            self.keys.get("annotation_folder"),
        ):
            if data is not None:
                check_outside(data, {k: v for k, v in places.items() if v})

    def _lock_and_compare(self) -> None:
        """Locks the folder, and compares what it was made with."""
        if self.run.is_used() and not self.run.configuration.is_file():
            raise ValueError(
                f"{self.path} holds results, but no configuration.json that"
                " says what made them: give another --output_folder, or delete"
                " it"
            )
        lock(self.run)
        if self.run.is_used():
            self.before = self.run.read_configuration()
            refused, self.replaced_by = compare(self.before, self.configuration)
            self._refuse(refused)

    def check_data(
        self, manifests: Sequence[Path | str], prepare: partial
    ) -> None:
        """Refuses other manifests or recordings than those of before.

        The preparation is tried elsewhere, so that nothing changes here.
        """
        self._lock_and_compare()  # somebody may have been faster
        if self.before is None:
            return
        arguments = prepare.keywords
        with TemporaryDirectory() as folder:
            if not arguments.get("skip_prep"):
                with _silence():
                    prepare(output_folder=folder)
                written = Path(arguments["output_folder"]).resolve()
                manifests = [
                    Path(folder, Path(path).name)
                    if Path(path).resolve().parent == written
                    else path
                    for path in manifests
                ]
            now = describe_data(manifests, self.keys["data_folder"])
        changes, _ = find_differences(
            *(
                {**data["manifests"], "recordings": data["recordings"]}
                for data in (self.before, now)
            )
        )
        self._refuse(changes)

    def _refuse(self, differences: list[str]) -> None:
        if differences:
            lines = "".join(f"- {line}\n" for line in differences)
            raise ValueError(
                f"{self.path} was made otherwise, and stays as it is:\n{lines}"
                "Give another --output_folder, or the options of before; or"
                " delete the folder"
            )

    def claim(self, manifests: Sequence[Path | str], threads: int) -> None:
        """Writes what the results depend on; what a kill left is removed.

        The YAML is kept as a whole, with all that it includes and refers to.
        """
        if self.replaced_by:
            for line in self.replaced_by:
                logger.warning("%s: the results before are replaced", line)
            for folder in (self.path, self.keys.get("validation_folder")):
                # Until then, it is not finished.
                RunFolder(folder or self.path).metrics.unlink(True)
            shutil.rmtree(self.run.models, ignore_errors=True)
        text = StringIO()
        text.write(f"# Generated {date.today()} from:\n# {self.origin}\n")
        text.write("# yamllint disable\n")
        YAML().dump(self.keys, text)
        write_text(text.getvalue(), self.run.hyperparameters)
        write_json(
            {
                **self.configuration,
                **describe_data(manifests, self.keys["data_folder"]),
                "threads": self.threads or threads,
            },
            self.run.configuration,
        )
        places = [self.keys.get(key) for key in ("save_folder", "train_log")]
        sweep(self.path, *places)


def compare(
    before: dict[str, Any], now: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """How what a folder was made with differs from what is asked for."""
    if before["script"] != now["script"]:
        return find_differences(
            {"script": before["script"]}, {"script": now["script"]}
        )
    return find_differences(
        {**before["options"], **before["run_options"]},
        {**now["options"], **now["run_options"]},
    )


def describe_data(
    manifests: Iterable[Path | str], data_folder: Path | str
) -> dict[str, Any]:
    """Digests of the manifests that are there, and one of all recordings."""
    manifests = [Path(path) for path in manifests if Path(path).is_file()]
    files = {
        entry["wav"]["file"]
        for path in manifests
        for entry in read_json(path, LARGEST_TABLE).values()
    }
    names = sorted(files)
    paths = [name.replace("{data_root}", str(data_folder)) for name in names]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(digest_file, paths))
    every = json.dumps(list(zip(names, digests))).encode()
    return {
        "manifests": file_checksums(manifests),
        "recordings": hashlib.sha256(every).hexdigest(),
    }


@contextmanager
def _silence() -> Iterator[None]:
    """What is logged is going to be said again, in earnest."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def lock(run: RunFolder) -> None:
    """Locks a run folder, which is made, until this process ends.

    If another process has locked it, it is a ValueError.
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
