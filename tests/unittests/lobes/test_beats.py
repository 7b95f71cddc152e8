"""BEATs against SpeechBrain's port, on weights of the published form.

Authors
 * qlung_plugin contributors
"""

import copy
from unittest import mock

import numpy as np
import pytest
import torch

from qlung_plugin.lobes.features import BEATsFeatures
from qlung_plugin.lobes.models import beats
from qlung_plugin.lobes.models.beats import BEATs
from qlung_plugin.lobes.models.beats_encoder import relative_buckets
from speechbrain.lobes.models import beats as port
from tests.unittests.small_runs import FEATURES, MODELS, Small

# What it is tested as, as every backbone is.
SMALL = {
    "BEATs": Small(
        16000,
        f"!new:{FEATURES}.BEATsFeatures",
        f"""!new:{MODELS}.beats.BEATs
    config: {{encoder_layers: 1, encoder_embed_dim: 48, embed_dim: 16,
        encoder_ffn_embed_dim: 64}}""",
        48,
    )
}

TINY = {
    "embed_dim": 24,
    "encoder_layers": 2,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 4,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "num_buckets": 32,
    "max_distance": 80,
}

# What the published files say besides, of the pretrained models.
PRETRAINED = {
    "input_patch_size": 16,
    "conv_bias": False,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "dropout_input": 0.1,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.05,
    "layer_wise_gradient_decay_ratio": 1.0,
}
FINETUNED = {
    **PRETRAINED,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "dropout_input": 0.0,
    "layer_wise_gradient_decay_ratio": 0.6,
    "finetuned_model": True,
    "predictor_dropout": 0.0,
    "predictor_class": 527,
}
QUIET = dict.fromkeys(beats.DROPOUTS, 0.0)


def port_of(cfg):
    """SpeechBrain's model, which takes no configuration without a file."""
    config = port.BEATsConfig(cfg)
    with mock.patch.object(port, "BEATsConfig", lambda cfg: config):
        model = port.BEATs(freeze=False).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # none of them is zero or one
            parameter.normal_(std=0.3)
    return model


def published_names(state):
    """Those of the release, which is older than parametrisations."""
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        renamed[name] = tensor
    return renamed


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """SpeechBrain's model and a file of its weights as the release has them."""
    cfg = {**PRETRAINED, **TINY}
    model = port_of(cfg)
    path = tmp_path_factory.mktemp("beats") / "BEATs_tiny.pt"
    torch.save({"cfg": cfg, "model": published_names(model.state_dict())}, path)
    return model, path


def waveforms(time=16000, batch=3):
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch, time, generator=generator)


def embeddings_of_port(model, waves):
    with torch.no_grad():
        return model.extract_features(waves, torch.ones(len(waves)))[0].mean(1)


@pytest.mark.parametrize("time", [2800, 16159])
def test_it_is_speechbrains_own(published, time):
    model, path = published
    backbone = BEATs(path, config=TINY).eval()
    features = BEATsFeatures()(waveforms(time))
    with torch.no_grad():
        embeddings = backbone(features)
    expected = embeddings_of_port(model, waveforms(time))
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)
    assert embeddings.shape == (3, backbone.embedding_dim) == (3, 32)


@pytest.mark.parametrize(
    "changes",
    [{"conv_pos": 15}, {"embed_dim": 32}, {"encoder_layers": 3}],
    ids=str,
)
def test_other_sizes(tmp_path, changes):
    config = {**TINY, **changes}
    model = port_of({**PRETRAINED, **config})
    state = published_names(model.state_dict())
    torch.save(
        {"cfg": {**PRETRAINED, **config}, "model": state}, tmp_path / "w"
    )
    backbone = BEATs(tmp_path / "w", config=config).eval()
    with torch.no_grad():
        embeddings = backbone(BEATsFeatures()(waveforms()))
    expected = embeddings_of_port(model, waveforms())
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_buckets, max_distance", [(320, 800), (32, 80)])
def test_buckets_are_the_ports(num_buckets, max_distance):
    attention = port.MultiheadAttention(
        8, 2, num_buckets=num_buckets, max_distance=max_distance
    )
    distances = torch.arange(-3000, 3001)
    assert torch.equal(
        relative_buckets(distances, num_buckets, max_distance),
        attention._relative_positions_bucket(distances),
    )


def test_the_default_is_the_published_architecture():
    one, two = (BEATs(config={"encoder_layers": n}) for n in (1, 2))

    def of_twelve(measure):
        return measure(one) + 11 * (measure(two) - measure(one))

    parameters = of_twelve(lambda m: sum(p.numel() for p in m.parameters()))
    tensors = of_twelve(lambda m: len(m.state_dict()))
    # The pretrained files have 361,499,833 bytes and 250 tensors: each layer
    # but one repeats the table of 320 buckets for 12 heads.
    assert tensors + 11 == 250
    rest = 361_499_833 - 4 * (parameters + 11 * 320 * 12)
    assert 0 < rest < 250 * 400  # names and places
    assert one.embedding_dim == 768


