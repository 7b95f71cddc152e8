"""What ``qlung classify`` writes for Audacity and Raven: a file per recording.

Authors
 * qlung_plugin contributors
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.label_tracks import (
    RAVEN_SUFFIX,
    format_audacity,
    format_raven,
)

if TYPE_CHECKING:
    from qlung_plugin.inference.classification import Classification

TABLE = "cycles.csv"  # beside the labels, with the probabilities
SUFFIXES = {"audacity": ".txt", "raven": RAVEN_SUFFIX}


def begin_folder(arguments: argparse.Namespace) -> dict[Path, Path]:
    """Makes the folder of the arguments ready; the file of each recording's labels.

    The output is the table in it then. That labels or annotations are there, of
    which none is overwritten, is a FileExistsError, unless it is gone on with.
    """
    if arguments.output is None:
        raise ValueError(
            f"--format {arguments.format} writes a file per recording: name a"
            " folder as --output"
        )
    folder = Path(arguments.output)
    if folder.is_file():
        raise NotADirectoryError(
            f"{folder} is a file: --format {arguments.format} writes a folder"
        )
    places = place_labels(arguments.paths, folder, arguments.format)
    there = [str(place) for place in places.values() if place.exists()]
    if there and not arguments.resume:
        raise FileExistsError(
            f"{len(there)} files of labels or annotations are there, and are not"
            f" overwritten: {some(there)}; name another folder as --output"
        )
    beside = [
        recording
        for recording, place in places.items()
        if place.parent.resolve() == recording.parent.resolve()
    ]
    if arguments.resume and arguments.cycles == "auto" and beside:
        raise ValueError(
            f"--resume would take the labels beside {beside[0]} for its"
            " annotation: name another --output, or the --cycles"
        )
    folder.mkdir(parents=True, exist_ok=True)
    arguments.output = str(folder / TABLE)
    return places


def place_labels(
    paths: Sequence[str], folder: Path, form: str
) -> dict[Path, Path]:
    """The file of each recording's labels, in folders like the recordings'.

    These begin where all paths given are. Two recordings of one name in one
    place are a ValueError.
    """
    from qlung_plugin.dataio.finding import find_recordings

    given = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath(
        [
            path if os.path.isdir(path) else os.path.dirname(path)
            for path in given
        ]
    )
    places: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for recording in find_recordings(paths).recordings:
        inside = os.path.relpath(os.path.abspath(recording), root)
        name = f"{recording.stem}{SUFFIXES[form]}"
        place = folder / Path(inside).with_name(name)
        other = owners.setdefault(place, recording)
        if other != recording:
            raise ValueError(
                f"{other} and {recording} would have their labels in one file,"
                f" {place}: rename one, or leave it out"
            )
        places[recording] = place
    return places


def label_writer(
    form: str,
    places: dict[Path, Path],
    write_row: "Callable[[Path, Classification], None]",
) -> "Callable[[Path, Classification], None]":
    """Writes the labels of a recording, and then its rows of the table.

    A file that is there with other labels, such as corrected ones, is a
    FileExistsError.
    """

    def write(path: Path, classification: "Classification") -> None:
        from qlung_plugin.utils.files import write_text

        text = format_labels(form, classification)
        place = places[path]
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and place.read_text("utf-8") != text:
            raise FileExistsError(
                f"{place} has other labels than the model gives {path}, and is"
                " not overwritten: move it away"
            )
        write_text(text, place)
        write_row(path, classification)

    return write


def format_labels(form: str, classification: "Classification") -> str:
    """The labels of a recording: the class, and for Raven how sure it is, too."""
    import pandas as pd

    cycles, summary = classification
    rows = zip(cycles["start"], cycles["end"], cycles["prediction"])
    if form == "audacity":
        return format_audacity(rows)
    probabilities = [
        row.get(f"p_{row['prediction']}") for _, row in cycles.iterrows()
    ]
    columns = {
        name: pd.Series(values, dtype=float).map("{:.4f}".format, "ignore")
        for name, values in (
            ("Probability", probabilities),
            ("Quality", cycles["quality"]),
        )
    }
    return format_raven(
        rows,
        summary["sample_rate"] / 2,
        {name: [*texts.fillna("")] for name, texts in columns.items()},
    )
