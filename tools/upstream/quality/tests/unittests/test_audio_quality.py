"""Tests for the spectral entropy and the audio quality score.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch


def test_spectral_entropy():
    from speechbrain.processing.vocal_features import compute_spectral_entropy

    power = torch.tensor([[[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]])
    bins = torch.ones(1, 4).bool()
    entropy = compute_spectral_entropy(power, bins)
    assert torch.allclose(entropy, torch.tensor([[0.0, 0.5, 1.0]]))
    # It is about shares: a gain does not matter.
    assert torch.allclose(compute_spectral_entropy(9 * power, bins), entropy)
    assert compute_spectral_entropy(0 * power, bins).isnan().all()


def test_audio_quality_score():
    from speechbrain.lobes.features import AudioQualityScore

    torch.manual_seed(0)
    time = torch.arange(16000) / 16000
    tone = 0.1 * torch.sin(2 * torch.pi * 440 * time)
    noise = 0.1 * torch.randn(16000)
    snrs = (40, 20, 0)
    audio = [tone + 10 ** (-snr / 20) * noise for snr in snrs]
    scores = AudioQualityScore()(torch.stack(audio))
    assert scores[0] > scores[1] > scores[2] > 0
    # Of a flat spectrum the entropy is nearly 1, of a sine the level 0.1 / 2^0.5.
    score = AudioQualityScore(alpha=0.0, beta=1.0)(tone.unsqueeze(0) - 0.5)
    assert torch.allclose(score, torch.ones(1))
    ranged = AudioQualityScore(alpha=1.0, beta=0.5, level_range=(0.0, 0.5))
    low = AudioQualityScore(alpha=1.0, beta=0.0)
    rise = ranged(noise.unsqueeze(0)) - low(noise.unsqueeze(0))
    level = noise.std(correction=0)
    assert torch.allclose(rise, 0.5 * level / 0.5, atol=1e-6)


@pytest.mark.parametrize("padding", [0.0, 0.5, float("nan")])
def test_audio_quality_score_ignores_padding(padding):
    from speechbrain.lobes.features import AudioQualityScore

    torch.manual_seed(0)
    score = AudioQualityScore()
    audio = 0.1 * torch.randn(2, 16000)
    alone = score(audio[:1, :8000])
    audio[0, 8000:] = padding
    together = score(audio, torch.tensor([0.5, 1.0]))
    assert torch.allclose(together[0], alone[0], atol=1e-6)
    # Nothing, and less than a window
    assert score(audio[:1], torch.tensor([0.0])) == 0
    assert 0 < score(audio[:1, :100]) < 1
