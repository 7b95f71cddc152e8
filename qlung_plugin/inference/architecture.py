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
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from qlung_plugin.inference.components import find_components
from qlung_plugin.utils.state_dicts import DAMAGED

PACKAGE = "qlung_plugin"

Place = tuple[str | int, ...]  # names of what a value is in, and its own
Bounds = Mapping[str, tuple[float, float]]

# The public components of these kinds: each is one by where this package defines
# it, see components.find_components.
KINDS = ("quality", "compute_features", "backbone", "classifier")
LISTED = {
    component.path: component
    for component in find_components().values()
    if component.kind in KINDS
}

# Front ends and qualities compute tables as they are made, which BOUNDS keeps
# small and MOST_OBJECTS few. Only data tell their shapes, so they are made even
# for an outline.
COMPUTING = tuple(
    path
    for path, component in LISTED.items()
    if component.kind in ("quality", "compute_features")
)

COMPONENTS = (
    *LISTED,
    f"{PACKAGE}.dataio.cycles.CycleFeatures",
    f"{PACKAGE}.dataio.cycles.CycleResampler",
    f"{PACKAGE}.dataio.cycles.FixedLength",
    f"{PACKAGE}.lobes.models.efficientat.EfficientATFirstBlocks",
    # What EmbeddingModel takes.
    "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
    "speechbrain.lobes.models.ResNet.ResNet",
    "speechbrain.lobes.models.Xvector.Xvector",
    "torch.nn.Identity",
    "torch.nn.Sequential",
)

SEQUENTIAL = "torch.nn.Sequential"

# What numbers of these names may be; those of a list, too. A component may say
# it of its own arguments, by argument_bounds.
BOUNDS: Bounds = {
    "sample_rate": (1_000, 192_000),  # Hz
    "duration": (0.01, 60),  # s
    "fade": (0, 60),  # s
    "window_length": (1, 1_000),  # ms
    "hop_length": (1, 1_000),  # ms
    "n_fft": (2, 2**18),
    "n_mels": (1, 1_024),
    "num_mel_bins": (1, 1_024),
    "num_classes": (2, 1_000),
    # Of EfficientAT and its first blocks
    "width_mult": (0.01, 16),
    "blocks": (0, 17),
    # Numbers of parts of SpeechBrain's
    "block_sizes": (1, 128),
    "res2net_scale": (1, 128),
    "tdnn_blocks": (1, 128),
}
ANY_NUMBER = (-1_000_000, 1_000_000)
LONGEST_NAME = 100  # of an argument
LONGEST_TEXT = 1_000
LONGEST_LIST = 1_000
MOST_VALUES = 20_000
MOST_OBJECTS = 100  # of which each may compute tables
MOST_MODULES = 20_000  # AST has 163; even without parameters they take memory
DEEPEST = 20

# What an argument has to be that would lead to a file, a network or a device.
FIXED = {"pretrained_weights": (None, "none"), "device": ("cpu",)}

# What constructors raise on arguments that do not go together.
UNFIT = (*DAMAGED, StrictDataclassError)


def check(architecture: object, trust: str | Iterable[str] = ()) -> None:
    """Checks that what JSON said is an architecture, and may be made.

    A component that is not allowed (see :func:`build` for ``trust``), or an
    argument out of proportion, is a ValueError that says where.

    Example
    -------
    >>> check({"backbone": {"class": "os.system", "arguments": ["ls"]}})
    Traceback (most recent call last):
    ...
    ValueError: backbone: 'os.system' is none of the components that a model may have, and of no module that trust (--trust) names
    """
    if not isinstance(architecture, dict):
        raise ValueError("an architecture is a mapping")
    checker = _Checker(trusted_modules(trust))
    for name, value in architecture.items():
        checker.check_value(value, (name,), name)


def trusted_modules(trust: str | Iterable[str]) -> tuple[str, ...]:
    """The names of modules that a caller trusts: one, or any number."""
    names = (trust,) if isinstance(trust, str) else trust
    if not isinstance(names, Iterable) or not all(
        isinstance(name, str) for name in names
    ):
        raise ValueError(
            f"trust={trust!r} names no modules: it is one such as"
            " 'my_module', or a list of them"
        )
    return tuple(names)


