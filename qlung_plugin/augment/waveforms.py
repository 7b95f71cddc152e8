"""Augmentation of cycles, before they are brought to a fixed length.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn

from qlung_plugin.dataio.cycles import FixedLength
from qlung_plugin.dataio.quality import QualityMeasure
from qlung_plugin.processing.cycles import resample


def fix_lengths(
    waveforms: torch.Tensor,
    relative_lengths: torch.Tensor,
    fix_length: FixedLength,
) -> torch.Tensor:
    """Brings each cycle of a batch, padded at the end, to one length.

    It is the longest of what ``fix_length`` makes of them.

    Example
    -------
    >>> from qlung_plugin.dataio.cycles import FixedLength
    >>> fix_length = FixedLength(sample_rate=1, duration=5.0, fade=0.0)
    >>> padded = torch.tensor([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    >>> fix_lengths(padded, torch.tensor([0.5, 1.0]), fix_length)
    tensor([[1., 2., 1., 2., 1.],
            [1., 2., 3., 4., 1.]])
    """
    relative_lengths = relative_lengths.double()
    lengths = (relative_lengths * waveforms.shape[1]).round().long().tolist()
    target = max(map(fix_length.target, lengths))
    return torch.stack(
        [
            fix_length(waveform[:length], target)
            for waveform, length in zip(waveforms, lengths)
        ]
    )


class WaveformAugmentation(nn.Module):
    """SpeechBrain's Augmenter on cycles as they are recorded.

    It acts on the cycle itself, not on its repetitions and fades. The quality
    that steers the margin is kept, or measured again: noise added in training
    then lowers the margin as noise in a recording does.

    Arguments
    ---------
    augmenter : torch.nn.Module
        SpeechBrain's Augmenter. One augmented copy per cycle: ``repeat_augment``
        of 1, and neither ``parallel_augment`` nor ``concat_original`` nor a part
        of the batch alone, since each cycle has one label and one quality.
    fix_length : qlung_plugin.dataio.cycles.FixedLength
        To the input length of the front end.
    sample_rate : int
        Rate of the waveforms, in Hz.
    quality : qlung_plugin.lobes.quality.QualityMeasure, optional
        Fitted; measures the augmented cycle. Without it the quality is kept.

    Raises
    ------
    ValueError
        If the augmenter is none, or would change the number of cycles.

    Example
    -------
    >>> from speechbrain.augment.augmenter import Augmenter
    >>> from speechbrain.augment.time_domain import DropFreq
    >>> from qlung_plugin.dataio.cycles import FixedLength
    >>> augmentation = WaveformAugmentation(
    ...     Augmenter(augmentations=[DropFreq()]), FixedLength(8000), 8000
    ... )
    >>> cycles, lengths = torch.randn(2, 16000), torch.tensor([0.5, 1.0])
    >>> waveforms, quality = augmentation(cycles, lengths, torch.ones(2))
    >>> waveforms.shape, quality
    (torch.Size([2, 64000]), tensor([1., 1.]))
    """

    yaml_values = {
        "augmenter": {
            "!new:speechbrain.augment.augmenter.Augmenter": {
                "augmentations": [
                    "!new:speechbrain.augment.time_domain.DropFreq"
                ]
            }
        },
        "fix_length": "!ref <fix_length>",
        "sample_rate": "!ref <sample_rate>",
        "quality": "!ref <quality>",
    }

    def __init__(
        self,
        augmenter: nn.Module,
        fix_length: FixedLength,
        sample_rate: int,
        quality: QualityMeasure | None = None,
    ):
        super().__init__()
        if not hasattr(augmenter, "augment_prob"):
            raise ValueError(
                "augmenter of WaveformAugmentation must be SpeechBrain's"
                f" Augmenter, with {type(augmenter).__name__} among its"
                " augmentations, perhaps"
            )
        one_to_one = {
            "parallel_augment": False,
            "concat_original": False,
            "repeat_augment": 1,
            "augment_start_index": 0,
            "augment_end_index": None,
        }
        for option, value in one_to_one.items():
            if getattr(augmenter, option) != value:
                raise ValueError(
                    f"the augmenter's {option} must be {value}, so that there"
                    " is one augmented copy of each cycle"
                )
        self.augmenter = augmenter
        self.fix_length = fix_length
        self.sample_rate = sample_rate
        self.quality = quality

    @torch.no_grad()
    def forward(
        self,
        waveforms: torch.Tensor,
        relative_lengths: torch.Tensor,
        quality: torch.Tensor,
        native_rates: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augments cycles and brings them to the fixed length.

        Arguments
        ---------
        waveforms : torch.Tensor
            ``[batch, time]``, padded at the end.
        relative_lengths : torch.Tensor
            Valid share of each, ``[batch]``.
        quality : torch.Tensor
            Of the cycles as they came, ``[batch]``.
        native_rates : torch.Tensor, optional
            At which they were recorded, in Hz, ``[batch]``, for the measure.

        Returns
        -------
        waveforms : torch.Tensor
            ``[batch, fixed length]``.
        quality : torch.Tensor
            ``[batch]``, kept or measured again.
        """
        waveforms, relative_lengths = self.augmenter(
            waveforms, relative_lengths
        )
        if self.quality is not None:
            resampled = resample(
                waveforms, self.sample_rate, self.quality.sample_rate
            )
            quality = self.quality(resampled, relative_lengths, native_rates)
        return fix_lengths(
            waveforms, relative_lengths, self.fix_length
        ), quality
