"""Tests that SpeechBrain's parts work in our recipe, each by YAML alone.

What a row of the table in README.md says is what is tested here.

Authors
 * qlung_plugin contributors
"""

import json
import sys
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

import speechbrain as sb
from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.inference.models import open_model
from qlung_plugin.runs.predictions import read_predictions
from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from tests.integration.conventions import tables
from tests.recipes.conftest import RECIPE, TINY, leave_out_figures, run_train

ECAPA = """\
!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: INPUTS
    lin_neurons: 6
    channels: [8, 8, 16]
    kernel_sizes: [5, 3, 1]
    dilations: [1, 2, 1]
    groups: [1, 1, 1]
    attention_channels: 4
    res2net_scale: 2
    se_channels: 4
"""


def embedding_model(inputs):
    """A backbone that is even smaller than the recipe's smallest."""
    model = ECAPA.replace("INPUTS", str(inputs)).replace("\n", "\n    ")
    return (
        "backbone: !new:qlung_plugin.lobes.models.embedding.EmbeddingModel\n"
        f"    embedding_dim: 6\n    model: {model}\n"
    )


# The recipe's own parts, but for the backbone.
BASE = f"!include:{RECIPE}/hparams/ce.yaml\n{embedding_model(128)}"


def margin_cost(margin):
    """A cost of SpeechBrain's with one of its margins."""
    return f"""\
loss: !new:speechbrain.nnet.losses.LogSoftmaxWrapper
    loss_fn: !new:speechbrain.nnet.losses.{margin}
        margin: 0.2
        scale: 30
"""


COSINES = """\
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: !ref <backbone.embedding_dim>
    out_neurons: !ref <num_classes>
"""
LOG_PROBABILITIES = """\
classifier: !new:speechbrain.lobes.models.Xvector.Classifier
    input_shape: [null, null, !ref <backbone.embedding_dim>]
    lin_neurons: 8
    out_neurons: !ref <num_classes>
"""
# Of each scheduler its arguments; the training has five steps.
RATES = {
    "NewBobScheduler": "{initial_value: 0.001}",
    "ReduceLROnPlateau": "{dont_halve_until_epoch: 0}",
    "LinearScheduler": "{initial_value: 0.001, final_value: 0, epoch_count: 2}",
    "StepScheduler": "{initial_value: 0.001}",
    "NoamScheduler": "{lr_initial: 0.001, n_warmup_steps: 3}",
    "NoamIntervalScheduler": "{lr_initial: 0.001, n_warmup_steps: 3,"
    " anneal_steps: [4], anneal_rates: [0.5]}",
    "LinearNoamScheduler": "{lr_initial: 0.001, n_warmup_steps: 3,"
    " n_keep_steps: 1}",
    "CyclicCosineScheduler": "{n_warmup_steps: 3, lr_initial: 0.001,"
    " total_steps: 5}",
    "LinearWarmupScheduler": "{initial_value: 0.001, num_warmup_steps: 3,"
    " num_training_steps: 5}",
    "WarmAndExpDecayLRSchedule": "{lr: 0.001, n_warmup_steps: 3,"
    " total_steps: 5}",
    "IntervalScheduler": "{intervals: [{steps: 3, lr: 0.0005}]}",
    "InverseSquareRootScheduler": "{warmup_steps: 10000}",
    "WarmCoolDecayLRSchedule": "{lr: 0.001, warmup: 3, cooldown: 1,"
    " total_steps: 5}",
    "TriStageLRSchedule": "{lr: 0.001, warmup_steps: 2, hold_steps: 1,"
    " decay_steps: 2, total_steps: 5}",
    "CyclicLRScheduler": "{base_lr: 0.0001, max_lr: 0.001, step_size: 3}",
}


def annealing(name):
    """A scheduler of SpeechBrain's, with its arguments."""
    scheduler = f"!new:speechbrain.nnet.schedulers.{name}"
    return f"lr_annealing: {scheduler} {RATES[name]}\n"


COPIES = """\
    parallel_augment: True
    concat_original: True
    min_augmentations: 1
    max_augmentations: 2
    shuffle_augmentations: True
    repeat_augment: 2
"""


def augmenter(options):
    """SpeechBrain's Augmenter of features, as its recipes have it."""
    return f"""\
augmentation: !new:speechbrain.augment.augmenter.Augmenter
{options}    augmentations: [!ref <time_drop>, !ref <freq_drop>]
"""


