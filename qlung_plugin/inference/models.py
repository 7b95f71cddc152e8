"""Opening a trained model, wherever it comes from.

A model is a folder of ``model.json`` and ``model.safetensors``. A training
writes one for each of its checkpoints into its run folder, ``qlung export`` one
to be passed on. Nothing else of a folder is read, and nothing that it names is
run, but what :mod:`qlung_plugin.inference.architecture` allows.

Authors
 * qlung_plugin contributors
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from qlung_plugin.inference.architecture import build, own_modules
from qlung_plugin.inference.hub import download, is_hub_id
from qlung_plugin.inference.model_checks import (
    PARTS,
    check_kinds,
    check_parts,
    check_size,
    check_tensors,
)
from qlung_plugin.inference.safe_files import read_tensors, read_text
from qlung_plugin.inference.trained_model import FORMAT_VERSION
from qlung_plugin.pretrained import FOLDER, MODELS, find_shipped, is_shipped
from qlung_plugin.runs import schema
from qlung_plugin.runs.configuration import digest_file
from qlung_plugin.runs.folder import MODEL_JSON, WEIGHTS, RunFolder
from qlung_plugin.training.selection import CHECKPOINTS, check_checkpoint
from qlung_plugin.utils.ordinary_files import parse_json

LONGEST = 1000  # characters of a message

# What a model.json has to say; what is made of its parts is checked as they are.
VERSION = {"format_version": schema.whole(1, 10**6)}
DESCRIPTION = {
    "architecture": dict.fromkeys(PARTS, schema.Kind("any", lambda _: True)),
    "labels": [schema.NAME],
    "provenance": {
        "checkpoint": schema.NAME,
        "operating_point?": schema.Nullable(schema.OFFSETS),
        "operating_point_rule?": schema.Nullable(schema.NAME),
        "abstention?": schema.Nullable({"threshold": schema.number(0, 1)}),
    },
}


def open_model(
    source: str | Path,
    checkpoint: str | None = None,
    trust: str | Iterable[str] = (),
) -> dict[str, Any]:
    """Loads the parts of a model.

    Arguments
    ---------
    source : str or Path
        The output folder of a training, an exported folder, the id of such a
        folder on the Hugging Face hub, or ``transfer`` or ``icbhi``: a model
        that ships with this package. A folder is never taken for an id; one
        that is called like a model that ships is ``./transfer``, or a Path.
    checkpoint : str, optional
        ``selected`` on validation, ``last``, or ``test_selected``. By default
        that which was exported, and ``selected`` of a training.
    trust : str or iterable of str
        Modules, or packages of some, from outside, whose classes the model may
        have, too. They are imported.

    Returns
    -------
    dict
        The modules of :data:`PARTS`, on the CPU and in evaluation mode;
        ``architecture``, what they are made of, as plain data; ``labels``, a
        list; ``checkpoint``; ``epoch``; ``validated``, whether there was a
        validation set to select the epoch by; ``operating_point``, the offset
        by label that validation chose, or None; and ``provenance``, what is
        known of its training.

    Raises
    ------
    FileNotFoundError
        If the source is no model, or a part of it is missing.
    ValueError
        If a file is damaged, does not fit the others, is out of all proportion,
        or names a class that is not allowed; or if the source has another
        checkpoint, or is the run folder of an older version.
    """
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    model = _open_folder(_find_model(source, checkpoint), trust)
    if checkpoint not in (None, model["checkpoint"]):
        raise ValueError(
            f"{source} is the model of the {model['checkpoint']} checkpoint"
            f" alone: {checkpoint} needs the training's output folder"
        )
    return model


def digest_model(source: str | Path, checkpoint: str | None = None) -> str:
    """Digest, in hexadecimal, of a model's files; see :func:`open_model`."""
    folder = _find_model(source, checkpoint)
    files = [digest_file(folder / name) for name in (MODEL_JSON, WEIGHTS)]
    return hashlib.sha256(" ".join(files).encode()).hexdigest()


def find_checkpoints(source: str | Path, checkpoint: str) -> list[str]:
    """The checkpoints to evaluate; see :func:`open_model`, also for errors.

    One by name; or ``all`` that the source has: without a test pass per epoch
    there is no ``test_selected``.
    """
    if checkpoint != "all":
        check_checkpoint(checkpoint)
        return [checkpoint]
    folder = _find_folder(source)
    if (folder / MODEL_JSON).exists():
        return [_read_description(folder)["provenance"]["checkpoint"]]
    _find_in_run(folder, "last")
    return _checkpoints_of(RunFolder(folder))