def test_random_weights_are_drawn_as_in_the_port():
    backbone = BEATs(config={**TINY, "encoder_embed_dim": 192})
    cfg = {**PRETRAINED, **TINY, "encoder_embed_dim": 192}
    config = port.BEATsConfig(cfg)
    with mock.patch.object(port, "BEATsConfig", lambda cfg: config):
        expected = published_names(port.BEATs(freeze=False).state_dict())
    names = dict(beats._own_tensors(expected, 2))
    for name, tensor in backbone.state_dict().items():
        if names[name].numel() > 500:
            ratio = tensor.std() / names[name].std()
            assert ratio.item() == pytest.approx(1, abs=0.1), name
        elif names[name].std() == 0:
            assert torch.equal(tensor, names[name]), name


# --- weights ----------------------------------------------------------------


def test_a_fine_tuned_model_is_loaded_without_its_classifier(
    published, tmp_path
):
    model, path = published
    state = dict(torch.load(path, weights_only=True)["model"])
    state["predictor.weight"] = torch.randn(527, 32)
    state["predictor.bias"] = torch.randn(527)
    content = {"cfg": {**FINETUNED, **TINY}, "model": state}
    content["label_dict"] = {0: "/m/09x0r"}
    torch.save(content, tmp_path / "finetuned.pt")
    backbone = BEATs(tmp_path / "finetuned.pt", config=TINY)
    for name, tensor in BEATs(path, config=TINY).state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor), name
    assert backbone.encoder.dropout.p == 0.1  # not the file's


def test_the_names_that_the_port_saves_load_too(published, tmp_path):
    model, path = published
    content = {"cfg": {**PRETRAINED, **TINY}, "model": model.state_dict()}
    torch.save(content, tmp_path / "port.pt")
    again = BEATs(tmp_path / "port.pt", config=TINY).state_dict()
    for name, tensor in BEATs(path, config=TINY).state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_the_last_of_differing_tables_counts(published, tmp_path, caplog):
    model, path = published
    tables = [
        f"encoder.layers.{i}.self_attn.relative_attention_bias.weight"
        for i in (0, 1)
    ]
    content = torch.load(path, weights_only=True)
    content["model"][tables[0]] = torch.randn(32, 4)
    content["model"][tables[1]] = torch.randn(32, 4)
    torch.save(content, tmp_path / "differing.pt")
    other = copy.deepcopy(model)
    other.load_state_dict(content["model"])
    backbone = BEATs(tmp_path / "differing.pt", config=TINY).eval()
    assert f"{tables[0]} is not the last" in caplog.text
    with torch.no_grad():
        embeddings = backbone(BEATsFeatures()(waveforms()))
    expected = embeddings_of_port(other, waveforms())
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)
    content["model"].pop(tables[1])
    torch.save(content, tmp_path / "differing.pt")
    with pytest.raises(ValueError, match="missing: encoder.relative_attention"):
        BEATs(tmp_path / "differing.pt", config=TINY)


def changed(published, tmp_path, change):
    content = torch.load(published[1], weights_only=True)
    change(content)
    torch.save(content, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


def test_it_was_saved_from_data_parallel(published, tmp_path):
    """With its classifier, too, which has the prefix as well."""

    def wrap(content):
        state = {**content["model"], "predictor.bias": torch.zeros(527)}
        content["model"] = {f"module.{name}": t for name, t in state.items()}

    wrapped = BEATs(changed(published, tmp_path, wrap), config=TINY)
    for name, tensor in BEATs(published[1], config=TINY).state_dict().items():
        assert torch.equal(wrapped.state_dict()[name], tensor), name


def set_cfg(**fields):
    return lambda content: content["cfg"].update(fields)


def set_tensor(name, tensor):
    return lambda content: content["model"].update({name: tensor})


@pytest.mark.parametrize(
    "change, message",
    [
        (set_tensor("extra", torch.zeros(1)), "unknown: extra"),
        (set_tensor("layer_norm.bias", "text"), "no state dict of named"),
        (set_tensor(7, torch.zeros(1)), "no state dict of named"),
        (lambda c: c.pop("cfg"), "not of the published form"),
        (lambda c: c.pop("model"), "not of the published form"),
        (set_cfg(encoder_layers=12), "encoder_layers 12 .*as config"),
        (set_cfg(gru_rel_pos=False), "gru_rel_pos False instead of True"),
    ],
)
def test_each_thing_that_does_not_fit_is_named(
    published, tmp_path, change, message
):
    with pytest.raises(ValueError, match=message):
        BEATs(changed(published, tmp_path, change), config=TINY)


def test_other_files_are_named(published, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="not of the published form"):
        BEATs(path, config=TINY)
    path.write_bytes(published[1].read_bytes()[:5000])
    with pytest.raises(ValueError, match="weights.pt is not a readable"):
        BEATs(path, config=TINY)


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"encoder_layer": 2},
            "config has encoder_layer, but takes embed_dim",
        ),
        ({"deep_norm": False}, "deep_norm=False is not supported"),
        ({"encoder_embed_dim": 100}, "100 is no multiple of .*heads=12"),
    ],
)
def test_configurations_that_cannot_be(config, message):
    with pytest.raises(ValueError, match=message):
        BEATs(config=config)


