"""The components that recipes are made of, as the code itself describes them.

The sources are parsed, not imported: a list of all components takes no torch
and less time than its import.

Authors
 * qlung_plugin contributors
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]


class Kind(NamedTuple):
    """A key of the recipes, and where the classes are that it may name."""

    key: str
    place: str  # a package or module of this one
    base: str  # the class that all of them inherit from


KINDS = (
    Kind("quality", "lobes.quality", "QualityMeasure"),
    Kind("compute_features", "lobes.features", "Module"),
    Kind("backbone", "lobes.models", "Backbone"),
    Kind("classifier", "nnet.classifiers", "Module"),
    Kind("margin", "nnet.margins", "Margin"),
    Kind("loss", "nnet.losses", "ObjectivePart"),
    Kind("waveform_augmentation", "augment.waveforms", "Module"),
    Kind("mixing", "augment.mixing", "Module"),
    Kind("weight_averaging", "training.weight_averaging", "object"),
    Kind("lr_annealing", "nnet.schedulers", "object"),
)

# In its recipes compute_features puts the first blocks behind the front end.
OTHER_KEYS = {"EfficientATFeatures": "log_mel"}

SECTION = re.compile(r"^Arguments\n-+\n(.*?)(?=^\w+\n-+$|\Z)", re.M | re.S)
ENTRY = re.compile(r"^(\w+(?:, \w+)*)(?: : .*)?\n((?:(?: .*)?\n)+)", re.M)


class Argument(NamedTuple):
    """An argument of a component."""

    name: str
    default: str | None  # as the code writes it; None: it is required
    description: str


class Component(NamedTuple):
    """A class that a recipe can name."""

    name: str
    key: str  # of the recipes
    place: str  # the package or module that has all of its kind
    path: str  # to name it by
    description: str  # the first sentence of its docstring
    arguments: tuple

    @property
    def tag(self):
        """What makes one of these in YAML."""
        return f"!new:{self.path}"


class _Class(NamedTuple):
    """What the source says of a class."""

    path: str | None  # the shortest that is public; None: it is not public
    module: str
    bases: tuple
    docstring: str
    init: ast.FunctionDef | None


def find_components():
    """All components by name, in the order of :data:`KINDS`.

    A component is a class in a place that :data:`KINDS` lists, which

    * is public: it has no underscore, and where its package has an ``__all__``
      it is in it;
    * inherits from the base of its kind;
    * is not itself a base, of which the docstring says "Base class" first.

    Names of classes are taken to be unique in these packages, and defaults of
    arguments to be literals.

    Returns
    -------
    dict
        :class:`Component` by name.

    Example
    -------
    >>> component = find_components()["QualityMargin"]
    >>> component.tag
    '!new:qlung_plugin.nnet.margins.QualityMargin'
    >>> component.arguments[0].name, component.arguments[0].default
    ('kappa', '0.5')
    """
    classes = _read_classes()
    components = {}
    for kind in KINDS:
        place = f"{PACKAGE.name}.{kind.place}"
        of_kind = [
            Component(
                name,
                OTHER_KEYS.get(name, kind.key),
                place,
                found.path,
                plain_text(" ".join(found.docstring.split("\n\n")[0].split())),
                tuple(_arguments(name, classes)),
            )
            for name, found in classes.items()
            if f"{found.module}.".startswith(f"{place}.")
            and found.path is not None
            and kind.base in _lineage(name, classes)
            and not found.docstring.startswith("Base class")
        ]
        of_kind.sort(key=lambda component: (component.key, component.name))
        components.update((one.name, one) for one in of_kind)
    return components


def plain_text(text):
    """A docstring's text without its markup.

    Arguments
    ---------
    text : str
        In reStructuredText.

    Returns
    -------
    str
        For a comment or a terminal.

    Example
    -------
    >>> plain_text("``fitted``: by :meth:`fit`, see :class:`~a.b.Score`.")
    'fitted: by fit, see Score.'
    """
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", text)
    return text.replace("``", "")


def _read_classes():
    """:class:`_Class` by name, of all packages that components are in."""
    classes = {}
    for top in sorted({kind.place.split(".")[0] for kind in KINDS}):
        for path in sorted((PACKAGE / top).rglob("*.py")):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = ".".join(parts).removesuffix(".__init__")
            exported = _exported(path.with_name("__init__.py"))
            for node in _parse(path).body:
                if not isinstance(node, ast.ClassDef):
                    continue
                public = module
                if exported is not None:
                    package = ".".join(parts[:-1])
                    public = package if node.name in exported else None
                if node.name.startswith("_"):
                    public = None
                classes[node.name] = _Class(
                    public and f"{public}.{node.name}",
                    module,
                    _bases(node),
                    ast.get_docstring(node) or "",
                    _init(node),
                )
    return classes


def _parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _exported(path):
    """The names in a package's ``__all__``, None if it has none."""
    for node in _parse(path).body:
        if isinstance(node, ast.Assign):
            if ast.unparse(node.targets[0]) == "__all__":
                return ast.literal_eval(node.value)
    return None


def _bases(node):
    """The last names of the bases, such as Module of nn.Module."""
    names = [ast.unparse(base).split(".")[-1] for base in node.bases]
    return tuple(names or ["object"])


def _init(node):
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return member
    return None


def _lineage(name, classes):
    """Names of a class and of all that it inherits from, depth first."""
    names = [name]
    if name in classes:
        for base in classes[name].bases:
            names.extend(_lineage(base, classes))
    return names


def _arguments(name, classes):
    """The arguments of a class, or of the base that takes them for it."""
    known = [classes[n] for n in _lineage(name, classes) if n in classes]
    init = next((found.init for found in known if found.init), None)
    if init is None:
        return
    described = {}
    for found in reversed(known):  # what is nearest replaces what is inherited
        described.update(_described(found.docstring))
    names = [argument.arg for argument in init.args.args[1:]]
    defaults = [ast.unparse(default) for default in init.args.defaults]
    required = [None] * (len(names) - len(defaults))
    for argument, default in zip(names, required + defaults):
        yield Argument(argument, default, described.get(argument, ""))


def _described(docstring):
    """What the section Arguments says, by argument."""
    section = SECTION.search(docstring + "\n")
    return {
        name: plain_text(" ".join(text.split()))
        for names, text in ENTRY.findall(section[1] if section else "")
        for name in names.split(", ")
    }
