"""The catalogue of components, against the classes and the recipes themselves.

Authors
 * qlung_plugin contributors
"""

import ast
import importlib
import inspect
import os
import pkgutil
import pydoc
import re
import shutil
import subprocess
import sys
import types
from typing import get_args, get_origin

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from torch import nn

import qlung_plugin.augment
import qlung_plugin.lobes
import qlung_plugin.nnet
from qlung_plugin.inference import component_blocks, components
from qlung_plugin.inference.component_blocks import yaml_block
from qlung_plugin.inference.components import PACKAGE, plain_text
from qlung_plugin.lobes.features import FrontEnd
from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.quality import QualityMeasure
from qlung_plugin.nnet import losses
from qlung_plugin.nnet.classifiers import Classifier
from qlung_plugin.nnet.margins import Margin
from qlung_plugin.nnet.parts import ObjectivePart
from qlung_plugin.runs.hparams import read_hparams
from tests.unittests.catalogue import (
    COMPONENTS,
    RECIPE,
    ROOT,
    each,
    make,
    top_level_blocks,
    with_references,
)

RECIPES = sorted(ROOT.glob("recipes/*/*/hparams/**/*.yaml"))


def imported(name):
    return pydoc.locate(COMPONENTS[name].path)


@each()
def test_signature_is_that_of_the_class(name):
    cls = imported(name)
    assert cls.__name__ == name
    expected = {}
    # Modules without an __init__ have one that passes anything on.
    if cls.__init__ not in (nn.Module.__init__, object.__init__):
        for argument in inspect.signature(cls).parameters.values():
            assert argument.kind is argument.POSITIONAL_OR_KEYWORD
            expected[argument.name] = argument.default
    read = {
        argument.name: inspect.Parameter.empty
        if argument.default is None
        else ast.literal_eval(argument.default)
        for argument in COMPONENTS[name].arguments
    }
    assert list(read.items()) == list(expected.items())


def kinds(annotation):
    """The names of the types in an annotation."""
    if isinstance(annotation, types.UnionType):
        return set().union(*map(kinds, get_args(annotation)))
    return {(get_origin(annotation) or annotation).__name__}


# What a docstring calls a type by.
WORDS = {
    "optional": "NoneType",
    **dict.fromkeys(("list", "sequence", "tuple"), "Sequence"),
}


@each()
def test_types_of_the_docstring_are_the_annotated_ones(name):
    parameters = inspect.signature(imported(name)).parameters
    for argument in COMPONENTS[name].arguments:
        annotation = parameters[argument.name].annotation
        if annotation is inspect.Parameter.empty:
            continue
        words = re.split(", | or ", argument.type)
        words = [word.split(" of ")[0].split(".")[-1] for word in words]
        assert kinds(annotation) == {WORDS.get(word, word) for word in words}


@each()
def test_everything_is_described_in_sentences(name):
    component = COMPONENTS[name]
    sentence = r"[A-Z]\S* .*\S\."
    assert re.fullmatch(sentence, component.description)
    assert component.description == plain_text(
        inspect.getdoc(imported(name)).splitlines()[0]
    )
    for argument in component.arguments:
        assert argument.description.endswith("."), argument.name
        assert not re.search("``|:class:|See ", argument.description)


@each()
def test_block_makes_the_component(name):
    component = COMPONENTS[name]
    block = yaml_block(name, COMPONENTS) + "\n"
    assert max(map(len, block.splitlines())) <= 80
    assert f"\n{component.key}: {component.tag}\n" in block
    for argument in component.arguments:
        assert len(re.findall(f"^    {argument.name}:", block, re.M)) == 1
    assert "!PLACEHOLDER" not in block, (
        f"give {name} a value in yaml_values, see {component_blocks.__name__}"
    )
    # Of a backbone of full size, an outline.
    with torch.device("meta" if component.kind == "backbone" else "cpu"):
        assert type(make(name)) is imported(name)


