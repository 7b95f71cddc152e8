"""Opening a trained model, wherever it comes from.

A model is in one of three layouts: the folder of a training; a folder that
``qlung export`` wrote, of JSON and safetensors; or one in SpeechBrain's layout
for the hub, of YAML and checkpoints. The first two are read without running
anything that they name; the third, and a training with components of one's own,
only if it is trusted.

Authors
 * qlung_plugin contributors
"""

from contextlib import contextmanager
from pathlib import Path

import yaml
from hyperpyyaml import load_hyperpyyaml
from torch import nn

from qlung_plugin.inference.architecture import build, size_in_bytes
from qlung_plugin.inference.checkpoint_files import check_state_file
from qlung_plugin.inference.hub import download, is_hub_id
from qlung_plugin.inference.model_checks import (
    PARTS,
    check_kinds,
    check_parts,
    check_tensors,
)
from qlung_plugin.inference.plain_yaml import read_architecture
from qlung_plugin.inference.run import (
    describe_checkpoint,
    find_checkpoint,
    load_run,
    load_weights,
    open_checkpoints,
)
from qlung_plugin.inference.safe_files import (
    LARGEST_WEIGHTS,
    read_tensors,
    read_text,
)
from qlung_plugin.runs.folder import INFERENCE_YAML, RunFolder
from qlung_plugin.utils.ordinary_files import parse_json

MODEL_JSON = "model.json"
WEIGHTS = "model.safetensors"
HUB_YAML = "hyperparams.yaml"

FORMAT_VERSION = 1  # of model.json


def open_model(source, checkpoint="selected", trust=False):
    """Loads the parts of a model.

    Arguments
    ---------
    source : str or Path
        The output folder of a training, an exported folder, or the id of such
        a folder on the Hugging Face hub. A folder is never taken for an id.
    checkpoint : str
        Of a training: ``selected`` on validation, ``last``, or
        ``test_selected``. An exported folder has one.
    trust : bool
        Whether a YAML file of the source may name any code to be run.

    Returns
    -------
    dict
        The modules of :data:`PARTS`, on the CPU and in evaluation mode;
        ``labels``, a list; ``epoch``; ``validated``, whether there was a
        validation set to select the epoch by; and, of an exported model,
        ``provenance``, what is known of its training.

    Raises
    ------
    FileNotFoundError
        If the source is no model, or a part of it is missing.
    ValueError
        If a file is damaged, does not fit the others, is out of all proportion,
        or names code and is not trusted.
    """
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{source} is a file: pass the folder of a model")
        if not is_hub_id(source):
            raise FileNotFoundError(
                f"{source} is no folder, nor an id of the Hugging Face hub, such"
                " as owner/name"
            )
        folder = download(str(source), trust)
    if (folder / MODEL_JSON).exists():
        return open_exported(folder)
    if any(
        RunFolder(folder, s).inference_yaml.exists() for s in (None, folder)
    ):
        return open_run(folder, checkpoint, trust)
    if (folder / HUB_YAML).exists():
        return open_yaml_layout(folder, trust)
    raise FileNotFoundError(
        f"{source} is no model: it has neither the {MODEL_JSON} of an exported"
        f" one, nor the save/{INFERENCE_YAML} of a training"
    )


def open_exported(folder):
    """Loads what ``qlung export`` wrote: JSON and safetensors.

    Arguments
    ---------
    folder : Path
        The folder.

    Returns
    -------
    dict
        See :func:`open_model`, also for errors.
    """
    path = folder / MODEL_JSON
    description = parse_json(read_text(path, folder), path)
    with _errors_naming(path):
        architecture = _checked_description(description)
        outline = _outline(architecture)
        check_kinds(outline)
        modules = nn.ModuleDict({name: outline[name] for name in PARTS})
    if not (folder / WEIGHTS).exists():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS} beside its model")
    tensors = read_tensors(folder / WEIGHTS, folder, modules.state_dict())
    with _errors_naming(path):
        check_parts(outline, description["labels"])
        model = build(architecture)
    nn.ModuleDict({name: model[name] for name in PARTS}).load_state_dict(
        tensors
    )
    check_tensors(model, folder / WEIGHTS)
    for name in PARTS:
        model[name].eval()
    provenance = description["provenance"]
    return {
        **model,
        "labels": description["labels"],
        "epoch": provenance.get("epoch"),
        "validated": provenance.get("validated"),
        "provenance": provenance,
    }