WAVEFORMS = f"""\
cache_features: False
waveform_augmentation: !new:speechbrain.augment.augmenter.Augmenter
{COPIES}    augmentations:
        - !new:speechbrain.augment.time_domain.DropFreq
        - !new:speechbrain.augment.time_domain.SpeedPerturb
          orig_freq: !ref <sample_rate>
          # Before 1.1.2, 90 and 110 % of 32 kHz take 15 GB of filters
          speeds: [80, 100, 125]
"""
NLL = "loss: !name:speechbrain.nnet.losses.nll_loss\n"
# Without embedding_dim, so that the classifier has to be told.
LINEAR = """\
classifier: !new:qlung_plugin.nnet.classifiers.LinearClassifier
    input_size: 6
    num_classes: !ref <num_classes>
"""
ECAPA_ON_FBANK = f"""\
sample_rate: 16000
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 40
    sample_rate: !ref <sample_rate>
backbone: {ECAPA.replace("INPUTS", "40")}{LINEAR}"""
CNN14 = f"""\
backbone: !new:speechbrain.lobes.models.Cnn14.Cnn14
    mel_bins: 128
    emb_dim: 6
{LINEAR}"""
WAV2VEC2 = """\
sample_rate: 16000
compute_features: !new:speechbrain.integrations.huggingface.wav2vec2.Wav2Vec2
    source: WAV2VEC2
    save_path: WAV2VEC2
    freeze: True
""" + embedding_model(16)
TENSORBOARD = """\
train_logger: !new:speechbrain.utils.train_logger.TensorboardLogger
    save_dir: !ref <output_folder>/tensorboard
"""
WANDB = f"""\
train_logger: !new:speechbrain.utils.train_logger.WandBLogger
    initializer: !name:{__name__}.StandIn
"""
# By slot and name in the table.
PARTS = {
    ("loss", "`LogSoftmaxWrapper` of `AdditiveAngularMargin`"): margin_cost(
        "AdditiveAngularMargin"
    ),
    ("loss", "`LogSoftmaxWrapper` of `AngularMargin`"): margin_cost(
        "AngularMargin"
    ),
    ("loss", "`nll_loss`"): NLL,
    ("classifier", "`ECAPA_TDNN.Classifier`"): COSINES,
    (
        "classifier",
        "`ECAPA_TDNN.Classifier`, with `LogSoftmaxWrapper`",
    ): COSINES + margin_cost("AdditiveAngularMargin"),
    ("classifier", "`Xvector.Classifier`"): LOG_PROBABILITIES,
    ("classifier", "`Xvector.Classifier`, with `nll_loss`"): LOG_PROBABILITIES
    + NLL,
    **{("lr_annealing", f"`{name}`"): annealing(name) for name in RATES},
    ("augmentation", "`SpectrogramDrop`"): "augmentation: !ref <time_drop>\n",
    ("augmentation", "`Augmenter`, one copy"): augmenter(""),
    ("augmentation", "`Augmenter`, beside the original"): augmenter(COPIES),
    ("augmentation", "`Augmenter`, beside the original, mixed"): augmenter(
        COPIES
    )
    + "mixing: !new:qlung_plugin.augment.mixing.Mixup\n",
    ("waveform_augmentation", "`Augmenter`, beside the original"): WAVEFORMS,
    ("backbone", "`ECAPA_TDNN`, on `Fbank`"): ECAPA_ON_FBANK,
    ("backbone", "`Cnn14`"): CNN14,
    ("train_logger", "`TensorboardLogger`"): TENSORBOARD,
    ("train_logger", "`WandBLogger`"): WANDB,
    ("compute_features", "`Wav2Vec2`, frozen"): WAV2VEC2,
    ("compute_features", "`Wav2Vec2`, trained"): WAV2VEC2.replace(
        "freeze: True", "freeze: False"
    )
    + "cache_features: False\n",
}
# What a model of these may be made of.
TRUST = [
    "speechbrain.lobes",
    "speechbrain.processing",
    "speechbrain.integrations.huggingface",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A generated corpus in ICBHI's layout."""
    folder = tmp_path_factory.mktemp("corpus") / "ICBHI"
    generate_icbhi_like(folder, recordings=1)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all runs."""
    return tmp_path_factory.mktemp("cache")


def write_wav2vec2(folder):
    """A tiny model of transformers, random, as it is published."""
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(20, 16),
        conv_kernel=(20, 16),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


class StandIn:
    """What a run of W&B and a SummaryWriter of TensorBoard have."""

    logged: list = []

    def __init__(self, save_dir=None):
        self.logged.clear()

    def log(self, stats, step):
        self.logged.append((stats, step))

    def add_scalar(self, name, value, step):
        self.logged.append((name, value, step))


@pytest.fixture
def train(tmp_path, corpus, cache, monkeypatch):
    """Trains an epoch with blocks in their slots; the run folder."""
    leave_out_figures(monkeypatch)
    if find_spec("tensorboard") is None:
        stand_in = SimpleNamespace(SummaryWriter=StandIn)
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)

    def run(blocks="", output="run", **overrides):
        hparams = tmp_path / f"{output}.yaml"
        if "WAV2VEC2" in blocks:
            write_wav2vec2(tmp_path / "wav2vec2")
            blocks = blocks.replace("WAV2VEC2", str(tmp_path / "wav2vec2"))
        # A block of the base makes room for another of its key.
        replaced = blocks.startswith("backbone:") or "\nbackbone:" in blocks
        base = BASE.splitlines()[0] + "\n" if replaced else BASE
        hparams.write_text(base + blocks)
        options = {**TINY, "number_of_epochs": 1, "data_folder": corpus}
        del options["test_each_epoch"]
        options |= {"output_folder": tmp_path / output, "cache_folder": cache}
        run_train(hparams, options | overrides)
        return tmp_path / output

    return run


def probabilities(run):
    """Of the test, ``[cycle, class]``."""
    return read_predictions(run / "predictions.csv").filter(like="p_").values


def train_loss(run):
    """Of the one epoch."""
    log = (run / "train_log.txt").read_text()
    return float(log.split("train loss: ")[1].split(" ")[0])


def assert_model_predicts(run, corpus):
    """The exported model says of each cycle what the training's test did."""
    model = open_model(run, trust=TRUST)
    entries = json.loads((run / "test.json").read_text())
    table = read_predictions(run / "predictions.csv")
    expected = table.set_index("id").filter(like="p_").loc[list(entries)]
    features = [
        model["cycle_features"](
            read_cycle(entry["wav"], corpus), entry["sample_rate"]
        )
        for entry in entries.values()
    ]
    with torch.no_grad():
        embeddings = model["backbone"](torch.stack(features).float())
        output = model["classifier"](embeddings)
    logits = output[0] if isinstance(output, tuple) else output
    found = logits.reshape(len(entries), -1).softmax(dim=-1)
    np.testing.assert_allclose(found, expected.values, atol=1e-5)


def test_every_row_of_the_table_is_tested():
    *_, (_, *rows) = tables()
    assert [tuple(row) for row in rows] == [(*k, "passed") for k in PARTS]


# For every change, one of each slot is enough.
QUICK = {slot: (slot, name) for slot, name in reversed(PARTS)}.values()


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(part, marks=[] if part in QUICK else [pytest.mark.slow])
        for part in PARTS
    ],
    ids=" ".join,
)
def test_trains_and_its_model_says_the_same(part, train, corpus):
    run = train(PARTS[part])
    log = json.loads((run / "metrics.json").read_text())
    assert log["last"]["epoch"] == 1
    assert np.ptp(probabilities(run), axis=0).max() > 0
    assert_model_predicts(run, corpus)


