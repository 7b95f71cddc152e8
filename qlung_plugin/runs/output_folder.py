"""The output folder of a script, which belongs to one configuration.

Whoever comes with another one is refused before a byte of it changes. What a
folder was made with stands in its ``configuration.json``.

Authors
 * qlung_plugin contributors
"""

import fcntl
import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from qlung_plugin.dataio.folders import check_data_folder, check_outside
from qlung_plugin.runs.configuration import (
    digest_file,
    find_differences,
    flatten,
    parse_yaml,
    resolve_yaml,
    run_options,
)
from qlung_plugin.runs.debris import sweep
from qlung_plugin.utils.files import write_json
from qlung_plugin.utils.ordinary_files import (
    LARGEST_TABLE,
    LARGEST_TEXT,
    ordinary_size,
    read_json,
    read_ordinary,
)

logger = logging.getLogger(__name__)

CONFIGURATION = "configuration.json"
HYPERPARAMETERS = "hyperparams.yaml"
# Written by a script when it is through; each has one of them at least.
RESULTS = ("metrics.json", "report.txt", "report.md", "degradation.md")
CHECKPOINTS = "CKPT*"
MANIFESTS = ("train.json", "valid.json", "test.json", "recordings.json")
# Options that name what is written.
WRITTEN = (
    "output_folder",
    "save_folder",
    "validation_folder",
    "manifest_folder",
    "cache_folder",
    "train_log",
)

_locks = {}  # of this process, by the file's device and number


class OutputFolder:
    """Where a script writes, and what it writes there depends on.

    Arguments
    ---------
    script : str
        The script's file.
    hparams_file : str
        Its YAML.
    run_opts : speechbrain.utils.run_opts.RunOptions
        SpeechBrain's own options.
    overrides : str
        What the command line changes in the YAML.

    Raises
    ------
    ValueError
        If the YAML is none, or an option does not fit it.
    """

    def __init__(self, script, hparams_file, run_opts, overrides):
        self.keys = resolve_yaml(hparams_file, overrides)
        self.path = Path(self.keys["output_folder"])
        self.log = self.path / "log.txt"
        self.configuration = {
            "script": Path(script).name,
            "options": flatten(self.keys),
            "run_options": run_options(run_opts, self.keys),
        }
        self.before, self.told = None, []

    @property
    def threads(self):
        """The number of threads with which it was begun, or None."""
        return None if self.before is None else self.before["threads"]

    def check(self):
        """Refuses what can be refused at once; a folder is locked.

        Raises
        ------
        FileNotFoundError, ValueError
            See :meth:`check_places`; or if another process works in the folder,
            or it was made otherwise.
        """
        self.check_places()
        if self.path.exists():
            self._bind()

    def check_places(self):
        """Refuses data that are not there, and to write where they are.

        Raises
        ------
        FileNotFoundError
            If the data folder does not exist, or holds no recording.
        ValueError
            If something would be written within the data folder.
        """
        check_data_folder(self.keys["data_folder"])
        places = {key: self.keys.get(key) for key in WRITTEN}
        for data in (
            self.keys["data_folder"],
            self.keys.get("annotation_folder"),
        ):
            if data is not None:
                check_outside(data, {k: v for k, v in places.items() if v})

    def _bind(self):
        """Locks the folder, and compares what it was made with."""
        used = is_used(self.path, self.keys.get("save_folder"))
        if used and not (self.path / HYPERPARAMETERS).is_file():
            raise ValueError(
                f"{self.path} holds results, but no {HYPERPARAMETERS} that says"
                " what made them: give another --output_folder, or delete it"
            )
        lock(self.path)
        if is_used(self.path, self.keys.get("save_folder")):
            self.before = read_configuration(self.path)
            refused, self.told = compare(self.before, self.configuration)
            self._refuse(refused)

    def check_data(self, manifests, prepare, arguments):
        """Refuses other data than those that the folder was made with.

        The preparation is tried elsewhere, so that nothing changes here.

        Arguments
        ---------
        manifests : list of str
            The files that are going to be used.
        prepare : callable
            Writes manifests; called with the arguments.
        arguments : dict
            Among them ``output_folder``, and ``skip_prep`` where it has it.

        Raises
        ------
        ValueError
            If a manifest, or a recording that it names, differs.
        """
        self._bind()  # somebody may have been faster
        if self.before is None:
            return
        with TemporaryDirectory() as folder:
            if not arguments.get("skip_prep"):
                with _silence():
                    prepare(**{**arguments, "output_folder": folder})
                written = Path(arguments["output_folder"]).resolve()
                manifests = [
                    Path(folder, Path(path).name)
                    if Path(path).resolve().parent == written
                    else path
                    for path in manifests
                ]
            now = describe_data(manifests, self.keys["data_folder"])
        before = {**self.before["manifests"]}
        # Folders of older versions do not say it.
        if self.before["recordings"] is not None:
            before["recordings"] = self.before["recordings"]
            now["manifests"]["recordings"] = now["recordings"]
        self._refuse(find_differences(before, now["manifests"])[0])

    def _refuse(self, differences):
        if differences:
            lines = "".join(f"- {line}\n" for line in differences)
            raise ValueError(
                f"{self.path} was made otherwise, and stays as it is:\n{lines}"
                "Give another --output_folder, or the options of before; or"
                " delete the folder"
            )

    def claim(self, manifests, threads):
        """Writes what the results depend on; what a kill left is removed.

        Arguments
        ---------
        manifests : list of str
            The files that are used.
        threads : int
            Of this process; what was begun keeps the number of its start.
        """
        if self.told:
            for line in self.told:
                logger.warning("%s: the results before are replaced", line)
            for folder in (self.path, self.keys.get("validation_folder")):
                # Until then, it is not finished.
                Path(folder or self.path, "metrics.json").unlink(True)
        write_json(
            {
                **self.configuration,
                **describe_data(manifests, self.keys["data_folder"]),
                "threads": self.threads or threads,
            },
            self.path / CONFIGURATION,
        )
        places = [self.keys.get(key) for key in ("save_folder", "train_log")]
        sweep(self.path, *places)


