"""The training that a run is of: its folder, its epochs, its recordings.

Authors
 * qlung_plugin contributors
"""

import os
from pathlib import Path

import pandas as pd

from qlung_plugin.figures.results import CURVES
from qlung_plugin.inference.run import read_hyperparameters
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.schema import check_cycle, read_checked

LARGEST_MANIFEST = 2**26  # bytes: several hundred thousand cycles


def find_training(run):
    """The folder of the training whose model was evaluated, or None.

    Arguments
    ---------
    run : qlung_plugin.report.sources.Run
        The run.

    Returns
    -------
    qlung_plugin.runs.folder.RunFolder or None
    """
    training = run.evaluation.data.get("training") or {}
    places = [run.folder, run.folder.parent]
    if training.get("folder"):
        places.insert(0, Path(training["folder"]))
    trainings = map(RunFolder, places)
    return next((t for t in trainings if t.inference_yaml.is_file()), None)


def read_training(run):
    """The statistics of the epochs of a run's training.

    Arguments
    ---------
    run : qlung_plugin.report.sources.Run
        The run.

    Returns
    -------
    pandas.DataFrame or None
        A row per epoch, as the last checkpoint has them; None if the training
        is not there, or keeps none.

    Raises
    ------
    OSError, ValueError
        If a file is damaged; the message names it.
    """
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


def find_recordings_of(run, data_folder=None):
    """Where the cycles of a run are in their recordings.

    Arguments
    ---------
    run : qlung_plugin.report.sources.Run
        The run.
    data_folder : str or Path, optional
        The database; by default where it was when it was evaluated.

    Returns
    -------
    manifest : dict
        Per id an entry with ``wav`` and ``sample_rate``, of the cycles of the
        run alone.
    data_folder : Path
        Replaces ``{data_root}`` in file names.

    Raises
    ------
    FileNotFoundError
        If there is no manifest, or no such folder.
    ValueError
        If the manifest is damaged, or of other cycles; or the run names a
        folder in which the user's home is, too.
    """
    place = RunFolder(run.folder)
    home, partition = place.top, "valid" if place.is_validation else "test"
    settings = read_hyperparameters(home.path)
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
                f"no {home.hyperparameters} says where the recordings are:"
                " give --data_folder"
            )
        # A stranger's run must not choose among all files of this machine.
        if Path.home().resolve().is_relative_to(Path(data_folder).resolve()):
            raise ValueError(
                f"{home.hyperparameters} says that the recordings are in"
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
