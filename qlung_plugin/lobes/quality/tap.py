"""The quality of the batch that passes, in a recipe that knows of none.

Authors
 * qlung_plugin contributors
"""

import logging
from typing import Any

import torch
from torch import nn

from qlung_plugin.lobes.quality.base import QualityMeasure
from qlung_plugin.utils.signatures import takes_lengths

# Python's own: this module is imported without SpeechBrain.
logger = logging.getLogger(__name__)


class QualityTap(nn.Module):
    """Computes features, and keeps the quality of the waveforms for the cost.

    It takes the place of what computes features in a recipe of SpeechBrain,
    ``compute_features: !new:...QualityTap``, and is given to
    :class:`qlung_plugin.nnet.losses.MarginCost` as ``quality``. Called as
    ``tap(waveforms)`` or ``tap(waveforms, lengths)``, it returns what the
    features' module returns. Measured is what it was called with: behind the
    augmentation of waveforms, whose copies each have a quality, in training as in
    validation. Features that are augmented by copies behind it cannot be served.

    **Padding** is not measured. Lengths are those that the tap was called with,
    else those that the cost was; the features' module gets them if its
    ``forward`` takes them. Where nobody tells any, as inside
    ``LogSoftmaxWrapper``, samples that are exactly zero at the end of a waveform
    are taken for padding, and a warning says so once: signal that ends in digital
    silence loses it, and padding that an augmentation has filled is measured.

    **One batch, one cost.** The cost of a batch takes its quality, once. None,
    one of another number of samples, or two passes in training before one cost
    are an error. Without gradients or in evaluation mode, where a cost is not
    always computed, the last pass counts. Between training and validation
    (``train()`` and ``eval()``) everything is forgotten.

    Arguments
    ---------
    quality : QualityMeasure
        Of the recipe's sample rate. What is learned from a training set
        (``normalisation: fitted``) has to have been: no recipe of SpeechBrain fits
        it. It is saved and loaded with the tap.
    compute_features : torch.nn.Module
        What was there before, such as ``speechbrain.lobes.features.Fbank``.

    Raises
    ------
    ValueError
        If the quality is no measure of waveforms, is not of the features' sample
        rate, or has not been fitted and was to be.

    Example
    -------
    >>> from qlung_plugin.lobes.quality import ClippingScore
    >>> tap = QualityTap(ClippingScore(16000), nn.Unflatten(1, (-1, 160)))
    >>> waveforms = torch.linspace(-0.5, 0.5, 16000).repeat(2, 1)
    >>> tap(waveforms, torch.tensor([1.0, 0.5])).shape
    torch.Size([2, 100, 160])
    >>> tap.take(2)
    tensor([1., 1.])
    """

    yaml_key = "compute_features"
    yaml_values = {
        "quality": {
            "!new:AudioQualityScore": {"sample_rate": "!ref <sample_rate>"}
        },
        "compute_features": {
            "!new:speechbrain.lobes.features.Fbank": {
                "sample_rate": "!ref <sample_rate>"
            }
        },
    }
    speechbrain_values = {
        "compute_features": {
            "!new:speechbrain.lobes.features.Fbank": {
                "n_mels": "!ref <n_mels>",
                "sample_rate": "!ref <sample_rate>",
            }
        },
    }

    kept: torch.Tensor | None  # the waveforms, ``[batch, time]``
    lengths: torch.Tensor | None  # of them, ``[batch]``
    passes: int  # in training, since the quality was taken

    def __init__(
        self, quality: QualityMeasure, compute_features: nn.Module
    ) -> None:
        super().__init__()
        if not isinstance(quality, QualityMeasure):
            raise ValueError(
                "quality of QualityTap must be a measure of"
                f" qlung_plugin.lobes.quality, not a {type(quality).__name__}"
            )
        if not isinstance(compute_features, nn.Module):
            raise ValueError(
                "compute_features of QualityTap must be a module that is called on"
                f" waveforms, not a {type(compute_features).__name__}"
            )
        if not quality.of_waveforms:
            raise ValueError(
                f"{type(quality).__name__} does not measure waveforms, which are"
                " all that passes a QualityTap: take another quality"
            )
        _check_rates(quality, compute_features)
        self.quality = quality
        self.compute_features = compute_features
        self.passes_lengths = takes_lengths(compute_features)
        self.was_called = self.has_warned = False
        self._forget()

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> Any:
        """Features of waveforms, whose quality is kept.

        Arguments
        ---------
        waveforms : torch.Tensor
            ``[batch, time]``.
        lengths : torch.Tensor, optional
            Valid share of each waveform, ``[batch]`` in [0, 1].

        Returns
        -------
        Any
            What ``compute_features`` makes of them.
        """
        if not self.was_called:
            self._check_fitted()
            self.was_called = True
        self.kept, self.lengths = waveforms.detach(), lengths
        if self.training and torch.is_grad_enabled():
            self.passes += 1
        if lengths is not None and self.passes_lengths:
            return self.compute_features(waveforms, lengths)
        return self.compute_features(waveforms)

    def take(
        self, batch: int, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The quality ``[batch]`` of the batch that has passed, once.

        It is asked of a number of samples, and told their lengths, the valid
        share of each, in case they passed without. If it is not that of this
        batch, it is a RuntimeError.
        """
        kept, passes = self.kept, self.passes
        if self.lengths is not None:
            lengths = self.lengths
        elif lengths is not None and lengths.shape != (batch,):
            lengths = None  # of something else
        self._forget()
        if kept is None:
            raise RuntimeError(
                "no batch has passed the QualityTap since its quality was taken:"
                " the recipe has to compute the features of each batch with it"
                " (so no cached features), and one cost per batch"
            )
        if passes > 1:
            raise RuntimeError(
                f"{passes} batches have passed the QualityTap before one cost, and"
                " which is meant cannot be told: compute the features of all that"
                " a cost is of at once, and no others before it"
            )
        if len(kept) != batch:
            raise RuntimeError(
                f"{len(kept)} waveforms have passed the QualityTap, but the cost"
                f" is of {batch} predictions: what copies or drops samples has to"
                " come before the features, as augmentation of waveforms does"
            )
        return self._measure(kept, lengths)

    def train(self, mode: bool = True) -> "QualityTap":
        """Begins training or evaluation, with nothing left of before."""
        self._forget()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: the batch that has passed is not its own."""
        nothing = {"kept": None, "lengths": None, "passes": 0}
        return {**self.__dict__, **nothing}

    def _forget(self) -> None:
        self.kept, self.lengths, self.passes = None, None, 0

    @torch.no_grad()
    def _measure(
        self, waveforms: torch.Tensor, lengths: torch.Tensor | None
    ) -> torch.Tensor:
        """The quality of waveforms, ``[batch]``."""
        if lengths is None:
            lengths = _lengths_without_zeros(waveforms)
            if not self.has_warned:
                logger.warning(
                    "QualityTap knows no lengths: samples that are exactly zero"
                    " at the end of a waveform are taken for padding. Padding that"
                    " an augmentation filled, as with noise, is measured"
                )
                self.has_warned = True
        # A tap in `hparams` alone is moved by nobody.
        buffers = self.quality.buffers()
        if any(buffer.device != waveforms.device for buffer in buffers):
            self.quality.to(waveforms.device)
        if lengths is not None:
            lengths = lengths.to(waveforms.device)
        return self.quality(waveforms, lengths)

    def _check_fitted(self) -> None:
        try:
            self.quality.check_fitted()
        except ValueError as error:
            raise ValueError(
                f"the quality of QualityTap cannot be used: {error}. Take one that"
                " needs no fit (AudioQualityScore with normalisation: absolute),"
                " or load the state of one that a recipe of this package fitted"
            ) from error


def _lengths_without_zeros(waveforms: torch.Tensor) -> torch.Tensor | None:
    """The share of each waveform before the zeros at its end, ``[batch]``."""
    if waveforms.dim() != 2 or waveforms.shape[1] == 0:
        return None  # for the measure to refuse
    time = waveforms.shape[1]
    ends = torch.arange(1, time + 1, device=waveforms.device)
    last = torch.where(waveforms != 0, ends, 0).amax(dim=1)
    return last.double() / time


def _check_rates(quality: QualityMeasure, front_end: nn.Module) -> None:
    """Checks that both are of one sample rate, if the front end tells its own."""
    # SpeechBrain's front ends have it in the first of their parts.
    for owner in (front_end, getattr(front_end, "compute_STFT", None)):
        rate = getattr(owner, "sample_rate", None)
        for part in quality.parts:
            looks = part.measure_entries({}) is None  # at waveforms
            if isinstance(rate, int) and looks and part.sample_rate != rate:
                raise ValueError(
                    f"the quality is of {part.sample_rate} Hz, but"
                    f" {type(front_end).__name__} of {rate} Hz: they get the same"
                    " waveforms, so give both the recipe's sample_rate"
                )
