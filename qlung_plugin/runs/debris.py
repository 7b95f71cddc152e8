"""What a killed run leaves behind, removed when the run is started again.

Authors
 * qlung_plugin contributors
"""

import os
import re
import shutil
from pathlib import Path

from qlung_plugin.runs.folder import HISTORY, RunFolder
from qlung_plugin.training.checkpoints import COMPLETE
from qlung_plugin.utils.files import write_text
from qlung_plugin.utils.ordinary_files import read_json
from speechbrain.utils.checkpoints import METAFNAME
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# As qlung_plugin.utils.files.replacing names them: process and kind of file.
TEMPORARY = re.compile(
    r"\..+\.([0-9]+)\.(csv|json|md|png|safetensors|txt|yaml)"
)
EPOCH = re.compile(r"epoch: ([0-9]+)\b")


def sweep(
    folder: Path | str,
    save_folder: Path | str | None = None,
    train_log: Path | str | None = None,
) -> None:
    """Removes half-saved checkpoints, files that were to be replaced, and of the
    log of the training the epochs that are going to be repeated.
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


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _cut_log(path: Path, checkpoints: list[Path]) -> None:
    """Leaves the epochs that the newest checkpoint has behind it."""
    epochs = set()
    if checkpoints:
        history = checkpoints[-1] / HISTORY
        if not history.is_file():
            return
        epochs = {row["epoch"] for row in read_json(history)}
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = [EPOCH.match(line) for line in lines]
    last = {match[1]: place for place, match in enumerate(matches) if match}
    kept = [
        line
        for place, (line, match) in enumerate(zip(lines, matches))
        if not match or (int(match[1]) in epochs and last[match[1]] == place)
    ]
    if kept != lines:
        write_text("".join(f"{line}\n" for line in kept), path)
