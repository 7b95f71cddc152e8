"""Tests of what a model may be made of.

Authors
 * qlung_plugin contributors
"""

import inspect
import json
import sys
from functools import partial
from pydoc import locate

import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.inference import architecture
from qlung_plugin.inference.architecture import COMPONENTS, build
from qlung_plugin.inference.model_checks import check_parts
from qlung_plugin.inference.models import open_model
from tests.unittests.refusals import edit_json, refuses
from tests.unittests.small_runs import LABELS


def component(name, **arguments):
    return {"class": f"qlung_plugin.{name}", "arguments": arguments}


QUALITY = "lobes.quality.AudioQualityScore"
EFFICIENTAT = "lobes.models.efficientat.EfficientAT"


EFFICIENTAT_OF = partial(component, EFFICIENTAT)
XVECTOR = "speechbrain.lobes.models.Xvector.Xvector"
LEARNED = partial(
    component, "lobes.quality.LearnedQualityScore", sample_rate=8000
)


@pytest.mark.parametrize(
    "part, message",
    [
        ({"class": "os.system", "arguments": ["ls"]}, "'os.system' is none of"),
        ({"class": "qlung_plugin.inference.models.open_model"}, "is none of"),
        ({"class": ["torch.nn.Identity"]}, "is none of"),
        ({"class": "torch.nn.Identity", "code": "ls"}, "has a class and"),
        ({"class": "torch.nn.Identity", "arguments": [1]}, "has a class and"),
        ({"reference": "part"}, "comes before"),
        ({"reference": ["part"]}, "comes before"),
        ({"anything": 1}, "no object"),
        (EFFICIENTAT_OF(pretrained_weights="/etc/passwd"), "looked for"),
        (EFFICIENTAT_OF(pretrained_weights=["a"]), "looked for"),
        (
            {"class": XVECTOR, "arguments": {"device": "cuda"}},
            "looked for",
        ),
        (EFFICIENTAT_OF(width_mult=1e9), "is not in"),
        (EFFICIENTAT_OF(width_mult=float("nan")), "is not in"),
        (EFFICIENTAT_OF(first_block=99), "cannot be made"),
        (EFFICIENTAT_OF(depth=3), "cannot be made"),
        ([component("lobes.features.PANNsFeatures")] * 101, "100 objects"),
        (component(QUALITY, sample_rate=10**30), "is not in"),
        (LEARNED(coefficients="/etc/passwd"), "has to be written out"),
        (
            LEARNED(coefficients={"measurements": {"tilt": {}}}),
            "cannot be made",
        ),
        (component("lobes.models.ast.AST", config={"x": 1}), "cannot be made"),
        (
            component("lobes.models.clap.CLAP", config={"depths": [999]}),
            "is not in",
        ),
        (
            component(
                "lobes.models.clap.CLAP",
                config={"_attn_implementation": "somebody/kernel"},
            ),
            "cannot be made .* config field='_attn_implementation' is none of",
        ),
        ([[1] * 900] * 900, "more than 20000 values"),
        (1.5j, "is not plain"),
    ],
)
def test_part_that_no_model_may_have(part, message):
    with pytest.raises(ValueError, match=f"^part.*{message}"):
        build({"part": part})


