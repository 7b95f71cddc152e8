"""Which part of a source of cycles is whose, where there are several recordings.

Authors
 * qlung_plugin contributors
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from qlung_plugin.dataio.annotations import annotation_in, likely_annotation
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

    An annotation is of one of them, that in folders like its own. If some have
    such, the others get the name of one that is not there. Where nothing says
    whose it is, it is a ValueError.
    """
    alike: dict[str, list[Path]] = defaultdict(list)
    for recording in recordings:
        alike[recording.stem].append(recording)
    root = os.path.commonpath([path.absolute().parent for path in recordings])
    shares = {recording: str(folder) for recording in recordings}
    for paths in alike.values():
        if len(paths) == 1:
            continue
        places = {
            path: folder / path.absolute().parent.relative_to(root)
            for path in paths
        }
        claims: dict[Path, list[Path]] = defaultdict(list)
        for path in paths:
            file = likely_annotation(folder, path)
            if file is not None:
                claims[file].append(path)
        if not claims:
            try:  # of any other folder: the same for all of them
                claims[annotation_in(folder, paths[0])] = paths
            except (OSError, ValueError):
                continue  # told when it is read
        for path in paths:
            shares[path] = str(places[path] / f"{path.stem}.txt")
        for file, owners in claims.items():
            # Of several, that whose place below the root is the file's.
            own = [path for path in owners if places[path] == file.parent]
            owners = own or owners
            # In one folder they are forms of one recording, such as .wav and .mp3.
            if len({path.parent for path in owners}) > 1:
                raise ValueError(
                    f"{file} may annotate {owners[0]} or {owners[1]}: move it into"
                    " a folder called like that of its recording"
                )
            shares |= dict.fromkeys(owners, str(file))
    return [shares[recording] for recording in recordings]