def is_used(folder, save_folder=None):
    """Whether there are results, or a training to go on with, in a folder.

    Arguments
    ---------
    folder : str or Path
        The output folder.
    save_folder : str or Path, optional
        Where its checkpoints are.

    Returns
    -------
    bool
        What broke before its first checkpoint left nothing to be mixed up.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> is_used(folder)
    False
    >>> (folder / "metrics.json").touch()
    >>> is_used(folder)
    True
    """
    if any((Path(folder) / name).exists() for name in RESULTS):
        return True
    if save_folder is None:
        return False
    return any(
        (checkpoint / "CKPT.yaml").exists()
        for checkpoint in Path(save_folder).glob(CHECKPOINTS)
    )


def read_configuration(folder):
    """What the results of a folder were made with.

    Where an older version left no ``configuration.json``, it is told from the
    folder's ``hyperparams.yaml``, script and manifests.

    Arguments
    ---------
    folder : Path
        The output folder.

    Returns
    -------
    dict
        ``script`` (a name), ``options``, ``run_options`` (configurations),
        ``manifests`` (digests by name), ``recordings`` (a digest) and
        ``threads``; None is not known.

    Raises
    ------
    ValueError
        If a file is damaged.
    """
    path = Path(folder) / CONFIGURATION
    if path.is_file():
        known = read_json(path)
        missing = {"script", "options", "run_options", "manifests"} - set(known)
        if missing:
            raise ValueError(
                f"{path} lacks {', '.join(sorted(missing))}: give another"
                " --output_folder, or delete it"
            )
        return known
    path = Path(folder) / HYPERPARAMETERS
    manifests = [Path(folder) / name for name in MANIFESTS]
    scripts = sorted(script.name for script in Path(folder).glob("*.py"))
    return {
        "script": scripts[0] if len(scripts) == 1 else None,
        "options": flatten(parse_yaml(read_ordinary(path), path)),
        "run_options": None,
        "manifests": {
            manifest.name: digest_file(manifest)
            for manifest in manifests
            if manifest.is_file()
        },
        "recordings": None,
        "threads": None,
    }


def compare(before, now):
    """How what a folder was made with differs from what is asked for.

    Arguments
    ---------
    before : dict
        From :func:`read_configuration`.
    now : dict
        ``script``, ``options`` and ``run_options``.

    Returns
    -------
    refused, told : list of str
        See :func:`qlung_plugin.runs.configuration.find_differences`.

    Example
    -------
    >>> before = {"script": "train.py", "options": {}, "run_options": None}
    >>> compare(before, {"script": "evaluate.py", "options": {"a": 1}})
    (['script: it was train.py, now it is evaluate.py'], [])
    """
    scripts = [{"script": one["script"]} for one in (before, now)]
    if before["script"] is not None and scripts[0] != scripts[1]:
        return find_differences(*scripts)
    configurations = [before["options"], now["options"]]
    if before["run_options"] is not None:
        configurations = [
            {**one["options"], **one["run_options"]} for one in (before, now)
        ]
    return find_differences(*configurations)


def describe_data(manifests, data_folder):
    """Digests of manifests, and of all recordings that they name.

    Arguments
    ---------
    manifests : list of str or Path
        Files; one that is missing is left out.
    data_folder : str or Path
        What ``{data_root}`` stands for in them.

    Returns
    -------
    dict
        ``manifests``, by file name, and ``recordings``, one for all.
    """
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
        "manifests": {path.name: digest_file(path) for path in manifests},
        "recordings": hashlib.sha256(every).hexdigest(),
    }


def lock(folder):
    """Locks a folder until this process ends, however it ends.

    Arguments
    ---------
    folder : str or Path
        An output folder; it is made.

    Raises
    ------
    ValueError
        If another process has locked it, or what is locked is no file.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    # A file that is there in every run folder: nothing is left behind.
    path = Path(folder) / HYPERPARAMETERS
    if path.exists():
        ordinary_size(path, LARGEST_TEXT)
    file = open(path, "a", encoding="utf-8")
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
            f"{folder} is in use by {_lock_holder(status.st_ino)}: wait for it,"
            " or give another --output_folder"
        ) from error
    _locks[key] = file


def unlock_all():
    """Unlocks what this process locked, for one that goes on."""
    while _locks:
        _locks.popitem()[1].close()


def _lock_holder(inode):
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


@contextmanager
def _silence():
    """What is logged is going to be said again, in earnest."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
