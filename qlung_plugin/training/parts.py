"""SpeechBrain's parts in the slots of a recipe of this package.

A slot is a key of the YAML. What SpeechBrain's recipes have there is called in
another way than a part of this package: here it is put behind the calls of
``train.py``, and what cannot work is refused before the training starts.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from qlung_plugin.nnet.classifiers import Classifier, logits_and_cosines
from qlung_plugin.nnet.losses import MarginCost, MarginLoss
from qlung_plugin.nnet.parts import ObjectivePart, at_least_float32
from qlung_plugin.nnet.scaled_cosines import ScaledCosines
from qlung_plugin.training.learning_rate import LearningRate
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.nnet.schedulers import ScheduledLoss
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# What a part raises on inputs that are not for it.
UNFIT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class CostLoss(ObjectivePart):
    """A cost of SpeechBrain's recipes, called as the losses of this package.

    These call ``compute_cost(predictions, targets, length=None)``, with
    predictions ``[batch, 1, class]`` and targets ``[batch, 1]``. A cost with a
    scale, such as a LogSoftmaxWrapper of an AdditiveAngularMargin, gets cosines;
    any other logarithms of probabilities, which are the same of logits.

    Arguments
    ---------
    cost : callable
        Of SpeechBrain.

    Example
    -------
    >>> from speechbrain.nnet.losses import nll_loss
    >>> loss = CostLoss(nll_loss)
    >>> loss(torch.zeros(1, 4), None, None, torch.tensor([2]))
    tensor(1.3863)
    """

    def __init__(self, cost: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.cost = cost
        # LogSoftmaxWrapper's margin
        scale = getattr(getattr(cost, "loss_fn", None), "scale", None)
        self.scale = None if scale is None else float(scale)

    def forward(
        self,
        logits: torch.Tensor,
        cosines: torch.Tensor,
        embeddings: torch.Tensor,
        targets: torch.Tensor,
        quality: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The cost, a scalar, of logits or cosines ``[batch, class]``."""
        if self.scale is None:
            predictions = at_least_float32(logits).log_softmax(dim=-1)
        else:
            predictions = cosines
        return self.cost(predictions.unsqueeze(1), targets.unsqueeze(1))


@contextmanager
def naming_slots() -> Iterator[None]:
    """A YAML that asks a part for what only ours have names the slot."""
    try:
        yield
    except AttributeError as error:
        if "embedding_dim" not in str(error):
            raise
        raise ValueError(
            f"backbone: {error}, which <backbone.embedding_dim> asks for: give"
            " the classifier its input_size as a number, or put the backbone into"
            " qlung_plugin.lobes.models.embedding.EmbeddingModel"
        ) from error


def adapt_parts(hparams: dict[str, Any]) -> None:
    """Puts SpeechBrain's parts of a loaded YAML behind this package's calls.

    The scale of a cost becomes the classifier's: probabilities, of the
    training's own evaluation as of the exported model, need it.
    """
    hparams["lr_annealing"] = LearningRate(hparams["lr_annealing"])
    hparams["checkpointer"].add_recoverable(
        "lr_annealing", hparams["lr_annealing"]
    )
    if not isinstance(hparams["loss"], ObjectivePart):
        _adapt_cost(hparams)
    if not callable(getattr(hparams["train_logger"], "log_stats", None)):
        raise ValueError(
            "train_logger: what has a log_stats is needed, such as the loggers of"
            f" speechbrain.utils.train_logger, not {hparams['train_logger']!r}"
        )


def _adapt_cost(hparams: dict[str, Any]) -> None:
    loss = hparams["loss"]
    parts = loss.modules() if isinstance(loss, nn.Module) else [loss]
    if any(isinstance(part, MarginCost) for part in parts):
        raise ValueError(
            "loss: MarginCost makes a loss of this package a cost for"
            " SpeechBrain's recipes; here the loss itself is needed, which it"
            " has as its argument"
        )
    if isinstance(loss, ScheduledLoss):
        raise ValueError(
            "loss: ScheduledLoss does not save its step with a checkpoint, so a"
            " training that goes on would begin its schedule again; a loss, or"
            " one cost (predictions, targets, length=None) is needed"
        )
    if not callable(loss):
        raise ValueError(
            "loss: one of qlung_plugin.nnet.losses is needed, or a cost of"
            f" SpeechBrain (predictions, targets, length=None), not {loss!r}"
        )
    cost = CostLoss(loss)
    _replace(hparams, "loss", cost)
    if cost.scale is not None:
        classifier = ScaledCosines(hparams["classifier"], cost.scale)
        _replace(hparams, "classifier", classifier)


def _replace(hparams: dict[str, Any], slot: str, part: nn.Module) -> None:
    """Puts a part in its slot, and wherever a YAML refers to the slot."""
    hparams[slot] = hparams["modules"][slot] = part
    hparams["checkpointer"].add_recoverable(slot, part)


