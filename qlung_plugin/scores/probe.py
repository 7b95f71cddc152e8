"""A linear probe: what a line through embeddings tells of new patients.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from qlung_plugin.dataio.embedding_tables import embedding_columns
from qlung_plugin.scores.icbhi_score import label_codes
from qlung_plugin.training.linear_head import FOLDS, judge_head


def probe(
    table: pd.DataFrame, labels: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Predicts each row by a logistic regression on other patients alone.

    The embeddings are standardised, and the classes weigh the same. Patients are
    split into five folds, or fewer of fewer patients, with classes as alike as
    can be; for each, the others choose the regularisation among themselves. See
    :func:`qlung_plugin.training.linear_head.judge_head`.

    Arguments
    ---------
    table : pandas.DataFrame
        With ``label``, ``patient`` and embeddings ``e_0`` ..., such as
        :func:`qlung_plugin.dataio.row_labels.label_rows` gives.
    labels : sequence of str
        The classes, in the order of the probabilities.
    seed : int
        Of the folds.

    Returns
    -------
    pandas.DataFrame
        The table without its embeddings, with ``prediction``, ``p_<label>``
        (0 of a class that no patient learned from has) and ``fold``.

    Raises
    ------
    ValueError
        If there is one patient or one label alone, a label is not among
        ``labels``, or an embedding is not finite.

    Example
    -------
    >>> rows = range(40)
    >>> table = pd.DataFrame(
    ...     {
    ...         "label": ["no" if i % 2 else "yes" for i in rows],
    ...         "patient": [i // 4 for i in rows],
    ...         "e_0": [i % 2 + i / 80 for i in rows],
    ...     }
    ... )
    >>> predictions = probe(table, ["no", "yes"])
    >>> bool((predictions["prediction"] == predictions["label"]).all())
    True
    """
    columns = embedding_columns(table)
    embeddings = table[columns].to_numpy(float)
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings have to be finite: leave such rows out")
    codes = label_codes(table["label"], labels)
    if len(np.unique(codes)) < 2:
        raise ValueError("all rows have one label: there is nothing to tell")
    probabilities = np.zeros((len(table), len(labels)))
    folds = np.zeros(len(table), dtype=int)
    judged = judge_head(
        embeddings,
        codes,
        table["patient"].astype(str).to_numpy(),
        len(labels),
        balanced=True,
        seed=seed,
    )
    for fold, (test, chosen) in enumerate(
        tqdm(judged, total=FOLDS, unit="fold", disable=None)
    ):
        probabilities[test] = chosen.head.probabilities(embeddings[test])
        folds[test] = fold
    return table.drop(columns=columns).assign(
        prediction=np.take(list(labels), probabilities.argmax(1)),
        **{f"p_{label}": p for label, p in zip(labels, probabilities.T)},
        fold=folds,
    )
