"""Run folders of older versions, which hold their model in other files.

A YAML (``save/inference.yaml``) said what the model is made of, and the
checkpoints held its weights. Both are read here alone, of a folder of one's own:
nothing that the YAML names is called, but SpeechBrain's checkpoints may run code.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from qlung_plugin.inference.architecture import build
from qlung_plugin.inference.provenance import read_settings
from qlung_plugin.inference.trained_model import (
    describe_architecture,
    write_model,
)
from qlung_plugin.runs.configuration import plain_scalar, read_yaml
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.training.checkpoints import find_checkpoint
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.state_dicts import read_state_dict
from speechbrain.utils.checkpoints import Checkpointer


def convert_old_run(
    run: RunFolder, checkpoint: str, folder: Path, trust: str | Iterable[str]
) -> None:
    """Writes the model of an old run into a folder, as a training does today.

    A checkpoint, or a file of it, that is missing is a FileNotFoundError; a file
    that is damaged or does not fit the others, or a YAML that names what no model
    may have, a ValueError.
    """
    keys = read_yaml(run.inference_yaml)
    try:
        architecture = describe_architecture(keys, {})
        model = build(architecture, trust=trust)
    except ValueError as error:
        raise ValueError(f"{run.inference_yaml}: {error}") from error
    saved = find_checkpoint(Checkpointer(run.save), checkpoint)
    modules = {
        "quality": model["quality"],
        "compute_features": model["cycle_features"].compute_features,
        "backbone": model["backbone"],
        "classifier": model["classifier"],
    }
    for name, module in modules.items():
        _load(module, saved.path / f"{name}.ckpt")
    settings = {}
    if run.hyperparameters.is_file():
        settings = read_settings(read_yaml(run.hyperparameters))
    provenance = {
        "checkpoint": checkpoint,
        "epoch": int(saved.meta["epoch"]),
        "validated": CHECKPOINTS["selected"].key in saved.meta,
        "settings": settings,
        "data": None,
        "results": [],
    }
    labels = [plain_scalar(label) for label in keys["labels"]]
    write_model(folder, architecture, {**model, "labels": labels}, provenance)


def _load(module: nn.Module, path: Path) -> None:
    if not module.state_dict() and not path.exists():
        return
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: was saving interrupted?")
    try:
        module.load_state_dict(read_state_dict(path))
    except RuntimeError as error:  # missing, unknown, or of another shape
        raise ValueError(f"{path} is of another model: {error}") from error
