"""Tests of pooled blocks, of their standardisation, and of a head on them.

Authors
 * qlung_plugin contributors
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from qlung_plugin.lobes.models.efficientat import (
    EfficientAT,
    EfficientATFirstBlocks,
)
from qlung_plugin.lobes.models.pooled import (
    PooledBlocks,
    Standardisation,
    fit_standardisation,
)
from qlung_plugin.nnet.classifiers import LinearClassifier
from qlung_plugin.nnet.losses import CrossEntropyLoss
from qlung_plugin.runs.hparams import read_hparams
from speechbrain.utils.optimizers import rm_vector_weight_decay
from tests.unittests.small_runs import EFFICIENTAT, FEATURES, MODELS

# What they are tested as, as every backbone is.
SMALL = {
    "PooledBlocks": EFFICIENTAT._replace(
        backbone=f"""!new:{MODELS}.pooled.PooledBlocks
    width_mult: 0.1
    pretrained_weights: !ref <pretrained_weights>
    blocks: [6, 17]""",
        dim=208,
    ),
    "Standardisation": EFFICIENTAT._replace(
        features=f"""!new:{FEATURES}.NormalisedFeatures
    log_mel: !new:{FEATURES}.EfficientATFeatures
    band: !new:{FEATURES}.MelBand
    after: !new:{MODELS}.pooled.PooledBlocks
        width_mult: 0.1
        pretrained_weights: !ref <pretrained_weights>
        blocks: [6, 17]
        freeze: True
        keepdim: True""",
        backbone=f"""!new:{MODELS}.pooled.Standardisation
    embedding_dim: 208""",
        dim=208,
    ),
}

WIDTH = 0.1
HPARAMS = Path(__file__).parents[3] / "recipes/ICBHI/classification/hparams"


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frozen(**arguments):
    torch.manual_seed(0)
    return PooledBlocks(WIDTH, freeze=True, **arguments)


# --- pooled blocks ----------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 6, 12, 16])
def test_a_block_is_counted_as_where_a_backbone_is_cut(block):
    """Its maps are those of as many first blocks, by time, mel and channel."""
    pooled = frozen(blocks=[block], pooling=["max", "mean"])
    torch.manual_seed(0)
    first = EfficientATFirstBlocks(WIDTH, blocks=block)
    features = noise(3, 77, 64)
    rows = EfficientAT(WIDTH, first_block=block)
    maps = first(features).unflatten(2, (-1, rows.channels)).flatten(1, 2)
    expected = torch.cat([maps.amax(1), maps.mean(1)], dim=1)
    assert pooled.embedding_dim == 2 * rows.channels
    torch.testing.assert_close(pooled(features), expected)


def test_the_mean_of_the_last_is_the_embedding_of_the_whole():
    pooled = frozen(blocks=[17], pooling=["mean"])
    torch.manual_seed(0)
    whole = EfficientAT(WIDTH, freeze=True)
    features = noise(2, 77, 64)
    torch.testing.assert_close(pooled(features), whole(features))


def test_blocks_stand_one_after_another():
    both = frozen(blocks=[6, 17], keepdim=True)
    features = noise(2, 77, 64)
    assert both(features).shape == (2, 1, both.embedding_dim)
    parts = [frozen(blocks=[block])(features) for block in (6, 17)]
    torch.testing.assert_close(both(features)[:, 0], torch.cat(parts, dim=1))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"blocks": []}, r"blocks=\[\]: some of 1 to 17"),
        ({"blocks": [0, 3]}, r"blocks=\[0, 3\]: some of 1 to 17"),
        ({"blocks": [3, 18]}, r"blocks=\[3, 18\]"),
        ({"blocks": [6, 3]}, "rising order"),
        ({"blocks": [3, 3]}, "each once"),
        ({"pooling": []}, r"pooling=\[\]: some of mean, max"),
        ({"pooling": ["mean", "mean"]}, "each once"),
        ({"pooling": ["median"]}, r"pooling=\['median'\]"),
    ],
)
def test_what_there_is_not(arguments, message):
    with pytest.raises(ValueError, match=message):
        PooledBlocks(WIDTH, **arguments)


def test_mn04_stays_far_within_half_precision(real_data):
    """Loud noise, and a click after silence: what is cached is not infinite."""
    from qlung_plugin.lobes.features import EfficientATFeatures

    path = real_data / "weights" / "mn04_as_mAP_432.pt"
    pooled = PooledBlocks(0.4, path, blocks=range(1, 18), freeze=True)
    waveforms = torch.stack([noise(32000), torch.zeros(32000)])
    waveforms[1, 16000] = 1.0
    assert pooled(EfficientATFeatures()(waveforms)).abs().max() < 1000


# --- standardisation --------------------------------------------------------


def test_standardisation_against_scikit_learn():
    rows = noise(50, 7) * torch.logspace(-3, 3, 7) + 5
    standardisation = Standardisation(7)
    standardisation.fit(rows[:, None].half())
    scaler = StandardScaler().fit(rows.half().double().numpy())
    others = noise(9, 7, seed=1)
    np.testing.assert_allclose(
        standardisation(others[:, None]), scaler.transform(others), rtol=1e-4
    )


def test_a_dimension_that_is_constant_is_0_everywhere():
    rows = noise(10, 3)
    rows[:, 1] = 0.1  # which no mean of tens in binary is exactly
    standardisation = Standardisation(3)
    standardisation.fit(rows)
    assert (standardisation.deviation == 0).tolist() == [False, True, False]
    result = standardisation(noise(5, 3, seed=1))
    assert result.isfinite().all() and (result[:, 1] == 0).all()
    assert (result[:, 0] != 0).all()


def test_unfitted_says_nothing():
    assert Standardisation(3)(noise(2, 3)).isnan().all()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_half_precision_could_not_hold(value):
    rows = noise(4, 2)
    rows[1, 1] = value
    with pytest.raises(ValueError, match="infinite or NaN: half precision"):
        Standardisation(2).fit(rows)


def test_other_features_are_named():
    for shape in ((500, 128), (2,), (20000,)):
        with pytest.raises(ValueError, match=r"backbone: .*\[1, 2\].*not to"):
            fit_standardisation(Standardisation(2), [torch.zeros(shape)])
    with pytest.raises(ValueError, match=r"\[cycle, 3\] are needed, not"):
        Standardisation(3).fit(noise(4, 2))


def test_other_backbones_are_not_fitted():
    unread = iter([noise(500, 128)])
    fit_standardisation(EfficientAT(WIDTH), unread)
    assert next(unread, None) is not None


# --- the head ---------------------------------------------------------------


def draw_problem():
    """Standardised embeddings of four classes, unlike in size; some overlap."""
    generator = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), [120, 60, 30, 15])
    centres = generator.standard_normal((4, 10))
    rows = centres[targets] + 2 * generator.standard_normal((225, 10))
    return StandardScaler().fit_transform(rows), targets


@pytest.mark.parametrize("decay", [0.05, 2.4])
def test_head_of_the_recipe_is_scikit_learns(decay):
    """Its loss and optimizer have the minimum of a balanced regression.

    Of each class as many, as its sampler draws them where the device is one.
    """
    rows, targets = draw_problem()
    regression = LogisticRegression(
        C=1 / (decay * len(rows)), class_weight="balanced", tol=1e-8
    )
    expected = regression.fit(rows, targets).predict_proba(rows)

    text = read_hparams(HPARAMS / "transfer_ce.yaml")
    assert "\nremove_vector_weight_decay: True\n" in text
    assert "LinearClassifier\n" in text and "balanced_sampler\n" in text
    blocks = re.findall(r"^(?:opt_class|loss):.*\n(?: .*\n)*", text, re.M)
    numbers = f"lr: 0.01\nweight_decay: {decay}\nnum_classes: 4\n"
    made = load_hyperpyyaml(numbers + "".join(blocks))
    loss = made["loss"]
    assert isinstance(loss, CrossEntropyLoss)
    drawn = np.repeat(np.arange(225), 120 // np.bincount(targets)[targets])
    assert np.bincount(targets[drawn]).tolist() == [120] * 4
    torch.manual_seed(0)
    classifier = LinearClassifier(10, 4)
    optimizer = made["opt_class"](rm_vector_weight_decay(classifier))
    inputs = torch.from_numpy(rows[drawn]).float()
    for _ in range(1000):
        optimizer.zero_grad()
        logits, cosines = classifier(inputs)
        loss(logits, cosines, None, torch.from_numpy(targets[drawn])).backward()
        optimizer.step()
    inputs = torch.from_numpy(rows).float()
    probabilities = classifier(inputs).logits.softmax(dim=-1).detach()
    np.testing.assert_allclose(probabilities, expected, atol=2e-3)
