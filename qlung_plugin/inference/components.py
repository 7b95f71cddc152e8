"""The catalogue of components, as the code itself describes them.

A class is in it because of where it is defined and what it inherits from, see
:func:`find_components`; no list names it. What else is to be known of it is
told by its docstring and by class attributes, plain literals, which subclasses
inherit:

* ``yaml_key``, the key of the recipes, where it is not that of its kind;
* ``yaml_values``, what its YAML block gives to arguments, see
  :mod:`qlung_plugin.inference.component_blocks`;
* ``argument_bounds``, least and largest number by argument, of a model that is
  opened, see :mod:`qlung_plugin.inference.architecture`.

The sources are parsed, not imported: a list of all components takes no torch
and less time than its import.

Authors
 * qlung_plugin contributors
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1]
LOBES, NNET = f"{PACKAGE.name}.lobes", f"{PACKAGE.name}.nnet"


class Kind(NamedTuple):
    """A key of the recipes, and where the classes are that it may name."""

    key: str
    place: str  # a package or module of this one
    base: str  # the class that all of them inherit from, where it is defined


KINDS = (
    Kind("quality", "lobes.quality", f"{LOBES}.quality.base.QualityMeasure"),
    Kind("quality_tap", "lobes.quality.tap", "torch.nn.Module"),
    Kind(
        "compute_features", "lobes.features", f"{LOBES}.features.base.FrontEnd"
    ),
    Kind("backbone", "lobes.models", f"{LOBES}.models.backbone.Backbone"),
    Kind("classifier", "nnet.classifiers", f"{NNET}.classifiers.Classifier"),
    Kind("margin", "nnet.margins", f"{NNET}.margins.base.Margin"),
    Kind("loss", "nnet.losses", f"{NNET}.parts.ObjectivePart"),
    Kind("cost", "nnet.losses.cost", "torch.nn.Module"),
    Kind("waveform_augmentation", "augment.waveforms", "torch.nn.Module"),
    Kind("mixing", "augment.mixing", "torch.nn.Module"),
    Kind("weight_averaging", "training.weight_averaging", "object"),
    Kind("lr_annealing", "nnet.schedulers", "object"),
)

# Class attributes that are read.
ATTRIBUTES = ("yaml_key", "yaml_values", "argument_bounds")

SECTION = re.compile(r"^Arguments\n-+\n(.*?)(?=^\w+\n-+$|\Z)", re.M | re.S)
ENTRY = re.compile(
    r"^(\w+(?:, \w+)*)(?: : (.*))?\n((?:(?: .*)?\n)+)", flags=re.M
)


class Argument(NamedTuple):
    """An argument of a component."""

    name: str
    default: str | None  # as the code writes it; None: it is required
    type: str  # as the docstring has it
    description: str


class Component(NamedTuple):
    """A class that a recipe can name."""

    name: str
    kind: str  # the key of its kind
    key: str  # of the recipes
    module: str  # that defines it
    path: str  # to name it by
    description: str  # the first sentence of its docstring
    arguments: tuple[Argument, ...]
    values: dict[str, Any]  # what its YAML block gives to arguments
    bounds: dict[str, tuple[float, float]]  # least, largest number by argument

    @property
    def tag(self) -> str:
        """What makes one of these in YAML."""
        return f"!new:{self.path}"


class _Source(NamedTuple):
    """What the source of a module says."""

    classes: dict[str, ast.ClassDef]
    imports: dict[str, str]  # where a name comes from
    exported: tuple[str, ...]  # __all__


def find_components() -> dict[str, Component]:
    """All components by name, in the order of :data:`KINDS`.

    A component is a class in a place that :data:`KINDS` lists, which

    * is public: neither it nor its module has a leading underscore;
    * inherits from the base of its kind;
    * is not itself a base, of which the docstring says "Base class" first.

    It is named by its package where the package has it in ``__all__``, else by
    its module. Defaults of arguments are taken to be literals. Two of one name,
    or a class attribute that is no literal, are a ValueError.

    Example
    -------
    >>> component = find_components()["QualityMargin"]
    >>> component.tag
    '!new:qlung_plugin.nnet.margins.QualityMargin'
    >>> component.arguments[0].name, component.arguments[0].default
    ('kappa', '0.5')
    """
    components: dict[str, Component] = {}
    for kind in KINDS:
        of_kind = sorted(
            _components_of(kind),
            key=lambda component: (component.key, component.name),
        )
        for component in of_kind:
            other = components.setdefault(component.name, component)
            if other is not component:
                raise ValueError(
                    f"two components are called {component.name}, in"
                    f" {other.module} and in {component.module}: rename one"
                )
    return components


def _components_of(kind: Kind) -> Iterator[Component]:
    for module in _modules(f"{PACKAGE.name}.{kind.place}"):
        for name, node in _read(module).classes.items():
            lineage, bases = _lineage(module, name)
            docstring = ast.get_docstring(node) or ""
            if (
                name.startswith("_")
                or kind.base not in bases
                or docstring.startswith("Base class")
            ):
                continue
            attributes = _attributes(lineage)
            package = module.rpartition(".")[0]
            exported = name in _read(package).exported
            yield Component(
                name=name,
                kind=kind.key,
                key=attributes.get("yaml_key", kind.key),
                module=module,
                path=f"{package if exported else module}.{name}",
                description=plain_text(
                    " ".join(docstring.split("\n\n")[0].split())
                ),
                arguments=tuple(_arguments(lineage)),
                values=attributes.get("yaml_values", {}),
                bounds=attributes.get("argument_bounds", {}),
            )


def plain_text(text: str) -> str:
    """A docstring's text without its markup.

    Example
    -------
    >>> plain_text("``fitted``: by :meth:`fit`, see :class:`~a.b.Score`.")
    'fitted: by fit, see Score.'
    """
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", text)
    return text.replace("``", "")


def _path(module: str) -> Path:
    """Where the source of a module of this package is."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _modules(place: str) -> list[str]:
    """The names of the public modules in a package, or of the one module."""
    path = _path(place)
    if path.name != "__init__.py":
        return [place]
    paths = sorted(path.parent.rglob("*.py"))
    parts = [
        path.relative_to(PACKAGE.parent).with_suffix("").parts for path in paths
    ]
    return [
        ".".join(names)
        for names in parts
        if not any(name.startswith("_") for name in names)
    ]


