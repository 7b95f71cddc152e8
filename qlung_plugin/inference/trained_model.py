"""What a training writes of its model: ``model.json`` and ``model.safetensors``.

The architecture is what the training's own YAML says of the model, as plain
data. It is read once the YAML is resolved, before anything is trained; nothing
of it is made again.

Authors
 * qlung_plugin contributors
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import torch
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from safetensors.torch import save
from torch import nn

import speechbrain
from qlung_plugin import __version__
from qlung_plugin.inference.architecture import check, own_modules
from qlung_plugin.inference.model_checks import PARTS, check_kinds
from qlung_plugin.inference.provenance import choose_data, read_settings
from qlung_plugin.lobes.quality import LearnedQualityScore
from qlung_plugin.lobes.quality.coefficients import plain_coefficients
from qlung_plugin.nnet.scaled_cosines import ScaledCosines
from qlung_plugin.runs.configuration import plain_scalar, yaml_tag
from qlung_plugin.runs.folder import MODEL_JSON, WEIGHTS
from qlung_plugin.utils.files import replacing, write_json
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

FORMAT_VERSION = 1  # of model.json

SCALED_COSINES = f"{ScaledCosines.__module__}.{ScaledCosines.__name__}"
NEW, APPLY, ATTRIBUTE = "!new:", "!apply:", "!apply:getattr"


class TrainedModel:
    """The model of a training, which is written for each of its checkpoints.

    It is given the training's YAML, from
    :func:`qlung_plugin.runs.configuration.resolve_yaml`, and what was made of it.
    What JSON cannot say of it is told in a warning, and nothing is written.
    """

    def __init__(self, keys: CommentedMap, hparams: dict) -> None:
        self.hparams, self.settings = hparams, read_settings(keys)
        self.architecture: dict | None = None
        try:
            architecture = describe_architecture(keys, hparams)
            check_kinds(hparams)
            self.architecture = architecture
        except ValueError as error:
            logger.warning(
                "The model of this training can be neither exported nor opened"
                " by qlung, since its YAML says what %s cannot: %s",
                MODEL_JSON,
                error,
            )

    def write(
        self,
        folder: Path,
        checkpoint: str,
        epoch: int,
        validated: bool,
        data: dict,
        operating_point: dict[str, float] | None = None,
    ) -> None:
        """Writes the model as it is, which has the weights of a checkpoint.

        Its operating point is that of
        :func:`qlung_plugin.scores.operating_point.choose_operating_point`.
        """
        if self.architecture is None:
            return
        provenance = {
            "checkpoint": checkpoint,
            "epoch": epoch,
            "validated": validated,
            "settings": self.settings,
            "data": choose_data(data),
            "operating_point": operating_point,
            "results": [],
        }
        write_model(folder, self.architecture, self.hparams, provenance)


def describe_architecture(keys: CommentedMap, objects: dict) -> dict:
    """The architecture of a model, as its YAML has it.

    What the YAML computes, such as ``<backbone.embedding_dim>``, is taken from
    the objects that were made of it. ``pretrained_weights`` are left out,
    wherever they occur, and the file of a learned quality score is written out:
    the model's own weights are all that is loaded with it. Anything else than
    components and plain values is a ValueError.
    """
    missing = [name for name in PARTS if name not in keys]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    reader = ArchitectureReader(keys, objects)
    architecture = {name: reader.read(name) for name in PARTS}
    check(architecture, own_modules(architecture))
    return architecture


class ArchitectureReader:
    """Turns what a YAML says of objects into plain data."""

    def __init__(self, keys: CommentedMap, objects: dict) -> None:
        self.keys, self.objects = keys, objects
        self.tagged = {
            id(node): key for key, node in keys.items() if yaml_tag(node)
        }
        self.places: dict[int, str] = {}  # of objects, by their nodes

    def read(self, key: str) -> object:
        """What a key of the YAML says, and what the training put around it."""
        made = self.objects.get(key)
        if not isinstance(made, ScaledCosines) or (
            yaml_tag(self.keys[key]) == f"{NEW}{SCALED_COSINES}"
        ):
            return self._value(self.keys[key], key)
        classifier = self._value(self.keys[key], f"{key}.classifier")
        arguments = {"classifier": classifier, "scale": made.scale}
        return {"class": SCALED_COSINES, "arguments": arguments}

    def _value(self, node: object, place: str) -> object:
        tag = yaml_tag(node)
        if tag.startswith(NEW):
            return self._object(node, tag.removeprefix(NEW), place)
        if tag == ATTRIBUTE and isinstance(node, CommentedSeq):
            return getattr(self._made(node[0], place), str(node[1]))
        if tag.startswith(APPLY):
            return self._made(node, place)
        if tag:
            raise ValueError(f"{place}: {tag}")
        return self._parts(node, place)

    def _parts(self, node: object, place: str) -> object:
        if isinstance(node, CommentedMap):
            return {
                str(key): None
                if key == "pretrained_weights"
                else self._value(part, f"{place}.{key}")
                for key, part in node.items()
            }
        if isinstance(node, CommentedSeq):
            return [
                self._value(part, f"{place}.{position}")
                for position, part in enumerate(node)
            ]
        return plain_scalar(node)

    def _made(self, node: object, place: str) -> object:
        """What was made of a node, if it has a key of its own."""
        if id(node) not in self.tagged:
            raise ValueError(
                f"{place}: {yaml_tag(node)} within another value: give it"
                " a key of its own, and refer to it"
            )
        return self.objects[self.tagged[id(node)]]

    def _object(self, node: object, name: str, place: str) -> dict:
        if id(node) in self.places:
            return {"reference": self.places[id(node)]}
        made: dict[str, Any] = {"class": name}
        if not isinstance(node, TaggedScalar):
            made["arguments"] = self._parts(node, place)
        elif node.value:
            raise ValueError(f"{place}: {name} of {node.value!r}")
        arguments = made.get("arguments")
        if name.endswith(f".{LearnedQualityScore.__name__}") and isinstance(
            arguments, dict
        ):
            coefficients = arguments.get("coefficients")
            if not isinstance(coefficients, dict):
                arguments["coefficients"] = plain_coefficients(coefficients)
        self.places[id(node)] = place
        return made


def write_model(
    folder: Path, architecture: dict, model: dict, provenance: dict
) -> None:
    """Writes ``model.json`` and ``model.safetensors`` into a folder.

    The model has its modules and ``labels``; the versions of the packages are
    added to the provenance, which is plain data.
    """
    modules = nn.ModuleDict({name: model[name] for name in PARTS})
    # Each tensor in memory of its own, which safetensors asks for.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in modules.state_dict().items()
    }
    with replacing(folder / WEIGHTS) as temporary:
        # save_file hides it from others
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
    description = {
        "format_version": FORMAT_VERSION,
        "labels": list(model["labels"]),
        "sample_rate": model["cycle_features"].resampler.sample_rate,
        "architecture": architecture,
        "provenance": {
            **provenance,
            "made_with": {
                "qlung_plugin": __version__,
                "torch": torch.__version__,
                "speechbrain": speechbrain.__version__,
                "transformers": version("transformers"),  # slow to import
                "safetensors": safetensors.__version__,
            },
        },
    }
    write_json(description, folder / MODEL_JSON)
