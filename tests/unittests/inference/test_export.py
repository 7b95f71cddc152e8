"""Tests of exporting a model, and of opening what was exported.

Authors
 * qlung_plugin contributors
"""

import argparse
import json
import shutil
from pydoc import locate

import pytest
import soundfile
import torch
from huggingface_hub import ModelCard

from qlung_plugin.cli import export as command
from qlung_plugin.inference import export
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.components import find_components
from qlung_plugin.inference.export import export_run
from qlung_plugin.inference.models import open_model
from qlung_plugin.lobes.models.efficientat import EfficientATFirstBlocks
from qlung_plugin.runs.predictions import read_predictions, write_predictions
from speechbrain.inference.classifiers import EncoderClassifier
from tests.unittests.refusals import edit_json
from tests.unittests.small_runs import EFFICIENTAT, LABELS, make_run

FILES = [
    "README.md",
    "hyperparams.yaml",
    "model.json",
    "model.safetensors",
]


@pytest.fixture
def exported(run, tmp_path):
    """A run, and what was exported of it."""
    export_run(run, tmp_path / "out")
    return run, tmp_path / "out"


@pytest.fixture
def waveforms():
    """Cycles at the rate that a model expects, padded to the longest."""
    generator = torch.Generator().manual_seed(3)
    noise = 0.1 * torch.randn(3, 40000, generator=generator)
    return noise, torch.tensor([1.0, 0.6, 0.9])


def answers(classifier, waveforms):
    """All that a model says of cycles."""
    torch.manual_seed(0)  # SpeechBrain's x-vector adds a little noise
    return (
        classifier.classify_batch(*waveforms)[0],
        classifier.encode_batch(*waveforms),
        classifier.mods.quality(*waveforms),
    )


def assert_same(one, other, waveforms):
    assert one.labels == other.labels == LABELS
    for answer, expected in zip(
        answers(one, waveforms), answers(other, waveforms)
    ):
        assert answer.isfinite().all()
        assert torch.equal(answer, expected)


def assert_same_by_speechbrain(out, ours, waveforms):
    """SpeechBrain's own class says the same, in its own shapes."""
    theirs = EncoderClassifier.from_hparams(source=str(out))
    torch.manual_seed(0)
    expected, score, index, labels = ours.classify_batch(*waveforms)
    torch.manual_seed(0)
    found = theirs.classify_batch(*waveforms)
    torch.testing.assert_close(found[0].exp(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].exp(), score, atol=1e-5, rtol=0)
    assert torch.equal(found[2], index) and found[3] == labels
    torch.manual_seed(0)
    embeddings = ours.encode_batch(*waveforms)
    torch.manual_seed(0)
    found = theirs.encode_batch(*waveforms)
    assert found.shape == (len(embeddings), 1, embeddings.shape[1])
    torch.testing.assert_close(found[:, 0], embeddings, atol=1e-5, rtol=1e-5)


def test_all_ways_give_the_same(run, tmp_path, waveforms):
    """Of other backbones, the contract of all components has the same."""
    out = tmp_path / "out"
    trained = RespiratorySoundClassifier.from_hparams(run)
    assert export_run(run, out)["files"] == FILES
    shutil.rmtree(run)
    assert_same(
        trained, RespiratorySoundClassifier.from_hparams(out), waveforms
    )
    assert_same_by_speechbrain(out, trained, waveforms)


@pytest.fixture
def by_speechbrain(exported):
    return EncoderClassifier.from_hparams(source=str(exported[1]))


@pytest.mark.parametrize("second", [None, 0.9, 0.0])
def test_a_file_by_speechbrain(exported, by_speechbrain, tmp_path, second):
    """One cycle at its own rate; a silent channel is none."""
    sound = 0.1 * torch.randn(
        3000, 1, generator=torch.Generator().manual_seed(1)
    )
    if second is not None:
        sound = torch.cat([sound, second * sound], dim=1)
    path = tmp_path / "cycle.wav"
    soundfile.write(path, sound.numpy(), 4000, subtype="FLOAT")
    found, _, index, label = by_speechbrain.classify_file(str(path))
    ours = RespiratorySoundClassifier.from_hparams(exported[1])
    cycles = ours.classify_file(path, cycles=[(0, 0.75)]).cycles
    expected = torch.tensor(cycles[[f"p_{name}" for name in LABELS]].values)
    torch.testing.assert_close(
        found.exp(), expected, atol=1e-5, rtol=0, check_dtype=False
    )
    assert label == [LABELS[index]] == cycles["prediction"].tolist()


