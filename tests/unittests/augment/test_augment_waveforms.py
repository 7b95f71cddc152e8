"""Augmented cycles: their length, their quality, their randomness.

Authors
 * qlung_plugin contributors
"""

import math

import pytest
import torch

from qlung_plugin.augment.waveforms import WaveformAugmentation, fix_lengths
from qlung_plugin.dataio.cycles import FixedLength
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.lobes.quality import AudioQualityScore
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.time_domain import AddNoise, DropFreq, SpeedPerturb

RATE = 8000
FIX = FixedLength(RATE, duration=2.0)


def cycles():
    """Tones of 0.5, 1 and 1.5 s in a padded batch, and their lengths."""
    time = torch.arange(12000) / RATE
    tones = torch.stack(
        [torch.sin(2 * math.pi * f * time) for f in (200.0, 300.0, 400.0)]
    )
    lengths = torch.tensor([4000, 8000, 12000])
    valid = torch.arange(12000) < lengths[:, None]
    return 0.5 * tones * valid, lengths / 12000


def augmentation(*augmentations, quality=None, **options):
    augmenter = Augmenter(augmentations=list(augmentations), **options)
    return WaveformAugmentation(augmenter, FIX, RATE, quality)


def noise(snr=0.0):
    return AddNoise(snr_low=snr, snr_high=snr)


def test_each_cycle_is_repeated_by_its_own_length():
    waveforms, lengths = cycles()
    fixed = fix_lengths(waveforms, lengths, FIX)
    for row, waveform, length in zip(fixed, waveforms, (4000, 8000, 12000)):
        assert torch.equal(row, FIX(waveform[:length]))


def test_without_augmentation_nothing_changes():
    waveforms, lengths = cycles()
    quality = torch.tensor([0.2, 0.5, 0.9])
    unchanged = augmentation(noise(), augment_prob=0.0)
    torch.manual_seed(0)
    fixed, kept = unchanged(waveforms, lengths, quality)
    assert torch.equal(fixed, fix_lengths(waveforms, lengths, FIX))
    assert torch.equal(kept, quality)


@pytest.mark.parametrize(
    "augmenter",
    [noise(), SpeedPerturb(RATE, speeds=[90])],
    ids=lambda augmenter: type(augmenter).__name__,
)
def test_augmentations_of_speechbrain(augmenter):
    waveforms, lengths = cycles()
    before = waveforms.clone()
    fixed, _ = augmentation(augmenter)(waveforms, lengths, torch.ones(3))
    assert fixed.shape == (3, 16000) and fixed.isfinite().all()
    assert not torch.equal(fixed, fix_lengths(before, lengths, FIX))
    assert torch.equal(waveforms, before)


def test_a_slower_cycle_is_repeated_by_its_new_length():
    waveforms, lengths = cycles()
    slower = augmentation(SpeedPerturb(RATE, speeds=[50]))
    fixed, _ = slower(waveforms, lengths, torch.ones(3))
    # 0.5 s of 200 Hz became 1 s of 100 Hz, twice in 2 s.
    spectrum = torch.fft.rfft(fixed[0] * torch.hann_window(16000)).abs()
    assert spectrum.argmax().item() / 2.0 == pytest.approx(100, abs=1)


def test_measured_again_a_noisy_cycle_is_worse():
    waveforms, lengths = cycles()
    measure = AudioQualityScore(sample_rate=RATE, normalisation="absolute")
    kept = torch.tensor([0.2, 0.5, 0.9])
    _, quality = augmentation(noise())(waveforms, lengths, kept)
    assert torch.equal(quality, kept)
    clean = augmentation(noise(), quality=measure, augment_prob=0.0)
    noisy = augmentation(noise(), quality=measure)
    torch.manual_seed(0)
    _, of_clean = clean(waveforms, lengths, kept)
    _, of_noisy = noisy(waveforms, lengths, kept)
    assert (of_noisy < of_clean).all()


def test_measured_again_as_the_preparation_measures():
    waveforms, lengths = cycles()
    measure = AudioQualityScore(sample_rate=16000, normalisation="absolute")
    again = augmentation(noise(), quality=measure, augment_prob=0.0)
    rates = torch.full((3,), RATE)
    torch.manual_seed(0)
    _, quality = again(waveforms, lengths, torch.ones(3), rates)
    prepared = CycleMeasurements(measure)
    cut = [row[:n] for row, n in zip(waveforms, (4000, 8000, 12000))]
    measured = torch.stack([prepared(waveform, RATE) for waveform in cut])
    expected = measure.score(measured)
    torch.testing.assert_close(quality, expected, atol=1e-5, rtol=0)


def test_silence_stays_usable():
    measure = AudioQualityScore(sample_rate=RATE, normalisation="absolute")
    again = augmentation(DropFreq(), quality=measure)
    fixed, quality = again(torch.zeros(2, 4000), torch.ones(2), torch.ones(2))
    assert fixed.isfinite().all()
    assert quality.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "options",
    [
        {"parallel_augment": True},
        {"concat_original": True},
        {"repeat_augment": 2},
        {"augment_start_index": 1},
        {"augment_end_index": 2},
    ],
    ids=lambda options: next(iter(options)),
)
def test_more_copies_than_labels_are_refused(options):
    with pytest.raises(ValueError, match=f"augmenter's {next(iter(options))}"):
        augmentation(noise(), **options)