def test_block_has_comments_references_and_nested_blocks():
    assert (
        yaml_block("WeightedMargin", COMPONENTS)
        == """\
# A weighted sum of margins.
# It goes into a margin loss: indent it as the loss's scale.
margin: !new:qlung_plugin.nnet.margins.WeightedMargin
    # The margins to sum.
    margins:
        - !new:qlung_plugin.nnet.margins.QualityMargin
          # Margin at quality 1, in radians.
          kappa: 0.5
        - !new:qlung_plugin.nnet.margins.ClassImbalanceMargin
          # Training samples per class, [class], to use without fit, which
          # replaces them by those of the training set.
          class_counts: null
          # Margin of a class in a uniform training set, in radians.
          target_margin: 0.2
          # Number of classes.
          num_classes: !ref <num_classes>
    # One weight per margin.
    weights: [0.5, 0.5]"""
    )


def test_block_of_the_paper_is_that_of_the_recipe():
    """The values of the printed loss are those of qlung.yaml."""

    def described(block):
        loss = load_hyperpyyaml(with_references(block))["loss"]
        inner = loss.margin_loss
        quality, imbalance = inner.margin.margins
        return (
            [type(part) for part in (loss, inner, quality, imbalance)],
            [loss.weight, inner.scale, inner.margin.weights, quality.kappa],
            [imbalance.target_margin, len(imbalance.values)],
        )

    recipe = top_level_blocks(RECIPE.read_text(encoding="utf-8"))["loss"]
    printed = yaml_block("MarginRegularizedLoss", COMPONENTS)
    assert described(printed) == described(recipe)


@pytest.mark.parametrize("value", [1e-6, -10.0, "yes", None, True, (5.0, 95.0)])
def test_defaults_survive_yaml(value):
    """Such as 1e-06, which YAML 1.1 takes for a text."""
    text = f"value: {component_blocks._plain(value)}\n"
    read = load_hyperpyyaml(text)["value"]
    assert read == (list(value) if isinstance(value, tuple) else value)


def subclasses(base):
    """Public concrete classes of the package that inherit from a base."""
    for subclass in base.__subclasses__():
        yield from subclasses(subclass)
        module = sys.modules[subclass.__module__]
        # Classes that tests and examples define are not in their module.
        if (
            module.__name__.startswith("qlung_plugin.")
            and vars(module).get(subclass.__name__) is subclass
            and not subclass.__name__.startswith("_")
            and not subclass.__doc__.startswith("Base class")
        ):
            yield subclass


def test_catalogue_has_all_subclasses_that_there_are():
    for package in (qlung_plugin.lobes, qlung_plugin.nnet):
        prefix = f"{package.__name__}."
        for module in pkgutil.walk_packages(package.__path__, prefix):
            importlib.import_module(module.name)
    names = {}
    for component in COMPONENTS.values():
        names.setdefault(component.kind, set()).add(component.name)
    for key, base in (
        ("quality", QualityMeasure),
        ("compute_features", FrontEnd),
        ("backbone", Backbone),
        ("classifier", Classifier),
        ("margin", Margin),
    ):
        assert names[key] == {cls.__name__ for cls in subclasses(base)}
    assert names["loss"] == {
        cls.__name__
        for cls in subclasses(ObjectivePart)
        if cls.__module__.startswith(losses.__name__)
    }


