"""What a model has to be before it is asked anything.

Its parts are of the right kinds and go together, and there are numbers in all
of its tensors: an overflow or a NaN would come out as some class.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
)
from qlung_plugin.inference.architecture import UNFIT
from qlung_plugin.inference.safe_files import LARGEST_WEIGHTS
from qlung_plugin.lobes.quality import QualityMeasure
from qlung_plugin.nnet.classifiers import logits_and_cosines

# Bytes of what a step makes of one cycle, of which several are in memory at a
# time: a backbone of 8 s has up to 25 MB, BEATs of 30 s has 102.
LARGEST_ACTIVATION = 2**27
# Values that a quality's short-time spectrum makes of a second; 51,200 by
# default.
MOST_POWERS = 2**21

# The modules of a model, and what they have to be. Of backbone and classifier
# nothing but their forward is used.
PARTS = {
    "quality": QualityMeasure,
    "cycle_features": CycleFeatures,
    "backbone": nn.Module,
    "classifier": nn.Module,
}


def check_kinds(model: dict[str, Any]) -> None:
    """Checks that all :data:`PARTS` of a model are there and of their kinds."""
    for name, kind in PARTS.items():
        if not isinstance(model.get(name), kind):
            raise ValueError(f"{name} is missing, or is something else")
    cycle_features = model["cycle_features"]
    if not (
        isinstance(cycle_features.resampler, CycleResampler)
        and isinstance(cycle_features.fix_length, FixedLength)
        and isinstance(cycle_features.compute_features, nn.Module)
    ):
        raise ValueError("cycle_features is made of something else")


def check_size(outline: dict[str, nn.Module]) -> None:
    """Checks how much memory the parameters and buffers of a model take."""
    modules = nn.ModuleDict(outline)  # what is shared counts once
    size = sum(
        tensor.numel() * tensor.element_size()
        for tensor in (*modules.parameters(), *modules.buffers())
    )
    if size > LARGEST_WEIGHTS:
        raise ValueError(
            f"a model of {size} bytes, when {LARGEST_WEIGHTS} is the limit"
        )


def check_parts(outline: dict[str, Any], labels: list[str]) -> None:
    """Checks that the parts of a model go together and take bounded memory.

    The parameters may be on the device ``meta``. On no step of its way, a cycle
    may take more memory than :data:`LARGEST_ACTIVATION`.
    """
    _check_rates(outline["cycle_features"])
    _check_analyses(outline["quality"])
    shape = _shape_of_logits(outline)
    if shape != (1, len(labels)):
        raise ValueError(
            f"{len(labels)} labels, but a classifier of {shape[-1]} classes"
        )


def _check_rates(cycle_features: CycleFeatures) -> None:
    """The front end has one rate."""
    rates = {
        name: module.sample_rate
        for name, module in cycle_features.named_modules()
        if hasattr(module, "sample_rate")
    }
    if len({*rates.values()}) > 1:
        raise ValueError(f"cycle_features: more than one sample_rate: {rates}")


def _check_analyses(quality: QualityMeasure) -> None:
    """The quality's frames do not make much more of a waveform than it is."""
    for name, measure in quality.named_modules(prefix="quality"):
        if not hasattr(measure, "hop_samples"):
            continue
        values = measure.sample_rate / measure.hop_samples * measure.n_fft
        if values > MOST_POWERS:
            raise ValueError(
                f"{name}: its sample_rate, n_fft (or window_length) and"
                f" hop_length make {values:.0f} values of a second, when"
                f" {MOST_POWERS} is the limit"
            )


def _shape_of_logits(outline: dict[str, Any]) -> tuple[int, ...]:
    """The way of a cycle through the model, of which nothing is computed."""
    length = outline["cycle_features"].fix_length.length
    way = {
        "cycle_features": outline["cycle_features"].compute_features,
        "backbone": outline["backbone"],
        "classifier": outline["classifier"],
    }
    with FakeTensorMode(), torch.no_grad():
        value = torch.empty(1, length)
        for name, module in way.items():
            state = {
                key: torch.empty(tensor.shape, dtype=tensor.dtype)
                for key, tensor in (
                    *module.named_parameters(),
                    *module.named_buffers(),
                )
            }
            try:
                with _Bounded():
                    value = functional_call(module.eval(), state, (value,))
            except UNFIT as error:
                raise ValueError(
                    f"{name} cannot take a cycle of fix_length, which has"
                    f" {length} samples: {error}"
                ) from error
    logits, _ = logits_and_cosines(value)
    return tuple(logits.shape)


class _Bounded(TorchDispatchMode):
    """Looks at the size of whatever is computed."""

    def __torch_dispatch__(
        self,
        func: Callable,
        types: Any,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            size = tensor.numel() * tensor.element_size()
            if size > LARGEST_ACTIVATION:
                raise ValueError(
                    f"one step makes {size} bytes of it, when"
                    f" {LARGEST_ACTIVATION} is the limit"
                )
        return result


def check_tensors(modules: nn.Module, origin: str | Path) -> None:
    """Checks that there are numbers in all parameters and buffers.

    NaN is allowed where a quality measure was not fitted and need not be; one
    that was fitted to what no training set has is refused. ``origin`` is where
    the tensors come from, for the message.
    """
    unfitted = _unfitted(modules)
    # Not only the state dict: what a constructor computed is used, too.
    for key, tensor in (*modules.named_parameters(), *modules.named_buffers()):
        if key not in unfitted and not tensor.isfinite().all():
            raise ValueError(
                f"{origin}: {key} holds NaN or infinite numbers: did the"
                " training diverge?"
            )
        if key.endswith("running_var") and (tensor < 0).any():
            raise ValueError(f"{origin}: {key} has a negative variance")
    for name, module in modules.named_children():
        if isinstance(module, QualityMeasure):
            try:
                module.check_fitted()
            except ValueError as error:
                raise ValueError(f"{origin}: {name}.{error}") from error


def _unfitted(modules: nn.Module) -> set[str]:
    """Names of the measures' buffers that are all NaN, and may be."""
    return {
        f"{place}.{key}"
        for place, measure in modules.named_modules()
        if isinstance(measure, QualityMeasure)
        and hasattr(measure, "normalisation")
        for key, buffer in measure.named_buffers(recurse=False)
        if buffer.isnan().all()
    }
