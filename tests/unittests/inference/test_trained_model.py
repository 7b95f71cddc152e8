"""Tests of what a training says of its model.

Authors
 * qlung_plugin contributors
"""

import json
import logging

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from qlung_plugin.inference.architecture import build
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.trained_model import (
    ArchitectureReader,
    TrainedModel,
    describe_architecture,
)
from qlung_plugin.lobes.quality import LearnedQualityScore
from qlung_plugin.lobes.quality.coefficients import plain_coefficients
from qlung_plugin.runs.configuration import parse_yaml, resolve_yaml
from tests.unittests.small_runs import make_objects

COEFFICIENTS = plain_coefficients.__module__


@pytest.fixture
def training(originals):
    """The YAML of a training."""
    return originals / "run" / "hyperparams.yaml"


def test_it_is_made_again_as_it_was(training):
    objects = make_objects(training, 1)
    architecture = describe_architecture(resolve_yaml(training, ""), objects)
    made = build(json.loads(json.dumps(architecture)))
    assert list(made) == [
        "quality",
        "cycle_features",
        "backbone",
        "classifier",
    ]
    for name, part in made.items():
        shapes = {k: v.shape for k, v in part.state_dict().items()}
        expected = objects[name].state_dict().items()
        assert shapes == {k: v.shape for k, v in expected}
    # What the YAML computes, of objects that are there.
    arguments = architecture["classifier"]["arguments"]
    assert arguments == {"input_size": 96, "num_classes": 4}
    assert architecture["backbone"]["arguments"] == {
        "width_mult": 0.1,
        "pretrained_weights": None,
    }


def test_options_of_the_command_line_are_in_it(training):
    overrides = "quality: {alpha: 0.5}\npretrained_weights: null"
    keys = resolve_yaml(training, overrides)
    objects = load_hyperpyyaml(training.read_text(), overrides)
    architecture = describe_architecture(keys, objects)
    assert architecture["quality"]["arguments"]["alpha"] == 0.5


def test_no_random_number_is_drawn_and_nothing_downloaded(
    originals, tmp_path, monkeypatch
):
    training = originals / "run" / "hyperparams.yaml"
    text = training.read_text().replace(
        "pretrained_weights: null", "pretrained_weights: mn04_as"
    )
    (tmp_path / "a.yaml").write_text(text)
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    objects, state = make_objects(training, 1), torch.get_rng_state()
    keys = resolve_yaml(tmp_path / "a.yaml", "")
    model = TrainedModel(keys, objects)
    model.write(tmp_path / "model", "last", 3, False, {"database": "ICBHI"})
    assert torch.equal(torch.get_rng_state(), state)
    text = (tmp_path / "model" / "model.json").read_text()
    description = json.loads(text)
    assert "mn04" not in json.dumps(description["architecture"])
    provenance = description["provenance"]
    assert provenance["settings"]["pretrained_weights"] == "mn04_as"
    assert provenance["data"] == {"database": "ICBHI"}
    opened = open_model(tmp_path / "model")
    description = [opened[key] for key in ("checkpoint", "epoch", "validated")]
    assert description == ["last", 3, False]


def read(text, key="a", **objects):
    return ArchitectureReader(parse_yaml(text, "a.yaml"), objects).read(key)


def test_shared_objects_stay_shared():
    text = "a: {x: &b !new:torch.nn.Identity , y: [*b, *b]}\n"
    identity = {"class": "torch.nn.Identity"}
    reference = {"reference": "a.x"}
    assert read(text) == {"x": identity, "y": [reference, reference]}


def test_numbers_are_read_as_the_training_reads_them():
    text = "a: {b: 1e-5, c: yes, d: 0o10, e: 1_000, f: null, g: True, h: '1'}"
    assert read(text) == {
        "b": 1e-5,
        "c": "yes",
        "d": 8,
        "e": 1000,
        "f": None,
        "g": True,
        "h": "1",
    }


def test_what_a_function_gives_is_written_out():
    text = "f: &f !apply:max [1, 2]\na: [*f, !apply:getattr [*f, real]]\n"
    assert read(text, f=7) == [7, 7]


@pytest.mark.parametrize("own", [False, True])
def test_coefficients_are_written_out(tmp_path, monkeypatch, own):
    """Those of the package, too: of another version they are others."""
    coefficients = plain_coefficients()
    path = tmp_path / "coefficients.json"
    if own:
        coefficients["intercept"] += 1
        path.write_text(json.dumps(coefficients))
    text = (
        "a: !new:qlung_plugin.lobes.quality.LearnedQualityScore\n"
        f"    sample_rate: 8000\n    coefficients: {path if own else 'null'}\n"
    )
    architecture = read(text)
    expected = LearnedQualityScore(8000, coefficients)
    path.unlink(missing_ok=True)
    monkeypatch.setattr(f"{COEFFICIENTS}.SHIPPED", path)
    made = build({"quality": architecture})["quality"]
    assert torch.equal(made.values, expected.values)
    assert made.intercept == expected.intercept
    assert made.supervision == expected.supervision


# What no model.json says, in the place of a model's backbone.
UNSAID = {
    "!name:torch.nn.ReLU": "backbone: !name:torch.nn.ReLU",
    "!new:torch.nn.Linear [2, 3]": "backbone: 'torch.nn.Linear'.*defines no",
    "!new:torch.nn.Sequential [!apply:torch.nn.ReLU []]": "!apply:torch.nn.ReL",
    "!new:tests.unittests.absent.Backbone": "cannot be imported",
    "!new:qlung_plugin.lobes.models.efficientat.EfficientAT {a: !!python/name:os.system }": "python/name",
}


@pytest.mark.parametrize("backbone", UNSAID)
def test_training_goes_on_without_a_model(tmp_path, caplog, backbone):
    """It says why as it begins, and writes none."""
    text = f"a: 1\nbackbone: {backbone}\n" + "".join(
        f"{name}: !new:torch.nn.Identity\n"
        for name in ("quality", "cycle_features", "classifier")
    )
    with caplog.at_level(logging.WARNING):
        model = TrainedModel(parse_yaml(text, "a.yaml"), {})
    (record,) = caplog.records
    message = record.getMessage()
    assert (
        "can be neither exported nor opened" in message
        and "backbone" in message
    )
    model.write(tmp_path / "model", "last", 1, True, {})
    assert not (tmp_path / "model").exists()


def test_part_of_another_kind_is_told_before_the_training(training, caplog):
    objects = make_objects(training, 1)
    objects["cycle_features"] = torch.nn.Identity()
    TrainedModel(resolve_yaml(training, ""), objects)
    assert "cycle_features is missing, or is something else" in caplog.text