class _Checker:
    """Checks values one after another; it knows what came before."""

    def __init__(self, trust: tuple[str, ...]) -> None:
        self.trust = trust
        self.objects: set[str] = set()  # places of those that came before
        self.budget = MOST_VALUES  # how many values there may still be

    def check_value(
        self,
        value: object,
        place: Place,
        name: object,
        bounds: Bounds = BOUNDS,
        mapping: bool = False,
    ) -> None:
        """Checks a value of an argument called ``name``, at a place.

        ``bounds`` are the least and largest number by argument; ``mapping``
        says whether it may be a mapping that is no object.
        """
        where = dotted(place)
        self.budget -= 1
        if self.budget < 0 or len(place) > DEEPEST:
            raise ValueError(
                f"{where[:200]}: too many values, or nested too deeply"
            )
        if (
            not isinstance(name, str)
            or not name.isidentifier()
            or len(name) > LONGEST_NAME
        ):
            raise ValueError(f"{where[:200]}: no name of an argument")
        if name in FIXED:
            _check_fixed(value, where, FIXED[name])
        elif isinstance(value, dict):
            self.check_mapping(value, place, bounds, mapping)
        elif isinstance(value, list):
            if len(value) > LONGEST_LIST:
                raise ValueError(f"{where}: a list of {len(value)} values")
            for position, part in enumerate(value):
                self.check_value(
                    part, (*place, position), name, bounds, mapping
                )
        else:
            _check_plain(value, where, bounds.get(name, ANY_NUMBER))

    def check_mapping(
        self, value: dict, place: Place, bounds: Bounds, mapping: bool
    ) -> None:
        """Checks an object, a reference, or where it may be, a mapping."""
        where = dotted(place)
        if "class" in value:
            self.check_object(value, place)
            self.objects.add(where)
            if len(self.objects) > MOST_OBJECTS:
                raise ValueError(f"{where}: more than {MOST_OBJECTS} objects")
        elif "reference" in value:
            if value.keys() != {"reference"} or not (
                isinstance(value["reference"], str)
                and value["reference"] in self.objects
            ):
                raise ValueError(
                    f"{where}: a reference is to an object that comes before"
                )
        elif mapping:
            for key, part in value.items():
                self.check_value(part, (*place, key), key, bounds, True)
        else:
            raise ValueError(f"{where}: a mapping, but no object")

    def check_object(self, value: dict, place: Place) -> None:
        """Checks the class and the arguments of an object."""
        where, name = dotted(place), value["class"]
        own = not isinstance(name, str) or name not in COMPONENTS
        if own:
            _check_trusted(name, where, self.trust)
        arguments = value.get("arguments", {})
        if value.keys() - {"class", "arguments"} or not isinstance(
            arguments, list if name == SEQUENTIAL and arguments else dict
        ):
            raise ValueError(
                f"{where}: an object has a class and, by their names, arguments"
            )
        if isinstance(arguments, list):
            self.check_value(arguments, place, "parts")
            return
        bounds, types = BOUNDS, {}
        if name in LISTED:
            bounds = {**BOUNDS, **LISTED[name].bounds}
            types = {
                argument.name: argument.annotation
                for argument in LISTED[name].arguments
            }
        for key, given in arguments.items():
            mapping = re.search(r"\bdict\b", types.get(key, "")) is not None
            if mapping:
                if not isinstance(given, (dict, type(None))):
                    raise ValueError(
                        f"{where}: {key} has to be written out, and no"
                        f" {type(given).__name__}"
                    )
            elif (
                re.search(r"\bPath\b", types.get(key, "")) and key not in FIXED
            ):
                _check_fixed(given, f"{where}.{key}", (None,))
            self.check_value(given, (*place, key), key, bounds, mapping or own)


def dotted(place: Place) -> str:
    """A place in words, for messages and references."""
    return ".".join(map(str, place))


