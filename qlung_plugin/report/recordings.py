"""What of a page needs the recordings: sounds, pictures and maps.

Authors
 * qlung_plugin contributors
"""

import base64
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from tqdm import tqdm

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.decoders import open_decoder
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.inference.models import open_model
from qlung_plugin.report.embeddings import embed_cycles, project
from qlung_plugin.report.media import encode_picture, encode_sound
from qlung_plugin.report.sources import Run
from qlung_plugin.report.trainings import find_recordings_of, find_training
from qlung_plugin.scores.quality_analysis import with_confidence
from qlung_plugin.utils.ordinary_files import ordinary_size

T = TypeVar("T")
Manifest: TypeAlias = dict[str, dict[str, Any]]  # entries by cycle
# Between the probabilities of a run and those that its model gives again;
# another machine rounds otherwise.
TOLERANCE = 0.01
READ_ERRORS = (OSError, RuntimeError, ValueError)
LARGEST_RECORDING = 2**40  # bytes; a slice of it is read at a time


@dataclass
class Recordings:
    """What was made of the recordings, where there were any."""

    # By cycle its start and end in its recording, in seconds.
    spans: dict[str, list[float]] = field(default_factory=dict)
    # By cycle sound (MP3) and picture (WebP), in base64, gain in dB and
    # duration in seconds.
    media: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By a run's name a place [x, y] in [0, 1] per cycle, if it has one.
    maps: dict[str, list[list[float] | None]] = field(default_factory=dict)
    # By a run's name the largest difference between a probability and that
    # which its model gives again.
    differences: dict[str, float] = field(default_factory=dict)
    # What is lacking, in sentences.
    notes: list[str] = field(default_factory=list)


def use_recordings(
    runs: list[Run],
    data_folder: Path | str | None = None,
    sounds: int = 300,
    method: str = "tsne",
    device: str = "cpu",
    trust: Iterable[str] = (),
) -> Recordings:
    """Makes what needs the recordings, as far as they are there.

    A data folder that is given has to hold them, or it is a FileNotFoundError.
    """
    recordings = Recordings()
    try:
        manifest, root = find_recordings_of(runs[0], data_folder)
        manifest = _readable(manifest, root, recordings.notes)
    except (OSError, ValueError) as error:
        if data_folder is not None:
            raise
        recordings.notes.append(
            f"No sounds, spectrograms and maps: {_line(error)}."
        )
        return recordings
    for key, entry in manifest.items():
        rate = entry["sample_rate"]
        ends = (entry["wav"]["start"] / rate, entry["wav"]["stop"] / rate)
        recordings.spans[key] = [round(end, 3) for end in ends]
    chosen = choose_cycles(runs, sounds, manifest)
    _make_media(recordings, {key: manifest[key] for key in chosen}, root)
    if method != "none":
        with tempfile.TemporaryDirectory() as cache:
            for run in runs:
                _make_map(
                    recordings,
                    run,
                    manifest,
                    root,
                    cache,
                    method,
                    device,
                    trust,
                )
    return recordings