@cache
def _read(module: str) -> _Source:
    """The :class:`_Source` of a module of this package."""
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    source = _Source({}, {}, ())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            source.classes[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                source.imports[name] = f"{node.module}.{alias.name}"
        elif (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "__all__"
        ):
            names = tuple(ast.literal_eval(node.value))
            source = source._replace(exported=names)
    return source


def _find(module: str, name: str) -> tuple[str, str]:
    """The module that defines a class, and its name there.

    The class may be called ``nn.Module`` in the module that is given; of another
    package it is found as far as imports tell, such as in ``torch.nn``.
    """
    while module.split(".")[0] == PACKAGE.name:
        source = _read(module)
        if name in source.classes:
            break
        head, _, rest = name.partition(".")
        path = f"{source.imports.get(head, head)}.{rest}".rstrip(".")
        module, _, name = path.rpartition(".")
    return module, name


def _lineage(module: str, name: str) -> tuple[list[ast.ClassDef], set[str]]:
    """A class and all that it inherits from, depth first.

    First those of this package, then where all of them are defined.
    """
    nodes: list[ast.ClassDef] = []
    paths = {f"{module}.{name}".lstrip(".")}
    if module.split(".")[0] == PACKAGE.name:
        nodes.append(_read(module).classes[name])
        for base in map(ast.unparse, nodes[0].bases or [ast.Name("object")]):
            further, inherited = _lineage(*_find(module, base))
            nodes += further
            paths |= inherited
    return nodes, paths


def _attributes(lineage: list[ast.ClassDef]) -> dict[str, Any]:
    """The values of :data:`ATTRIBUTES`; what is nearest replaces the rest."""
    attributes: dict[str, Any] = {}
    for node in reversed(lineage):
        for member in node.body:
            if isinstance(member, ast.Assign):
                name = ast.unparse(member.targets[0])
            elif isinstance(member, ast.AnnAssign):
                name = ast.unparse(member.target)
            else:
                continue
            if name not in ATTRIBUTES or member.value is None:
                continue
            try:
                value = ast.literal_eval(member.value)
            except ValueError as error:
                raise ValueError(
                    f"{name} of {node.name} has to be a literal, which is read"
                    f" without running the code: {error}"
                ) from error
            if isinstance(value, dict):
                value = {**attributes.get(name, {}), **value}
            attributes[name] = value
    return attributes


def _arguments(lineage: list[ast.ClassDef]) -> Iterator[Argument]:
    """The arguments of a class, or of the base that takes them for it."""
    inits = [
        member
        for node in lineage
        for member in node.body
        if isinstance(member, ast.FunctionDef) and member.name == "__init__"
    ]
    if not inits:
        return
    described: dict[str, tuple[str, str]] = {}
    for node in reversed(lineage):  # what is nearest replaces what is inherited
        described.update(_described(ast.get_docstring(node) or ""))
    given = inits[0].args
    names = [argument.arg for argument in given.args[1:]]
    required = len(names) - len(given.defaults)
    defaults = [None] * required + [*map(ast.unparse, given.defaults)]
    for name, default in zip(names, defaults):
        yield Argument(name, default, *described.get(name, ("", "")))


def _described(docstring: str) -> dict[str, tuple[str, str]]:
    """What the section Arguments says, type and text by argument."""
    section = SECTION.search(docstring + "\n")
    return {
        name: (kind, plain_text(" ".join(text.split())))
        for names, kind, text in ENTRY.findall(section[1] if section else "")
        for name in names.split(", ")
    }
