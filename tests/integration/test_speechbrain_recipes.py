"""Tests that our parts work in recipes of SpeechBrain, by YAML alone.

What a row of the table in README.md says is what is tested here.

Authors
 * qlung_plugin contributors
"""

import logging
import math
import pydoc
import re
from pathlib import Path

import pytest
import torch

from qlung_plugin.inference.components import find_components
from qlung_plugin.inference.speechbrain_blocks import speechbrain_block
from qlung_plugin.nnet.margins import ClassImbalanceMargin
from tests.integration.conventions import (
    COUNTS,
    RATE,
    RECIPES,
    make_data,
    tables,
    train,
)

COMPONENTS = find_components()
ROOT_README = Path(__file__).parents[2] / "README.md"

FIXED = """\
compute_cost: !new:qlung_plugin.nnet.losses.MarginCost
    scale: 30
    loss: !new:qlung_plugin.nnet.margins.FixedMargin
        margin: 0.2
"""
LIST = """\
compute_cost: !new:qlung_plugin.nnet.losses.MarginCost
    scale: 30
    class_counts: [7, 7, 7]
    loss: !new:qlung_plugin.nnet.margins.ClassImbalanceMargin
        target_margin: 0.2
        num_classes: !ref <out_n_neurons>
"""
FILE = LIST.replace("[7, 7, 7]", "!ref <train_annotation>").replace(
    "    loss:",
    "    label_key: class_string\n"
    "    label_encoder: !ref <save_folder>/label_encoder.txt\n"
    "    loss:",
)
RUNNING = LIST.replace("[7, 7, 7]", "running")
SCHEDULE = """\
compute_cost: !new:qlung_plugin.nnet.losses.MarginCost
    scale: 30
    loss: !new:qlung_plugin.nnet.margins.MarginSchedule
        margin: !new:qlung_plugin.nnet.margins.FixedMargin
            margin: 0.2
        duration: 8
        unit: step
"""
# A quality that is the same for all makes a fixed margin of this: 0.4 * 0.5.
TAP = """\
compute_features: !new:qlung_plugin.lobes.quality.QualityTap
    quality: !new:qlung_plugin.lobes.quality.ConstantQuality
        value: 0.4
    compute_features: !new:speechbrain.lobes.features.Fbank
        n_mels: !ref <n_mels>
        sample_rate: !ref <sample_rate>

compute_cost: !new:qlung_plugin.nnet.losses.MarginCost
    scale: 30
    quality: !ref <compute_features>
    loss: !new:qlung_plugin.nnet.margins.QualityMargin
        kappa: 0.5
"""


def inside_the_wrapper(blocks):
    """The cost, as the margin within SpeechBrain's wrapper."""
    before, _, cost = blocks.partition("compute_cost: ")
    return (
        f"{before}compute_cost: !new:speechbrain.nnet.losses.LogSoftmaxWrapper\n"
        "    loss_fn: " + cost.replace("\n    ", "\n        ")
    )


def of_the_readme():
    """The blocks that README.md has for a recipe of SpeechBrain."""
    text = ROOT_README.read_text(encoding="utf-8")
    section = text.partition("## In your own SpeechBrain recipe")[2]
    return re.search(r"```yaml\n(.*?)```", section, flags=re.S)[1]


# By their names in the table.
PARTS = {
    "fixed margin": FIXED,
    "fixed margin, inside `LogSoftmaxWrapper`": inside_the_wrapper(FIXED),
    "quality of a tap": TAP,
    "quality of a tap, inside `LogSoftmaxWrapper`": inside_the_wrapper(TAP),
    "class counts: list": LIST,
    "class counts: file": FILE,
    "class counts: running": RUNNING,
    "schedule by steps": SCHEDULE,
    "QLung, as in the README": of_the_readme(),
}
# Their margins are 0.2: they have to log what AdditiveAngularMargin does.
AS_SPEECHBRAINS = [*PARTS][:5]