def choose_cycles(
    runs: list[Run], count: int, available: Collection[str]
) -> list[str]:
    """Which of the available cycles get a sound.

    Two thirds of them are mistakes, those first of which a run is most
    confident, of the runs in turn; one third are right in all runs, spread
    evenly over the model's confidence, as many of each class. Where there are
    too few of the one, there are more of the other.
    """
    mistakes = []
    for run in runs:
        table = with_confidence(run.predictions)
        wrong = table[table["label"] != table["prediction"]]
        wrong = wrong.sort_values(["confidence", "id"], ascending=[False, True])
        mistakes.append(wrong["id"])
    turns = dict.fromkeys(chain.from_iterable(zip_longest(*mistakes)))
    wrong = [key for key in turns if key in available]
    table = with_confidence(runs[0].predictions)
    right = table[~table["id"].isin(turns) & table["id"].isin(list(available))]
    classes = [
        _spread(rows.sort_values(["confidence", "id"])["id"].tolist())
        for _, rows in right.groupby("label")
    ]
    right = [
        key
        for key in chain.from_iterable(zip_longest(*classes))
        if key is not None
    ]
    of_right = min(len(right), max(count // 3, count - len(wrong)))
    return wrong[: count - of_right] + right[:of_right]


def _spread(items: list[T]) -> list[T]:
    """Reorders a list so that each beginning of it is spread over it."""
    order = []
    queue = [(0, len(items))]
    while queue:
        low, high = queue.pop(0)
        if low < high:
            middle = (low + high) // 2
            order.append(middle)
            queue += [(low, middle), (middle + 1, high)]
    return [items[place] for place in order]


def _readable(manifest: Manifest, root: Path, notes: list[str]) -> Manifest:
    """The cycles whose recordings are there."""
    rates: dict[str, int] = {}
    errors: dict[str, Exception] = {}
    for name in dict.fromkeys(e["wav"]["file"] for e in manifest.values()):
        try:
            rates[name] = _sample_rate(name, root)
        except READ_ERRORS as error:
            errors[name] = error
    if not rates:
        raise FileNotFoundError(
            f"none of {len(errors)} recordings can be read, such as"
            f" {_reason(errors)}: give --data_folder"
        )
    there = {}
    for key, entry in manifest.items():
        name, rate = entry["wav"]["file"], entry["sample_rate"]
        if name not in rates:
            continue
        if rate != rates[name]:
            raise ValueError(
                f"the manifest says that {key} has {rate} Hz, but {name} has"
                f" {rates[name]} Hz"
            )
        there[key] = entry
    if errors:
        notes.append(
            f"{len(errors)} of {len(errors) + len(rates)} recordings cannot be"
            f" read, such as {_reason(errors)}: their"
            f" {len(manifest) - len(there)} cycles have no sound and are not in"
            " the map."
        )
    return there


def _sample_rate(name: str, root: Path) -> int:
    """Of a recording, which has to be under the data folder.

    A stranger's manifest puts no other sound of this machine into a page.
    """
    path = Path(name.replace("{data_root}", str(root))).resolve()
    if not path.is_relative_to(Path(root).resolve()):
        raise ValueError(f"{name}, which is not in the data folder {root}")
    ordinary_size(path, LARGEST_RECORDING)
    with open_decoder(path) as decoder:
        return decoder.sample_rate


def _reason(errors: dict[str, Exception]) -> str:
    """The first of the errors, with the name of its file."""
    name, error = next(iter(errors.items()))
    text = _line(error)
    return text if name.rpartition("/")[2] in text else f"{name} ({text})"


def _make_media(recordings: Recordings, manifest: Manifest, root: Path) -> None:
    """Adds sounds and pictures."""
    damaged = []
    progress = tqdm(
        manifest.items(), "sounds", unit="cycle", disable=None, leave=False
    )
    for key, entry in progress:
        try:
            waveform = read_cycle(entry["wav"], root)
            sound, gain = encode_sound(waveform, entry["sample_rate"])
            picture = encode_picture(waveform, entry["sample_rate"])
        except READ_ERRORS as error:
            damaged.append(f"{key}: {_line(error)}")
            continue
        recordings.media[key] = {
            "sound": base64.b64encode(sound).decode(),
            "picture": base64.b64encode(picture).decode(),
            "gain": round(gain, 1),
            "duration": round(len(waveform) / entry["sample_rate"], 3),
        }
    if damaged:
        recordings.notes.append(
            f"{len(damaged)} cycles have no sound, such as {damaged[0]}."
        )


def _make_map(
    recordings: Recordings,
    run: Run,
    manifest: Manifest,
    root: Path,
    cache: str,
    method: str,
    device: str,
    trust: Iterable[str],
) -> None:
    """Adds the map of a run, and whether its model does as it did."""
    ids = list(manifest)
    try:
        training = find_training(run)
        if training is None:
            raise FileNotFoundError(
                f"its trained model is neither in {run.folder} nor where it was"
                " trained"
            )
        model = open_model(training.path, run.evaluation.checkpoint, trust)
        # Runs with the same front end share what it makes.
        features = store_cycles(
            [manifest], model["cycle_features"], cache, root
        )
        embeddings, probabilities = embed_cycles(model, features, ids, device)
        places = project(embeddings, method)
    except READ_ERRORS as error:
        recordings.notes.append(f"No map of {run.name}: {_line(error)}.")
        return
    table = run.predictions.set_index("id")
    columns = [f"p_{name}" for name in run.evaluation.labels]
    known = table.loc[ids, columns].to_numpy()
    if known.shape != probabilities.shape:
        recordings.notes.append(
            f"No map of {run.name}: the model in {training.path} has other"
            " classes."
        )
        return
    difference = float(np.abs(known - probabilities).max())
    recordings.differences[run.name] = difference
    if not difference <= TOLERANCE:
        recordings.notes.append(
            f"The model of {run.name} in {training.path} gives other"
            " probabilities than its predictions have (up to"
            f" {difference:.3f} apart): the map may be of another model or of"
            " changed recordings."
        )
    by_id = dict(zip(ids, places.round(4).tolist()))
    recordings.maps[run.name] = [by_id.get(key) for key in table.index]


def _line(error: Exception) -> str:
    """The message of an error in one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".")