@torch.no_grad()
def check_parts(
    hparams: dict[str, Any],
    datasets: dict[str, DynamicItemDataset],
    device: str,
) -> None:
    """Sends two training cycles through a model, and its loss.

    What does not fit is a ValueError that names its slot. Nothing is learned,
    and no random number drawn.
    """
    hparams["lr_annealing"].check_validation("valid" in datasets)
    slots = "compute_features", "backbone", "classifier", "loss"
    front_end, backbone, classifier, loss = (
        hparams["modules"][slot].eval() for slot in slots
    )
    train = datasets["train"]
    cycles = [train[i]["inputs"] for i in range(min(2, len(train)))]
    if hparams["cache_features"]:
        if any(p.requires_grad for p in front_end.parameters()):
            raise ValueError(
                f"compute_features: {_name(front_end)} has parameters to train,"
                " but its features are cached: freeze it (freeze: True), or pass"
                " --cache_features False"
            )
        inputs = torch.stack(_equally_long(cycles)).float().to(device)
    else:
        cycles = _equally_long(map(hparams["fix_length"], cycles))
        waveforms = torch.stack(cycles).float().to(device)
        inputs = call("compute_features", front_end, waveforms)
    num_classes = hparams["num_classes"]
    embeddings = call("backbone", backbone, inputs)
    shapes = {(len(inputs), 1), (len(inputs),)}
    if not torch.is_tensor(embeddings) or embeddings.shape[:-1] not in shapes:
        raise ValueError(
            "backbone: embeddings [batch, dim] or [batch, 1, dim] are needed, but"
            f" {type(backbone).__name__} made {_told(embeddings)} of"
            f" {_told(inputs)}"
        )
    output = call("classifier", classifier, embeddings)
    logits, cosines = logits_and_cosines(output)
    if logits.shape != (len(inputs), num_classes):
        raise ValueError(
            f"classifier: {num_classes} classes are needed (num_classes), but"
            f" {_name(classifier)} has {logits.shape[-1]}"
        )
    on_cosines = isinstance(classifier, ScaledCosines) or any(
        isinstance(part, MarginLoss) for part in loss.modules()
    )
    if on_cosines:
        _check_cosines(classifier, loss, cosines)
    elif not isinstance(classifier, Classifier) and torch.allclose(
        logits, logits_and_cosines(classifier(2 * embeddings)).logits
    ):
        logger.warning(
            "classifier: %s returns cosines, which are taken for logits as they"
            " are, so that all classes get nearly the same probability; a scale"
            " is needed, of a loss such as LogSoftmaxWrapper or of"
            " qlung_plugin.nnet.scaled_cosines.ScaledCosines around it",
            type(classifier).__name__,
        )
    targets = torch.arange(len(inputs), device=inputs.device) % num_classes
    quality = torch.ones(len(inputs), device=inputs.device)
    value = call(
        "loss", loss, logits, cosines, embeddings.flatten(1), targets, quality
    )
    if not torch.is_tensor(value) or value.dim() != 0:
        raise ValueError(
            f"loss: a number is needed, but {_name(loss)} returned"
            f" {_told(value)}: margins go into LogSoftmaxWrapper"
        )


def _equally_long(cycles: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    cycles = list(cycles)
    return [cycle[: min(map(len, cycles))] for cycle in cycles]


def call(slot: str, part: nn.Module, *inputs: torch.Tensor) -> Any:
    """What a part makes of inputs; if it cannot, the ValueError names the slot."""
    try:
        return part(*inputs)
    except UNFIT as error:
        raise ValueError(
            f"{slot}: {_name(part)} cannot take"
            f" {' and '.join(map(_told, inputs))}: {error}"
        ) from error


def _check_cosines(
    classifier: nn.Module, loss: nn.Module, cosines: torch.Tensor
) -> None:
    """Cosines lie in [-1, 1], as logarithms of probabilities also may."""
    in_bounds = (cosines.abs() <= 1.01).all()  # rounded, in half precision
    if not in_bounds or (cosines.logsumexp(dim=-1).abs() < 1e-4).all():
        raise ValueError(
            f"classifier: {_name(loss)} needs cosines, but {_name(classifier)}"
            f" returns from {cosines.min():.3g} to {cosines.max():.3g}: take one"
            " such as speechbrain.lobes.models.ECAPA_TDNN.Classifier or"
            " qlung_plugin.nnet.classifiers.AngularClassifier"
        )


def _name(part: Any) -> str:
    """What a part is called in the YAML."""
    part = part.cost if isinstance(part, CostLoss) else part
    part = part.classifier if isinstance(part, ScaledCosines) else part
    part = getattr(part, "func", part)  # of !name:
    return getattr(part, "__name__", type(part).__name__)


def _told(value: object) -> str:
    if torch.is_tensor(value):
        return f"a tensor {list(value.shape)}"
    return f"a {type(value).__name__}"
