"""Where a trained model comes from: its data, its settings and its results.

Only what is listed here is told: a run folder also holds paths of the machine
that it was made on.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from qlung_plugin.inference.hub import is_hub_id
from qlung_plugin.pretrained import find_shipped
from qlung_plugin.runs import schema
from qlung_plugin.runs.configuration import plain_scalar, yaml_tag
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.scores.metrics import CLASS_METRICS, METRICS
from qlung_plugin.utils.files import plain

if TYPE_CHECKING:
    from qlung_plugin.runs.evaluations import Evaluation

# What is told of the YAML of a training, where it has it.
SETTINGS = (
    "seed",
    "number_of_epochs",
    "batch_size",
    "lr",
    "final_lr",
    "split",
    "test_fold",
    "valid_fraction",
    "valid_fold",
    "split_seed",
    "valid_device",
    "frozen_blocks",
    "pretrained_weights",
    "loss",
)

# What is told of the data that metrics.json describes.
DATA = (
    "database",
    "subset",
    "recordings",
    "recordings_published",
    "split",
    "protocol",
    "partition",
    "partitions",
    "patients_on_both_sides",
    "quality_supervision",
    "manifests",
)

# What is told of each result, besides its selection.
RESULTS = (
    *METRICS,
    *CLASS_METRICS,
    "operating_point",
    "counts",
    "confusion",
    "patients",
    "interval",
)

SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")


def describe_results(run: RunFolder, checkpoint: str) -> dict:
    """The ``data`` of a finished training, and a checkpoint's ``results``.

    These are those on the test set of the training first, then those in folders
    within the run folder, each with its ``data``. Nothing is there if the
    training has not come to its end. A file that is damaged, or predictions that
    are missing or give other figures, are an OSError or ValueError.
    """
    # Whoever classifies does not wait for what reads and draws results.
    from qlung_plugin.runs.evaluations import read_evaluations

    configuration, seed = run.path.parent.name, run.path.name
    known: dict = {}
    for part in run.parts():
        evaluations = read_evaluations(part, configuration, seed)
        data = choose_data(evaluations[0].data)
        if part.path == run.path:
            known["data"] = data
        known.setdefault("results", []).extend(
            {
                "selection": evaluation.selection,
                **choose_results(evaluation.figures),
                "devices": _by_device(evaluation),
                "data": data,
            }
            for evaluation in evaluations
            if evaluation.checkpoint == checkpoint
        )
    return known


def read_training_data(source: str | Path, provenance: dict) -> dict | None:
    """What a model was trained on: a run folder's results say more of it."""
    metrics = RunFolder(find_shipped(source)).metrics
    if metrics.is_file():
        return schema.read_checked(metrics, {"data": schema.TRAINED_ON})["data"]
    schema.check(
        provenance, {"data?": schema.TRAINED_ON}, f"{source}: provenance"
    )
    return provenance.get("data")


def choose_data(data: dict) -> dict:
    """What is told of the data that ``metrics.json`` describes."""
    return _chosen(data, DATA)


def choose_results(figures: dict) -> dict:
    """What is told of the figures of an evaluation."""
    return _chosen(figures, RESULTS)


def read_settings(keys: CommentedMap) -> dict:
    """The settings that are worth telling, in the YAML of a training.

    They are plain values by name; of the loss, classes and arguments.
    """
    settings = {key: _plain(keys[key]) for key in SETTINGS if key in keys}
    weights = settings.get("pretrained_weights")
    if weights is not None and (
        str(weights).endswith(SUFFIXES) or not is_hub_id(weights)
    ):
        settings["pretrained_weights"] = Path(str(weights)).name
    return settings


def _by_device(evaluation: "Evaluation") -> dict[str, dict]:
    """The results of each device, if there are several."""
    from qlung_plugin.runs.results import evaluate_predictions

    table = evaluation.predictions
    devices = table["device"].fillna("unknown")
    if devices.nunique() == 1:
        return {}
    return {
        str(device): choose_results(
            plain(evaluate_predictions(rows, evaluation.labels))
        )
        for device, rows in table.groupby(devices)
    }


def _chosen(mapping: dict, keys: tuple[str, ...]) -> dict:
    return {key: mapping[key] for key in keys if key in mapping}


def _plain(node: object) -> object:
    """A node of YAML as JSON has it."""
    tag = yaml_tag(node)
    if isinstance(node, CommentedMap):
        value: object = {str(key): _plain(part) for key, part in node.items()}
    elif isinstance(node, CommentedSeq):
        value = [_plain(part) for part in node]
    elif tag:  # without arguments
        value = {}
    else:
        return plain_scalar(node)
    if tag:
        return {"class": tag.rpartition(":")[2], "arguments": value}
    return value
