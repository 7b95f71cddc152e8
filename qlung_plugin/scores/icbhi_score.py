"""The ICBHI score: specificity, sensitivity and their mean.

Authors
-------
 * qlung_plugin contributors
"""

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from qlung_plugin.dataio.labels import LABELS
from qlung_plugin.scores.metrics import (
    CLASS_METRICS,
    metrics_of,
    metrics_of_labels,
    ranks_in,
)
from qlung_plugin.scores.roc import Ranking
from speechbrain.utils.distributed import is_distributed_initialized
from speechbrain.utils.metric_stats import MetricStats

EMPTY = "no predictions: the evaluated set is empty"


def label_codes(
    names: npt.ArrayLike, labels: Sequence[str] = LABELS
) -> np.ndarray:
    """Positions ``[item]`` of class names ``[item]`` among the labels.

    A name that is missing or unknown raises a ValueError.

    Example
    -------
    >>> label_codes(["both", "normal"]).tolist()
    [3, 0]
    """
    names = np.asarray(names, dtype=object)
    codes = pd.Index(labels).get_indexer(names)
    if (codes < 0).any():
        unknown = sorted({str(name) for name in names[codes < 0]})
        raise ValueError(f"not among the labels {list(labels)}: {unknown[:5]}")
    return codes


def prediction_metrics(
    label: Sequence[str] | pd.Series,
    prediction: Sequence[str] | pd.Series,
    labels: Sequence[str] = LABELS,
    probabilities: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """All metrics of true and predicted class names, as plain Python numbers.

    In percent: those of :data:`qlung_plugin.scores.metrics.METRICS`, or of its
    ``WITHOUT_NORMAL`` if the first class is not called normal, and, per class, of
    ``CLASS_METRICS`` (NaN for a class without a cycle); without probabilities
    ``[item, class]`` those of the predictions alone. In cycles: ``counts`` of the
    truth per class, and ``confusion`` as nested lists. No item, or a name that is
    not among the labels, is a ValueError.

    Example
    -------
    >>> truth = ["normal", "normal", "wheeze", "both"]
    >>> metrics = prediction_metrics(truth, ["normal", "both", "both", "both"])
    >>> metrics["sp"], metrics["se"], metrics["se_two_class"]
    (50.0, 50.0, 100.0)
    """
    if len(label) == 0:
        raise ValueError(EMPTY)
    truth = label_codes(label, labels)
    predicted = label_codes(prediction, labels)
    confusion = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(confusion, (truth, predicted), 1)
    ranked: dict[str, np.ndarray] = {}
    if probabilities is not None:
        ranking = Ranking(np.asarray(probabilities), truth, 0 * truth)
        once = np.ones((1, 1))
        asked = ranks_in("report", labels)
        ranked = {k: getattr(ranking, k)(once)[0] for k in asked}
    known = {"confusion": confusion.astype(float), **ranked}
    with np.errstate(invalid="ignore"):
        per_class = {
            key: dict(zip(labels, metric.compute(known[metric.of]).tolist()))
            for key, metric in CLASS_METRICS.items()
            if metric.of in known
        }
    metrics = metrics_of(confusion, "report", labels, **ranked)
    return {
        **{key: float(value) for key, value in metrics.items()},
        **per_class,
        "counts": dict(zip(labels, confusion.sum(1).tolist())),
        "confusion": confusion.tolist(),
    }


def table_metrics(
    predictions: pd.DataFrame, labels: Sequence[str] = LABELS
) -> dict[str, Any]:
    """:func:`prediction_metrics` of a table, with those of its probabilities.

    Without ``p_<label>`` per class these are not there.
    """
    columns = [f"p_{label}" for label in labels]
    known = set(columns) <= set(predictions)
    return prediction_metrics(
        predictions["label"],
        predictions["prediction"],
        labels,
        predictions[columns].to_numpy() if known else None,
    )


def confusion_text(
    confusion: npt.ArrayLike, labels: Sequence[str] = LABELS
) -> str:
    """A confusion matrix ``[class, class]`` as a table to print.

    Example
    -------
    >>> print(confusion_text([[9, 1], [2, 3]], ["normal", "abnormal"]))
    truth \\ prediction  normal  abnormal
    normal                   9         1
    abnormal                 2         3
    """
    names = list(labels)
    table = pd.DataFrame(np.asarray(confusion), names, names)
    return table.rename_axis(columns="truth \\ prediction").to_string()


class RespiratoryScore(MetricStats):
    """Keeps every prediction with its id, and summarizes them.

    Arguments
    ---------
    labels : sequence of str
        Class names in the order of the probabilities, normal first if one is.
        With two (normal, abnormal) both rules for sensitivity agree.

    Example
    -------
    >>> stats = RespiratoryScore(labels=("normal", "abnormal"))
    >>> probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> stats.append(["a", "b", "c"], probabilities, torch.tensor([0, 1, 1]))
    >>> stats.summarize("score")
    75.0
    """

    def __init__(self, labels: Sequence[str] = LABELS) -> None:
        self.labels = tuple(labels)
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"need two or more different labels, got {labels}")
        self.clear()

    def clear(self) -> None:
        """Forgets all predictions."""
        self.ids: list[str] = []
        self.scores: list[list[float]] = []
        self.targets: list[int] = []
        self.summary: dict[str, Any] = {}

    def append(
        self,
        ids: Sequence[str],
        probabilities: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Stores the predictions of a batch.

        Arguments
        ---------
        ids : list of str
            One id per item.
        probabilities : torch.Tensor
            ``[batch, class]``, each row of sum 1 (not logits).
        targets : torch.Tensor
            Class positions ``[batch]`` or ``[batch, 1]``.

        Raises
        ------
        ValueError
            If shapes, probabilities or class positions are wrong.
        """
        n_classes = len(self.labels)
        probabilities = torch.as_tensor(probabilities).detach().double().cpu()
        if tuple(probabilities.shape) != (len(ids), n_classes):
            raise ValueError(
                f"probabilities must be [{len(ids)}, {n_classes}] (ids by "
                f"classes), got {list(probabilities.shape)}"
            )
        finite = probabilities.isfinite().all(1).tolist()
        if not all(finite):
            bad = [key for key, fine in zip(ids, finite) if not fine]
            raise ValueError(
                f"the probabilities of {len(bad)} cycles are not finite:"
                f" {', '.join(map(repr, bad[:3]))}"
                f"{', ...' if len(bad) > 3 else ''}: the model has diverged, or"
                " its weights are damaged"
            )
        # 0.01 leaves room for half precision.
        valid = (probabilities.sum(1) - 1).abs() < 0.01
        valid &= (probabilities >= 0).all(1)
        if not valid.all():
            raise ValueError(
                f"{int((~valid).sum())} items have no probabilities (>= 0, of "
                f"sum 1), such as {ids[int(valid.int().argmin())]!r}: logits "
                "need a softmax first"
            )
        targets = torch.as_tensor(targets)
        if targets.shape not in {(len(ids),), (len(ids), 1)}:
            raise ValueError(
                f"targets must be one per id ({len(ids)}), got"
                f" {list(targets.shape)}"
            )
        classes = targets.reshape(-1).tolist()
        wrong = set(classes) - set(range(n_classes))
        if wrong:
            raise ValueError(
                f"no class positions (0..{n_classes - 1}): {wrong}"
            )
        self.ids.extend(ids)
        self.scores.extend(probabilities.tolist())
        self.targets.extend(map(int, classes))

    def gather(self) -> None:
        """Collects the predictions of all processes, if there are several.

        An evaluation that shards its data over the processes of a distributed
        run calls it once on each, before it summarizes: then all of them have
        all predictions.
        """
        if not is_distributed_initialized():
            return
        own = (self.ids, self.scores, self.targets)
        everyones = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyones, own)
        self.ids, self.scores, self.targets = (
            [item for part in parts for item in part]
            for parts in zip(*everyones)
        )

    def averaged(self, wholes: Mapping[str, str]) -> "RespiratoryScore":
        """The predictions of what the items are parts of.

        Per whole, whose id there is by that of an item and whose class it has,
        they are the mean of the probabilities of its parts.

        Example
        -------
        >>> stats = RespiratoryScore(labels=("normal", "abnormal"))
        >>> stats.append("ab", torch.tensor([[0.9, 0.1], [0.3, 0.7]]), [1, 1])
        >>> stats.averaged({"a": "101", "b": "101"}).predictions()
            id     label prediction  p_normal  p_abnormal
        0  101  abnormal     normal       0.6         0.4
        """
        names = [wholes[key] for key in self.ids]
        means = pd.DataFrame(self.scores).groupby(names).mean()
        targets = pd.Series(self.targets).groupby(names).first()
        averaged = RespiratoryScore(self.labels)
        scores = torch.tensor(means.to_numpy())
        averaged.append(
            means.index.tolist(), scores, torch.tensor(targets.to_numpy())
        )
        return averaged

    def cross_entropy(self) -> float:
        """The mean of ``-log p`` of the true classes, as a float.

        A probability of 0, which a softmax rounds to, counts as the smallest
        that single precision has.
        """
        if not self.ids:
            raise ValueError(EMPTY)
        likelihoods = np.array(self.scores)[range(len(self.ids)), self.targets]
        tiny = np.finfo(np.float32).tiny
        return float(-np.log(np.maximum(likelihoods, tiny)).mean())

    def predictions(self) -> pd.DataFrame:
        """All predictions, in the order in which they were appended.

        Columns ``id``, ``label`` and ``prediction`` (class names), and
        ``p_<label>`` per class. None at all, or an id that was appended twice,
        is a ValueError.
        """
        if not self.ids:
            raise ValueError(EMPTY)
        twice = pd.Index(self.ids).duplicated()
        if twice.any():
            raise ValueError(
                f"{twice.sum()} ids were appended twice, such as "
                f"{self.ids[twice.argmax()]!r}: clear() between epochs"
            )
        names, scores = np.array(self.labels), np.array(self.scores)
        table = pd.DataFrame({"id": self.ids, "label": names[self.targets]})
        table["prediction"] = names[scores.argmax(1)]
        for name, values in zip(names, scores.T):
            table[f"p_{name}"] = values
        return table

    def summarize(self, field: str | None = None) -> Any:
        """All metrics (see :func:`prediction_metrics`), or the one named."""
        table = self.predictions()
        self.summary = prediction_metrics(
            table["label"], table["prediction"], self.labels, self.scores
        )
        return self.summary if field is None else self.summary[field]

    def write_stats(self, filestream: TextIO, verbose: bool = False) -> None:
        """Writes the scores, each with its rule of sensitivity, and the matrix.

        If it is verbose, they are printed, too.
        """
        summary = self.summarize()
        message = "".join(
            f"{metric.heading}: {summary[key]:.2f} %, {metric.rule}\n"
            for key, metric in metrics_of_labels(self.labels).items()
        )
        message += confusion_text(summary["confusion"], self.labels) + "\n"
        filestream.write(message)
        if verbose:
            print(message)
