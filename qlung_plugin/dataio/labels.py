"""The classes, in the order that is kept everywhere.

Apart from what computes with them, which takes a second to import.

Authors
 * qlung_plugin contributors
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechbrain.dataio.encoder import CategoricalEncoder

NORMAL = "normal"  # the first class, of labels that have a normal one
LABELS = (NORMAL, "crackle", "wheeze", "both")
TWO_CLASSES = (NORMAL, "abnormal")


def has_normal(labels: Sequence[str]) -> bool:
    """Whether the first of the labels is that of the normal class.

    Then there are specificity, sensitivity and a Score; else there is the macro
    recall.

    Example
    -------
    >>> has_normal(LABELS), has_normal(["S1", "S2"])
    (True, False)
    """
    return labels[0] == NORMAL


def make_label_encoder(labels: Sequence[str]) -> CategoricalEncoder:
    """An encoder of labels in this order, not in that of their appearance.

    Example
    -------
    >>> make_label_encoder(LABELS).encode_label("wheeze")
    2
    """
    from speechbrain.dataio.encoder import CategoricalEncoder

    encoder = CategoricalEncoder()
    encoder.expect_len(len(labels))
    encoder.update_from_iterable(labels, sequence_input=False)
    return encoder
