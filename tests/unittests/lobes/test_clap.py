"""CLAP's audio tower and front end against transformers' own.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest
import torch
from transformers import (
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
)

from qlung_plugin.lobes.features import CLAPFeatures
from qlung_plugin.lobes.models.clap import CLAP
from tests.unittests.small_runs import FEATURES, MODELS, Small

# What it is tested as, as every backbone is.
SMALL = {
    "CLAP": Small(
        48000,
        f"!new:{FEATURES}.CLAPFeatures",
        f"""!new:{MODELS}.clap.CLAP
    config: {{patch_embeds_hidden_size: 16, hidden_size: 32, depths: [1, 1],
        num_attention_heads: [2, 4], projection_dim: 24}}""",
        24,
    )
}

TINY = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 16,
    "depths": [1, 1],
    "num_attention_heads": [2, 4],
    "projection_dim": 12,
}


def randomised(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_(std=0.2)
        for name, tensor in model.named_buffers():
            if "running" in name:
                tensor.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def audio_folder(tmp_path_factory):
    """A folder of the audio tower alone."""
    folder = tmp_path_factory.mktemp("clap")
    model = ClapAudioModelWithProjection(ClapAudioConfig(**TINY))
    randomised(model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole_folder(audio_folder, tmp_path_factory):
    """A folder as the hub has it, text tower included."""
    folder = tmp_path_factory.mktemp("clap_whole")
    text = ClapTextConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        projection_dim=12,
    )
    config = ClapConfig(
        text_config=text.to_dict(),
        audio_config=ClapAudioConfig(**TINY).to_dict(),
        projection_dim=12,
    )
    model = ClapModel(config)
    audio = ClapAudioModelWithProjection.from_pretrained(audio_folder)
    model.audio_model.load_state_dict(audio.audio_model.state_dict())
    model.audio_projection.load_state_dict(audio.audio_projection.state_dict())
    model.save_pretrained(folder)
    return folder


def features(frames=801, batch=2):
    generator = torch.Generator().manual_seed(0)
    return 10 * torch.randn(batch, frames, 64, generator=generator) - 40


@pytest.mark.parametrize("frames", [100, 801, 1001, 1024])
def test_it_is_transformers_own(audio_folder, frames):
    reference = ClapAudioModelWithProjection.from_pretrained(audio_folder)
    inputs = features(frames)
    with torch.no_grad():
        expected = reference.eval()(inputs[:, None])
        pooled = reference.audio_model(inputs[:, None]).pooler_output
        for output, embeds in (
            ("projection", expected.audio_embeds),
            ("pooled", pooled),
        ):
            backbone = CLAP(audio_folder, output, config=TINY).eval()
            embeddings = backbone(inputs)
            torch.testing.assert_close(embeddings, embeds, atol=1e-5, rtol=0)
            assert embeddings.shape == (2, backbone.embedding_dim)


def test_the_text_tower_is_left_out(audio_folder, whole_folder):
    alone = CLAP(audio_folder, config=TINY).state_dict()
    whole = CLAP(whole_folder, config=TINY).state_dict()
    assert alone.keys() == whole.keys()
    for name, tensor in alone.items():
        assert torch.equal(whole[name], tensor), name


def test_another_architecture_is_named(audio_folder):
    with pytest.raises(ValueError, match="hidden_size 16 instead of 768"):
        CLAP(audio_folder)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output": "text"}, "output='text' is none of projection, pooled"),
        ({"config": {"enable_fusion": True}}, "not supported"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        CLAP(**options)


@pytest.mark.parametrize("shape", [(2, 1025, 64), (2, 801, 128)])
def test_features_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match="up to 1024 frames"):
        CLAP(config=TINY)(torch.zeros(shape))


# --- the front end ----------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 8])
def test_features_are_those_of_transformers(seconds):
    waveforms = 0.1 * torch.randn(
        2, 48000 * seconds, generator=torch.Generator().manual_seed(0)
    )
    extractor = ClapFeatureExtractor(
        max_length_s=seconds, frequency_min=50, truncation="rand_trunc"
    )
    expected = extractor(
        list(waveforms.numpy()), sampling_rate=48000, return_tensors="np"
    )["input_features"][:, 0]
    measured = CLAPFeatures()(waveforms).numpy()
    np.testing.assert_allclose(measured, expected, atol=2e-3)


def test_silence_is_the_floor():
    assert torch.equal(
        CLAPFeatures()(torch.zeros(1, 4800)), torch.full((1, 11, 64), -100.0)
    )