def test_catalogue_has_all_modules_of_augmentation():
    modules = set()
    for info in pkgutil.iter_modules(qlung_plugin.augment.__path__):
        module = importlib.import_module(f"qlung_plugin.augment.{info.name}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, nn.Module) and cls.__module__ == module.__name__:
                modules.add(name)
    assert modules <= set(COMPONENTS)


def test_bases_results_and_parts_are_no_components():
    for name in COMPONENTS:
        assert not inspect.isabstract(imported(name))
    assert not COMPONENTS.keys() & {
        "Backbone",
        "ClassMargin",
        "ClassifierOutput",
        "Coefficients",
        "ConvBlock5x5",
        "KaldiFilterbank",
        "Margin",
        "MarginLoss",
        "Measurements",
        "Mixture",
        "ObjectivePart",
        "QualityMeasure",
        "RecordingMeasurements",
        "SlaneyFeatures",
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_keys_are_those_of_the_recipes(path):
    by_path = {
        component.path: component.key for component in COMPONENTS.values()
    }
    named = re.findall(
        r"^(\w+|\s+margin): !new:(\S+)",
        read_hparams(path),
        flags=re.M,
    )
    for key, component in named:
        if component in by_path:
            assert key.strip() == by_path[component]


def test_components_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| (.*) \|$", text, re.M)
    catalogue = {
        (component.key, component.path) for component in COMPONENTS.values()
    }
    named = {
        (key, f"{place}.{name}")
        for key, place, names in rows
        for name in re.findall(r"`([\w.]+)`", names)
    }
    assert named <= catalogue
    assert {key for key, _ in named} == {key for key, _ in catalogue}


# --- what is put into the package ---------------------------------------------

MARGIN = """\
from qlung_plugin.nnet import margins as ours


class MyMargin(ours.QualityMargin):
    \"\"\"A margin of the square of the quality.\"\"\"

    yaml_values = {"kappa": 0.25}

    def forward(self, targets, quality=None, embeddings=None):
        return super().forward(targets, quality**2)
"""

BACKBONE = """\
from torch import nn

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.panns import PANNs
from qlung_plugin.nnet.margins import FixedMargin


class MyBackbone(Backbone):
    \"\"\"The mean over the time.

    Arguments
    ---------
    n_mels : int
        Number of mel bands.
    table : str or Path, optional
        A file.
    \"\"\"

    argument_bounds = {"n_mels": (1, 64)}

    def __init__(self, n_mels=64, table=None):
        super().__init__()
        self.embedding_dim = n_mels

    def forward(self, features):
        return features.mean(dim=1)


class MyFamily(Backbone):
    \"\"\"Base class of more.\"\"\"


class _Hidden(MyBackbone):
    \"\"\"Another one.\"\"\"


class Block(nn.Module):
    \"\"\"A part of one.\"\"\"
"""

OPENED = """\
from qlung_plugin.inference.architecture import build

PLACE = "qlung_plugin.lobes.models.mine"
for name, arguments in (
    ("MyBackbone", {"n_mels": 8}),
    ("MyBackbone", {"n_mels": 65}),
    ("MyBackbone", {"table": "somewhere"}),
    *((name, {}) for name in ("MyFamily", "_Hidden", "Block", "Backbone")),
    *((name, {}) for name in ("PANNs", "FixedMargin", "nn.Identity")),
):
    part = {"class": f"{PLACE}.{name}", "arguments": arguments}
    try:
        print(type(build({"part": part})["part"]).__name__)
    except ValueError as error:
        print(error)
"""


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package, of which the components are read."""
    package = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, package)
    monkeypatch.setattr(components, "PACKAGE", package)
    components._read.cache_clear()
    yield package
    components._read.cache_clear()


def run_in(package, *arguments):
    """What a command prints that runs a copy of the package."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_file_in_the_package_is_a_component(copied):
    """No list is edited."""
    (copied / "nnet/margins/mine.py").write_text(MARGIN)
    (copied / "lobes/models/mine.py").write_text(BACKBONE)
    extended = components.find_components()
    assert extended.keys() - COMPONENTS.keys() == {"MyMargin", "MyBackbone"}
    command = "-m", "qlung_plugin.cli.main", "components"
    listed = run_in(copied, *command)
    assert "\n  !new:qlung_plugin.lobes.models.mine.MyBackbone\n" in listed
    assert (
        run_in(copied, *command, "MyMargin")
        == """\
# A margin of the square of the quality.
# It goes into a margin loss: indent it as the loss's scale.
margin: !new:qlung_plugin.nnet.margins.mine.MyMargin
    # Margin at quality 1, in radians.
    kappa: 0.25
"""
    )


def test_models_have_components_and_nothing_that_is_only_there(copied):
    (copied / "lobes/models/mine.py").write_text(BACKBONE)
    made, *refused = run_in(copied, "-c", OPENED).splitlines()
    assert made == "MyBackbone"
    assert len(refused) == 9
    assert "65 is not in 1 to 64" in refused[0]
    assert "'somewhere' would be looked for outside" in refused[1]
    assert all("none of the components" in line for line in refused[2:])


def test_two_components_of_one_name_are_refused(copied):
    text = MARGIN.replace("MyMargin", "FixedMargin")
    (copied / "nnet/margins/mine.py").write_text(text)
    with pytest.raises(ValueError, match=r"FixedMargin.*margins\.base .*mine"):
        components.find_components()


def test_attribute_that_is_no_literal_is_named(copied):
    text = MARGIN.replace("0.25", "math.pi")
    (copied / "nnet/margins/mine.py").write_text(text)
    with pytest.raises(ValueError, match="yaml_values of MyMargin .* literal"):
        components.find_components()
