"""Tests that SpeechBrain's parts work in our recipe, each by YAML alone.

What a row of the table in README.md says is what is tested here.

Authors
 * qlung_plugin contributors
"""

import json
import math

import numpy as np
import pytest
import torch

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.inference.models import open_model
from qlung_plugin.runs.predictions import read_predictions
from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from tests.integration.conventions import tables
from tests.recipes.conftest import RECIPE, TINY, leave_out_figures, run_train

# The recipe's own parts, but for a backbone that is even smaller.
BASE = (
    f"!include:{RECIPE}/hparams/ce.yaml\n"
    + """\

backbone: !new:qlung_plugin.lobes.models.embedding.EmbeddingModel
    embedding_dim: 6
    model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
        input_size: 128
        lin_neurons: 6
        channels: [8, 8, 16]
        kernel_sizes: [5, 3, 1]
        dilations: [1, 2, 1]
        groups: [1, 1, 1]
        attention_channels: 4
        res2net_scale: 2
        se_channels: 4

"""
)


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
NLL = "loss: !name:speechbrain.nnet.losses.nll_loss\n"
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
}
# What a model of these may be made of.
TRUST = ["speechbrain.lobes", "speechbrain.processing"]


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


@pytest.fixture
def train(tmp_path, corpus, cache, monkeypatch):
    """Trains an epoch with blocks in their slots; the run folder."""
    leave_out_figures(monkeypatch)

    def run(blocks="", output="run", **overrides):
        hparams = tmp_path / f"{output}.yaml"
        hparams.write_text(BASE + blocks)
        options = {**TINY, "number_of_epochs": 1, "data_folder": corpus}
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


@pytest.mark.parametrize("part", PARTS, ids=" ".join)
def test_trains_and_its_model_says_the_same(part, train, corpus):
    run = train(PARTS[part])
    assert math.isfinite(train_loss(run))
    assert np.ptp(probabilities(run), axis=0).max() > 0
    assert_model_predicts(run, corpus)


@pytest.mark.parametrize(
    "classifier", ["LinearClassifier", "AngularClassifier"]
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
loss: !new:speechbrain.nnet.schedulers.ScheduledLoss
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
    "no state": (SCHEDULED, "loss: ScheduledLoss .* one cost .* is needed"),
    "for pairs": (
        "loss: !name:speechbrain.nnet.losses.bce_loss\n",
        r"loss: bce_loss cannot take .*\[2, 4\]",
    ),
    "no cosines": (
        LOG_PROBABILITIES + margin_cost("AngularMargin"),
        "classifier: LogSoftmaxWrapper needs cosines, but Classifier returns",
    ),
    "too few classes": (
        COSINES.replace("<num_classes>", "<batch_size>"),
        r"classifier: 4 classes are needed .* Classifier has 8",
    ),
    "another dimension": (
        COSINES.replace("<backbone.embedding_dim>", "<num_classes>"),
        r"classifier: Classifier cannot take a tensor \[2, 6\]",
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


def test_cosines_without_a_scale_are_told(train):
    log = (train(COSINES) / "log.txt").read_text()
    assert "classifier: Classifier returns cosines, which" in log
