"""A linear head that is fitted with QLung's margins.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import torch
import torch.nn.functional as F

from qlung_plugin.nnet.classifiers import cosine_similarity
from qlung_plugin.nnet.losses import AngularMarginLoss, MarginRegularizedLoss
from qlung_plugin.nnet.margins import (
    ClassImbalanceMargin,
    QualityMargin,
    WeightedMargin,
)

MOST_ITERATIONS = 50


def add_margins(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    codes: np.ndarray,
    strength: float,
    quality: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Goes on from a logistic regression, with QLung's objective.

    That is cross entropy and 0.4 of the angular margin loss, whose margin is
    half by the quality ``[cycle]`` and half by how rare the class is, summed over
    the cycles and multiplied by the strength, with half the square of the
    weights, as in scikit-learn's. Every class has a cycle. Margins are of the
    fit alone: what the head says is of the plain logits.
    """
    x, y, q = (torch.tensor(array) for array in (features, codes, quality))
    w, b = (
        torch.tensor(np.ascontiguousarray(values), requires_grad=True)
        for values in (weight, bias)
    )
    rarity = ClassImbalanceMargin(
        np.bincount(codes).tolist(), num_classes=len(weight)
    )
    margin = WeightedMargin([QualityMargin(), rarity], [0.5, 0.5])
    loss = MarginRegularizedLoss(AngularMarginLoss(margin))
    optimizer = torch.optim.LBFGS(
        [w, b], max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        cosines = cosine_similarity(x, w)
        mean = loss(F.linear(x, w, b), cosines, None, y, q)
        value = strength * len(y) * mean + w.square().sum() / 2
        value.backward()
        return value

    optimizer.step(closure)
    return w.detach().numpy(), b.detach().numpy()
