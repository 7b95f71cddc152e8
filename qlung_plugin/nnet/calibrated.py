"""A classifier whose probabilities were calibrated.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence

import torch
from torch import nn

from qlung_plugin.nnet.classifiers import (
    Classifier,
    ClassifierOutput,
    logits_and_cosines,
)
from qlung_plugin.nnet.parts import at_least_float32


class CalibratedClassifier(Classifier):
    """Any classifier, its logits divided by a temperature, and moved by class.

    Since it is a part of the model, whatever takes its probabilities has the
    calibrated ones: commands, evaluations, and ONNX. See
    :func:`qlung_plugin.scores.calibration.fit_calibration`.

    Arguments
    ---------
    classifier : torch.nn.Module
        Returns logits, ``[batch, class]`` or ``[batch, 1, class]``; or logits
        and cosines.
    temperature : float
        Above 1, it makes probabilities less sure.
    offsets : sequence of float
        Of each class, added to the logits after that.
    return_cosines : bool
        See :class:`~qlung_plugin.nnet.classifiers.Classifier`.

    Example
    -------
    >>> from qlung_plugin.nnet.classifiers import LinearClassifier
    >>> linear = LinearClassifier(8, 2)
    >>> classifier = CalibratedClassifier(linear, 2.0, [0.5, 0.0])
    >>> embeddings = torch.randn(3, 8)
    >>> expected = linear(embeddings).logits / 2 + torch.tensor([0.5, 0.0])
    >>> torch.equal(classifier(embeddings).logits, expected)
    True
    """

    offsets: torch.Tensor

    def __init__(
        self,
        classifier: nn.Module,
        temperature: float,
        offsets: Sequence[float],
        return_cosines: bool = True,
    ) -> None:
        super().__init__(return_cosines)
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} is not above 0")
        self.classifier, self.temperature = classifier, temperature
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)

    def forward(
        self, embeddings: torch.Tensor
    ) -> ClassifierOutput | torch.Tensor:
        """Logits and cosines ``[batch, class]`` of embeddings."""
        logits, cosines = logits_and_cosines(self.classifier(embeddings))
        logits = at_least_float32(logits) / self.temperature + self.offsets
        return self.output(logits, cosines)
