"""Every component, made as its YAML block says: for tests over all of them.

Authors
 * qlung_plugin contributors
"""

import importlib
import re
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml

from qlung_plugin.inference.component_blocks import REFERENCES, yaml_block
from qlung_plugin.inference.components import find_components
from qlung_plugin.inference.trained_model import ArchitectureReader
from qlung_plugin.runs.configuration import parse_yaml
from qlung_plugin.runs.hparams import read_hparams

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/ICBHI/classification/hparams/qlung.yaml"
COMPONENTS = find_components()


def each(*kinds):
    """Runs a test for every component of some kinds, by ``name``."""
    names = [
        name
        for name, component in COMPONENTS.items()
        if component.kind in kinds or not kinds
    ]
    return pytest.mark.parametrize("name", names)


def _small_backbones():
    """What the test of each backbone has as ``SMALL``."""
    for component in COMPONENTS.values():
        if component.kind == "backbone":
            module = component.module.rpartition(".")[2]
            test = importlib.import_module(
                f"tests.unittests.lobes.test_{module}"
            )
            for name, small in test.SMALL.items():
                yield pytest.param(small, id=name)


# Runs a test for small forms of every backbone, by ``backbone``.
each_backbone = pytest.mark.parametrize("backbone", [*_small_backbones()])


def top_level_blocks(text):
    """The text of a YAML file by top-level key."""
    found = re.finditer(r"^(\w+):.*\n(?:(?: .*)?\n)*", text, flags=re.M)
    return {match[1]: match[0] for match in found}


def with_references(block):
    """The block behind all of the recipe that it refers to."""
    transfer = read_hparams(RECIPE.with_name("transfer.yaml"))
    recipe = top_level_blocks(RECIPE.read_text(encoding="utf-8"))
    recipe = {**top_level_blocks(transfer), **recipe}
    recipe["pretrained_weights"] = "pretrained_weights: null\n"
    needed, queue = {}, [block]
    while queue:
        for key in re.findall(r"<(\w+)[.>]", queue.pop()):
            if key not in needed:
                needed[key] = recipe[key]
                queue.append(recipe[key])
    return "".join(reversed(needed.values())) + block


def make(name):
    """What the block of a component makes."""
    text = with_references(yaml_block(name, COMPONENTS) + "\n")
    return load_hyperpyyaml(text)[COMPONENTS[name].key]


def plain(text):
    """The architecture of what a line of YAML, or a block, makes."""
    key = re.search(r"^(\w+):", text, flags=re.M)[1]
    numbers = {"input_size": "6", "num_classes": "4"}
    for argument, reference in REFERENCES.items():
        text = text.replace(reference, numbers.get(argument, "null"))
    front_end = "!new:qlung_plugin.lobes.features.EfficientATFeatures"
    text = text.replace("!ref <log_mel>", front_end)
    text = re.sub("^.*: !ref .*\n", "", text, flags=re.M)  # has a default
    return ArchitectureReader(parse_yaml(text, "the block"), {}).read(key)