def _checked_description(description):
    """The architecture in a model.json, if this version can read it."""
    if not isinstance(description, dict):
        raise ValueError("no description of a model")
    version = description.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise ValueError("no description of a model: no format_version")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"written in format {version} by a newer version of qlung_plugin;"
            f" this one reads up to {FORMAT_VERSION}: upgrade it"
        )
    for key, kind in (
        ("architecture", dict),
        ("labels", list),
        ("provenance", dict),
    ):
        if not isinstance(description.get(key), kind):
            raise ValueError(f"no description of a model: {key} is missing")
    architecture = description["architecture"]
    missing = [name for name in PARTS if name not in architecture]
    if missing:
        raise ValueError(f"an architecture without {', '.join(missing)}")
    return architecture


def open_run(run_folder, checkpoint="selected", trust=False):
    """Loads the model of a training.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of the training.
    checkpoint : str
        ``selected``, ``last`` or ``test_selected``.
    trust : bool
        Whether its ``inference.yaml`` may run whatever it says, which a model
        with components of one's own needs. Without, nothing that the folder
        names is run.

    Returns
    -------
    dict
        See :func:`open_model`, also for errors.
    """
    if not isinstance(trust, bool):  # a recipe's --trust no is a text
        raise ValueError(f"trust is True or False, not {trust!r}")
    run = RunFolder.of_training(run_folder)
    folder, path = run.save, run.inference_yaml
    if trust:
        model = load_run(folder, checkpoint)
        check_tensors(model, folder)
        return model
    architecture = read_architecture(path, folder)
    with _errors_naming(path):
        outline = _outline(architecture)
    with _errors_naming(folder):
        found = find_checkpoint(open_checkpoints(folder), checkpoint)
        description = describe_checkpoint(found)
    for name in outline.keys() & found.paramfiles.keys():
        check_state_file(found.paramfiles[name], folder)
    with _errors_naming(path):
        check_parts(outline, architecture.get("labels"))
        model = build(architecture)
    load_weights(model, found)
    check_tensors(model, found.path)
    return {**model, **description}


def open_yaml_layout(folder, trust=False):
    """Loads SpeechBrain's layout for the hub, as SpeechBrain does.

    Arguments
    ---------
    folder : Path
        With ``hyperparams.yaml`` and the checkpoints that it names.
    trust : bool
        Whether the YAML may run whatever it says. Without, it is refused.

    Returns
    -------
    dict
        See :func:`open_model`, also for errors.
    """
    path = folder / HUB_YAML
    if not trust:
        read_architecture(path, folder)
        raise ValueError(
            f"{path} is read with trust=True only (on the command line:"
            f" --trust), and {folder} has no {MODEL_JSON}"
        )
    with open(path, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file)
    missing = [key for key in ("modules", "pretrainer") if key not in hparams]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    pretrainer = hparams.pop("pretrainer")
    pretrainer.collect_files(default_source=str(folder))
    pretrainer.load_collected()
    modules = nn.ModuleDict(hparams.pop("modules")).eval()
    check_tensors(dict(modules), folder)
    return {"epoch": None, "validated": None, **hparams, **modules}


def _outline(architecture):
    """The objects of an architecture without memory, if it may have it."""
    outline = build(architecture, "meta")
    size = size_in_bytes(outline)
    if size > LARGEST_WEIGHTS:
        raise ValueError(
            f"a model of {size} bytes, when {LARGEST_WEIGHTS} is the limit"
        )
    return outline


@contextmanager
def _errors_naming(path):
    """What is wrong becomes a ValueError that names the file, or folder."""
    try:
        yield
    except FileNotFoundError:  # which names it
        raise
    except (
        ArithmeticError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        yaml.YAMLError,
    ) as error:
        raise ValueError(f"{path}: {error}") from error
