"""AST against transformers' own, and its position table against loops.

Authors
 * qlung_plugin contributors
"""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
)

from qlung_plugin.lobes.features import ASTFeatures
from qlung_plugin.lobes.models.ast import AST
from tests.unittests.small_runs import FEATURES, MODELS, Small

# What it is tested as, as every backbone is.
SMALL = {
    "AST": Small(
        16000,
        f"!new:{FEATURES}.ASTFeatures",
        f"""!new:{MODELS}.ast.AST
    frames: 98
    config: {{hidden_size: 32, num_attention_heads: 2, num_hidden_layers: 1,
        intermediate_size: 64}}""",
        32,
    )
}

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
HEIGHT, WIDTH = 12, 101  # patches of 128 bands and 1024 frames


def model_of(frames=1024, model_class=ASTModel, **options):
    torch.manual_seed(0)
    config = ASTConfig(**TINY, max_length=frames, **options)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # none of them is zero or one
            parameter.normal_(std=0.2)
    return model


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as the hub has it: a classifier over 1024 frames."""
    folder = tmp_path_factory.mktemp("ast")
    model_of(model_class=ASTForAudioClassification).save_pretrained(folder)
    return folder


def features(frames, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, 128, generator=generator)


def pooled(hidden, pooling):
    """The four poolings, spelled out."""
    return {
        "cls": hidden[:, 0],
        "distillation": hidden[:, 1],
        "mean": 0.5 * hidden[:, 0] + 0.5 * hidden[:, 1],
        "tokens": sum(hidden[:, i] for i in range(2, hidden.shape[1]))
        / (hidden.shape[1] - 2),
    }[pooling]


@pytest.mark.parametrize("pooling", ["cls", "distillation", "mean", "tokens"])
def test_at_the_published_length_it_is_transformers_own(published, pooling):
    backbone = AST(published, frames=1024, pooling=pooling, config=TINY).eval()
    inputs = features(1024)
    with torch.no_grad():
        embeddings = backbone(inputs)
        reference = ASTModel.from_pretrained(published).eval()(inputs)
    expected = pooled(reference.last_hidden_state, pooling)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)
    assert backbone.embedding_dim == embeddings.shape[1] == 32
    if pooling == "mean":
        torch.testing.assert_close(
            embeddings, reference.pooler_output, atol=1e-5, rtol=0
        )


def table_of(published):
    """The published position table, ``[frequency][time]`` of vectors."""
    positions = ASTModel.from_pretrained(published).embeddings
    positions = positions.position_embeddings.detach()[0]
    assert positions.shape[0] == 2 + HEIGHT * WIDTH
    return positions[:2], positions[2:].reshape(HEIGHT, WIDTH, -1)


def positions_of(backbone):
    return backbone.model.embeddings.position_embeddings.detach()[0]


def test_a_shorter_table_is_the_middle_of_the_published(published):
    special, table = table_of(published)
    backbone = AST(published, frames=798, config=TINY)
    positions = positions_of(backbone)
    assert torch.equal(positions[:2], special)
    first = 50 - 79 // 2
    index = 2
    for frequency in range(HEIGHT):
        for time in range(79):
            expected = table[frequency, first + time]
            assert torch.equal(positions[index], expected)
            index += 1
    assert index == len(positions)


def interpolated(values, size):
    """Linear interpolation between the centres of cells, by loop."""
    result = []
    for i in range(size):
        place = (i + 0.5) * len(values) / size - 0.5
        place = min(max(place, 0), len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        share = place - low
        result.append((1 - share) * values[low] + share * values[high])
    return np.stack(result)


def test_a_longer_table_is_interpolated_in_time(published):
    _, table = table_of(published)
    backbone = AST(published, frames=1600, config=TINY)
    times = (1600 - 16) // 10 + 1
    positions = positions_of(backbone)[2:].reshape(HEIGHT, times, -1).numpy()
    for frequency in range(HEIGHT):
        expected = interpolated(table[frequency].numpy(), times)
        np.testing.assert_allclose(positions[frequency], expected, atol=1e-5)


def test_the_swapped_table_takes_frequency_for_time(published):
    _, table = table_of(published)
    backbone = AST(published, frames=798, position_table="swapped", config=TINY)
    # Its builders ask for 79 frequencies (of 798 bands) at 12 times (of 128
    # frames): the middle 12 times, and frequencies interpolated.
    middle = table[:, 50 - 6 : 50 - 6 + 12].numpy()
    expected = np.concatenate(
        [interpolated(middle[:, time], 79)[:, None] for time in range(12)], 1
    )
    positions = positions_of(backbone)[2:].numpy()
    # One after the other, they are added to patches in another order.
    np.testing.assert_allclose(
        positions, expected.reshape(79 * 12, -1), atol=1e-5
    )
    correct = AST(published, frames=798, config=TINY)
    assert not np.allclose(positions, positions_of(correct)[2:].numpy())


# --- weights ----------------------------------------------------------------


def test_the_bare_model_loads_as_the_classifier_does(published, tmp_path):
    ASTModel.from_pretrained(published).save_pretrained(tmp_path)
    bare = AST(tmp_path, config=TINY).state_dict()
    for name, tensor in AST(published, config=TINY).state_dict().items():
        assert torch.equal(bare[name], tensor), name


def without_a_layer(tensors):
    del tensors[next(name for name in tensors if "intermediate" in name)]


def with_a_layer_too_many(tensors):
    name = next(name for name in tensors if "layer.1." in name)
    tensors[name.replace("layer.1.", "layer.2.")] = tensors[name].clone()


def from_data_parallel(tensors):
    for name in list(tensors):
        tensors[f"module.{name}"] = tensors.pop(name)


@pytest.mark.parametrize(
    "change, message",
    [
        (without_a_layer, "lacks 1 tensors of ASTModel"),
        (with_a_layer_too_many, "1 tensors that ASTModel does not"),
        (
            from_data_parallel,
            "'module.audio_spectrogram_transformer.embeddings.cls_token' tells:"
            " save_pretrained its",
        ),
    ],
)
def test_each_tensor_that_does_not_fit_is_named(
    published, tmp_path, change, message
):
    tensors = load_file(published / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    shutil.copy(published / "config.json", tmp_path)
    with pytest.raises(ValueError, match=message):
        AST(tmp_path, config=TINY)


def test_a_file_is_no_folder(published):
    with pytest.raises(ValueError, match="is a file: pass the folder"):
        AST(published / "model.safetensors", config=TINY)


def test_another_architecture_is_named(published):
    with pytest.raises(ValueError, match="hidden_size 32 instead of 768") as e:
        AST(published)
    assert "as config" in str(e.value)


@pytest.mark.parametrize("content", [b"no tensors", "truncated", "absent"])
def test_a_damaged_folder_is_named(published, tmp_path, content):
    shutil.copy(published / "config.json", tmp_path)
    if content == "truncated":
        content = (published / "model.safetensors").read_bytes()[:5000]
    if content != "absent":
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=f"{tmp_path} holds no readable AST"):
        AST(tmp_path, config=TINY)


def test_without_a_network_the_message_says_how_to_proceed(monkeypatch):
    def refuse(source, **options):
        raise OSError(f"cannot reach {source}")

    monkeypatch.setattr(ASTModel, "from_pretrained", refuse)
    with pytest.raises(ConnectionError) as error:
        AST("MIT/ast-finetuned-audioset-10-10-0.4593")
    message = str(error.value)
    assert "MIT/ast-finetuned-audioset-10-10-0.4593 is no folder" in message
    assert "--pretrained_weights /path/to/folder" in message
    assert "--pretrained_weights none" in message


def test_random_initialisation_reads_nothing(monkeypatch):
    monkeypatch.setattr(ASTModel, "from_pretrained", None)
    for absent in (None, "none"):
        assert AST(absent, frames=98, config=TINY).embedding_dim == 32


# --- use --------------------------------------------------------------------


def test_mixing_the_tokens_is_mixing_the_cycles():
    backbone = AST(frames=98, config=TINY).eval()
    inputs = features(98, batch=3)
    order = torch.tensor([2, 0, 1])
    shapes = []

    def permute(tokens):
        shapes.append(tuple(tokens.shape))
        return tokens[order]

    with torch.no_grad():
        mixed = backbone(inputs, mix_tokens=permute)
        torch.testing.assert_close(mixed, backbone(inputs[order]))
        torch.testing.assert_close(
            backbone(inputs, mix_tokens=lambda tokens: tokens), backbone(inputs)
        )
    assert shapes == [(3, 12 * 9, 32)]


def test_mixing_that_fails_leaves_nothing_behind():
    backbone = AST(frames=98, config=TINY).eval()

    def fail(tokens):
        raise RuntimeError("in the mixing")

    with pytest.raises(RuntimeError, match="in the mixing"):
        backbone(features(98), mix_tokens=fail)
    assert backbone(features(98)).shape == (2, 32)


@pytest.mark.parametrize("shape", [(2, 97, 128), (2, 98, 64)])
def test_features_of_another_shape_are_named(shape):
    backbone = AST(frames=98, config=TINY)
    with pytest.raises(ValueError, match="made for .batch, 98, 128.") as error:
        backbone(torch.zeros(shape))
    assert f"frames={shape[1]}" in str(error.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pooling": "max"}, "pooling='max' is none of cls"),
        ({"position_table": "wrong"}, "is none of correct, swapped"),
        ({"frames": 15}, "frames=15, but a patch has 16"),
        ({"config": {"max_length": 98}}, "config field='max_length' is none"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        AST(**{"config": TINY, **options})


# --- the front end ----------------------------------------------------------


def test_features_are_those_of_transformers():
    waveforms = 0.1 * torch.randn(
        3, 16000, generator=torch.Generator().manual_seed(0)
    )
    extractor = ASTFeatureExtractor(max_length=98)
    expected = extractor(
        list(waveforms.numpy()), sampling_rate=16000, return_tensors="pt"
    )["input_values"]
    measured = ASTFeatures()(waveforms)
    torch.testing.assert_close(measured, expected, atol=1e-4, rtol=0)


def test_another_normalisation():
    waveforms = torch.randn(1, 8000)
    plain = ASTFeatures(mean=0.0, std=0.5)(waveforms)
    torch.testing.assert_close(
        ASTFeatures(mean=-3.0, std=2.0)(waveforms), (plain + 3.0) / 4.0
    )
