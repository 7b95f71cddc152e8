"""How large the margin of each training sample is.

A margin is a module called as ``margin(targets, quality=None,
embeddings=None)`` that returns one angle per sample, ``[batch]``, in radians.
What it costs to violate it is in :mod:`qlung_plugin.nnet.losses`.

Values are checked where that is free. On a GPU a check would force a
synchronisation per step, so there a bad value yields a NaN instead of an
error, which SpeechBrain's Brain reports.

Authors
 * qlung_plugin contributors
"""

import math

import torch
from torch import nn


class Margin(nn.Module):
    """Base class of the margins: they have :meth:`fit`, mostly a no-op."""

    def fit(self, class_counts):
        """Learns from the class counts of the training set; nothing here.

        Arguments
        ---------
        class_counts : sequence of int or torch.Tensor
            Training samples per class, ``[class]``.
        """


class FixedMargin(Margin):
    """The same margin for every sample, as in ArcFace.

    Arguments
    ---------
    margin : float
        In radians.

    Example
    -------
    >>> FixedMargin(0.2)(torch.tensor([0, 3]))
    tensor([0.2000, 0.2000])
    """

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, targets, quality=None, embeddings=None):
        """Margins, ``[batch]``; only the shape of ``targets`` matters."""
        return torch.full(
            targets.shape, float(self.margin), device=targets.device
        )


class QualityMargin(Margin):
    """A margin proportional to the quality of the recording: ``kappa * q``.

    A clean sample gets the larger margin. Source: Kim et al., "Quality
    Adaptive Angular Margin Learning for Respiratory Sound Classification",
    Interspeech 2026.

    Arguments
    ---------
    kappa : float
        Margin at quality 1, in radians.

    Example
    -------
    >>> QualityMargin(0.5)(torch.tensor([0, 3]), torch.tensor([1.0, 0.5]))
    tensor([0.5000, 0.2500])
    """

    def __init__(self, kappa=0.5):
        super().__init__()
        self.kappa = kappa

    def forward(self, targets, quality=None, embeddings=None):
        """Margins of a batch.

        Arguments
        ---------
        targets : torch.Tensor
            Class indices, ``[batch]``.
        quality : torch.Tensor
            ``[batch]`` in [0, 1].
        embeddings : torch.Tensor, optional
            Not used.

        Returns
        -------
        torch.Tensor
            ``[batch]``, in radians.

        Raises
        ------
        ValueError
            If the quality is missing, of another shape or outside [0, 1].
        """
        if quality is None:
            raise ValueError("QualityMargin needs the quality of each sample")
        if quality.shape != targets.shape:
            raise ValueError(
                f"quality must be {list(targets.shape)} as the targets, not"
                f" {list(quality.shape)}"
            )
        inside = (quality >= 0) & (quality <= 1)
        if quality.device.type == "cpu" and not inside.all():
            raise ValueError(
                "quality must lie in [0, 1], but holds"
                f" {quality[~inside][0].item()}"
            )
        return self.kappa * torch.where(inside, quality, torch.nan)


class ClassImbalanceMargin(Margin):
    """A margin that grows with the logarithm of a class's rarity.

    ``m(y) = s * -log(n_y / N)`` with ``s = target_margin / log(C)``: a class
    as frequent as the average gets ``target_margin``, one ``r`` times rarer
    ``s * log(r)`` more. Source: as for :class:`QualityMargin`.

    Arguments
    ---------
    class_counts : sequence of int or torch.Tensor, optional
        Training samples per class, ``[class]``, to use without :meth:`fit`,
        which replaces them by those of the training set.
    target_margin : float
        Margin of a class in a uniform training set, in radians.
    num_classes : int
        Number of classes.

    Example
    -------
    >>> margin = ClassImbalanceMargin([2063, 1215, 501, 363])
    >>> margin(torch.tensor([0, 1, 2, 3]))
    tensor([0.1006, 0.1769, 0.3047, 0.3512])
    """

    def __init__(self, class_counts=None, target_margin=0.2, num_classes=4):
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes must be 2 or more, not {num_classes}"
            )
        self.target_margin = target_margin
        # NaN until fitted, in its final shape, so that checkpoints load.
        self.register_buffer("margins", torch.full((num_classes,), math.nan))
        if class_counts is not None:
            self.fit(class_counts)

    def fit(self, class_counts):
        """Computes the margins from the training set's class counts.

        Arguments
        ---------
        class_counts : sequence of int or torch.Tensor
            Training samples per class, ``[class]``.

        Raises
        ------
        ValueError
            If there is not one positive count per class.
        """
        counts = torch.as_tensor(class_counts, dtype=torch.float64).cpu()
        if counts.shape != self.margins.shape:
            raise ValueError(
                f"class_counts must hold {len(self.margins)} counts, not"
                f" {counts.tolist()}"
            )
        if not (counts > 0).all():
            raise ValueError(
                f"every class needs training samples, but class_counts is"
                f" {counts.tolist()}"
            )
        scale = self.target_margin / math.log(len(counts))
        self.margins.copy_(-scale * (counts / counts.sum()).log())

    def forward(self, targets, quality=None, embeddings=None):
        """Margins of a batch.

        Arguments
        ---------
        targets : torch.Tensor
            Class indices, ``[batch]``.
        quality : torch.Tensor, optional
            Not used.
        embeddings : torch.Tensor, optional
            Not used.

        Returns
        -------
        torch.Tensor
            ``[batch]``, in radians.

        Raises
        ------
        RuntimeError
            If the class counts are not known yet.
        ValueError
            If a target is no class.
        """
        if targets.device.type == "cpu" and self.margins.isnan().any():
            raise RuntimeError(
                "ClassImbalanceMargin needs class_counts: give them, or call"
                " fit with those of the training set"
            )
        check_targets(targets, len(self.margins))
        return self.margins[targets]


class WeightedMargin(Margin):
    """A weighted sum of margins.

    QLung's composite margin is ``0.5 * QualityMargin + 0.5 *
    ClassImbalanceMargin``.

    Arguments
    ---------
    margins : list of Margin
        The margins to sum.
    weights : list of float
        One weight per margin.

    Example
    -------
    >>> margin = WeightedMargin(
    ...     [QualityMargin(0.5), ClassImbalanceMargin([6, 2], num_classes=2)],
    ...     [0.5, 0.5],
    ... )
    >>> margin(torch.tensor([0, 1]), quality=torch.tensor([1.0, 0.0]))
    tensor([0.2915, 0.2000])
    """

    def __init__(self, margins, weights):
        super().__init__()
        if len(margins) != len(weights):
            raise ValueError(
                f"{len(margins)} margins cannot have {len(weights)} weights"
            )
        self.margins = nn.ModuleList(margins)
        self.weights = tuple(weights)

    def fit(self, class_counts):
        """Passes the class counts on to every margin."""
        for margin in self.margins:
            margin.fit(class_counts)

    def forward(self, targets, quality=None, embeddings=None):
        """Margins, ``[batch]``, in radians; the arguments go to each margin."""
        return sum(
            weight * margin(targets, quality, embeddings)
            for weight, margin in zip(self.weights, self.margins)
        )


def check_targets(targets, num_classes):
    """Raises a ValueError unless all targets are classes; on the CPU only.

    Arguments
    ---------
    targets : torch.Tensor
        Class indices, ``[batch]``.
    num_classes : int
        Number of classes.
    """
    if targets.device.type != "cpu" or targets.numel() == 0:
        return
    low, high = (extreme.item() for extreme in targets.aminmax())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise ValueError(
            f"targets must lie in 0..{num_classes - 1}, but hold {wrong}"
        )
