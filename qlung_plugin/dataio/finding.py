"""The recordings in folders, and what there is of others.

Authors
 * qlung_plugin contributors
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from qlung_plugin.dataio.decoders import MEDIA, PROPRIETARY

# What is looked for in a folder; a file that is named is tried in any case.
SUFFIXES = MEDIA.union(
    PROPRIETARY,
    ".aif .aifc .aiff .au .bwf .caf .flac .mp2 .mp3 .nist .oga .ogg .opus .rf64"
    " .snd .sph .w64 .wav .wave".split(),
)


class FoundRecordings(NamedTuple):
    """What is there in files and folders."""

    recordings: list[Path]  # in the order given, sorted within a folder
    unreachable: list[
        str
    ]  # sentences on what may be recordings and is not among
    repeated: list[
        str
    ]  # sentences on second names of files that are among them


def find_recordings(paths: Iterable[Path | str]) -> FoundRecordings:
    """The recordings that paths name.

    Files are taken as they are; in folders, files are looked for by their
    suffix, at any depth, but for what is hidden. Links to folders are not
    followed. A folder that has no recording, nor anything that cannot be
    reached, is a FileNotFoundError.
    """
    result = FoundRecordings([], [], [])
    names: dict[tuple[int, int], Path] = {}  # the first one of each file
    places = [Path(path) for path in paths]
    given = [path.resolve() for path in places]
    for path in places:
        if path.is_dir():
            files, unreachable = _look_into(path, given)
            if not files and not unreachable:
                raise FileNotFoundError(
                    f"{path} holds no recording: no file in it ends in"
                    f" {' '.join(sorted(SUFFIXES))}"
                )
            result.unreachable.extend(unreachable)
        elif path.exists():
            files = [path]
        else:
            raise FileNotFoundError(f"{path} does not exist")
        for file in files:
            status = file.stat()
            first = names.setdefault((status.st_dev, status.st_ino), file)
            if first is file:
                result.recordings.append(file)
            elif first != file:
                result.repeated.append(
                    f"{file} is the same file as {first}, and is left out"
                )
    # A folder that is given twice has them twice.
    return result._replace(repeated=list(dict.fromkeys(result.repeated)))


def _look_into(
    folder: Path, given: Sequence[Path]
) -> tuple[list[Path], list[str]]:
    """The files of a folder, and sentences on what cannot be reached.

    What the paths that are given hold is reached, whatever links lead there.
    """
    files, unreachable = [], []

    def cannot_read(error: OSError) -> None:
        unreachable.append(
            f"{error.filename} cannot be looked into ({error.strerror})"
        )

    for parent, folders, names in os.walk(folder, onerror=cannot_read):
        # Whatever is hidden is left out, and folders are looked into in order.
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        for name in folders:
            link = Path(parent, name)
            if link.is_symlink() and not any(
                link.resolve().is_relative_to(path) for path in given
            ):
                unreachable.append(
                    f"{link} is a link to a folder, which is not followed: name"
                    " that, too"
                )
        for name in names:
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            if path.is_file():
                files.append(path)
            elif path.is_symlink() and not path.exists():
                unreachable.append(f"{path} is a link to nothing")
            else:
                unreachable.append(f"{path} is no ordinary file")
    return sorted(files), sorted(unreachable)