def test_parts_that_multiply(monkeypatch):
    """Each number is within bounds; together they are a million modules."""
    monkeypatch.setattr(architecture, "MOST_MODULES", 2000)
    large = component("lobes.models.ast.AST", config={"num_hidden_layers": 128})
    part = {"class": "torch.nn.Sequential", "arguments": [large] * 99}
    with pytest.raises(ValueError, match="part.* more than 2000 modules"):
        build({"part": part}, "meta")
    # Modules are not counted any more.
    torch.nn.Sequential(*[torch.nn.Identity()] * 2001)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(
    PLAIN | st.sampled_from(["torch.nn.Identity", "torch.nn.Sequential"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["class", "arguments", "reference", "a", "config"]),
        inner,
        max_size=3,
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_anything_is_built_or_refused(value):
    try:
        built = build(value)
    except ValueError:
        return
    assert isinstance(built, dict)


NUMBERS = (
    st.integers(-3, 200)
    | st.floats(0, 2)
    | st.integers()
    | st.sampled_from([8000, 16000, 512, 65536])
)
FIELDS = (
    *("hidden_size", "depths", "num_attention_heads", "hidden_act"),
    *("encoder_layers", "encoder_embed_dim", "conv_pos_groups", "qkv_bias"),
    *("patch_size", "window_size", "measurements", "patch_stride"),
    *("intermediate_size", "layer_norm_eps", "spec_size", "num_mel_bins"),
)
VALUES = (
    NUMBERS
    | st.lists(NUMBERS, max_size=5)
    | st.none()
    | st.booleans()
    | st.sampled_from(["fitted", "Cnn6", "pooled", "cls", "a"])
    | st.just({"class": "torch.nn.Identity"})
    | st.just(component("lobes.quality.ConstantQuality", value=1))
    | st.dictionaries(
        st.sampled_from(FIELDS),
        NUMBERS | st.lists(NUMBERS, max_size=3) | st.text(max_size=3),
        max_size=3,
    )
)


@st.composite
def objects(draw):
    """A component with the arguments that it has, of any values."""
    name = draw(st.sampled_from(COMPONENTS))
    required, optional = {}, {}
    for key, parameter in inspect.signature(locate(name)).parameters.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            given = parameter.default is not parameter.empty
            (optional if given else required)[key] = VALUES
    strategy = st.fixed_dictionaries(required, optional=optional)
    return {"class": name, "arguments": draw(strategy)}


@settings(max_examples=400, deadline=None)
@given(objects())
def test_any_arguments_are_taken_or_refused(part):
    try:
        build({"part": part}, "meta")
    except ValueError as error:
        assert "part" in str(error)


def test_model_that_would_fill_the_memory(exported):
    """The sizes are within bounds one by one, and terabytes together."""
    giant = component(
        "lobes.models.ast.AST",
        frames=98,
        config={
            "hidden_size": 65536,
            "num_attention_heads": 2,
            "num_hidden_layers": 100,
            "intermediate_size": 65536,
        },
    )

    def change(description):
        description["architecture"]["backbone"] = giant

    edit_json(exported, change)
    refuses(exported, "model.json", "is the limit")


def fix_length(**arguments):
    """Changes the fixed length of a model.json."""
    return lambda model: model["cycle_features"]["arguments"]["fix_length"][
        "arguments"
    ].update(arguments)


def quality(**arguments):
    return lambda model: model["quality"]["arguments"].update(arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        (fix_length(duration=0.01), "cycle_features cannot take a cycle of"),
        (fix_length(sample_rate=192000), "more than one sample_rate"),
        (quality(sample_rate=192000, hop_length=1), "quality: its sample_rate"),
        (quality(sample_rate=16000.5), "sample_rate has to be a whole number"),
    ],
)
def test_lengths_and_rates_that_do_not_fit(exported, change, message):
    edit_json(exported, lambda d: change(d["architecture"]))
    refuses(exported, "model.json", message)


def test_layers_that_would_fill_the_memory(exported):
    """The weights are within bounds; the tokens of a minute, squared, are not."""
    model = json.loads((exported / "model.json").read_text())["architecture"]
    parts = model["cycle_features"]["arguments"]
    fix_length(sample_rate=16000, duration=60)(model)
    parts["resampler"]["arguments"]["sample_rate"] = 16000
    parts["compute_features"] = component("lobes.features.BEATsFeatures")
    model["backbone"] = component("lobes.models.beats.BEATs")
    model["classifier"]["arguments"]["input_size"] = 768
    with pytest.raises(ValueError, match="backbone cannot .* is the limit"):
        check_parts(build(model, "meta"), LABELS)


@pytest.mark.parametrize("dim", [95, "wide"])
def test_backbone_that_does_not_go_with_the_classifier(exported, dim):
    embedding = component(
        "lobes.models.embedding.EmbeddingModel",
        model={"class": "torch.nn.Identity"},
        embedding_dim=dim,
    )
    edit_json(exported, lambda d: d["architecture"].update(backbone=embedding))
    refuses(exported)


def with_arguments(part, **arguments):
    return lambda d: d["architecture"][part]["arguments"].update(arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["labels"].pop(), "3 labels"),
        (lambda d: d["labels"].append("normal"), "different texts"),
        (lambda d: d.update(labels=[1, 2, 3, 4]), "labels"),
        (lambda d: d["labels"].append("\x1b[2J"), "can be printed"),
        (lambda d: d.pop("provenance"), "lacks provenance"),
        (lambda d: d["architecture"].pop("backbone"), "lacks .*backbone"),
        (lambda d: d.update(format_version="1"), "format_version"),
        (lambda d: d.update(format_version=2), "newer version.*upgrade"),
        (
            lambda d: d["provenance"].update(checkpoint="best"),
            "'best' is none of",
        ),
        (
            lambda d: d["architecture"].update(
                backbone={"reference": "quality"}
            ),
            "does not fit its architecture: .*missing: backbone.ranges",
        ),
        (
            with_arguments(
                "cycle_features", resampler={"class": "torch.nn.Identity"}
            ),
            "cycle_features is made of something else",
        ),
        (
            with_arguments("classifier", num_classes=5),
            "model.safetensors does not fit",
        ),
        (with_arguments("backbone", **{"x" * 10**5: 1}), "cannot be made"),
    ],
)
def test_description_that_does_not_fit(exported, change, message):
    edit_json(exported, change)
    with pytest.raises(ValueError, match=message):
        open_model(exported)
    assert len(refuses(exported)) < 2000


