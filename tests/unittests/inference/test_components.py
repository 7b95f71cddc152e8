"""The catalogue of components, against the classes and the recipes themselves.

Authors
 * qlung_plugin contributors
"""

import ast
import importlib
import inspect
import pkgutil
import pydoc
import re
import sys
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml
from torch import nn

import qlung_plugin.augment
import qlung_plugin.lobes.models
from qlung_plugin.cli.components import BEGIN, END, markdown_table
from qlung_plugin.inference import component_blocks
from qlung_plugin.inference.component_blocks import yaml_block
from qlung_plugin.inference.components import find_components, plain_text
from qlung_plugin.lobes.features import FrontEnd
from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.quality import QualityMeasure
from qlung_plugin.nnet import losses
from qlung_plugin.nnet.classifiers import Classifier
from qlung_plugin.nnet.margins import Margin
from qlung_plugin.nnet.parts import ObjectivePart

ROOT = Path(__file__).parents[3]
RECIPES = sorted(ROOT.glob("recipes/*/*/hparams/**/*.yaml"))
RECIPE = ROOT / "recipes/ICBHI/classification/hparams/qlung.yaml"
COMPONENTS = find_components()

# Their library takes seconds to import: arguments are bound, nothing is built.
TRANSFORMERS = {"AST", "CLAP"}

# What makes the others small.
SMALL = {
    "EfficientAT": {"width_mult": 0.1},
    "BEATs": {"backbone": {"config": {"encoder_layers": 1}}},
    "PANNs": {"backbone": {"variant": "Cnn6"}},
    "EmbeddingModel": {
        "backbone": {
            "model": {
                "channels": [8, 8, 8, 8, 24],
                "attention_channels": 8,
                "se_channels": 8,
                "res2net_scale": 4,
            }
        },
    },
}

each = pytest.mark.parametrize("name", COMPONENTS)


def imported(name):
    return pydoc.locate(COMPONENTS[name].path)


def top_level_blocks(text):
    """The text of a YAML file by top-level key."""
    found = re.finditer(r"^(\w+):.*\n(?:(?: .*)?\n)*", text, flags=re.M)
    return {match[1]: match[0] for match in found}


def with_references(block):
    """The block behind all of the recipe that it refers to."""
    recipe = top_level_blocks(RECIPE.read_text(encoding="utf-8"))
    recipe["pretrained_weights"] = "pretrained_weights: null\n"
    needed, queue = {}, [block]
    while queue:
        for key in re.findall(r"<(\w+)[.>]", queue.pop()):
            if key not in needed:
                needed[key] = recipe[key]
                queue.append(recipe[key])
    return "".join(reversed(needed.values())) + block


@each
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


@each
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


@each
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
    text = with_references(block)
    if name in TRANSFORMERS:
        text = text.replace(component.tag, component.tag.replace("new", "name"))
        partial = load_hyperpyyaml(text)[component.key]
        assert partial.func is imported(name)
        inspect.signature(partial.func).bind(**partial.keywords)
    else:
        made = load_hyperpyyaml(text, SMALL.get(name))[component.key]
        assert type(made) is imported(name)


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
    for module in pkgutil.iter_modules(qlung_plugin.lobes.models.__path__):
        importlib.import_module(f"qlung_plugin.lobes.models.{module.name}")
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
    found = set()
    for info in pkgutil.iter_modules(qlung_plugin.augment.__path__):
        module = importlib.import_module(f"qlung_plugin.augment.{info.name}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, nn.Module) and cls.__module__ == module.__name__:
                found.add(name)
    assert found <= set(COMPONENTS)


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
    by_path = {one.path: one.key for one in COMPONENTS.values()}
    named = re.findall(
        r"^(\w+|\s+margin): !new:(\S+)",
        path.read_text(encoding="utf-8"),
        flags=re.M,
    )
    for key, component in named:
        if component in by_path:
            assert key.strip() == by_path[component]


def test_readme_has_the_current_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split(f"{BEGIN}\n")[1].split(f"\n{END}")[0]
    assert table == markdown_table(COMPONENTS), (
        "run: qlung components --update README.md"
    )
