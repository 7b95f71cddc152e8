"""Kaldi's filterbank against torchaudio's, waveform by waveform.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from torchaudio.compliance import kaldi

from qlung_plugin.lobes.features import BEATsFeatures
from qlung_plugin.lobes.features.kaldi import KaldiFilterbank


def waveforms(time=16000, scale=0.1):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(3, time, generator=generator)


def by_torchaudio(waveform, n_mels, window_type):
    return kaldi.fbank(
        waveform[None],
        sample_frequency=16000.0,
        num_mel_bins=n_mels,
        window_type=window_type,
        htk_compat=True,
        use_energy=False,
        dither=0.0,
    )


@pytest.mark.parametrize("window_type", ["hanning", "povey"])
@pytest.mark.parametrize("n_mels", [64, 128])
@pytest.mark.parametrize("time", [400, 559, 560, 12345])
def test_filterbank_is_torchaudios(window_type, n_mels, time):
    batch = waveforms(time)
    measured = KaldiFilterbank(n_mels, window_type)(batch)
    for row, waveform in zip(measured, batch):
        expected = by_torchaudio(waveform, n_mels, window_type)
        torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)


def test_silence_has_kaldis_floor():
    expected = by_torchaudio(torch.zeros(800), 128, "hanning")
    measured = KaldiFilterbank()(torch.zeros(1, 800))
    assert torch.equal(measured[0], expected)


def test_beats_normalises_16_bit_energies():
    batch = waveforms()
    measured = BEATsFeatures()(batch)
    for row, waveform in zip(measured, batch):
        energies = by_torchaudio(waveform * 2**15, 128, "povey")
        expected = (energies - 15.41663) / (2 * 6.55582)
        torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)


def test_too_short_and_unknown_are_named():
    with pytest.raises(ValueError, match="400 samples, the waveforms only 399"):
        KaldiFilterbank()(torch.zeros(1, 399))
    with pytest.raises(ValueError, match="'hamming' is none of hanning, povey"):
        KaldiFilterbank(window_type="hamming")
