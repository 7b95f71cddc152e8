"""Tests of run folders as an older version wrote them.

Authors
 * qlung_plugin contributors
"""

import shutil

import pytest
import torch

from qlung_plugin.inference.export import export_run
from qlung_plugin.inference.models import find_checkpoints, open_model
from speechbrain.utils.checkpoints import Checkpointer
from tests.unittests.refusals import refuses
from tests.unittests.small_runs import STATEFUL, make_objects, make_run

# As the older version wrote it.
INFERENCE_YAML = """\
# Generated: what is needed to load the checkpoints of this folder.
labels: [normal, crackle, wheeze, both]
quality: !new:qlung_plugin.lobes.quality.AudioQualityScore
  sample_rate: 16000
  normalisation: fitted
compute_features: &id001 !new:qlung_plugin.lobes.features.EfficientATFeatures
cycle_features: !new:qlung_plugin.dataio.cycles.CycleFeatures
  resampler: !new:qlung_plugin.dataio.cycles.CycleResampler
    sample_rate: 32000
  compute_features: *id001
  fix_length: !new:qlung_plugin.dataio.cycles.FixedLength
    sample_rate: 32000
    duration: 1.0
backbone: !new:qlung_plugin.lobes.models.efficientat.EfficientAT
  width_mult: 0.1
  pretrained_weights:
classifier: !new:qlung_plugin.nnet.classifiers.AngularClassifier
  input_size: 96
  num_classes: 4
"""


@pytest.fixture
def old(run):
    """A run folder without a model, and with what was there instead."""
    shutil.rmtree(run / "model")
    for epoch in (1, 2):
        objects = make_objects(run / "hyperparams.yaml", epoch)
        meta = {"epoch": epoch, "score": 60.0 - epoch}
        Checkpointer(
            run / "save", {name: objects[name] for name in STATEFUL}
        ).save_checkpoint(meta=meta)
    (run / "save" / "inference.yaml").write_text(INFERENCE_YAML)
    return run


@pytest.mark.parametrize("checkpoint", ["selected", "last"])
def test_it_is_converted_by_an_export(old, tmp_path, checkpoint):
    out = tmp_path / "out"
    export_run(old, out, checkpoint, convert=True)
    new = make_run(tmp_path / "new", epochs=(1, 2))
    expected, opened = open_model(new, checkpoint), open_model(out, checkpoint)
    assert opened["epoch"] == expected["epoch"]
    assert opened["validated"] and opened["labels"] == expected["labels"]
    for name in ("quality", "cycle_features", "backbone", "classifier"):
        converted = opened[name].state_dict()
        for key, tensor in expected[name].state_dict().items():
            assert torch.equal(converted[key], tensor), (name, key)
    settings = opened["provenance"]["settings"]
    assert settings == expected["provenance"]["settings"]
    assert opened["provenance"]["data"] == expected["provenance"]["data"]


def test_it_is_refused_with_the_command(old, tmp_path):
    for function in (
        open_model,
        lambda folder: find_checkpoints(folder, "all"),
        lambda folder: export_run(folder, tmp_path / "out"),
    ):
        refuses(old, f"`qlung export {old} OUT --convert`", opened_by=function)
    assert not (tmp_path / "out").exists()


def test_nothing_that_its_yaml_names_is_called(old, tmp_path):
    path, created = old / "save" / "inference.yaml", tmp_path / "created"
    for line in (
        f"width_mult: !apply:os.system [touch {created}]",
        f"width_mult: !new:os.system [touch {created}]",
        f"width_mult: !!python/object/apply:os.system [touch {created}]",
    ):
        path.write_text(INFERENCE_YAML.replace("width_mult: 0.1", line))
        with pytest.raises(ValueError, match="inference.yaml: backbone.width"):
            export_run(old, tmp_path / "out", convert=True)
    assert not created.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["backbone", "classifier", "quality"])
def test_no_part_keeps_its_random_weights(old, tmp_path, name):
    for path in old.glob(f"save/CKPT*/{name}.ckpt"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}\.ckpt is missing"):
        export_run(old, tmp_path / "out", convert=True)


@pytest.mark.parametrize("content", [b"", torch.nn.Linear(5, 4).state_dict()])
def test_spoilt_file_is_named(old, tmp_path, content):
    for path in old.glob("save/CKPT*/classifier.ckpt"):
        if content:
            torch.save(content, path)
        else:
            path.write_bytes(content)
    with pytest.raises(ValueError, match="classifier.ckpt is (not|of another)"):
        export_run(old, tmp_path / "out", convert=True)
