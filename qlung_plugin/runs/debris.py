"""What a killed run leaves behind, removed when the run is started again.

Authors
 * qlung_plugin contributors
"""

import os
import re
import shutil
from pathlib import Path

from speechbrain.utils.checkpoints import METAFNAME
from speechbrain.utils.logger import get_logger

from qlung_plugin.runs.folder import HISTORY, RunFolder
from qlung_plugin.training.checkpoints import COMPLETE
from qlung_plugin.utils.files import write_text
from qlung_plugin.utils.ordinary_files import read_json

logger = get_logger(__name__)

# As qlung_plugin.utils.files.replacing names them: process and kind of file.
TEMPORARY = re.compile(r"\..+\.([0-9]+)\.(csv|json|md|png|txt|yaml)")
EPOCH = re.compile(r"epoch: ([0-9]+)\b")


def sweep(folder, save_folder=None, train_log=None):
    """Removes the debris of killed runs from an output folder.

    Half-saved checkpoints, files that were to be replaced, and of the log of
    the training the epochs that are going to be repeated.

    Arguments
    ---------
    folder : str or Path
        The output folder, in which no other process works.
    save_folder : str or Path, optional
        Where its checkpoints are.
    train_log : str or Path, optional
        A line per epoch.
    """
    for path in Path(folder).rglob(".*"):
        match = TEMPORARY.fullmatch(path.name)
        if match and path.is_file() and not _is_running(int(match[1])):
            path.unlink()
    if save_folder is None:
        return
    complete = []
    for checkpoint in RunFolder(folder, save_folder).checkpoints:
        if all((checkpoint / n).exists() for n in (METAFNAME, COMPLETE)):
            complete.append(checkpoint)
        else:
            logger.warning("%s was not saved completely: deleted", checkpoint)
            shutil.rmtree(checkpoint)
    if train_log is not None and Path(train_log).is_file():
        _cut_log(Path(train_log), complete)


def _is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _cut_log(path, checkpoints):
    """Leaves the epochs that the newest checkpoint has behind it."""
    epochs = set()
    if checkpoints:
        history = checkpoints[-1] / HISTORY
        if not history.is_file():
            return
        epochs = {row["epoch"] for row in read_json(history)}
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [EPOCH.match(line) for line in lines]
    last = {match[1]: place for place, match in enumerate(found) if match}
    kept = [
        line
        for place, (line, match) in enumerate(zip(lines, found))
        if not match or (int(match[1]) in epochs and last[match[1]] == place)
    ]
    if kept != lines:
        write_text("".join(f"{line}\n" for line in kept), path)
