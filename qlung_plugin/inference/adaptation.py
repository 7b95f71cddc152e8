"""A head of one's own on a model's frozen encoder, from few labelled patients.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from qlung_plugin.dataio.embedding_tables import embedding_columns
from qlung_plugin.dataio.labels import NORMAL
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.export import check_new, complete_export, new_folder
from qlung_plugin.inference.labelled_cycles import (
    LEARNED_FROM,
    describe_table,
    digest_recordings,
    doubts,
    hear_table,
    order_labels,
)
from qlung_plugin.inference.model_checks import PARTS
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.provenance import choose_results
from qlung_plugin.inference.trained_model import write_model
from qlung_plugin.nnet.classifiers import LinearClassifier
from qlung_plugin.runs.results import evaluate_predictions
from qlung_plugin.scores.icbhi_score import label_codes
from qlung_plugin.scores.operating_point import (
    AT_POINT,
    HIGHEST_SCORE,
    choose_offset,
    decide,
    normal_point,
    with_operating_point,
)
from qlung_plugin.training.linear_head import (
    ChosenHead,
    LinearHead,
    choose_head,
    judge_head,
)
from qlung_plugin.utils.files import plain

PROTOCOL = (
    "a linear head on a frozen encoder; nested cross-validation by patient,"
    " regularisation and operating point chosen within"
)
SELECTION = (
    "Each patient was judged by a head that did not learn from them, chosen by"
    " cross-validation within the other patients."
)


class Adaptation(NamedTuple):
    """What :func:`adapt` did, and what to expect of it.

    Arguments
    ---------
    figures : dict
        Of the new head on patients that it did not learn from, as
        :func:`qlung_plugin.runs.results.evaluate_predictions` gives them.
    base : dict or None
        Those of the model as it was on the same cycles, where it knows all the
        labels; its AUROC alone, with its interval, where both know what is
        normal; else None.
    predictions : pandas.DataFrame
        A row per cycle, with what heads that did not learn from its patient say
        of it.
    labels : list of str
        The classes of the new head.
    strength : float
        ``C`` of the logistic regression.
    notes : list of str
        What makes the figures unsure, and what was decided, in sentences.
    files : list of str
        What was written.
    """

    figures: dict[str, Any]
    base: dict[str, Any] | None
    predictions: pd.DataFrame
    labels: list[str]
    strength: float
    notes: list[str]
    files: list[str]


def adapt(
    source: Path | str,
    table: Path | str,
    out: Path | str,
    balanced: bool = False,
    margin: bool = False,
    checkpoint: str | None = None,
    trust: str | Iterable[str] = (),
    device: str = "cpu",
    seed: int = 0,
    onnx: bool = False,
) -> Adaptation:
    """Fits a head to a labelled table, and writes the model that has it.

    The cycles go through the model's own front end and backbone, once. On the
    embeddings, standardised over all of them, a logistic regression is chosen
    (its L2 regularisation and, with a class ``normal``, its operating point) and
    judged by nested cross-validation in which no patient is on both sides. The
    standardisation is folded into the head. Of several devices it is one for
    all, since nobody tells it later which one a recording is of.

    Arguments
    ---------
    source : str or Path
        The model: see
        :meth:`~qlung_plugin.inference.classifier.RespiratorySoundClassifier.from_hparams`.
    table : str or Path
        See :func:`qlung_plugin.inference.labelled_cycles.hear_table`. Its
        labels are the classes of the new head, whatever those of the model.
    out : str or Path
        The folder to write: new, or empty. An export as ``qlung export`` writes
        them, with its own model card.
    balanced : bool
        Whether all classes weigh the same as a whole, else all cycles do.
    margin : bool
        Whether the head is fitted with QLung's margins, by the quality of the
        cycles and how rare a class is, see
        :func:`qlung_plugin.training.margin_head.add_margins`; not if balanced.
    checkpoint, trust
        See :func:`qlung_plugin.inference.models.open_model`.
    device : str
        Where the embeddings are computed.
    seed : int
        Of the folds. The same on the same machine gives the same files.
    onnx : bool
        Whether to write ``model.onnx``, too.

    Returns
    -------
    Adaptation
        What to expect on further patients.

    Raises
    ------
    FileExistsError
        If something is in the folder.
    FileNotFoundError
        If the model, the table or a recording does not exist.
    ValueError
        If the model cannot be opened, the table is not one of two or more
        patients and classes, or the model measures no quality for margins.

    Example
    -------
    >>> adapt("transfer", "table.csv", "adapted")  # doctest: +SKIP
    """
    check_new(out)
    if margin and balanced:
        raise ValueError("a head is fitted with margins, or balanced, not both")
    model = open_model(source, checkpoint, trust)
    classifier = RespiratorySoundClassifier(
        {name: model[name] for name in PARTS},
        {k: v for k, v in model.items() if k not in PARTS},
        run_opts={"device": device},
    )
    cycles = hear_table(classifier, table, embed=True)
    labels = order_labels(cycles["label"].unique(), model["labels"])
    dimensions = embedding_columns(cycles)
    features = cycles[dimensions].to_numpy(float)
    cycles = cycles.drop(columns=dimensions)
    chosen, judged = learn(cycles, features, labels, balanced, seed, margin)
    figures = plain(evaluate_predictions(judged, labels))
    point = choose_point(chosen.held_out, cycles["label"], labels)
    notes = doubts(
        cycles, list(dict.fromkeys([*labels, *model["labels"]]))
    ) + notes_on_devices(cycles)
    base = judge_base(cycles, model, labels)
    data = describe_table(cycles, table, PROTOCOL)
    digests = digest_recordings(cycles["recording"].unique())
    provenance = {
        **{k: model[k] for k in ("checkpoint", "epoch", "validated")},
        "settings": {
            "head": "logistic regression"
            + (", then QLung's margins" if margin else ""),
            "strength": chosen.strength,
            "balanced": balanced,
            "seed": seed,
            "pretrained_weights": model["provenance"]
            .get("settings", {})
            .get("pretrained_weights"),
        },
        "data": {**data, LEARNED_FROM: sorted(digests.values())},
        "operating_point": point,
        "operating_point_rule": HIGHEST_SCORE if point else None,
        "base": describe_base(source, model),
        "results": [],
    }
    provenance["results"] = [
        {
            "selection": SELECTION,
            **choose_results(figures),
            "data": data,
        }
    ]
    architecture, head = export_head(model, chosen.head)
    model = {**model, "classifier": head, "labels": labels}
    note = ". ".join(text[0].upper() + text[1:] for text in notes)
    with new_folder(out) as partial:
        write_model(partial, architecture, model, provenance)
        files = complete_export(partial, out, model, note, onnx)
    return Adaptation(
        figures, base, judged, labels, chosen.strength, notes, files
    )


def learn(
    cycles: pd.DataFrame,
    features: np.ndarray,
    labels: Sequence[str],
    balanced: bool = False,
    seed: int = 0,
    margin: bool = False,
) -> tuple[ChosenHead, pd.DataFrame]:
    """The head on all cycles, and what others say of each held-out patient.

    The table has ``label`` and ``patient``, the features are ``[cycle, dim]``.
    The result has ``p_<label>`` and ``prediction`` instead of those that were
    there, and the class at the operating point where there is one.
    """
    codes = label_codes(cycles["label"], labels)
    patients = cycles["patient"].to_numpy()
    quality = cycles["quality"].to_numpy() if margin else None
    if quality is not None and np.isnan(quality).any():
        raise ValueError("the model measures no quality for margins to follow")
    options = (len(labels), balanced, seed, quality)
    shares = np.zeros((len(codes), len(labels)))
    called = np.zeros(len(codes), dtype=int)
    for test, fold in judge_head(features, codes, patients, *options):
        train = np.setdiff1d(np.arange(len(codes)), test)
        point = choose_point(fold.held_out, cycles["label"].iloc[train], labels)
        shares[test] = fold.head.probabilities(features[test])
        offsets = None if point is None else list(point.values())
        called[test] = decide(shares[test], offsets)
    names = np.array(labels)
    judged = cycles.drop(columns=cycles.filter(regex="^p_")).assign(
        prediction=names[shares.argmax(1)],
        **{f"p_{label}": shares[:, k] for k, label in enumerate(labels)},
    )
    if NORMAL in labels:
        judged[AT_POINT] = names[called]
    return choose_head(features, codes, patients, *options), judged


def choose_point(
    shares: np.ndarray, truth: pd.Series, labels: Sequence[str]
) -> dict[str, float] | None:
    """The operating point of the highest Score, if there is a normal class."""
    if NORMAL not in labels:
        return None
    offset = choose_offset(shares, label_codes(truth, labels))
    return normal_point(offset or 0.0, labels)


def judge_base(
    cycles: pd.DataFrame, model: dict[str, Any], labels: Sequence[str]
) -> dict[str, Any] | None:
    """The figures of a model as it was; see :class:`Adaptation`."""
    known = model["labels"]
    shares = cycles[[f"p_{label}" for label in known]].to_numpy()
    cycles = cycles.assign(prediction=np.array(known)[decide(shares)])
    if set(labels) <= set(known):
        point = model["operating_point"]
        table = with_operating_point(cycles, point, known)
        return plain(evaluate_predictions(table, known))
    if NORMAL not in labels or NORMAL not in known:
        return None
    two = (NORMAL, f"not {NORMAL}")
    share = cycles[f"p_{NORMAL}"]
    collapsed = cycles.assign(
        label=np.where(cycles["label"] == NORMAL, *two),
        prediction=np.where(share >= 0.5, *two),
        **{f"p_{two[1]}": 1 - share},
    )
    figures = plain(evaluate_predictions(collapsed, two))
    interval = {"auroc": figures["interval"]["auroc"]}
    return {"auroc": figures["auroc"], "interval": interval}


def notes_on_devices(cycles: pd.DataFrame) -> list[str]:
    """What several devices mean for the standardisation."""
    devices = sorted(cycles["device"].dropna().unique())
    if len(devices) < 2:
        return []
    return [
        f"{len(devices)} devices ({', '.join(devices)}) share one"
        " standardisation, since classify is not told which one a recording is"
        " of: adapt to each alone, with enough patients, for one of its own"
    ]


def describe_base(source: Path | str, model: dict[str, Any]) -> dict[str, Any]:
    """What is told of the model that another one was made from."""
    provenance = model["provenance"]
    told = {k: provenance.get(k) for k in ("settings", "data", "base")}
    name = Path(source).name if Path(source).exists() else str(source)
    return {"name": name, "labels": model["labels"], **told}


def export_head(
    model: dict[str, Any], head: LinearHead
) -> tuple[dict[str, Any], LinearClassifier]:
    """The architecture with a linear head, and the head as a module."""
    classes, dim = head.weight.shape
    arguments = {"input_size": dim, "num_classes": classes}
    module = LinearClassifier(**arguments)
    with torch.no_grad():
        module.linear.weight.copy_(torch.from_numpy(head.weight))
        module.linear.bias.copy_(torch.from_numpy(head.bias))
    name = f"{LinearClassifier.__module__}.{LinearClassifier.__name__}"
    architecture = {
        **model["architecture"],
        "classifier": {"class": name, "arguments": arguments},
    }
    return architecture, module