def test_what_speechbrain_would_hear_wrongly(by_speechbrain, tmp_path, caplog):
    sound = 0.1 * torch.randn(
        8000, 2, generator=torch.Generator().manual_seed(1)
    )
    path = tmp_path / "recording.wav"
    soundfile.write(path, sound.numpy(), 4000)
    for _ in range(2):
        by_speechbrain.classify_file(str(path))
    assert caplog.text.count("Of 2 s the model sees the first 1 s") == 1
    assert "channels 1 and 2 hold different sounds" in caplog.text
    soundfile.write(path, sound[:, :1] * torch.tensor([[1, -1]]), 4000)
    with pytest.raises(ValueError, match="cancel each other"):
        by_speechbrain.classify_file(str(path))
    by_speechbrain.mods.classifier.classifier.scale = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        by_speechbrain.classify_batch(sound.T)


def test_another_model_answers_otherwise(tmp_path, waveforms):
    run = make_run(tmp_path / "run", epochs=(1, 2))
    for checkpoint, epoch in (("selected", 1), ("last", 2)):
        made = export_run(run, tmp_path / checkpoint, checkpoint)
        assert (made["checkpoint"], made["epoch"]) == (checkpoint, epoch)
    first, last = (
        RespiratorySoundClassifier.from_hparams(tmp_path / name)
        for name in ("selected", "last")
    )
    assert (first.hparams.epoch, last.hparams.epoch) == (1, 2)
    for ours, theirs in zip(
        answers(first, waveforms), answers(last, waveforms)
    ):
        assert not torch.equal(ours, theirs)
    trained = RespiratorySoundClassifier.from_hparams(run, checkpoint="last")
    assert_same(trained, last, waveforms)


def test_model_json_is_plain_and_complete(exported):
    run, out = exported
    description = json.loads((out / "model.json").read_text())
    assert description["format_version"] == 1
    assert description["labels"] == LABELS
    assert description["sample_rate"] == 32000
    provenance = description["provenance"]
    assert provenance["settings"]["seed"] == 7
    assert provenance["settings"]["loss"] == {
        "class": "qlung_plugin.nnet.losses.FocalLoss",
        "arguments": {"gamma": 2.0},
    }
    assert provenance["data"]["manifests"] == {"train.json": "00ff"}
    assert [r["data"]["database"] for r in provenance["results"]] == [
        "ICBHI 2017",
        "SPRSound 2022",
    ]
    metrics = json.loads((run / "metrics.json").read_text())["selected"]
    for key in ("sp", "se", "interval", "confusion"):
        assert provenance["results"][0][key] == metrics[key]
    assert open_model(out)["provenance"] == provenance


