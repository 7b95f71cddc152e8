"""The architecture of a model as plain data, and making the model of it.

An architecture is a dict of what JSON can say. Some of its values are objects:

* ``{"class": NAME}`` with ``"arguments"``, a dict, or a list for
  ``torch.nn.Sequential``;
* ``{"reference": PLACE}``, the same object as one that comes before, such as
  ``cycle_features.compute_features``.

Nothing is made but what :data:`COMPONENTS` lists, with arguments that are plain
and not out of all proportion. No argument may name a file or an address: what
the docstring of a component says may be a Path has to be left out, or written
out where it may be a dict. Classes of other modules are made where the caller
names the module (``trust``); what they do with their arguments is their own.

Authors
 * qlung_plugin contributors
"""

import importlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from qlung_plugin.inference.components import PACKAGE, find_components
from qlung_plugin.runs.schema import excerpt
from qlung_plugin.utils.state_dicts import DAMAGED

# Front ends and qualities compute tables as they are made, which BOUNDS keeps
# small and MOST_OBJECTS few. Only data tell their shapes, so they are made even
# for an outline.
COMPUTING = ("quality", "compute_features")
NORMALISING = ("level", "band")
# The public components of these kinds: each is one by where this package defines
# it, see components.find_components.
LISTED = {
    component.path: component
    for component in find_components().values()
    if component.kind in (*COMPUTING, *NORMALISING, "backbone", "classifier")
}
COMPONENTS = (
    *LISTED,
    f"{PACKAGE}.dataio.cycles.CycleFeatures",
    f"{PACKAGE}.dataio.cycles.CycleResampler",
    f"{PACKAGE}.dataio.cycles.FixedLength",
    f"{PACKAGE}.dataio.cycles.OwnLength",
    f"{PACKAGE}.lobes.models.efficientat.EfficientATFirstBlocks",
    f"{PACKAGE}.nnet.calibrated.CalibratedClassifier",
    f"{PACKAGE}.nnet.scaled_cosines.ScaledCosines",
    # What EmbeddingModel takes.
    "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
    "speechbrain.lobes.models.ResNet.ResNet",
    "speechbrain.lobes.models.Xvector.Xvector",
    "torch.nn.Identity",
    "torch.nn.Sequential",
)

SEQUENTIAL = "torch.nn.Sequential"

# What numbers of these names may be; those of a list, too.
BOUNDS = {
    "sample_rate": (1_000, 192_000),  # Hz
    "duration": (0.01, 60),  # s
    "step": (0.01, 60),  # s
    "fade": (0, 60),  # s
    "window_length": (1, 1_000),  # ms
    "hop_length": (1, 1_000),  # ms
    "n_fft": (2, 2**18),
    "n_mels": (1, 1_024),
    "num_mel_bins": (1, 1_024),
    # Numbers of layers, of which some models compute tables
    "block_sizes": (1, 128),
    "depths": (1, 128),
    "encoder_layers": (1, 128),
    "num_hidden_layers": (1, 128),
    "res2net_scale": (1, 128),
    "tdnn_blocks": (1, 128),
}
ANY_NUMBER = (-1_000_000, 1_000_000)
MOST_VALUES = 20_000
MOST_OBJECTS = 100  # of which each may compute tables
MOST_MODULES = 5_000  # AST has 163; even without parameters they take memory

# What an argument has to be that would lead to a file, a network or a device.
FIXED = {"pretrained_weights": (None, "none"), "device": ("cpu",)}

# What constructors raise on arguments that do not go together.
UNFIT = (*DAMAGED, StrictDataclassError)


def check(architecture: object, trust: str | Iterable[str] = ()) -> None:
    """Checks that what JSON said is an architecture, and may be made.

    A component that is not allowed (see :func:`build` for ``trust``), or an
    argument out of proportion, is a ValueError that says where.
    """
    if not isinstance(architecture, dict):
        raise ValueError("an architecture is a mapping")
    if not isinstance(trust, Iterable):  # as trust=True is elsewhere
        raise ValueError(
            f"trust={trust!r} names no modules: it is one such as"
            " 'my_module', or a list of them"
        )
    checker = _Checker((trust,) if isinstance(trust, str) else tuple(trust))
    for name, value in architecture.items():
        checker.check_value(value, name, name)


