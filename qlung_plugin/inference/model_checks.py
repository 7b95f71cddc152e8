"""What a model has to be before it is asked anything.

Its parts are of the right kinds and go together, and there are numbers in all
of its tensors: an overflow or a NaN would come out as some class.

Authors
 * qlung_plugin contributors
"""

import torch
from torch import nn

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.quality import QualityMeasure
from qlung_plugin.nnet.classifiers import AngularClassifier, LinearClassifier

# The modules of a model, and what they have to be.
PARTS = {
    "quality": QualityMeasure,
    "cycle_features": CycleFeatures,
    "backbone": Backbone,
    "classifier": (AngularClassifier, LinearClassifier),
}


def check_kinds(model):
    """Checks that all parts of a model are there and of their kinds.

    Arguments
    ---------
    model : dict
        The modules of :data:`PARTS`, and anything else.

    Raises
    ------
    ValueError
        If one is not.

    Example
    -------
    >>> check_kinds({"quality": nn.Identity()})
    Traceback (most recent call last):
    ...
    ValueError: quality is missing, or is something else
    """
    for name, kind in PARTS.items():
        if not isinstance(model.get(name), kind):
            raise ValueError(f"{name} is missing, or is something else")


def check_parts(model, labels):
    """Checks that the parts of a model are such and go together.

    Arguments
    ---------
    model : dict
        See :func:`check_kinds`.
    labels : object
        What is to be a list of different texts, one per class.

    Raises
    ------
    ValueError
        If they do not.
    """
    check_kinds(model)
    cycle_features = model["cycle_features"]
    if not (
        isinstance(cycle_features.resampler, CycleResampler)
        and isinstance(cycle_features.fix_length, FixedLength)
        and isinstance(cycle_features.compute_features, nn.Module)
    ):
        raise ValueError("cycle_features is made of something else")
    if not (
        isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
        and "".join(labels).isprintable()  # nor controls a terminal
        and len(set(labels)) == len(labels)
    ):
        raise ValueError("labels is no list of different texts in one line")
    try:
        with torch.inference_mode():
            embedding = torch.zeros(1, model["backbone"].embedding_dim)
            logits, _ = model["classifier"](embedding)
    except RuntimeError as error:
        raise ValueError(
            f"backbone and classifier do not go together: {error}"
        ) from error
    if logits.shape[1] != len(labels):
        raise ValueError(
            f"{len(labels)} labels, but a classifier of {logits.shape[1]}"
            " classes"
        )


def check_tensors(model, origin):
    """Checks that there are numbers in all parameters and buffers.

    Arguments
    ---------
    model : dict
        Modules by name, and anything else.
    origin : str or Path
        Where the tensors come from, for the message.

    Raises
    ------
    ValueError
        If a tensor holds NaN or an infinite number, or a variance is negative;
        NaN is allowed where a quality measure was not fitted and need not be.
        If it was fitted to what no training set has.

    Example
    -------
    >>> norm = nn.BatchNorm1d(2)
    >>> _ = norm.running_var.fill_(-1)
    >>> check_tensors({"backbone": norm}, "model.safetensors")
    Traceback (most recent call last):
    ...
    ValueError: model.safetensors: backbone.running_var has a negative variance
    """
    for part, module in model.items():
        if not isinstance(module, nn.Module):
            continue
        unfitted = _unfitted(module)
        # Not only the state dict: what a constructor computed is used, too.
        for key, tensor in (
            *module.named_parameters(),
            *module.named_buffers(),
        ):
            name = f"{origin}: {part}.{key}"
            if key in unfitted:
                continue
            if not tensor.isfinite().all():
                raise ValueError(
                    f"{name} holds NaN or infinite numbers: did the training"
                    " diverge?"
                )
            elif key.endswith("running_var") and (tensor < 0).any():
                raise ValueError(f"{name} has a negative variance")
        if isinstance(module, QualityMeasure):
            try:
                module.check_fitted()
            except ValueError as error:
                raise ValueError(f"{origin}: {part}.{error}") from error


def _unfitted(module):
    """Names of the measures' buffers that are all NaN, and may be."""
    return {
        f"{place}.{key}".removeprefix(".")
        for place, measure in module.named_modules()
        if isinstance(measure, QualityMeasure)
        and hasattr(measure, "normalisation")
        for key, buffer in measure.named_buffers(recurse=False)
        if buffer.isnan().all()
    }
