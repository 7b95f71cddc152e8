"""A figure of how far probabilities can be taken at their word.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from qlung_plugin.figures.style import (
    draw_shares,
    legend_below,
    line_style,
    make_figure,
)
from qlung_plugin.scores.calibration import (
    expected_calibration_error,
    reliability,
)


def reliability_figure(
    shares: Mapping[str, np.ndarray], truth: npt.ArrayLike, title: str
) -> Figure:
    """Draws which share of the cycles is right, by the model's confidence.

    Of probabilities ``[cycle, class]`` by name, such as before and after; beside
    it, how confident it is of how many cycles. On the diagonal, both are the same.
    """
    figure, left, right_side = make_figure((8.4, 4.4), title, (1, 2))
    left.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for number, (name, values) in enumerate(shares.items()):
        confidence, right, _ = reliability(values, truth)
        error = expected_calibration_error(values, truth)
        label = f"{name}: expected calibration error {error:.3f}"
        style = line_style(number)
        left.plot(confidence, right, marker="o", label=label, **style)
        draw_shares(right_side, np.asarray(values).max(-1), **style)
    left.set(
        xlabel="probability of the class",
        ylabel="share that is right",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    right_side.set(
        xlabel="probability of the class", ylabel="share of cycles (%)"
    )
    legend_below(left, ncols=1)
    return figure