class _Checker:
    """Checks values one after another; it knows what came before."""

    def __init__(self, trust: tuple[str, ...]) -> None:
        self.trust = trust
        self.objects: set[str] = set()  # places of those that came before
        self.budget = MOST_VALUES  # how many values there may still be

    def check_value(
        self, value: object, place: str, name: str, mapping: bool = False
    ) -> None:
        """Checks a value of an argument called ``name``, at a place.

        ``mapping`` says whether it may be a mapping that is no object.
        """
        self.budget -= 1
        if self.budget < 0:
            raise ValueError(f"{place}: more than {MOST_VALUES} values")
        if name in FIXED:
            _check_fixed(value, place, FIXED[name])
        elif isinstance(value, list):
            for position, part in enumerate(value):
                self.check_value(part, f"{place}.{position}", name, mapping)
        elif name == "sample_rate" and not mapping and type(value) is not int:
            raise ValueError(f"{place} has to be a whole number")
        elif not isinstance(value, dict):
            _check_plain(value, place, BOUNDS.get(name, ANY_NUMBER))
        elif "class" in value:
            self.check_object(value, place)
            self.objects.add(place)
            if len(self.objects) > MOST_OBJECTS:
                raise ValueError(f"{place}: more than {MOST_OBJECTS} objects")
        elif "reference" in value:
            if len(value) > 1 or value["reference"] not in list(self.objects):
                raise ValueError(
                    f"{place}: a reference is to an object that comes before"
                )
        elif mapping:
            for key, part in value.items():
                self.check_value(part, f"{place}.{key}", key, True)
        else:
            raise ValueError(f"{place}: a mapping, but no object")

    def check_object(self, value: dict, place: str) -> None:
        """Checks the class and the arguments of an object."""
        name, arguments = value["class"], value.get("arguments", {})
        own = not isinstance(name, str) or name not in COMPONENTS
        if own:
            _check_trusted(name, place, self.trust)
        if value.keys() - {"class", "arguments"} or not isinstance(
            arguments, list if name == SEQUENTIAL and arguments else dict
        ):
            raise ValueError(
                f"{place}: an object has a class and, by their names, arguments"
            )
        if isinstance(arguments, list):
            self.check_value(arguments, place, "parts")
            return
        annotations = {}
        if name in LISTED:
            annotations = {
                argument.name: argument.annotation
                for argument in LISTED[name].arguments
            }
        for key, given in arguments.items():
            annotation = annotations.get(key, "")
            mapping = re.search(r"\bdict\b", annotation) is not None
            if mapping:
                if not isinstance(given, (dict, type(None))):
                    raise ValueError(
                        f"{place}: {key} has to be written out, and no"
                        f" {type(given).__name__}"
                    )
            elif re.search(r"\bPath\b", annotation) and key not in FIXED:
                _check_fixed(given, f"{place}.{key}", (None,))
            self.check_value(given, f"{place}.{key}", key, mapping or own)


def _check_plain(value: object, place: str, bounds: tuple) -> None:
    """Checks text, number, truth or null."""
    if isinstance(value, (int, float)):  # truth included, which is 0 or 1
        low, high = bounds
        if not low <= value <= high:  # NaN neither
            raise ValueError(f"{place}: {value} is not in {low} to {high}")
    elif not isinstance(value, (str, type(None))):
        raise ValueError(f"{place}: a {type(value).__name__} is not plain")


def _check_fixed(value: object, place: str, allowed: tuple) -> None:
    """Checks what would lead to a file, a network or a device."""
    if value not in allowed:
        raise ValueError(
            f"{place}: {excerpt(value)} would be looked for outside of the model;"
            f" only {allowed[0]} is allowed"
        )