# What cannot go into a recipe of SpeechBrain, and a word of the reason.
REFUSED = {
    "AdaFaceLoss": "embeddings",
    "FreqMixStyle": "log-mels",
    "MagFaceLoss": "embeddings",
    "MagFaceMargin": "embeddings",
    "ManifestQuality": "waveforms",
    "MelBand": "part of NormalisedFeatures",
    "Mixup": "one target",
    "NormalisedFeatures": "what recording",
    "PatchMix": "one target",
    "RandomFrequencyResponse": "log-mels",
    "RandomGain": "log-mels",
    "RecordingLevel": "part of NormalisedFeatures",
    "Standardisation": "training set",
    "StepAveraging": "each step",
    "TimeShift": "log-mels",
    "WaveformAugmentation": "qualities",
}
PRINTED = [name for name in COMPONENTS if name not in REFUSED]
# What a component needs beside it: the printed blocks of these.
BESIDE = {
    "AST": "ASTFeatures",
    "BEATs": "BEATsFeatures",
    "CLAP": "CLAPFeatures",
    "EfficientAT": "EfficientATFeatures",
    "PANNs": "PANNsFeatures",
    "PooledBlocks": "EfficientATFeatures",
    "LinearClassifier": "CrossEntropyLoss",
    **{
        name: "QualityMargin"
        for name in PRINTED
        if COMPONENTS[name].kind in ("quality", "quality_tap")
    },
}
# Small forms of the backbones.
SMALL = {
    "AST": {
        "frames": 98,
        "config": {
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "intermediate_size": 64,
        },
    },
    "BEATs": {"config": {"encoder_layers": 1, "encoder_embed_dim": 48}},
    "CLAP": {
        "config": {
            "patch_embeds_hidden_size": 16,
            "hidden_size": 32,
            "depths": [1, 1],
            "num_attention_heads": [2, 4],
        }
    },
    "EfficientAT": {"width_mult": 0.1},
    "PANNs": {"variant": "Cnn6"},
    "PooledBlocks": {"width_mult": 0.1, "blocks": [6, 17]},
    "EmbeddingModel": {
        "model": {
            "channels": [16, 16, 48],
            "kernel_sizes": [5, 3, 1],
            "dilations": [1, 2, 1],
            "attention_channels": 8,
            "res2net_scale": 2,
            "se_channels": 8,
            "groups": [1, 1, 1],
        }
    },
}
SPECTRUM = "speechbrain.processing.features.STFT"


def blocks_for(recipe, part):
    """The blocks of a part, in the places that a recipe has for them."""
    if recipe == "ESC50":  # which takes features from its spectrum
        return (
            PARTS[part]
            .replace("compute_features: !new:qlung", "compute_stft: !new:qlung")
            .replace("<compute_features>", "<compute_stft>")
            .replace("speechbrain.lobes.features.Fbank", SPECTRUM)
            .replace("        n_mels: !ref <n_mels>\n", "")
        )
    return PARTS[part]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of generated recordings and their manifests."""
    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


@pytest.fixture(scope="module")
def seconds(tmp_path_factory):
    """The same, all of 1 s, as a transformer with a table of positions needs."""
    folder = tmp_path_factory.mktemp("seconds")
    make_data(folder, samples=RATE)
    return folder


@pytest.fixture(scope="module")
def speechbrains(data, tmp_path_factory):
    """What each recipe logs with SpeechBrain's own cost."""
    folder = tmp_path_factory.mktemp("reference")
    return {name: train(name, folder / name, data).losses for name in RECIPES}


def test_every_row_of_the_tables_is_tested():
    (header, *rows), (_, *printed), _ = tables()
    assert header[1:] == list(RECIPES)
    assert [row[0] for row in rows] == list(PARTS)
    assert all(row[1:] == ["passed"] * len(RECIPES) for row in rows)
    assert printed == [
        [f"`{name}`", COMPONENTS[name].kind, "passed"] for name in PRINTED
    ]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("part", AS_SPEECHBRAINS)