@pytest.mark.parametrize(
    "classifier",
    [
        pytest.param("LinearClassifier", marks=pytest.mark.slow),
        "AngularClassifier",
    ],
)
def test_margin_cost_is_the_margin_loss_of_this_package(train, classifier):
    """Same loss, same steps, and the scale in the probabilities."""
    block = (
        f"classifier: !new:qlung_plugin.nnet.classifiers.{classifier}\n"
        "    input_size: !ref <backbone.embedding_dim>\n"
        "    num_classes: !ref <num_classes>\n"
    )
    theirs = train(block + margin_cost("AdditiveAngularMargin"), "theirs")
    ours = train(
        f"""\
plain: {block.removeprefix("classifier: ")}
classifier: !new:qlung_plugin.nnet.scaled_cosines.ScaledCosines
    classifier: !ref <plain>
    scale: 30.0
loss: !new:qlung_plugin.nnet.losses.AngularMarginLoss
    scale: 30.0
    margin: !new:qlung_plugin.nnet.margins.FixedMargin
        margin: 0.2
""",
        "ours",
    )
    assert train_loss(theirs) == pytest.approx(train_loss(ours), rel=1e-4)
    np.testing.assert_allclose(
        probabilities(theirs), probabilities(ours), atol=1e-4
    )


@pytest.mark.slow
def test_a_plain_cost_is_the_cross_entropy(train):
    theirs, ours = train(NLL, "theirs"), train(output="ours")
    assert train_loss(theirs) == pytest.approx(train_loss(ours), rel=1e-4)
    np.testing.assert_allclose(
        probabilities(theirs), probabilities(ours), atol=1e-4
    )


