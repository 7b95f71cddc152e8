"""What the channels of a recording have in common, and what to make of them.

Authors
 * qlung_plugin contributors
"""

import numpy as np

SILENT = 0.01  # of the level of the loudest channel: 40 dB below it
CANCELLED = 0.1  # of the level of the loudest channel, which the mean has left
ALIKE = 0.5  # correlation; of copies it is 1, of two places on a chest near 0


class ChannelComparison:
    """Levels of channels and their correlations, from blocks of a recording."""

    def __init__(self, channels: int):
        self._count = 0
        self._sums = np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def add(self, block: np.ndarray) -> None:
        """Takes a block ``[frame, channel]`` into account."""
        block = block.astype(np.float64)
        # What is not finite is refused where it is read for use.
        block = block[np.isfinite(block).all(axis=1)]
        self._count += len(block)
        self._sums += block.sum(axis=0)
        self._products += block.T @ block

    def _covariance(self) -> np.ndarray:
        means = self._sums / max(self._count, 1)
        return self._products / max(self._count, 1) - np.outer(means, means)

    def sounding(self) -> list[int]:
        """The channels with sound, from 0: all, if none has any."""
        levels = np.diag(self._covariance()).clip(0) ** 0.5
        heard = levels > SILENT * levels.max()
        return np.flatnonzero(heard | ~heard.any()).tolist()

    def cancelled(self) -> bool:
        """Whether the mean of the channels with sound is silence beside them."""
        chosen = self.sounding()
        covariance = self._covariance()[np.ix_(chosen, chosen)]
        loudest = covariance.diagonal().max()
        return bool(loudest > 0 and covariance.mean() < CANCELLED**2 * loudest)

    def complaint(self) -> str | None:
        """What is wrong with averaging the channels with sound, or None."""
        chosen = self.sounding()
        if self.cancelled():
            return "its channels cancel each other: their mean is silence"
        covariance = self._covariance()[np.ix_(chosen, chosen)]
        deviations = covariance.diagonal() ** 0.5
        first = int(deviations.argmax())
        if not deviations[first] > 0:
            return None
        correlations = covariance[first] / (deviations * deviations[first])
        other = int(correlations.argmin())
        if correlations[other] >= ALIKE:
            return None
        one, two = sorted((chosen[first] + 1, chosen[other] + 1))
        return (
            f"its channels {one} and {two} hold different sounds (correlation"
            f" {correlations[other]:.2f}), and are averaged"
        )
