"""Augmentation of log-mel features, for the recipes' ``augmentation``.

Each is called with features ``[batch, time, mel]`` and returns as many, of the
same type on the same device. What is random is drawn on the CPU from PyTorch's
global generator, for every device alike. A mel band that is 0 throughout a
cycle, masked by a band of frequencies or by SpecAugment, stays 0.

Several in turn are a ``torch.nn.Sequential``, those that drop frames last.

Authors
 * qlung_plugin contributors
"""

import math

import torch
from torch import nn


class LogMelAugmentation(nn.Module):
    """Base class: features ``[batch, time, mel]`` in, as many out.

    ``of_maps`` is whether it may be called with what the frozen first blocks of
    a backbone make of log-mels, too.
    """

    of_maps = False


class RandomGain(LogMelAugmentation):
    """Each cycle louder or softer by a random number of decibels.

    Uniform in ``[-max_db, max_db]``. Added to log-mels, it is what a gain of the
    waveform adds to them above the floor of the front end, where the power that
    it adds before its logarithm is negligible.

    Arguments
    ---------
    decibel : float
        How much the features rise by when the sound rises by 1 dB: ``decibel`` of
        the front end.
    max_db : float
        Largest gain, in dB; 0: none.

    Raises
    ------
    ValueError
        If decibel is not positive, or max_db is negative.

    Example
    -------
    >>> louder = RandomGain(decibel=1.0, max_db=6.0)(torch.ones(2, 10, 8))
    >>> louder.shape, bool(((louder - 1).abs() <= 6).all())
    (torch.Size([2, 10, 8]), True)
    """

    yaml_values = {"decibel": "!ref <log_mel.decibel>"}

    def __init__(self, decibel: float, max_db: float = 10.0) -> None:
        super().__init__()
        self.decibel = _decibel(decibel)
        self.max_db = _at_least_0("max_db", max_db)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]``, each cycle with a gain of its own."""
        gain = self.max_db * (2 * torch.rand(len(features), 1, 1) - 1)
        return _add(features, self.decibel * gain)


class RandomFrequencyResponse(LogMelAugmentation):
    """Each cycle as if by another microphone, of a random smooth response.

    Random gains, of a normal distribution, at points ``spacing`` mel bands apart,
    and raised cosines between them, scaled so that the gain of every band has the
    standard deviation ``std_db``. Close to the linear type of "FilterAugment: an
    acoustic environmental data augmentation method", ICASSP 2022
    (https://arxiv.org/abs/2110.03282), whose points are random. With recorded
    responses of devices instead: T. Morocutti et al., EUSIPCO 2023
    (https://arxiv.org/abs/2305.07499).

    Arguments
    ---------
    decibel : float
        How much the features rise by when the sound rises by 1 dB: ``decibel`` of
        the front end.
    std_db : float
        Standard deviation, in dB; 0: none.
    spacing : int
        Mel bands from one point to the next.

    Raises
    ------
    ValueError
        If decibel or spacing is not positive, or std_db is negative.

    Example
    -------
    >>> response = RandomFrequencyResponse(decibel=1.0)
    >>> response(torch.ones(2, 10, 128)).shape
    torch.Size([2, 10, 128])
    """

    yaml_values = {"decibel": "!ref <log_mel.decibel>"}

    def __init__(
        self, decibel: float, std_db: float = 5.0, spacing: int = 16
    ) -> None:
        super().__init__()
        self.decibel = _decibel(decibel)
        self.std_db = _at_least_0("std_db", std_db)
        if spacing < 1:
            raise ValueError(f"spacing must be 1 or more, not {spacing}")
        self.spacing = spacing

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]``, each cycle with its own response."""
        batch, _, bands = features.shape
        place = torch.arange(bands) / self.spacing
        before = place.long()
        share = (1 + torch.cos(math.pi * (place - before))) / 2
        drawn = torch.randn(batch, int(before[-1]) + 2)
        curves = share * drawn[:, before] + (1 - share) * drawn[:, before + 1]
        curves = curves / (share.square() + (1 - share).square()).sqrt()
        return _add(features, self.decibel * self.std_db * curves[:, None])


class FreqMixStyle(LogMelAugmentation):
    """The mean and the spread of each band mixed with those of another cycle.

    ``(x - m) / s * (w * s + (1 - w) * s') + w * m + (1 - w) * m'`` with the mean
    ``m`` and the standard deviation ``s`` over time of each band of a cycle,
    ``m'`` and ``s'`` those of another of the batch, and one ``w ~ Beta(alpha,
    alpha)`` per cycle: they tell the device more than the class. Labels stay.
    Source: F. Schmid et al., "Knowledge distillation from transformers for
    low-complexity acoustic scene classification", DCASE 2022, after B. Kim et
    al., "Domain generalization with relaxed instance frequency-wise
    normalization for multi-device acoustic scene classification", Interspeech
    2022 (https://arxiv.org/abs/2206.12513). Of the maps of a backbone's first
    blocks, it is each band of each channel.

    Arguments
    ---------
    alpha : float
        Small: one of the two dominates; 1: every share is as likely.
    p : float
        Probability that a batch is mixed.

    Raises
    ------
    ValueError
        If alpha is not positive, p is no probability, or there is one frame
        alone.

    Example
    -------
    >>> FreqMixStyle(p=1.0)(torch.randn(4, 10, 8)).shape
    torch.Size([4, 10, 8])
    """

    of_maps = True
    eps = 1e-6  # of the variance; a band that does not change has none

    def __init__(self, alpha: float = 0.3, p: float = 0.4) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        if not 0 <= p <= 1:
            raise ValueError(f"p must be from 0 to 1, not {p}")
        self.alpha, self.p = float(alpha), float(p)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]``, mixed or, with 1 - p, as they are."""
        if features.shape[1] < 2:
            raise ValueError(
                "augmentation: FreqMixStyle takes statistics over time, but these"
                f" features have {features.shape[1]} frame"
            )
        if torch.rand(1) >= self.p:
            return features
        batch = len(features)
        beta = torch.distributions.Beta(self.alpha, self.alpha)
        weight = beta.sample((batch, 1, 1)).to(features.device)
        permutation = torch.randperm(batch).to(features.device)
        variance, mean = torch.var_mean(
            features.float(), dim=1, correction=0, keepdim=True
        )
        std = (variance + self.eps).sqrt()
        new_std = weight * std + (1 - weight) * std[permutation]
        new_mean = weight * mean + (1 - weight) * mean[permutation]
        mixed = (features.float() - mean) / std * new_std + new_mean
        return (mixed * _kept(features)).to(features.dtype)


class TimeShift(LogMelAugmentation):
    """Each cycle rolled in time: what leaves at one end enters at the other.

    By a whole number of frames, uniform from 0 to below ``share`` of all of them.
    Cycles are repeated to their length, so that this is another beginning; the
    fades at both ends move along.

    Arguments
    ---------
    share : float
        1: every frame is as likely to be the first; 0: none.

    Raises
    ------
    ValueError
        If share is not in [0, 1].

    Example
    -------
    >>> shifted = TimeShift()(torch.arange(6.0).reshape(1, 6, 1)).flatten()
    >>> shifted.roll(-int(shifted.argmin()))
    tensor([0., 1., 2., 3., 4., 5.])
    """

    of_maps = True

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, not {share}")
        self.share = share

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[batch, time, mel]``, each cycle shifted by itself."""
        batch, frames, _ = features.shape
        shifts = torch.randint(max(round(self.share * frames), 1), (batch, 1))
        places = (torch.arange(frames) - shifts) % frames
        rows = torch.arange(batch)[:, None]
        return features[rows.to(features.device), places.to(features.device)]


def _kept(features: torch.Tensor) -> torch.Tensor:
    """Whether a band is not masked, ``[batch, 1, mel]``."""
    return (features != 0).any(dim=1, keepdim=True)


def _add(features: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Features plus an offset on the CPU, where a band is not masked."""
    return features + offset.to(features) * _kept(features)


def _decibel(decibel: float | None) -> float:
    if decibel is None or not 0 < decibel < math.inf:
        raise ValueError(
            "decibel: a positive number is needed, how much the features rise by"
            f" when the sound rises by 1 dB, not {decibel}"
        )
    return decibel


def _at_least_0(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be 0 dB or more, not {value}")
    return value