def test_logs_what_speechbrains_margin_does(
    recipe, part, data, speechbrains, tmp_path
):
    brain = train(recipe, tmp_path / "run", data, blocks_for(recipe, part))
    # Both round in float32, in another order.
    assert brain.losses == pytest.approx(speechbrains[recipe], rel=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_class_counts_of_the_training_manifest(recipe, data, tmp_path):
    blocks = blocks_for(recipe, "class counts: file")
    brain = train(recipe, tmp_path / "run", data, blocks)
    margin = brain.hparams.compute_cost.loss.margin
    expected = ClassImbalanceMargin(COUNTS, num_classes=3)
    assert torch.equal(margin.values, expected.values)


@pytest.mark.parametrize("recipe", RECIPES)
def test_class_counts_of_the_training_so_far(recipe, data, tmp_path):
    blocks = blocks_for(recipe, "class counts: running")
    brain = train(recipe, tmp_path / "run", data, blocks)
    # Of two epochs, in which a batch comes with two copies, and one of each.
    expected = [1 + 2 * 3 * count for count in COUNTS]
    assert brain.hparams.compute_cost.counts.tolist() == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_schedule_counts_the_steps_of_training(
    recipe, data, speechbrains, tmp_path
):
    blocks = blocks_for(recipe, "schedule by steps")
    brain = train(recipe, tmp_path / "run", data, blocks)
    margin = brain.hparams.compute_cost.loss.margin
    # Two epochs of three steps; the last was made with what five had passed.
    assert margin.share.item() == pytest.approx(5 / 8)
    assert brain.losses[0] < speechbrains[recipe][0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_example_of_the_readme(recipe, data, tmp_path, caplog):
    blocks = blocks_for(recipe, "QLung, as in the README")
    with caplog.at_level(logging.WARNING, "qlung_plugin"):
        brain = train(
            recipe,
            tmp_path / "run",
            data,
            blocks,
            # Batches come from another process: the tap is in this one.
            dataloader_options={"num_workers": 1},
        )
    assert len(brain.losses) == 4
    assert "lengths" not in caplog.text  # the recipe tells them to the cost
    saved = sorted((tmp_path / "run/save").glob("CKPT*/compute_cost.ckpt"))
    state = torch.load(saved[-1], weights_only=True)
    expected = ClassImbalanceMargin(COUNTS, num_classes=3).values
    (key,) = [key for key in state if key.endswith("values")]
    assert torch.equal(state[key], expected)


@pytest.mark.parametrize("name", PRINTED)
def test_the_printed_block_trains(name, seconds, tmp_path):
    names = [BESIDE.get(name), name]
    blocks = "\n\n".join(
        speechbrain_block(each, COMPONENTS) for each in names if each
    )
    small = {"embedding_model": SMALL[name]} if name in SMALL else {}
    brain = train(
        "SpeakerId",
        tmp_path / "run",
        seconds,
        blocks,
        number_of_epochs=1,
        **small,
    )
    assert len(brain.losses) == 2 and all(map(math.isfinite, brain.losses))
    used = list(vars(brain.hparams).values())
    for part in used.copy():
        used += part.modules() if isinstance(part, torch.nn.Module) else []
    assert pydoc.locate(COMPONENTS[name].path) in map(type, used)


@pytest.mark.parametrize(
    "names",
    [
        ["MarginSchedule"],
        ["ClassImbalanceMargin"],
        ["QualityMargin", "LearnedQualityScore"],
    ],
)
def test_the_printed_block_goes_on_after_an_interruption(names, data, tmp_path):
    blocks = "\n\n".join(speechbrain_block(n, COMPONENTS) for n in names)
    blocks = blocks.replace("duration: 1000", "duration: 8")
    # Random augmentation would begin anew; the rate knows the last epoch.
    steady = {
        "wav_augment": {"augment_prob": 0.0},
        "lr_annealing": {"final_value": 0.001},
    }
    whole = train("SpeakerId", tmp_path / "whole", data, blocks, **steady)
    for epochs in (1, 2):
        brain = train(
            "SpeakerId",
            tmp_path / "interrupted",
            data,
            blocks,
            number_of_epochs=epochs,
            **steady,
        )
    assert brain.losses == whole.losses[2:]
    named = set(re.findall(r"__recover_(\w+)", blocks))
    files = (tmp_path / "interrupted/save").glob("CKPT*/*.ckpt")
    assert "compute_cost" in named <= {file.stem for file in files}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_go_there_says_why(name):
    with pytest.raises(ValueError, match=f"^{name} cannot .*{REFUSED[name]}"):
        speechbrain_block(name, COMPONENTS)
