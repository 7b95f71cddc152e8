"""Run folders of small models, made without training.

Authors
 * qlung_plugin contributors
"""

from typing import NamedTuple

import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml

from qlung_plugin.inference.trained_model import TrainedModel
from qlung_plugin.lobes.models.pooled import Standardisation
from qlung_plugin.runs.configuration import resolve_yaml
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.results import evaluate_predictions
from qlung_plugin.utils.files import write_json

LABELS = ["normal", "crackle", "wheeze", "both"]
STATEFUL = ["quality", "compute_features", "backbone", "classifier"]

TRAINING_YAML = """\
seed: 7
data_folder: /home/somebody/ICBHI
output_folder: /home/somebody/results
lr: 0.001
pretrained_weights: {weights}
labels: !apply:qlung_plugin.dataio.partitions.class_labels [4]
sample_rate: {rate}
quality: {quality}
resampler: !new:qlung_plugin.dataio.cycles.CycleResampler
    sample_rate: !ref <sample_rate>
fix_length: !new:qlung_plugin.dataio.cycles.FixedLength
    sample_rate: !ref <sample_rate>
    duration: 1.0
compute_features: {features}
cycle_features: !new:qlung_plugin.dataio.cycles.CycleFeatures
    resampler: !ref <resampler>
    compute_features: !ref <compute_features>
    fix_length: !ref <fix_length>
backbone: {backbone}
classifier: !new:qlung_plugin.nnet.classifiers.{classifier}
    input_size: !ref <backbone.embedding_dim>
    num_classes: 4
loss: !new:qlung_plugin.nnet.losses.FocalLoss
    gamma: 2.0
"""

MODELS = "qlung_plugin.lobes.models"
FEATURES = "qlung_plugin.lobes.features"

FITTED = """!new:qlung_plugin.lobes.quality.AudioQualityScore
    sample_rate: 16000
    normalisation: fitted"""


class Small(NamedTuple):
    """A backbone with what belongs to it; the test of each has its own."""

    rate: int
    features: str
    backbone: str
    dim: int


EFFICIENTAT = Small(
    32000,
    f"!new:{FEATURES}.EfficientATFeatures",
    f"""!new:{MODELS}.efficientat.EfficientAT
    width_mult: 0.1
    pretrained_weights: !ref <pretrained_weights>""",
    96,
)


DATA = {
    "database": "ICBHI 2017",
    "subset": None,
    "recordings": 3,
    "protocol": "official split",
    "partition": "test side of the official split",
    "partitions": {
        "train": {
            "patients": 2,
            "recordings": 2,
            "cycles": 9,
            "counts": {"normal": 9},
        }
    },
    "quality_supervision": None,
    "manifests": {"train.json": "00ff"},
    "warnings": ["/home/somebody/ICBHI/101.wav is odd"],
}


def make_run(
    folder,
    backbone=EFFICIENTAT,
    quality=FITTED,
    classifier="AngularClassifier",
    weights="null",
    epochs=(1,),
    finished=True,
    edit=lambda yaml: yaml,
):
    """Makes the output folder of a training that never was.

    Each epoch has other weights; the first is the selected one. ``quality``,
    ``classifier`` and ``weights`` are in YAML, which ``edit`` may change.
    """
    text = TRAINING_YAML.format(
        **backbone._asdict(),
        quality=quality,
        classifier=classifier,
        weights=weights,
    )
    folder.mkdir(parents=True)
    training = folder / "hyperparams.yaml"
    training.write_text(edit(text))
    for name, epoch in (("selected", epochs[0]), ("last", epochs[-1])):
        objects = make_objects(training, epoch)
        TrainedModel(resolve_yaml(training, ""), objects).write(
            RunFolder(folder).model(name), name, epoch, True, DATA
        )
    if finished:
        write_results(folder, epochs[0])
    return folder


def make_objects(training, epoch):
    """What a YAML says, with the weights of an epoch."""
    torch.manual_seed(epoch)
    overrides = {"pretrained_weights": None}
    objects = load_hyperpyyaml(training.read_text(), overrides)
    for name in STATEFUL:
        randomise(objects[name])
    objects["quality"].fit(torch.rand(8, len(objects["quality"].names)))
    backbone = objects["backbone"]
    if isinstance(backbone, Standardisation):
        backbone.fit(torch.rand(8, backbone.embedding_dim))
    return objects


def randomise(module):
    """Gives the running statistics of batch normalisation another value."""
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)


def write_results(folder, epoch):
    """Writes what a few invented predictions of a checkpoint give."""
    table = pd.DataFrame({"label": LABELS * 3, "prediction": LABELS * 3})
    table["prediction"] = table["prediction"].where(table.index != 5, "normal")
    table["id"] = table["recording"] = [f"cycle {i}" for i in table.index]
    table["patient"] = [str(100 + i // 2) for i in range(len(table))]
    table["device"] = table["sex"] = table["location"] = "unknown"
    table["age"], table["quality"] = 5.0, 0.5
    for label in LABELS:
        table[f"p_{label}"] = (table["prediction"] == label).astype(float)
    metrics = evaluate_predictions(table, LABELS)
    selected = {"epoch": epoch, "selection": "best validation score", **metrics}
    further = {**DATA, "database": "SPRSound 2022", "partition": "intra"}
    further["training"] = {"folder": "/home/somebody/results"}
    for place, of in ((folder, DATA), (folder / "sprsound", further)):
        write_json({"selected": selected, "data": of}, place / "metrics.json")
        write_predictions(table, place / "predictions.csv")
