"""Run folders of small models, made without training.

Authors
 * qlung_plugin contributors
"""

from typing import NamedTuple

import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.checkpoints import Checkpointer

from qlung_plugin.inference.run import write_inference_yaml
from qlung_plugin.runs.predictions import write_predictions
from qlung_plugin.runs.results import evaluate_predictions
from qlung_plugin.utils.files import write_json

LABELS = ["normal", "crackle", "wheeze", "both"]
KEYS = [
    "labels",
    "quality",
    "compute_features",
    "cycle_features",
    "backbone",
    "classifier",
]
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

FROZEN_FEATURES = f"""!new:torch.nn.Sequential
    - !new:{FEATURES}.EfficientATFeatures
    - !new:{MODELS}.efficientat.EfficientATFirstBlocks
      width_mult: 0.1
      pretrained_weights: !ref <pretrained_weights>
      blocks: 5"""


class Small(NamedTuple):
    """A backbone with what belongs to it."""

    rate: int
    features: str
    backbone: str
    dim: int


def _embedding(model, arguments, dim):
    """One of SpeechBrain's embedding models."""
    return Small(
        16000,
        f"!new:{FEATURES}.ASTFeatures",
        f"""!new:{MODELS}.embedding.EmbeddingModel
    embedding_dim: {dim}
    model: !new:speechbrain.lobes.models.{model}
        lin_neurons: {dim}
{arguments}""",
        dim,
    )


BACKBONES = {
    "EfficientAT": Small(
        32000,
        f"!new:{FEATURES}.EfficientATFeatures",
        f"""!new:{MODELS}.efficientat.EfficientAT
    width_mult: 0.1
    pretrained_weights: !ref <pretrained_weights>""",
        96,
    ),
    "frozen EfficientAT": Small(
        32000,
        FROZEN_FEATURES,
        f"""!new:{MODELS}.efficientat.EfficientAT
    width_mult: 0.1
    pretrained_weights: !ref <pretrained_weights>
    first_block: 5""",
        96,
    ),
    "AST": Small(
        16000,
        f"!new:{FEATURES}.ASTFeatures",
        f"""!new:{MODELS}.ast.AST
    frames: 98
    config: {{hidden_size: 32, num_attention_heads: 2, num_hidden_layers: 1,
        intermediate_size: 64}}""",
        32,
    ),
    "BEATs": Small(
        16000,
        f"!new:{FEATURES}.BEATsFeatures",
        f"""!new:{MODELS}.beats.BEATs
    config: {{encoder_layers: 1, encoder_embed_dim: 48, embed_dim: 16,
        encoder_ffn_embed_dim: 64}}""",
        48,
    ),
    "CLAP": Small(
        48000,
        f"!new:{FEATURES}.CLAPFeatures",
        f"""!new:{MODELS}.clap.CLAP
    config: {{patch_embeds_hidden_size: 16, hidden_size: 32, depths: [1, 1],
        num_attention_heads: [2, 4], projection_dim: 24}}""",
        24,
    ),
    "PANNs": Small(
        32000,
        f"!new:{FEATURES}.PANNsFeatures",
        f"!new:{MODELS}.panns.PANNs\n    variant: Cnn6",
        512,
    ),
    "ECAPA-TDNN": _embedding(
        "ECAPA_TDNN.ECAPA_TDNN",
        """\
        input_size: 128
        channels: [16, 16, 48]
        kernel_sizes: [5, 3, 1]
        dilations: [1, 2, 1]
        attention_channels: 8
        res2net_scale: 2
        se_channels: 8
        groups: [1, 1, 1]""",
        12,
    ),
    "x-vector": _embedding(
        "Xvector.Xvector",
        """\
        in_channels: 128
        tdnn_blocks: 2
        tdnn_channels: [16, 24]
        tdnn_kernel_sizes: [5, 1]
        tdnn_dilations: [1, 1]""",
        12,
    ),
    "ResNet": _embedding(
        "ResNet.ResNet",
        """\
        input_size: 128
        channels: [8, 8, 8, 8]
        block_sizes: [1, 1, 1, 1]""",
        12,
    ),
}


def make_run(
    folder,
    backbone="EfficientAT",
    quality=FITTED,
    classifier="AngularClassifier",
    weights="null",
    epochs=(1,),
    finished=True,
    edit=lambda yaml: yaml,
):
    """Makes the output folder of a training that never was.

    Arguments
    ---------
    folder : Path
        Where to.
    backbone : str or Small
        Which, of :data:`BACKBONES`.
    quality, classifier, weights : str
        In YAML.
    epochs : sequence of int
        A checkpoint each, of other weights; the first has the best score.
    finished : bool
        Whether there are results.
    edit : callable
        Changes the YAML of the training.

    Returns
    -------
    Path
        The folder.
    """
    small = BACKBONES.get(backbone, backbone)
    text = TRAINING_YAML.format(
        **small._asdict(),
        quality=quality,
        classifier=classifier,
        weights=weights,
    )
    folder.mkdir(parents=True)
    training = folder / "hyperparams.yaml"
    training.write_text(edit(text))
    overrides = {"pretrained_weights": None}
    write_inference_yaml(training, overrides, KEYS, folder / "save")
    for epoch in epochs:
        torch.manual_seed(epoch)
        objects = load_hyperpyyaml(training.read_text(), overrides)
        for name in STATEFUL:
            randomise(objects[name])
        objects["quality"].fit(torch.rand(8, len(objects["quality"].names)))
        meta = {"epoch": epoch, "score": 60.0 - epoch}
        Checkpointer(
            folder / "save", {name: objects[name] for name in STATEFUL}
        ).save_checkpoint(meta=meta)
    if finished:
        write_results(folder, epochs[0])
    return folder


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
    data = {
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
    selected = {"epoch": epoch, "selection": "best validation score", **metrics}
    further = {**data, "database": "SPRSound 2022", "partition": "intra"}
    further["training"] = {"folder": "/home/somebody/results"}
    for place, of in ((folder, data), (folder / "sprsound", further)):
        write_json({"selected": selected, "data": of}, place / "metrics.json")
        write_predictions(table, place / "predictions.csv")