def _check_plain(value: object, where: str, bounds: tuple) -> None:
    """Checks text, number, truth or null."""
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"{where}: a text of {len(value)} characters")
    elif isinstance(value, (int, float)):  # truth included, which is 0 or 1
        low, high = bounds
        if not low <= value <= high:  # NaN neither
            raise ValueError(f"{where}: {value} is not in {low} to {high}")
    elif value is not None:
        raise ValueError(f"{where}: a {type(value).__name__} is not plain")


def _check_fixed(value: object, where: str, allowed: tuple) -> None:
    """Checks what would lead to a file, a network or a device."""
    if value not in allowed:
        raise ValueError(
            f"{where}: {str(value)[:100]!r} would be looked for outside of the"
            f" model; only {allowed[0]} is allowed"
        )


def _check_trusted(name: object, where: str, trust: tuple[str, ...]) -> None:
    """Checks that a name is of a class that a trusted module defines.

    A function is none, nor a class that the module imports from elsewhere, nor
    one that is no ``torch.nn.Module``.
    """
    module, _, attribute = str(name).rpartition(".")
    if not isinstance(name, str) or not _is_in(module, trust):
        raise ValueError(
            f"{where}: {str(name)[:200]!r} is none of the components that a"
            " model may have, and of no module that trust (--trust) names"
        )
    try:
        component = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(
            f"{where}: {module} cannot be imported ({error}): put its folder on"
            " PYTHONPATH"
        ) from error
    if not (
        isinstance(component, type)
        and issubclass(component, nn.Module)
        and _is_in(component.__module__, trust)
    ):
        raise ValueError(
            f"{where}: {module} defines no torch.nn.Module called {attribute}"
        )


def _is_in(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of some, or in one of some packages."""
    return any(
        module == name or module.startswith(f"{name}.") for name in packages
    )


def own_modules(architecture: dict) -> list[str]:
    """The modules from outside that an architecture names, each once.

    Example
    -------
    >>> own_modules({"backbone": {"class": "mine.Own"}, "quality": {"a": [1]}})
    ['mine']
    """
    modules: dict[str, None] = {}
    values: list = [architecture]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            name = value.get("class")
            if isinstance(name, str) and name not in COMPONENTS:
                modules[name.rpartition(".")[0]] = None
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
    return list(modules)


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
    objects: dict[str, object] = {}
    with _counting_modules():
        return {
            name: _make(value, (name,), objects, device)
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


def _make(
    value: Any, place: Place, objects: dict[str, Any], device: str
) -> Any:
    if isinstance(value, list):
        return [
            _make(part, (*place, position), objects, device)
            for position, part in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    if "reference" in value:
        return objects[value["reference"]]
    if "class" not in value:
        return {
            key: _make(part, (*place, key), objects, device)
            for key, part in value.items()
        }
    name, given = value["class"], value.get("arguments", {})
    parts = given.items() if isinstance(given, dict) else enumerate(given)
    made: dict[Any, Any] = {
        key: _make(part, (*place, key), objects, device) for key, part in parts
    }
    module, _, attribute = name.rpartition(".")
    component = getattr(importlib.import_module(module), attribute)
    where = dotted(place)
    # Nobody knows what a component from outside computes as it is made.
    computing = name in COMPUTING or name not in COMPONENTS
    try:
        with torch.device("cpu" if computing else device):
            objects[where] = (
                component(**made)
                if isinstance(given, dict)
                else component(*made.values())
            )
    except UNFIT as error:
        raise ValueError(
            f"{where}: {attribute} cannot be made of these arguments: {error}"
        ) from error
    return objects[where]


def size_in_bytes(objects: dict) -> int:
    """How much memory the modules among some objects take, on ``meta`` too.

    Parameters and buffers that are shared count once.

    Example
    -------
    >>> size_in_bytes({"layer": nn.Linear(3, 2), "labels": ["a"]})
    32
    """
    tensors = {
        id(tensor): tensor
        for module in objects.values()
        if isinstance(module, nn.Module)
        for tensor in (*module.parameters(), *module.buffers())
    }
    return sum(
        math.prod(tensor.shape) * tensor.element_size()
        for tensor in tensors.values()
    )
