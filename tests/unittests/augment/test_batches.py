"""Tests of what an augmentation of SpeechBrain makes of a batch.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch

from qlung_plugin.augment.batches import (
    augment_cycles,
    augment_features,
    check_augmentations,
)
from qlung_plugin.augment.log_mels import FreqMixStyle, RandomGain, TimeShift
from qlung_plugin.augment.waveforms import WaveformAugmentation
from qlung_plugin.dataio.cycles import FixedLength
from qlung_plugin.lobes.features import EfficientATFeatures
from qlung_plugin.lobes.models.efficientat import EfficientATFirstBlocks
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.freq_domain import SpectrogramDrop
from speechbrain.augment.time_domain import AddNoise, DropFreq, SpeedPerturb


class Marked(torch.nn.Module):
    """Adds a number, which says what was made of what."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, inputs):
        return inputs + self.value


class Halved(torch.nn.Module):
    """Leaves the first half of what is valid."""

    def forward(self, inputs, lengths):
        return inputs, lengths / 2


LABELS = torch.tensor([0, 1, 2]), torch.tensor([0.0, 0.1, 0.2])
FIX = FixedLength(1, duration=6.0, fade=0.0)


def marked_batch(*shape):
    """Inputs that are the number of their target."""
    inputs = torch.arange(3.0).reshape(3, *[1 for _ in shape])
    return inputs.expand(3, *shape).clone()


@pytest.mark.parametrize(
    "options, marks",
    [
        ({}, [30]),  # one after the other
        ({"concat_original": True}, [0, 30]),
        ({"parallel_augment": True}, [10, 20]),
        ({"parallel_augment": True, "concat_original": True}, [0, 10, 20]),
        ({"repeat_augment": 2}, [30, 30]),
        ({"augment_prob": 0.0}, [0]),
    ],
)
def test_targets_and_quality_are_those_of_the_copies(options, marks):
    augmenter = Augmenter(
        augmentations=[Marked(10), Marked(20)], min_augmentations=2, **options
    )
    expected = torch.tensor([m + i for m in marks for i in range(3)])
    for made, (targets, quality) in (
        augment_features(augmenter, marked_batch(4, 2), LABELS)[::2],
        augment_cycles(
            augmenter, FIX, marked_batch(4), torch.ones(3), LABELS, None
        ),
    ):
        assert torch.equal(made.flatten(1)[:, 0], expected.float())
        assert torch.equal(targets, expected % 10)
        assert torch.equal(quality, LABELS[1].repeat(len(marks)))


def test_part_of_a_batch():
    augmenter = Augmenter(
        augmentations=[Marked(10)], augment_start_index=1, concat_original=True
    )
    made, _, (targets, _) = augment_features(
        augmenter, marked_batch(4, 2), LABELS
    )
    assert made[:, 0, 0].tolist() == [0, 1, 2, 11, 12]
    assert targets.tolist() == [0, 1, 2, 1, 2]