def test_no_path_of_the_machine_is_told(tmp_path):
    run = make_run(tmp_path / "run", weights="/home/somebody/mn04_as.pt")
    export_run(run, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert b"somebody" not in content, path
        assert str(tmp_path).encode() not in content, path
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`mn04_as.pt`, for EfficientAT" in card
    assert "Their notice is in `LICENSE`" in card
    notice = (tmp_path / "out" / "LICENSE").read_text()
    assert "Copyright (c) 2022 Florian Schmid" in notice


def test_notice_goes_with_every_part_of_efficientat():
    """A part that is added and lacks it would be passed on without."""
    parts = [EfficientATFirstBlocks]
    for component in find_components().values():
        made = locate(component.path)
        if "EfficientAT" in (getattr(made, "weights_origin", None) or ""):
            parts.append(made)
    assert len(parts) > 1
    for part in parts:
        assert "Florian Schmid" in part.weights_notice.read_text("utf-8")


def test_model_card(exported):
    run, out = exported
    card = ModelCard.load(out / "README.md")
    assert card.data.to_dict()["library_name"] == "speechbrain"
    metrics = json.loads((run / "metrics.json").read_text())["selected"]
    results = {
        (result.dataset_name, result.metric_type): result.metric_value
        for result in card.data.eval_results
    }
    for database in ("ICBHI 2017", "SPRSound 2022"):
        assert results[database, "specificity"] == round(metrics["sp"], 2)
        assert results[database, "sensitivity"] == round(metrics["se"], 2)
    text = card.content
    model = open_model(out)
    parameters = sum(
        parameter.numel()
        for name in ("cycle_features", "backbone", "classifier")
        for parameter in model[name].parameters()
    )
    assert f"parameters: {parameters / 1e6:.2f} M of front end" in text
    low, high = metrics["interval"]["se"]
    assert (
        f"| sensitivity | {metrics['se']:.2f} | {low:.2f} to {high:.2f} |"
    ) in text
    for phrase in (
        "Not a medical device",
        "exact class",
        "best validation score",
        "test side of the official split",
        "| train | 2 | 2 | 9 | normal 9 |",
        "FocalLoss(gamma=2.0)",
        "freely available for research",
        "qlung classify breath.wav --model out",
        'from_hparams("out")',
    ):
        assert phrase in text
    # Neither ONNX nor pretrained weights are there.
    assert "model.onnx" not in text and "Pretrained" not in text


def test_card_has_the_devices_and_the_note(run, tmp_path):
    """Each with its figures, from its cycles alone."""
    path = run / "predictions.csv"
    table = read_predictions(path, LABELS)
    table["device"] = ["Meditron"] * 8 + ["LittC2SE"] * 4
    write_predictions(table, path)
    export_run(run, tmp_path / "out", note="The copy at 4 kHz.")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "\nThe copy at 4 kHz.\n" in text
    assert "| device | cycles | patients | Sp | Se | Score | Two-class" in text
    # Of 6 abnormal cycles of the first device one is called normal
    assert "\n| Meditron | 8 | 4 | 100.00 (100.00 to 100.00) | 83.33 (" in text
    assert "\n| LittC2SE | 4 | 2 | 100.00 (100.00 to 100.00) | 100.00" in text
    provenance = open_model(tmp_path / "out")["provenance"]
    known = [[*result["devices"]] for result in provenance["results"]]
    assert known == [["LittC2SE", "Meditron"], []]


def test_training_without_results(tmp_path):
    run = make_run(tmp_path / "run", finished=False)
    export_run(run, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "None are known" in text
    provenance = open_model(tmp_path / "out")["provenance"]
    assert provenance["data"]["database"] == "ICBHI 2017"
    assert provenance["results"] == []


def test_damaged_results_are_named(run, tmp_path):
    (run / "metrics.json").write_text("[]")
    with pytest.raises(ValueError, match="metrics.json holds"):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_provenance_that_no_training_writes(run, tmp_path):
    edit_json(
        run / "model" / "selected",
        lambda description: description["provenance"].update(data=[]),
    )
    with pytest.raises(ValueError, match="model.json: data is"):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_a_new_or_empty_folder_is_written(tmp_path, exported):
    run, out = exported
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(FileExistsError, match="is there already"):
        export_run(run, out)
    assert before == {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(FileExistsError, match="is there already"):
        export_run(run, out / "README.md")
    (tmp_path / "empty").mkdir()
    export_run(run, tmp_path / "empty")
    export_run(run, tmp_path / "a" / "b")
    assert open_model(tmp_path / "a" / "b")["epoch"] == 1


def test_failure_leaves_nothing_behind(run, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(export, "write_model_card", fail)
    with pytest.raises(OSError, match="disk full"):
        export_run(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [run]


def test_what_is_no_run_cannot_be_exported(tmp_path, exported):
    _, out = exported
    for source in (tmp_path / "absent", out):
        with pytest.raises(FileNotFoundError, match="is no run folder"):
            export_run(source, tmp_path / "again")


OWN = EFFICIENTAT._replace(
    backbone="!new:tests.unittests.inference.test_export.OwnBackbone", dim=128
)


class OwnBackbone(torch.nn.Module):
    """A component that this package does not have."""

    def __init__(self):
        super().__init__()
        self.embedding_dim = 128
        self.scale = torch.nn.Parameter(torch.rand(128))

    def forward(self, features):
        """Embeddings of features."""
        return features.mean(dim=1) * self.scale


def test_component_of_ones_own_needs_trust(tmp_path, waveforms):
    run, out = make_run(tmp_path / "run", OWN), tmp_path / "out"
    line = "backbone: 'tests.*OwnBackbone' is none of the components"
    with pytest.raises(ValueError, match=line):
        export_run(run, out)
    assert not out.exists()
    assert export_run(run, out, trust=__name__)["files"] == FILES
    assert f"--trust {__name__}" in (out / "README.md").read_text()
    with pytest.raises(ValueError, match=line):
        open_model(out)
    opened = RespiratorySoundClassifier.from_hparams(out, trust=[__name__])
    assert_same(
        RespiratorySoundClassifier.from_hparams(run, trust="tests"),
        opened,
        waveforms,
    )
    assert_same_by_speechbrain(out, opened, waveforms)


def test_command(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    run, out = make_run(tmp_path / "run", epochs=(1, 2)), tmp_path / "out"
    arguments = [str(run), str(out), "--checkpoint", "last"]
    command.run(parser.parse_args(arguments))
    printed = capsys.readouterr().out
    assert f"{out}: the last checkpoint (epoch 2) of {run}" in printed
    assert "classes: normal, crackle, wheeze, both" in printed
    assert f"files: {', '.join(FILES)}" in printed
    assert sorted(path.name for path in out.iterdir()) == FILES
