"""The catalogue of components, as the code itself describes them.

A class is in it because of where it is defined and what it inherits from, see
:func:`find_components`; no list names it. What else is to be known of it is
told by its signature, its docstring and class attributes, which subclasses
inherit:

* ``yaml_key``, the key of the recipes, where it is not that of its kind;
* ``yaml_values``, what its YAML block gives to arguments, see
  :mod:`qlung_plugin.inference.component_blocks`.

Authors
 * qlung_plugin contributors
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from qlung_plugin.augment.log_mels import LogMelAugmentation
from qlung_plugin.lobes.features import FrontEnd, MelBand, RecordingLevel
from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.quality import QualityMeasure
from qlung_plugin.nnet.classifiers import Classifier
from qlung_plugin.nnet.margins import Margin
from qlung_plugin.nnet.parts import ObjectivePart

PACKAGE = "qlung_plugin"


class Kind(NamedTuple):
    """A key of the recipes, and where the classes are that it may name."""

    key: str
    place: str  # a package or module of this one
    base: type  # the class that all of them inherit from


KINDS = (
    Kind("quality", "lobes.quality", QualityMeasure),
    Kind("quality_tap", "lobes.quality.tap", nn.Module),
    Kind("compute_features", "lobes.features", FrontEnd),
    Kind("level", "lobes.features", RecordingLevel),
    Kind("band", "lobes.features", MelBand),
    Kind("backbone", "lobes.models", Backbone),
    Kind("classifier", "nnet.classifiers", Classifier),
    Kind("margin", "nnet.margins", Margin),
    Kind("loss", "nnet.losses", ObjectivePart),
    Kind("cost", "nnet.losses.cost", nn.Module),
    Kind("augmentation", "augment.log_mels", LogMelAugmentation),
    Kind("waveform_augmentation", "augment.waveforms", nn.Module),
    Kind("mixing", "augment.mixing", nn.Module),
    Kind("weight_averaging", "training.weight_averaging", object),
    Kind("lr_annealing", "nnet.schedulers", object),
)

SECTION = re.compile(r"^Arguments\n-+\n(.*?)(?=^\w+\n-+$|\Z)", re.M | re.S)
ENTRY = re.compile(r"^(\w+(?:, \w+)*)(?: : .*)?\n((?:(?: .*)?\n)+)", re.M)


class Argument(NamedTuple):
    """An argument of a component."""

    name: str
    default: Any  # inspect.Parameter.empty if it is required
    annotation: str
    description: str


class Component(NamedTuple):
    """A class that a recipe can name."""

    name: str
    kind: str  # the key of its kind
    key: str  # of the recipes
    module: str  # that defines it
    path: str  # to name it by
    description: str  # the first paragraph of its docstring
    arguments: tuple[Argument, ...]
    values: dict[str, Any]  # what its YAML block gives to arguments

    @property
    def tag(self) -> str:
        """What makes one of these in YAML."""
        return f"!new:{self.path}"


def find_components() -> dict[str, Component]:
    """All components by name, in the order of :data:`KINDS`.

    A component is a class in a place that :data:`KINDS` lists, which

    * is public: neither it nor its module has a leading underscore;
    * inherits from the base of its kind;
    * is not itself a base, of which the docstring says "Base class" first.

    It is named by its package where the package has it in ``__all__``, else by
    its module. Two of one name are a ValueError.

    Example
    -------
    >>> component = find_components()["QualityMargin"]
    >>> component.tag
    '!new:qlung_plugin.nnet.margins.QualityMargin'
    >>> component.arguments[0].name, component.arguments[0].default
    ('kappa', 0.5)
    """
    components: dict[str, Component] = {}
    for kind in KINDS:
        of_kind = [_describe(kind, cls) for cls in _classes(kind)]
        for component in sorted(of_kind, key=lambda c: (c.key, c.name)):
            other = components.setdefault(component.name, component)
            if other is not component:
                raise ValueError(
                    f"two components are called {component.name}, in"
                    f" {other.module} and in {component.module}: rename one"
                )
    return components


def _classes(kind: Kind) -> Iterator[type]:
    place = importlib.import_module(f"{PACKAGE}.{kind.place}")
    names = [place.__name__]
    if hasattr(place, "__path__"):
        found = pkgutil.walk_packages(place.__path__, f"{place.__name__}.")
        names += [info.name for info in found if "._" not in info.name]
    for name in names:
        for cls in vars(importlib.import_module(name)).values():
            if (
                isinstance(cls, type)
                # Before issubclass: to Python 3.10, list[int] is a type, too.
                and cls.__module__ == name
                and issubclass(cls, kind.base)
                and not cls.__name__.startswith("_")
                and not (cls.__doc__ or "").startswith("Base class")
            ):
                yield cls


def _describe(kind: Kind, cls: type) -> Component:
    package = cls.__module__.rpartition(".")[0]
    exported = getattr(importlib.import_module(package), "__all__", ())
    place = package if cls.__name__ in exported else cls.__module__
    values: dict[str, Any] = {}
    for base in reversed(cls.__mro__):  # what is nearest replaces the rest
        values.update(vars(base).get("yaml_values", {}))
    paragraph = (inspect.getdoc(cls) or "").split("\n\n")[0]
    return Component(
        name=cls.__name__,
        kind=kind.key,
        key=getattr(cls, "yaml_key", kind.key),
        module=cls.__module__,
        path=f"{place}.{cls.__name__}",
        description=plain_text(" ".join(paragraph.split())),
        arguments=tuple(_arguments(cls)),
        values=values,
    )


def plain_text(text: str) -> str:
    """A docstring's text without its markup."""
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", text)
    return text.replace("``", "")


def _arguments(cls: type) -> Iterator[Argument]:
    described: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = SECTION.search(inspect.cleandoc(base.__doc__ or "") + "\n")
        for names, text in ENTRY.findall(section[1] if section else ""):
            text = plain_text(" ".join(text.split()))
            described.update(dict.fromkeys(names.split(", "), text))
    for name, parameter in inspect.signature(cls).parameters.items():
        # A module without an __init__ of its own passes anything on.
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            yield Argument(
                name,
                parameter.default,
                inspect.formatannotation(parameter.annotation),
                described.get(name, ""),
            )