# --- modules from outside ---------------------------------------------------

OUTSIDE = """\
import os
from os import system
from subprocess import Popen

import torch
from torch.nn import Linear

open({created!r}, "w")


class Backbone(torch.nn.Module):
    def __init__(self, dim, options=None):
        super().__init__()
        self.dim, self.options = dim, options


class Plain:
    pass


def make():
    return Backbone(1)
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A module, and the file that it creates when it is imported."""
    created = tmp_path / "created"
    package = tmp_path / "outside"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parts.py").write_text(OUTSIDE.format(created=str(created)))
    monkeypatch.syspath_prepend(tmp_path)
    yield created
    for name in ("outside", "outside.parts"):
        sys.modules.pop(name, None)


OWN = {"class": "outside.parts.Backbone", "arguments": {"dim": 3}}


@pytest.mark.parametrize(
    "trust", ["outside", "outside.parts", ["a", "outside"]]
)
def test_class_of_a_trusted_module_is_made(outside, trust):
    arguments = {"dim": 3, "options": {"depth": [1, 2]}}
    part = build({"part": {**OWN, "arguments": arguments}}, trust=trust)["part"]
    assert (part.dim, part.options) == (3, {"depth": [1, 2]})
    assert outside.exists()


@pytest.mark.parametrize(
    "trust", [(), [], "out", "outside.other", "outside.parts.Backbone", "torch"]
)
def test_other_modules_are_not_even_imported(outside, trust):
    with pytest.raises(ValueError, match="no module that trust"):
        build({"part": OWN}, trust=trust)
    assert not outside.exists()


@pytest.mark.parametrize(
    "name",
    ["system", "Popen", "os", "Linear", "Plain", "make", "absent", "os.system"],
)
def test_trust_is_in_the_modules_own_torch_modules_alone(outside, name):
    """Not in what it imports, nor in functions."""
    part = {"class": f"outside.parts.{name}"}
    with pytest.raises(ValueError, match="defines no torch.nn|cannot be impo"):
        build({"part": part}, trust="outside")


def test_arguments_of_a_trusted_class_are_in_proportion(outside):
    part = {**OWN, "arguments": {"dim": 10**9}}
    with pytest.raises(ValueError, match="part.dim"):
        build({"part": part}, trust="outside")
