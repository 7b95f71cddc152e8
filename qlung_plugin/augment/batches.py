"""Augmentation of a batch of cycles, as SpeechBrain's recipes call it.

Authors
 * qlung_plugin contributors
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from qlung_plugin.augment.log_mels import LogMelAugmentation
from qlung_plugin.augment.waveforms import fix_lengths
from qlung_plugin.dataio.cycles import FixedLength
from qlung_plugin.utils.signatures import takes_lengths
from speechbrain.augment.augmenter import Augmenter

FEATURES, WAVEFORMS = "augmentation", "waveform_augmentation"


def check_augmentations(hparams: dict[str, Any]) -> None:
    """Raises a ValueError if a slot has what is called in another way."""
    for slot in (FEATURES, WAVEFORMS):
        part = hparams[slot]
        if part is None:
            continue
        told, names = repr(part), []
        if isinstance(part, nn.Module):
            parameters = inspect.signature(part.forward).parameters
            names = [n for n, p in parameters.items() if p.default is p.empty]
            told = f"{type(part).__name__}({', '.join(parameters)})"
        with_quality = slot == WAVEFORMS and names[2:] == ["quality"]
        if len(names) != 1 and not (
            isinstance(part, nn.Module)
            and takes_lengths(part)
            and (len(names) == 2 or with_quality)
        ):
            raise ValueError(
                f"{slot}: a module is needed that is called with inputs, or with"
                " inputs and lengths, such as"
                f" speechbrain.augment.augmenter.Augmenter, not {told}"
            )
        _check_log_mels(slot, part, hparams["compute_features"])
    if hparams[WAVEFORMS] is not None and hparams["cache_features"]:
        raise ValueError(f"{WAVEFORMS} needs waveforms: --cache_features False")


def _check_log_mels(slot: str, part: Any, compute_features: Any) -> None:
    """Whether what acts on log-mels, perhaps in an Augmenter, gets them.

    Front ends have nothing learned: what has is blocks of a backbone, whose maps
    know no decibels.
    """
    parts = list(part.modules()) if isinstance(part, nn.Module) else []
    for each in [m for m in parts if isinstance(m, Augmenter)]:
        for augmentation in each.augmentations.values():
            if isinstance(augmentation, nn.Module):
                parts += augmentation.modules()
    of_maps = isinstance(compute_features, nn.Module) and any(
        True for _ in compute_features.parameters()
    )
    for each in parts:
        if not isinstance(each, LogMelAugmentation):
            continue
        name = type(each).__name__
        if slot == WAVEFORMS:
            raise ValueError(
                f"{slot}: {name} is for log-mels, not waveforms: put it into"
                f" {FEATURES}"
            )
        if of_maps and not each.of_maps:
            raise ValueError(
                f"{slot}: {name} is for log-mels, but compute_features makes maps"
                " of a backbone's first blocks of them (frozen_blocks); there,"
                " FreqMixStyle and TimeShift go"
            )


def augment_features(
    augmentation: nn.Module,
    features: torch.Tensor,
    labels: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor | None, list[torch.Tensor]]:
    """Augmented features, their lengths if there is padding now, and labels.

    SpeechBrain's Augmenter may make copies: its ``replicate_labels`` says of
    which features, and a copy has the labels of what was recorded. If there are
    not as many of each then, it is a ValueError. Whatever augments is called with
    features ``[batch, time, mel]``, and with lengths if it takes them; it returns
    features, or both.

    Example
    -------
    >>> from speechbrain.augment.augmenter import Augmenter
    >>> from speechbrain.augment.freq_domain import SpectrogramDrop
    >>> augmenter = Augmenter(
    ...     concat_original=True, augmentations=[SpectrogramDrop(0, 5)]
    ... )
    >>> features, _, (targets,) = augment_features(
    ...     augmenter, torch.randn(2, 10, 8), [torch.tensor([0, 3])]
    ... )
    >>> features.shape, targets
    (torch.Size([4, 10, 8]), tensor([0, 3, 0, 3]))
    """
    whole = features.new_ones(len(features))
    features, lengths, labels = _augment(
        FEATURES, augmentation, features, whole, labels
    )
    padded = lengths is not whole and bool((lengths < 1).any())
    return features, lengths if padded else None, labels


def augment_cycles(
    augmentation: nn.Module,
    fix_length: FixedLength,
    cycles: torch.Tensor,
    lengths: torch.Tensor,
    labels: Sequence[torch.Tensor],
    native_rates: torch.Tensor,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Augmented cycles of the fixed length, and their labels.

    The cycles are ``[batch, time]``, padded at the end; their labels are targets,
    quality, and whatever else belongs to each. WaveformAugmentation, or
    what is called alike, is asked for the quality, too; what is of SpeechBrain is
    called as by :func:`augment_features`.
    """
    if "quality" in inspect.signature(augmentation.forward).parameters:
        targets, quality, *others = labels
        waveforms, quality = augmentation(
            cycles, lengths, quality, native_rates
        )
        return waveforms, [targets, quality, *others]
    cycles, lengths, labels = _augment(
        WAVEFORMS, augmentation, cycles, lengths, labels
    )
    return fix_lengths(cycles, lengths, fix_length), labels


def _augment(
    slot: str,
    augmentation: Any,
    inputs: torch.Tensor,
    lengths: torch.Tensor,
    labels: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    given = len(inputs)
    output = (
        augmentation(inputs, lengths)
        if takes_lengths(augmentation)
        else augmentation(inputs)
    )
    inputs, lengths = output if isinstance(output, tuple) else (output, lengths)
    if hasattr(augmentation, "replicate_labels"):
        labels = [augmentation.replicate_labels(each) for each in labels]
    if not {len(inputs)} == {len(each) for each in (lengths, *labels)}:
        raise ValueError(
            f"{slot}: {type(augmentation).__name__} made {len(inputs)} inputs of"
            f" {given}, but {len(labels[0])} targets, which its replicate_labels"
            " says, if it has one"
        )
    return inputs, lengths, list(labels)
