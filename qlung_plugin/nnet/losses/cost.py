"""The losses of this package as the cost of a recipe of SpeechBrain.

Authors
 * qlung_plugin contributors
"""

from itertools import chain
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from qlung_plugin.nnet.losses.angular import AngularMarginLoss, MarginLoss
from qlung_plugin.nnet.losses.class_counts import read_class_counts
from qlung_plugin.nnet.losses.norm import AdaFaceLoss, MagFaceLoss
from qlung_plugin.nnet.margins.base import Margin
from qlung_plugin.nnet.margins.norm import MagFaceMargin
from qlung_plugin.nnet.margins.quality import QualityMargin
from qlung_plugin.nnet.parts import (
    ClassCounts,
    ClassValues,
    ObjectivePart,
    at_least_float32,
    check_targets,
    sum_over_processes,
)

RUNNING = "running"
# How far beyond 1 a cosine may be rounded, in bfloat16.
ROUNDING = 0.01


class QualitySource(Protocol):
    """What knows the quality of the batch that has just passed.

    :class:`qlung_plugin.lobes.quality.QualityTap` is one.
    """

    def take(
        self, batch: int, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The quality ``[batch]``, once; of another batch, a RuntimeError."""


class MarginCost(nn.Module):
    """Any loss or margin of this package as ``compute_cost`` of a recipe.

    SpeechBrain's recipes of classification call ``compute_cost(predictions,
    targets, length)``, with a ``LogSoftmaxWrapper`` of its margins there. This
    takes the wrapper's place, or that of the margin inside it (then ``loss`` is
    a margin or margin loss). With :class:`~qlung_plugin.nnet.margins.FixedMargin`
    its values are those of ``AdditiveAngularMargin``, in the validation, too.

    It may be in ``hparams`` alone: what it holds follows the predictions to their
    device. It has a state (class counts, the steps of a schedule): have it among
    the ``recoverables`` if a training is to go on where it was interrupted.

    A :class:`~qlung_plugin.nnet.margins.MarginSchedule` inside counts its steps
    by itself, if its ``unit`` is ``step``. With epochs the recipe has to call
    :meth:`set_progress`, which is passed on; it is an error if it does not.

    Arguments
    ---------
    loss : ObjectivePart
        A loss or a margin of this package, or of your own on the same base. A
        margin is added to the angle, as by
        :class:`~qlung_plugin.nnet.losses.AngularMarginLoss`. Losses that look at
        the embeddings (:class:`~qlung_plugin.nnet.losses.AdaFaceLoss`,
        :class:`~qlung_plugin.nnet.losses.MagFaceLoss`) are refused: a cost is not
        given them.
    quality : QualitySource, optional
        Where the quality of the batch comes from, for margins that depend on
        it: the :class:`qlung_plugin.lobes.quality.QualityTap` of the recipe.
    class_counts : sequence of int or torch.Tensor, str or Path, optional
        For margins and losses that depend on the classes' frequencies, in the
        order of their indices. A list. Or a file, read with the first batch,
        since recipes write it after the YAML is loaded: the manifest of the
        training set in JSON or CSV, with the two arguments below, or a JSON list.
        Or ``running``: the training batches so far are counted, those of all
        processes, on top of one sample per class. It counts what is trained on,
        copies by augmentation included, and what a sampler draws: behind one
        that balances the classes, they are equally frequent.
    scale : float, optional
        What predictions are multiplied by, to be logits. Required for a margin
        (30 in SpeechBrain's recipes), and for losses on logits, such as
        :class:`~qlung_plugin.nnet.losses.MarginRegularizedLoss` (37 in QLung) or
        :class:`~qlung_plugin.nnet.losses.CrossEntropyLoss`, where 1 says that the
        predictions are logits as they come. Margin losses have their own.
    label_key : str, optional
        The manifest's key of the label.
    label_encoder : str or Path, optional
        The file of the recipe's label encoder, such as
        ``<save_folder>/label_encoder.txt``, so that the indices are the recipe's.

    Raises
    ------
    ValueError
        If the loss cannot work here; the message says what would.
    RuntimeError
        When called, if class counts, a quality or an epoch is needed and missing.

    Example
    -------
    >>> from qlung_plugin.nnet.margins import FixedMargin
    >>> compute_cost = MarginCost(FixedMargin(0.2), scale=30.0)
    >>> predictions = torch.tensor([[[0.9, 0.1]], [[0.3, 0.4]]])  # cosines
    >>> compute_cost(predictions, torch.tensor([[0], [1]]))
    tensor(1.3833)
    """

    yaml_key = "compute_cost"
    yaml_values = {"loss": "!new:FixedMargin", "scale": 30.0}

    quality: QualitySource | None
    counts: torch.Tensor | None

    def __init__(
        self,
        loss: ObjectivePart,
        quality: QualitySource | None = None,
        class_counts: ClassCounts | Path | str | None = None,
        scale: float | None = None,
        label_key: str | None = None,
        label_encoder: Path | str | None = None,
    ) -> None:
        super().__init__()
        self.loss = _as_loss(loss, scale)
        self.scale = 1.0 if scale is None else scale
        self.on_cosines = any(
            isinstance(part, MarginLoss) for part in self.loss.modules()
        )
        _check_quality(self.loss, quality)
        # Not one of its modules: its parameters are those of the features.
        object.__setattr__(self, "quality", quality)
        self.running = isinstance(class_counts, str) and class_counts == RUNNING
        self.counts = None  # with `running`, ``[class]``
        self.count_file: Path | str | None = None
        self.label_key, self.label_encoder = label_key, label_encoder
        if isinstance(class_counts, (str, Path)):
            if (label_key is None) != (label_encoder is None):
                raise ValueError(
                    "label_key and label_encoder of MarginCost go together: the"
                    " manifest's key of the label, and the file of its encoder"
                )
            if not self.running:
                self.count_file = class_counts
        elif class_counts is not None:
            self.loss.fit(class_counts)
        self.was_called = False

    def fit(self, class_counts: ClassCounts) -> None:
        """Tells the class counts, for recipes of one's own; see the loss's."""
        self.loss.fit(class_counts)

    def set_progress(self, epoch: int, step: int) -> None:
        """Tells where the training stands, for recipes of one's own."""
        self.loss.set_progress(epoch, step)

    def forward(
        self,
        predictions: torch.Tensor,
        targets: torch.Tensor,
        length: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of a batch; inside ``LogSoftmaxWrapper``, its logits.

        Arguments
        ---------
        predictions : torch.Tensor
            ``[batch, 1, class]`` or ``[batch, class]``: cosines where there is a
            margin, as of ``speechbrain.lobes.models.ECAPA_TDNN.Classifier``.
        targets : torch.Tensor
            Class indices, ``[batch, 1]`` or ``[batch]``. Floats ``[batch,
            class]``, 1 at the target, are what the wrapper gives.
        length : torch.Tensor, optional
            Valid share of each recording, ``[batch]``, for the quality: there is
            one prediction for the whole of it.

        Returns
        -------
        torch.Tensor
            A scalar; for the wrapper's targets ``[batch, class]``, the scaled
            cosines with their margins.

        Raises
        ------
        ValueError
            If a shape is wrong, a target is no class, or a cosine is none; of
            the values on a GPU, those of the first batch are looked at.
        RuntimeError
            If something is missing; and in place of any TypeError, because
            ``LogSoftmaxWrapper`` would try again without the targets.
        """
        try:
            return self._compute(predictions, targets, length)
        except TypeError as error:
            raise RuntimeError(
                f"{type(self.loss).__name__} failed in MarginCost: {error}"
            ) from error

    def _compute(
        self,
        predictions: torch.Tensor,
        targets: torch.Tensor,
        lengths: torch.Tensor | None,
    ) -> torch.Tensor:
        if predictions.dim() == 3:
            predictions = predictions.squeeze(1)
        wrapped = targets.is_floating_point()
        if wrapped:
            self._check_one_hot(predictions, targets)
            targets = targets.argmax(dim=1)
        elif targets.dim() == 2:
            targets = targets.squeeze(1)
        if predictions.dim() != 2 or targets.shape != predictions.shape[:1]:
            raise ValueError(
                "predictions must be [batch, 1, class] or [batch, class], and"
                " targets as many, [batch, 1] or [batch], but are"
                f" {list(predictions.shape)} and {list(targets.shape)}: copies"
                " by augmentation need copies of the targets (replicate_labels)"
            )
        quality = None
        if self.quality is not None:
            quality = self.quality.take(len(predictions), lengths)
            quality = quality.to(predictions.device)
        self._check_values(predictions, targets)
        self._know_counts(targets, predictions.shape[1])
        self._prepare(predictions)
        if wrapped:
            assert isinstance(self.loss, MarginLoss)
            return self.loss.margin_logits(predictions, targets, quality)
        predictions = at_least_float32(predictions)
        logits = self.scale * predictions
        return self.loss(logits, predictions, None, targets, quality)

    def _check_one_hot(
        self, predictions: torch.Tensor, targets: torch.Tensor
    ) -> None:
        """Checks that targets of floats are what LogSoftmaxWrapper makes."""
        if not (
            isinstance(self.loss, MarginLoss)
            and type(self.loss).forward is MarginLoss.forward
        ):
            raise ValueError(
                f"{type(self.loss).__name__} is more than a margin on the logits,"
                " which is all that fits inside LogSoftmaxWrapper: give MarginCost"
                " itself as compute_cost, without the wrapper"
            )
        shape = targets.shape == predictions.shape
        if not shape or (
            self._may_look_at(targets)
            and not (
                (targets.sum(dim=1) == 1) & (targets.amax(dim=1) == 1)
            ).all()
        ):
            raise ValueError(
                "targets must be class indices, or floats [batch, class] with 1"
                " at the target and 0 elsewhere, as LogSoftmaxWrapper makes them"
                + ("" if shape else f"; not floats {list(targets.shape)}")
            )

    def _may_look_at(self, tensor: torch.Tensor) -> bool:
        """Whether values are checked: a GPU would have to be waited for."""
        return tensor.device.type == "cpu" or not self.was_called

    def _check_values(
        self, predictions: torch.Tensor, targets: torch.Tensor
    ) -> None:
        """Checks the targets, and that predictions are cosines if they must."""
        check_targets(targets, predictions.shape[1])
        if not (self.on_cosines and self._may_look_at(predictions)):
            return
        values = predictions.detach().float()
        wrong = (values.abs() > 1 + ROUNDING).any()
        if not self.was_called and len(values):
            # Of two classes these may all lie within [-1, 1], to begin with.
            log_probabilities = values.logsumexp(dim=1).abs() < 1e-4
            wrong = wrong | log_probabilities.all()
        if wrong:
            raise ValueError(
                f"{type(self.loss).__name__} needs cosines, but predictions go"
                f" from {values.min().item():g} to {values.max().item():g}: take"
                " a classifier that returns cosines, such as"
                " speechbrain.lobes.models.ECAPA_TDNN.Classifier, not logits or"
                " logarithms of probabilities"
            )

    def _know_counts(self, targets: torch.Tensor, classes: int) -> None:
        """Tells the loss what is known of the class counts by now."""
        if self.count_file is not None:
            counts = read_class_counts(
                self.count_file, self.label_key, self.label_encoder
            )
            if len(counts) != classes:
                raise ValueError(
                    f"{self.count_file} has {len(counts)} classes, but"
                    f" predictions are of {classes}"
                )
            self.loss.fit(counts)
            self.count_file = None
        if self.running:
            first = self.counts is None
            if self.counts is None:
                self.counts = torch.ones(classes, dtype=torch.long)
            training = self.training and torch.is_grad_enabled()
            if training:
                batch = torch.bincount(targets, minlength=classes)
                self.counts = self.counts + sum_over_processes(batch).cpu()
            if training or first:
                self.loss.fit(self.counts)

    def _prepare(self, predictions: torch.Tensor) -> None:
        """Checks what the loss has, at first, and has it where they are."""
        device, classes = predictions.device, predictions.shape[1]
        for part in [] if self.was_called else self.loss.modules():
            if not isinstance(part, ClassValues):
                continue
            name = type(part).__name__
            if len(part.values) != classes:
                raise ValueError(
                    f"predictions are of {classes} classes, but {name} of"
                    f" {len(part.values)}: give it num_classes"
                )
            if part.values.isnan().any():
                raise RuntimeError(
                    f"{name} needs the class counts: give MarginCost"
                    " class_counts, a list, a file or 'running'"
                )
        self.was_called = True
        tensors = chain(self.loss.parameters(), self.loss.buffers())
        if any(tensor.device != device for tensor in tensors):
            self.loss.to(device)

    def get_extra_state(self) -> torch.Tensor:
        """The running counts, ``[class]``; none, if there are none."""
        if self.counts is None:
            return torch.zeros(0, dtype=torch.long)
        return self.counts

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Takes over running counts."""
        self.counts = state.cpu() if len(state) else None


def _as_loss(part: ObjectivePart, scale: float | None) -> ObjectivePart:
    """The loss, or that of a margin, if it can work with these arguments."""
    name = type(part).__name__
    if not isinstance(part, ObjectivePart):
        raise ValueError(
            "loss of MarginCost must be a loss or a margin of qlung_plugin.nnet,"
            f" or of its base ObjectivePart, not {name}"
        )
    for inner in part.modules():
        if isinstance(inner, (AdaFaceLoss, MagFaceLoss, MagFaceMargin)):
            raise ValueError(
                f"{type(inner).__name__} needs the embeddings, which a recipe"
                " does not give its cost: call the loss itself in the recipe, as"
                " loss(logits, cosines, embeddings, targets, quality)"
            )
    if isinstance(part, MarginLoss):
        if scale is not None:
            raise ValueError(
                f"{name} has a scale of its own, {part.scale:g}: leave out the"
                " scale of MarginCost"
            )
        return part
    if scale is None:
        raise ValueError(
            f"MarginCost of a {name} needs a scale, the factor from cosines to"
            " logits, such as 30"
            + (
                ""
                if isinstance(part, Margin)
                else "; or 1, if the predictions are logits already"
            )
        )
    return AngularMarginLoss(part, scale) if isinstance(part, Margin) else part


def _check_quality(loss: nn.Module, quality: QualitySource | None) -> None:
    """Checks that a quality is there, if one is needed, and can be asked."""
    if quality is not None and not hasattr(quality, "take"):
        raise ValueError(
            "quality of MarginCost must be a"
            " qlung_plugin.lobes.quality.QualityTap, which knows the batch's, not"
            f" {type(quality).__name__}"
        )
    needs = any(isinstance(part, QualityMargin) for part in loss.modules())
    if needs and quality is None:
        raise ValueError(
            "QualityMargin needs the quality of each batch: have the recipe's"
            " compute_features in a qlung_plugin.lobes.quality.QualityTap, and"
            " give that to MarginCost as quality"
        )