def _check_trusted(name: object, place: str, trust: tuple[str, ...]) -> None:
    """Checks that a name is of a class that a trusted module defines.

    A function is none, nor a class that the module imports from elsewhere, nor
    one that is no ``torch.nn.Module``.
    """
    module, _, attribute = str(name).rpartition(".")
    if not isinstance(name, str) or not _is_in(module, trust):
        raise ValueError(
            f"{place}: {excerpt(name)} is none of the components that a model may"
            " have, and of no module that trust (--trust) names"
        )
    try:
        component = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(
            f"{place}: {module} cannot be imported ({error}): put its folder on"
            " PYTHONPATH"
        ) from error
    if not (
        isinstance(component, type)
        and issubclass(component, nn.Module)
        and _is_in(component.__module__, trust)
    ):
        raise ValueError(
            f"{place}: {module} defines no torch.nn.Module called {attribute}"
        )


def _is_in(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of some, or in one of some packages."""
    return any(f"{module}.".startswith(f"{name}.") for name in packages)


def own_modules(architecture: object) -> list[str]:
    """The modules from outside that an architecture names, each once."""
    if isinstance(architecture, list):
        architecture = dict(enumerate(architecture))
    if not isinstance(architecture, dict):
        return []
    name = architecture.get("class")
    modules = []
    if isinstance(name, str) and name not in COMPONENTS:
        modules = [name.rpartition(".")[0]]
    for value in architecture.values():
        modules += own_modules(value)
    return list(dict.fromkeys(modules))


def build(
    architecture: dict, device: str = "cpu", trust: str | Iterable[str] = ()
) -> dict:
    """Checks an architecture, and makes its objects, with random weights.

    On the device ``meta`` it is an outline: modules whose parameters have shapes
    but take no memory. ``trust`` names modules, or packages of some, whose
    classes are made, too: those that they define and that are a
    ``torch.nn.Module``.

    Example
    -------
    >>> classifier = {
    ...     "class": "qlung_plugin.nnet.classifiers.LinearClassifier",
    ...     "arguments": {"input_size": 8, "num_classes": 4},
    ... }
    >>> build({"classifier": classifier})["classifier"].linear
    Linear(in_features=8, out_features=4, bias=True)
    """
    check(architecture, trust)
    objects: dict[str, Any] = {}
    with _counting_modules():
        return {
            name: _make(value, name, objects, device)
            for name, value in architecture.items()
        }


@contextmanager
def _counting_modules() -> Iterator[None]:
    """Stops what would be made of too many modules: sizes may multiply."""
    count = 0

    def count_one(*_: object) -> None:
        nonlocal count
        count += 1
        if count > MOST_MODULES:
            raise ValueError(f"more than {MOST_MODULES} modules")

    hook = register_module_module_registration_hook(count_one)
    try:
        yield
    finally:
        hook.remove()


def _make(value: Any, place: str, objects: dict[str, Any], device: str) -> Any:
    if isinstance(value, list):
        return [
            _make(part, f"{place}.{position}", objects, device)
            for position, part in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    if "reference" in value:
        return objects[value["reference"]]
    if "class" not in value:
        return _make_parts(value, place, objects, device)
    name, arguments = value["class"], value.get("arguments", {})
    parts, options = [], {}
    if isinstance(arguments, list):
        parts = _make(arguments, place, objects, device)
    else:
        options = _make_parts(arguments, place, objects, device)
    module, _, attribute = name.rpartition(".")
    component = getattr(importlib.import_module(module), attribute)
    # Nobody knows what a component from outside computes as it is made.
    computing = name not in COMPONENTS or (
        name in LISTED and LISTED[name].kind in COMPUTING
    )
    try:
        with torch.device("cpu" if computing else device):
            objects[place] = component(*parts, **options)
    except UNFIT as error:
        raise ValueError(
            f"{place}: {attribute} cannot be made of these arguments: {error}"
        ) from error
    return objects[place]


def _make_parts(
    values: dict[str, Any], place: str, objects: dict[str, Any], device: str
) -> dict[str, Any]:
    return {
        key: _make(value, f"{place}.{key}", objects, device)
        for key, value in values.items()
    }