COST_OF_OURS = """\
loss: !new:qlung_plugin.nnet.losses.MarginCost
    scale: 30
    loss: !new:qlung_plugin.nnet.margins.FixedMargin
        margin: 0.2
"""
BARE_MARGIN = "loss: !new:speechbrain.nnet.losses.AngularMargin\n"
SCHEDULED = """\
SLOT: !new:speechbrain.nnet.schedulers.ScheduledLoss
    schedule:
        - loss_fn: !name:speechbrain.nnet.losses.nll_loss
"""
# Blocks that cannot work, and what the message says: slot, what it got, what it
# needs.
REFUSED = {
    "no loss": ("loss: 3\n", "loss: one of .* is needed, .* not 3"),
    "MarginCost": (COST_OF_OURS, "loss: MarginCost .* the loss itself is"),
    "no scalar": (
        BARE_MARGIN,
        r"loss: a number .* AngularMargin returned a tensor",
    ),
    "no state": (
        SCHEDULED.replace("SLOT", "loss"),
        "loss: ScheduledLoss .* one cost .* is needed",
    ),
    "no rates": (
        SCHEDULED.replace("SLOT", "lr_annealing"),
        "lr_annealing: a scheduler is needed .* not ScheduledLoss",
    ),
    "no validation loss": (
        annealing("NewBobScheduler") + "valid_fraction: 0\n",
        "lr_annealing: NewBobScheduler needs the loss of a validation set",
    ),
    "for pairs": (
        "loss: !name:speechbrain.nnet.losses.bce_loss\n",
        r"loss: bce_loss cannot take .*\[2, 4\]",
    ),
    "no cosines": (
        LOG_PROBABILITIES + margin_cost("AngularMargin"),
        "classifier: LogSoftmaxWrapper needs cosines, but Classifier returns",
    ),
    "too few classes": (
        COSINES.replace("<num_classes>", "<batch_size>")
        + margin_cost("AngularMargin"),
        r"classifier: 4 classes are needed .* Classifier has 8",
    ),
    "another dimension": (
        COSINES.replace("<backbone.embedding_dim>", "<num_classes>"),
        r"classifier: Classifier cannot take a tensor \[2, 6\]",
    ),
    "nothing to train": (
        WAV2VEC2.replace("freeze: True", "freeze: False"),
        "compute_features: Wav2Vec2 has parameters to train, .* are cached",
    ),
    "other features": (
        embedding_model(127),
        r"backbone: EmbeddingModel cannot take a tensor \[2, \d+, 128\]",
    ),
    "no logger": ("train_logger: 3\n", "train_logger: .* log_stats .* not 3"),
    "no embedding_dim": (
        CNN14.replace(LINEAR, ""),
        "backbone: 'Cnn14' object has no attribute 'embedding_dim', which <backb",
    ),
    "no embeddings": (
        "backbone: !new:torch.nn.Identity\n"
        "classifier: !new:torch.nn.Linear\n"
        "    in_features: 128\n    out_features: 4\n",
        r"backbone: embeddings .* Identity made a tensor \[2, \d+, 128\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_the_training(case, train, tmp_path):
    blocks, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        train(blocks)
    assert not list(tmp_path.rglob("CKPT*"))


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_its_rates(train, monkeypatch):
    name = "InverseSquareRootScheduler"  # which cannot load what it saves
    options = {"number_of_epochs": 2, "ckpt_interval_steps": 2}
    options["ckpt_interval_minutes"] = 0
    whole = train(annealing(name), "whole", **options)
    fit_batch, calls = sb.Brain.fit_batch, iter(range(100))

    def interrupted(brain, batch):
        if next(calls) == 8:  # in the second epoch
            raise KeyboardInterrupt
        return fit_batch(brain, batch)

    monkeypatch.setattr(sb.Brain, "fit_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(annealing(name), "half", **options)
    monkeypatch.setattr(sb.Brain, "fit_batch", fit_batch)
    half = train(annealing(name), "half", **options)
    for file in ("predictions_last.csv", "train_log.txt"):
        assert (half / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.slow
def test_what_loggers_are_told(train):
    train(WANDB)
    ((stats, epoch),) = StandIn.logged
    assert epoch == 1 and stats["lr"] == 0.001
    assert stats["train"]["loss"] > 0 and 0 <= stats["valid"]["score"] <= 100
    folder = train(TENSORBOARD, "another") / "tensorboard"
    if find_spec("tensorboard") is None:
        logged = {name: value for name, value, _ in StandIn.logged}
    else:
        events = import_module(
            "tensorboard.backend.event_processing.event_accumulator"
        ).EventAccumulator(str(folder))
        events.Reload()
        logged = {
            name: events.Scalars(name)[0].value
            for name in events.Tags()["scalars"]
        }
    assert logged["lr"] == pytest.approx(0.001)
    assert logged["loss/train"] == pytest.approx(stats["train"]["loss"])
    assert logged["score/valid"] == pytest.approx(stats["valid"]["score"])


def test_cosines_without_a_scale_are_told(train):
    log = (train(COSINES) / "log.txt").read_text()
    assert "classifier: Classifier returns cosines, which" in log
