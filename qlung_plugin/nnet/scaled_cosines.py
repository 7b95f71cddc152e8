"""A scale for classifiers that return cosines.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn

from qlung_plugin.nnet.classifiers import (
    Classifier,
    ClassifierOutput,
    logits_and_cosines,
)
from qlung_plugin.nnet.parts import at_least_float32


class ScaledCosines(Classifier):
    """Any classifier of cosines, with the scale that makes them logits.

    SpeechBrain's return cosines alone, and have the scale in the cost: a model
    without its cost would say nearly the same of every class. A training with
    such a cost puts this around its classifier.

    Arguments
    ---------
    classifier : torch.nn.Module
        Returns cosines, ``[batch, class]`` or ``[batch, 1, class]``, such as
        ``speechbrain.lobes.models.ECAPA_TDNN.Classifier``; or logits and
        cosines, of which the logits are replaced.
    scale : float
        Factor of the cosines.
    return_cosines : bool
        See :class:`~qlung_plugin.nnet.classifiers.Classifier`.

    Example
    -------
    >>> from qlung_plugin.nnet.classifiers import LinearClassifier
    >>> classifier = ScaledCosines(LinearClassifier(8, 4), scale=30.0)
    >>> output = classifier(torch.randn(2, 8))
    >>> torch.equal(output.logits, 30.0 * output.cosines)
    True
    """

    def __init__(
        self,
        classifier: nn.Module,
        scale: float = 37.0,
        return_cosines: bool = True,
    ) -> None:
        super().__init__(return_cosines)
        self.classifier = classifier
        self.scale = scale

    def forward(
        self, embeddings: torch.Tensor
    ) -> ClassifierOutput | torch.Tensor:
        """Logits and cosines ``[batch, class]`` of embeddings."""
        _, cosines = logits_and_cosines(self.classifier(embeddings))
        cosines = at_least_float32(cosines)
        return self.output(self.scale * cosines, cosines)
