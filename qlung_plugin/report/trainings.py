"""The training that a run is of: its folder, its epochs, its recordings.

Authors
 * qlung_plugin contributors
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from qlung_plugin.figures.results import CURVES
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.schema import CONFIGURATION, check_cycle, read_checked

if TYPE_CHECKING:  # which imports this
    from qlung_plugin.report.sources import Run

LARGEST_MANIFEST = 2**26  # bytes: several hundred thousand cycles


def find_training(run: "Run") -> RunFolder | None:
    """The folder of the training, or export, whose model was evaluated."""
    training = run.evaluation.data.get("training") or {}
    places = [run.folder, run.folder.parent]
    if training.get("folder"):
        places.insert(0, Path(training["folder"]))
    trainings = map(RunFolder, places)
    return next(
        (t for t in trainings if t.is_training or t.exported.is_file()), None
    )


def read_training(run: "Run") -> pd.DataFrame | None:
    """The statistics of a run's training, a row per epoch, where it is there."""
    training = find_training(run)
    history = training.read_history() if training is not None else []
    curves = [
        {
            name: row.get(name, row.get(name.replace(" ", "_")))
            for name in ("epoch", *CURVES)
        }
        for row in history
    ]
    table = pd.DataFrame(curves, dtype=float).dropna(axis=1, how="all")
    return table if table.shape[1] > 1 else None


def find_recordings_of(
    run: "Run", data_folder: Path | str | None = None
) -> tuple[dict[str, Any], Path]:
    """The manifest of the cycles of a run, and the folder of their recordings.

    By default they are where they were when it was evaluated.
    """
    place = RunFolder(run.folder)
    home, partition = place.top, "valid" if place.is_validation else "test"
    settings = {}
    if os.path.lexists(home.configuration):
        settings = read_checked(home.configuration, CONFIGURATION)["options"]
    places = [home.manifest(partition)]
    if settings.get(f"{partition}_annotation"):
        places.append(Path(str(settings[f"{partition}_annotation"])))
    path = next((place for place in places if os.path.lexists(place)), None)
    if path is None:
        raise FileNotFoundError(
            f"there is no manifest {places[0]}, which says where the cycles are"
        )
    if data_folder is None:
        data_folder = settings.get("data_folder")
        if data_folder is None:
            raise FileNotFoundError(
                f"no {home.configuration} says where the recordings are:"
                " give --data_folder"
            )
        # A stranger's run must not choose among all files of this machine.
        if Path.home().resolve().is_relative_to(Path(data_folder).resolve()):
            raise ValueError(
                f"{home.configuration} says that the recordings are in"
                f" {data_folder}, which holds more than a database: give"
                " --data_folder"
            )
    if not Path(data_folder).is_dir():
        raise FileNotFoundError(
            f"the recordings are not in {data_folder}: give --data_folder"
        )
    manifest = read_checked(path, largest=LARGEST_MANIFEST)
    lacking = [key for key in run.predictions["id"] if key not in manifest]
    if lacking:
        raise ValueError(
            f"{path} lacks {len(lacking)} cycles of the predictions, such as"
            f" {lacking[0]}: it is of another data preparation"
        )
    entries = {key: manifest[key] for key in run.predictions["id"]}
    for key, entry in entries.items():
        check_cycle(entry, key, path)
    return entries, Path(data_folder)