def test_cycles_are_cut_at_their_lengths_and_repeated():
    cycles = torch.tensor([[1.0, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])
    lengths = torch.tensor([1, 0.5, 0.75])
    made, _ = augment_cycles(Marked(0), FIX, cycles, lengths, LABELS, None)
    assert made[1].tolist() == [5, 6, 5, 6, 5, 6]
    assert made[2].tolist() == [7, 8, 9, 7, 8, 9]
    made, _ = augment_cycles(Halved(), FIX, cycles, lengths, LABELS, None)
    assert made[0].tolist() == [1, 2, 1, 2, 1, 2]
    assert made[1].tolist() == [5] * 6


def test_speed_changes_the_length_before_cycles_are_repeated():
    augmenter = Augmenter(augmentations=[SpeedPerturb(8000, speeds=[50])])
    cycles = torch.sin(torch.arange(3 * 800.0)).reshape(3, 800)
    lengths = torch.tensor([1, 0.5, 0.25])
    fix = FixedLength(8000, duration=0.4, fade=0.0)
    made, _ = augment_cycles(augmenter, fix, cycles, lengths, LABELS, None)
    for waveform, length in zip(made, (1600, 800, 400)):
        assert torch.equal(waveform[length:], waveform[:-length])


def test_lengths_are_told_where_there_is_padding():
    features = marked_batch(4, 2)
    for whole in (Marked(1), Augmenter(augmentations=[Marked(1)])):
        assert augment_features(whole, features, LABELS)[1] is None
    _, lengths, _ = augment_features(Halved(), features, LABELS)
    assert torch.equal(lengths, torch.full((3,), 0.5))


def test_other_numbers_of_inputs_and_targets_are_refused():
    class Doubled(torch.nn.Module):
        def forward(self, inputs):
            return inputs.repeat(2, 1, 1)

    with pytest.raises(ValueError, match="^augmentation: Doubled made 6 .* 3"):
        augment_features(Doubled(), marked_batch(4, 2), LABELS)
    # Its replicate_labels does not know of this option.
    fixed = Augmenter(
        augmentations=[Marked(1), Marked(2)],
        parallel_augment=True,
        parallel_augment_fixed_bs=True,
        min_augmentations=2,
    )
    with pytest.raises(
        ValueError, match="^augmentation: Augmenter made 3 .* 6"
    ):
        augment_features(fixed, marked_batch(4, 2), LABELS)


def slots(
    augmentation=None, waveform_augmentation=None, cached=False, front_end=None
):
    return {
        "compute_features": front_end,
        "augmentation": augmentation,
        "waveform_augmentation": waveform_augmentation,
        "cache_features": cached,
    }


@pytest.mark.parametrize(
    "part",
    [
        None,
        SpectrogramDrop(),
        DropFreq(),
        AddNoise(),
        Augmenter(augmentations=[DropFreq()]),
        torch.nn.Sequential(SpectrogramDrop(), SpectrogramDrop()),
    ],
)
def test_what_may_be_in_a_slot(part):
    check_augmentations(slots(part, part))


def test_what_cannot_be_in_a_slot():
    ours = WaveformAugmentation(Augmenter(augmentations=[DropFreq()]), FIX, 1)
    check_augmentations(slots(None, ours))
    for refused, told in (
        (slots(ours), r"augmentation: .* WaveformAugmentation\(waveforms, "),
        (slots(3), "augmentation: .* not 3"),
        (
            slots(None, torch.nn.Bilinear(1, 1, 1)),
            "waveform_aug.* not Bilinear",
        ),
        (slots(None, ours, cached=True), "waveform_augmentation needs wavef"),
    ):
        with pytest.raises(ValueError, match=f"^{told}"):
            check_augmentations(refused)
    with pytest.raises(ValueError, match="must be .* Augmenter, with DropFreq"):
        WaveformAugmentation(DropFreq(), FIX, 1)


def in_turn(*parts):
    return torch.nn.Sequential(*parts)


@pytest.mark.parametrize(
    "holder", [in_turn, lambda p: Augmenter(augmentations=[p])]
)
def test_log_mels_are_where_log_mels_are_augmented(holder):
    blocks = [
        in_turn(
            EfficientATFeatures(),
            EfficientATFirstBlocks(width_mult=0.1, blocks=count),
        )
        for count in (0, 3)
    ]
    gain = holder(RandomGain(decibel=1.0))
    check_augmentations(slots(gain, cached=True, front_end=blocks[0]))
    for maps in (FreqMixStyle(), TimeShift()):
        check_augmentations(slots(holder(maps), None, True, blocks[1]))
    with pytest.raises(
        ValueError,
        match="^augmentation: RandomGain is for log-mels, but .*maps",
    ):
        check_augmentations(slots(gain, cached=True, front_end=blocks[1]))
    with pytest.raises(
        ValueError, match="^waveform_augmentation: RandomGain .* not waveforms"
    ):
        check_augmentations(slots(None, gain, front_end=blocks[0]))
