"""The folders of a database: which is read, what is odd, what is not written.

Authors
 * qlung_plugin contributors
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from qlung_plugin.dataio.fields import add_once, some

SEARCH_DEPTH = 8  # folders below the data folder, which may hold link loops


class Warnings(list[str]):
    """What is odd but usable, as sentences with counts; errors if strict."""

    def __init__(self, strict: bool = False):
        super().__init__()
        self.strict = strict

    def report(
        self, problems: Mapping[str, Sequence[str]], place: Path | str
    ) -> None:
        """Reports files in a place, by what is wrong with them."""
        for problem, names in problems.items():
            message = f"{place}: {len(names)} {problem}: {some(names)}"
            if names and self.strict:
                raise ValueError(message)
            if names:
                self.append(message)


def check_folders(
    data_folder: Path | str, output_folder: Path | str
) -> tuple[Path, Path]:
    """The two folders as absolute paths; data are never written to.

    Links in the data folder are kept, since manifests are relative to it.
    """
    check_outside(data_folder, {"output_folder": output_folder})
    return Path(os.path.abspath(data_folder)), Path(output_folder).resolve()


def check_outside(
    data_folder: Path | str, places: Mapping[str, Path | str]
) -> None:
    """Refuses to write files and folders, by option, within the data folder."""
    for option, place in places.items():
        if Path(place).resolve().is_relative_to(Path(data_folder).resolve()):
            raise ValueError(
                f"{option} {place} lies in the data folder {data_folder},"
                " which is never written to: choose another one"
            )


def check_data_folder(data_folder: Path | str) -> None:
    """Refuses a data folder that holds no recording, before what takes time."""
    if not Path(data_folder).is_dir():
        state = (
            "is no folder" if Path(data_folder).exists() else "does not exist"
        )
        raise FileNotFoundError(f"data_folder {data_folder} {state}")
    top = len(Path(data_folder).parts)
    for folder, subfolders, names in os.walk(data_folder, followlinks=True):
        # A table may name recordings that are elsewhere.
        if any(name.lower().endswith((".wav", ".csv")) for name in names):
            return
        if len(Path(folder).parts) - top == SEARCH_DEPTH:
            subfolders.clear()
    raise FileNotFoundError(f"data_folder {data_folder} holds no recording")


def walk_folders(
    root: Path, depth: int, warnings: Warnings
) -> Iterator[tuple[Path, list[str]]]:
    """Goes through a folder and those in it, links to folders included.

    Yields each folder, to some depth, and its files, sorted. That the root
    cannot be read is an error; other folders are a sentence in the warnings.
    """
    unread = []

    def note(error: OSError) -> None:
        if Path(error.filename) != root:
            unread.append(error.filename)
        elif root.is_dir():
            raise error

    walk = os.walk(root, onerror=note, followlinks=True)
    for place, subfolders, names in walk:
        folder = Path(place)
        if len(folder.relative_to(root).parts) == depth:
            subfolders.clear()
        yield folder, sorted(names)
    problems = {"folders that cannot be read": sorted(unread)}
    warnings.report(problems, root)


def named_files(
    paths: Iterable[Path], suffix: str, name: re.Pattern
) -> tuple[dict[str, Path], list[str]]:
    """Files of a kind by the name of their recording; names of the others.

    What is hidden is neither, and a name in two letter cases is an error.
    """
    files: dict[str, Path] = {}
    others = []
    for path in paths:
        if path.suffix.lower() != suffix or path.name.startswith("."):
            continue
        if name.fullmatch(path.stem):
            add_once(files, path.stem, path, path)
        else:
            others.append(path.name)
    return files, others


def only_copy(
    contents: Mapping[Path, object],
    what: str,
    argument: str,
    warnings: Warnings,
) -> Path:
    """The folder to read of those that hold the same: the nearest to the root.

    What each holds is in a form that can be compared. Different contents are an
    error that names the argument which may point at one of them.
    """
    first, *others = sorted(contents, key=lambda path: (len(path.parts), path))
    for other in others:
        if contents[other] != contents[first]:
            raise ValueError(
                f"both {first} and {other} hold {what}, and not the same ones:"
                f" let {argument} point at one of them"
            )
        message = f"{other} repeats {first} and is not read"
        if message not in warnings:
            warnings.append(message)
    return first