def _find_model(source: str | Path, checkpoint: str | None) -> Path:
    folder = _find_folder(source)
    if not (folder / MODEL_JSON).exists():
        return _find_in_run(folder, checkpoint or "selected")
    return folder


def _find_folder(source: str | Path) -> Path:
    folder = Path(find_shipped(source))
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"{source} is a file: pass the folder of a model")
    if is_shipped(source):
        raise FileNotFoundError(
            f"{folder}, which ships with qlung_plugin, is not there: install it"
            " again"
        )
    if not is_hub_id(source):
        raise FileNotFoundError(
            f"{source} is no folder, none of the models that ship"
            f" ({', '.join(MODELS)}), nor an id of the Hugging Face hub, such"
            " as owner/name"
        )
    return download(str(source))


def _checkpoints_of(run: RunFolder) -> list[str]:
    return [
        name for name in CHECKPOINTS if (run.model(name) / MODEL_JSON).exists()
    ]


def _find_in_run(folder: Path, checkpoint: str) -> Path:
    """The folder of a checkpoint's model; what lacks it is told apart."""
    run = RunFolder(folder)
    there = _checkpoints_of(run)
    if checkpoint in there:
        return run.model(checkpoint)
    if there:
        raise FileNotFoundError(
            f"{folder} has no {checkpoint} model, but {', '.join(there)}"
        )
    if run.inference_yaml.exists():
        raise ValueError(
            f"{folder} is a run folder of an older version: `qlung export"
            f" {folder} OUT --convert` makes OUT a model of it"
        )
    if run.checkpoints and run.has_results:
        raise FileNotFoundError(
            f"{folder} has results, but no model: a warning in {run.log} says"
            " why its training could not write it"
        )
    if run.checkpoints:
        raise FileNotFoundError(
            f"{folder} has no model yet, which a training writes when it comes"
            " to its end: call train.py as before, and it goes on"
        )
    raise FileNotFoundError(
        f"{folder} is no model: it has neither a {MODEL_JSON} nor, as the run"
        f" folder of a training, {run.model(checkpoint).relative_to(folder)}"
    )


def _open_folder(folder: Path, trust: str | Iterable[str]) -> dict[str, Any]:
    path, weights = folder / MODEL_JSON, folder / WEIGHTS
    description = _read_description(folder)
    architecture = {name: description["architecture"][name] for name in PARTS}
    if not weights.exists():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS} beside its model")
    with _errors_naming(path):
        own = bool(own_modules(architecture))
        outline = build(architecture, "meta", trust)
        check_kinds(outline)
        expected = nn.ModuleDict(outline).state_dict()
        check_size(outline)
    tensors = read_tensors(weights, folder, expected)
    with _errors_naming(path):
        if not own and folder.parent != FOLDER:  # those that ship fit
            check_parts(outline, description["labels"])
        model = build(architecture, trust=trust)
    modules = nn.ModuleDict(model).eval()
    modules.load_state_dict(tensors)
    check_tensors(modules, weights)
    provenance = description["provenance"]
    point = provenance.get("operating_point")
    if point is not None and set(point) != set(description["labels"]):
        raise ValueError(
            f"{path}: provenance.operating_point is of"
            f" {schema.excerpt(list(point))}, not of its labels,"
            f" {schema.excerpt(description['labels'])}"
        )
    return {
        **model,
        "architecture": architecture,
        "labels": description["labels"],
        "checkpoint": provenance["checkpoint"],
        "epoch": provenance.get("epoch"),
        "validated": provenance.get("validated"),
        "operating_point": point
        and {label: point[label] for label in description["labels"]},
        "provenance": provenance,
    }


def _read_description(folder: Path) -> dict[str, Any]:
    """What a model.json says, if this version can read it."""
    path = folder / MODEL_JSON
    description = parse_json(read_text(path, folder), path)
    schema.check(description, VERSION, path)
    version = description["format_version"]
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format {version}, of a newer version of qlung_plugin;"
            f" this one reads up to {FORMAT_VERSION}: upgrade it"
        )
    schema.check(description, DESCRIPTION, path)
    if len(set(description["labels"])) != len(description["labels"]):
        raise ValueError(f"{path}: labels is no list of different texts")
    with _errors_naming(path):
        check_checkpoint(description["provenance"]["checkpoint"])
    return description


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """What is wrong becomes a ValueError that names the file."""
    try:
        yield
    except (
        ArithmeticError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # It quotes what the file says, which may be of any length.
        raise ValueError(f"{path}: {str(error)[:LONGEST]}") from error
