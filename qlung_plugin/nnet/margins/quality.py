"""Margins that follow the quality of the recording.

Authors
 * qlung_plugin contributors
"""

import torch

from qlung_plugin.nnet.margins.base import Margin


class QualityMargin(Margin):
    """A margin proportional to the quality of the recording: ``kappa * q``.

    A clean sample gets the larger margin. Source: Kim et al., "Quality
    Adaptive Angular Margin Learning for Respiratory Sound Classification",
    Interspeech 2026. Whether it is the quality that helps, and not a margin of
    any size, is seen beside a control: the same qualities, shuffled. Reversed
    ones are of another size on average, unless kappa is chosen accordingly.

    Arguments
    ---------
    kappa : float
        Margin at quality 1, in radians.
    control : str, optional
        ``"shuffled"``: each sample has the quality of another one of its batch,
        drawn anew each time; ``"reversed"``: ``1 - q`` in the place of ``q``.

    Raises
    ------
    ValueError
        If there is no such control.

    Example
    -------
    >>> QualityMargin(0.5)(torch.tensor([0, 3]), torch.tensor([1.0, 0.5]))
    tensor([0.5000, 0.2500])
    >>> reversed_margin = QualityMargin(0.5, control="reversed")
    >>> reversed_margin(torch.tensor([0, 3]), torch.tensor([1.0, 0.5]))
    tensor([0.0000, 0.2500])
    """

    def __init__(self, kappa: float = 0.5, control: str | None = None) -> None:
        super().__init__()
        if control not in (None, "shuffled", "reversed"):
            raise ValueError(
                f"control must be shuffled, reversed or null, not {control!r}"
            )
        self.kappa, self.control = kappa, control

    def forward(
        self,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
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
        quality = torch.where(inside, quality, torch.nan)
        if self.control == "shuffled":
            # Drawn on the CPU, as elsewhere: the same on every device
            quality = quality[torch.randperm(len(quality)).to(quality.device)]
        elif self.control == "reversed":
            quality = 1 - quality
        return self.kappa * quality
