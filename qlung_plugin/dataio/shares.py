"""Which part of a source of cycles is whose, where there are several recordings.

Authors
 * qlung_plugin contributors
"""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from qlung_plugin.dataio.annotations import annotation_in
from qlung_plugin.dataio.cycle_tables import (
    CycleRows,
    read_raven_table,
    read_table,
)
from qlung_plugin.dataio.fields import some


def share_out(
    source: str, recordings: Sequence[Path]
) -> tuple[list[CycleRows | str], list[str]]:
    """What the cycles of each of several recordings come from.

    If the source, see :func:`qlung_plugin.dataio.cycle_sources.find_cycles`, is
    a table, these are the rows of each recording; if it is a folder, the file of
    each that is called like another one; else the source. Also returns what is
    to be said: how many rows name none of the recordings.
    """
    path = Path(source)
    if path.is_dir():
        return _share_folder(path, recordings), []
    table = read_raven_table(path)
    if path.suffix.lower() == ".csv":
        table = read_table(path)
    if table is None:
        return [source] * len(recordings), []
    if not table.named and len(recordings) > 1:
        raise ValueError(
            f"{path} needs a column recording: there are {len(recordings)}"
        )
    assigned, strangers = table.assign(recordings)
    notes = []
    if strangers:
        notes.append(
            f"{path}: {len(strangers)} of {len(table.rows)} rows name no"
            f" recording given: {some(list(dict.fromkeys(strangers)))}"
        )
    return [assigned[recording] for recording in recordings], notes


def _share_folder(
    folder: Path, recordings: Sequence[Path]
) -> list[CycleRows | str]:
    """The folder, or the file of each recording that is called like another.

    An annotation is of one of them: of that in a folder like its own, below the
    folder that holds them all. Whose there is none get the name of one that is
    not there. Where nothing says whose it is, it is a ValueError.
    """
    alike = Counter(recording.stem for recording in recordings)
    named = [path for path in recordings if alike[path.stem] > 1]
    if not named:
        return [str(folder)] * len(recordings)
    root = os.path.commonpath([path.absolute().parent for path in recordings])
    expected = {
        path: folder / path.absolute().parent.relative_to(root)
        for path in named
    }
    claims: dict[Path, list[Path]] = defaultdict(list)
    shares: dict[Path, str] = {}
    for path in named:
        try:
            claims[annotation_in(folder, path)].append(path)
        except (OSError, ValueError):
            continue  # told when it is read
    for file, claimants in claims.items():
        owners = [path for path in claimants if expected[path] == file.parent]
        if not owners and len(claimants) > 1:
            raise ValueError(
                f"{file} may annotate {claimants[0]} or {claimants[1]}: move it"
                " into a folder called like that of its recording"
            )
        for path in claimants:
            own = path in owners or not owners
            missing = expected[path] / f"{path.stem}.txt"
            shares[path] = str(file if own else missing)
    return [shares.get(path, str(folder)) for path in recordings]