@pytest.mark.parametrize("shape", [(2, 15, 128), (2, 98, 64)])
def test_features_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match="128. features of 16 frames or more"):
        BEATs(config=TINY)(torch.zeros(shape))


# --- training ---------------------------------------------------------------


def features(frames=98, batch=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, frames, 128, generator=generator)


def test_gradients_are_the_ports(published):
    model = copy.deepcopy(published[0]).train()
    model.apply(lambda module: setattr(module, "p", 0.0))
    model.encoder.dropout = model.encoder.layerdrop = 0.0
    backbone = BEATs(published[1], config={**TINY, **QUIET}).train()
    waves = waveforms()
    expected = model.extract_features(waves, torch.ones(3))[0].mean(1)
    expected.square().sum().backward()
    backbone(BEATsFeatures()(waves)).square().sum().backward()
    names = dict(model.named_parameters(remove_duplicate=False))
    theirs = {
        name: parameter.grad
        for name, parameter in beats._own_tensors(
            {name: names[name] for name in model.state_dict()}, 2
        )
    }
    for name, parameter in backbone.named_parameters():
        torch.testing.assert_close(
            parameter.grad, theirs[name], atol=1e-4, rtol=1e-3, msg=name
        )
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("dropout", beats.DROPOUTS)
def test_each_dropout_drops(published, dropout):
    config = {**TINY, **QUIET, dropout: 0.5}
    backbone = BEATs(published[1], config=config).train()
    with torch.no_grad():
        embeddings = [backbone(features()) for _ in range(10)]
    assert any(not torch.equal(e, embeddings[0]) for e in embeddings)


def test_dropped_layers_pass_their_input(published):
    def backbone_of(kept):
        backbone = BEATs(published[1], config={**TINY, **QUIET}).train()
        backbone.encoder.layers = torch.nn.ModuleList(
            layer for layer, keep in zip(backbone.encoder.layers, kept) if keep
        )
        return backbone

    expected = [
        backbone_of(kept)(features())
        for kept in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]
    config = {**TINY, **QUIET, "encoder_layerdrop": 0.5}
    backbone = BEATs(published[1], config=config).train()
    state = np.random.get_state()[2]
    torch.manual_seed(0)
    counts = [0] * 4
    with torch.no_grad():
        for _ in range(100):
            measured = backbone(features())
            same = [torch.allclose(measured, e, atol=1e-6) for e in expected]
            assert sum(same) == 1
            counts[same.index(True)] += 1
    assert min(counts) > 10  # of 25 each
    assert np.random.get_state()[2] == state
    torch.manual_seed(7)
    first = [backbone(features()).sum().item() for _ in range(5)]
    torch.manual_seed(7)
    assert first == [backbone(features()).sum().item() for _ in range(5)]


def test_a_dropped_layer_has_gradients_of_zero(published):
    config = {**TINY, **QUIET, "encoder_layerdrop": 1.0}
    backbone = BEATs(published[1], config=config).train()
    backbone(features()).sum().backward()
    for name, parameter in backbone.named_parameters():
        dropped = "layers" in name or "relative" in name
        assert (parameter.grad.abs().sum() == 0) == dropped, name


def test_padding_does_not_count(published):
    _, path = published
    backbone = BEATs(path, config=TINY).eval()
    frames = torch.tensor([98, 40, 16, 5])  # patches: 6, 2, 1, 1
    features = torch.randn(
        4, 98, 128, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        together = backbone(features, frames / 98)
        for i, count in enumerate([98, 40, 16, 16]):
            alone = backbone(features[i : i + 1, :count])[0]
            torch.testing.assert_close(together[i], alone, atol=1e-5, rtol=1e-4)


def test_gradients_of_a_padded_batch_are_finite():
    backbone = BEATs(config=TINY)
    features = torch.randn(2, 98, 128, requires_grad=True)
    backbone(features, torch.tensor([1.0, 0.3])).square().sum().backward()
    assert features.grad.isfinite().all()
    assert not features.grad[1, 32:].any() and features.grad[1, :16].any()
