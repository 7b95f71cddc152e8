"""The catalogue of components, against the classes and the recipes themselves.

Authors
 * qlung_plugin contributors
"""

import inspect
import pydoc
import re
import subprocess
import sys

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from qlung_plugin.inference import component_blocks
from qlung_plugin.inference.component_blocks import entry, yaml_block
from qlung_plugin.inference.components import find_components
from qlung_plugin.nnet import margins
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


@each()
def test_everything_is_described_in_sentences(name):
    component = COMPONENTS[name]
    sentence = r"[A-Z]\S* .*\S\."
    assert re.fullmatch(sentence, component.description)
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
        assert type(make(name)) is pydoc.locate(component.path)


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
    (line,) = entry("value", value, 0, {})
    read = load_hyperpyyaml(line)["value"]
    assert read == (list(value) if isinstance(value, tuple) else value)


def test_bases_results_and_parts_are_no_components():
    for name in COMPONENTS:
        assert not inspect.isabstract(pydoc.locate(COMPONENTS[name].path))
    assert not COMPONENTS.keys() & {
        "Backbone",
        "ClassifierOutput",
        "ConvBlock5x5",
        "MarginLoss",
        "Measurements",
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_keys_are_those_of_the_recipes(path):
    # A front end that nothing is done to takes the whole slot of its kind.
    by_path = {
        component.path: (component.key, component.kind)
        for component in COMPONENTS.values()
    }
    named = re.findall(
        r"^(\w+|\s+margin): !new:(\S+)",
        read_hparams(path),
        flags=re.M,
    )
    for key, component in named:
        if component in by_path:
            assert key.strip() in by_path[component]


def test_components_of_the_documentation_are_there():
    text = (ROOT / "docs" / "components.md").read_text(encoding="utf-8")
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
from pathlib import Path

from torch import nn

from qlung_plugin.lobes.models.backbone import Backbone
from qlung_plugin.lobes.models.panns import PANNs
from qlung_plugin.nnet.margins import FixedMargin


class MyBackbone(Backbone):
    \"\"\"The mean over the time.\"\"\"

    def __init__(self, n_mels: int = 64, table: str | Path | None = None):
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
import sys

from qlung_plugin.lobes import models

models.__path__.append(sys.argv[1])

from qlung_plugin.inference.architecture import build

PLACE = "qlung_plugin.lobes.models.mine"
for name, arguments in (
    ("MyBackbone", {"n_mels": 8}),
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
def put(tmp_path, monkeypatch):
    """Puts a file among the margins, as far as imports can tell."""
    monkeypatch.setattr(margins, "__path__", [*margins.__path__, str(tmp_path)])
    yield (tmp_path / "mine.py").write_text
    sys.modules.pop(f"{margins.__name__}.mine", None)


def test_file_in_the_package_is_a_component(put):
    """No list is edited."""
    put(MARGIN)
    extended = find_components()
    assert extended.keys() - COMPONENTS.keys() == {"MyMargin"}
    assert (
        yaml_block("MyMargin", extended)
        == """\
# A margin of the square of the quality.
# It goes into a margin loss: indent it as the loss's scale.
margin: !new:qlung_plugin.nnet.margins.mine.MyMargin
    # Margin at quality 1, in radians.
    kappa: 0.25
    # "shuffled": each sample has the quality of another one of its batch, drawn
    # anew each time; "reversed": 1 - q in the place of q.
    control: null"""
    )


def test_two_components_of_one_name_are_refused(put):
    put(MARGIN.replace("MyMargin", "FixedMargin"))
    with pytest.raises(ValueError, match=r"FixedMargin.*margins\.base .*mine"):
        find_components()


def test_models_have_components_and_nothing_that_is_only_there(tmp_path):
    (tmp_path / "mine.py").write_text(BACKBONE)
    command = [sys.executable, "-c", OPENED, tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    made, *refused = run.stdout.splitlines()
    assert made == "MyBackbone"
    assert len(refused) == 8
    assert "'somewhere' would be looked for outside" in refused[0]
    assert all("none of the components" in line for line in refused[1:])
