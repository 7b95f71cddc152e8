"""Tests of judging a run on a database that it never saw.

Authors
 * qlung_plugin contributors
"""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.labels import TWO_CLASSES
from qlung_plugin.dataio.manifests import read_manifest
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.inference import models
from qlung_plugin.inference.export import export_run
from qlung_plugin.inference.models import open_model
from qlung_plugin.processing.cycles import resample
from qlung_plugin.runs.predictions import read_predictions
from tests.recipes.conftest import SPRSOUND, leave_out_figures, run_script
from tests.unittests.refusals import edit_json

RECIPE = SPRSOUND / "cross_dataset"
HPARAMS = RECIPE / "hparams" / "cross_dataset.yaml"
COLUMNS = (
    "id recording patient device age sex location duration label prediction"
    " p_normal p_crackle p_wheeze p_both quality"
).split()


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory, cache, sprsound_corpus, icbhi_run):
    """Runs evaluate.py in this process; the output folder is returned."""

    def evaluate(hparams=HPARAMS, **overrides):
        output = tmp_path_factory.mktemp("ood") / "out"
        options = {
            "data_folder": sprsound_corpus,
            "run_folder": icbhi_run,
            "output_folder": output,
            "cache_folder": cache,
            **overrides,
        }
        with pytest.MonkeyPatch.context() as patch:
            leave_out_figures(patch)
            run_script(RECIPE / "evaluate.py", hparams, options)
        return output

    return evaluate


@pytest.fixture(scope="module")
def evaluated(evaluate, tmp_path_factory):
    """An evaluation with a further measure of quality."""
    hparams = tmp_path_factory.mktemp("further") / "further.yaml"
    hparams.write_text(
        f"!include:{HPARAMS}\n"
        "further_quality:\n"
        "    flatness: !new:qlung_plugin.lobes.quality.FlatnessScore\n"
        "        sample_rate: 8000\n"
    )
    return evaluate(hparams)


@pytest.fixture
def copied_run(icbhi_run, tmp_path):
    """A run that may be spoilt."""
    return shutil.copytree(icbhi_run, tmp_path / "copied")


def read_metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def resampled_cycle(entry, folder, rate):
    """Of the whole recording at another rate, a multiple of its own."""
    wav = entry["wav"]
    samples, native = soundfile.read(
        wav["file"].replace("{data_root}", str(folder)), dtype="float32"
    )
    times = rate // native
    whole = resample(torch.from_numpy(samples), native, rate)
    return whole[times * wav["start"] : times * wav["stop"]]


def test_predictions_are_those_of_the_loaded_run(
    evaluated, icbhi_run, sprsound_corpus
):
    """Each event by itself, through the run's own parts, gives its row."""
    for name, suffix in (("selected", ""), ("last", "_last")):
        run = open_model(icbhi_run, name)
        table = read_predictions(evaluated / f"predictions{suffix}.csv")
        assert table.columns.tolist() == [*COLUMNS, "quality_flatness"]
        assert table["quality_flatness"].between(0, 1).all()
        entries = json.loads((evaluated / "test.json").read_text())
        assert set(table["id"]) == set(entries)
        for row in table.iloc[::5].to_dict("records"):
            entry = entries[row["id"]]
            waveform = read_cycle(entry["wav"], sprsound_corpus)
            features = run["cycle_features"](
                resampled_cycle(entry, sprsound_corpus, 32000), 32000
            )
            with torch.no_grad():
                embedding = run["backbone"](features[None].float())
                logits = run["classifier"](embedding)[0]
            expected = F.softmax(logits[0], dim=0)
            found = [row[f"p_{label}"] for label in run["labels"]]
            np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)
            assert row["prediction"] == run["labels"][int(expected.argmax())]
            assert row["label"] == entry["label"]
            assert row["age"] == entry["age"] and row["sex"] == entry["sex"]
            # Nothing is fitted on the data that the model is judged on.
            assert run["quality"].normalisation == "fitted"
            rate = entry["sample_rate"]
            measured = CycleMeasurements(run["quality"])(waveform, rate)
            quality = run["quality"].score(measured[None]).item()
            assert row["quality"] == pytest.approx(quality, abs=1e-6)


def test_metrics_are_of_the_checkpoints_of_the_training(evaluated, icbhi_run):
    metrics = read_metrics(evaluated)
    assert set(metrics) == {"selected", "last", "test_selected", "data"}
    trained = read_metrics(icbhi_run)
    for name in ("selected", "last", "test_selected"):
        assert metrics[name]["epoch"] == trained[name]["epoch"]
        points = [m[name]["operating_point"] or {} for m in (metrics, trained)]
        assert points[0].get("offsets") == points[1].get("offsets")
        assert (name == "test_selected") == (points[0] == {})
        assert set(metrics[name]["strata"]) == {"age_group", "sex", "location"}
    data = metrics["data"]
    assert data["training"]["data"] == trained["data"]
    assert data["partition"] == "inter partition"
    assert "not SPRSound" in data["database"]


def test_report_has_the_floor_and_published_rows_for_inter_alone(
    evaluate, evaluated
):
    text = (evaluated / "report.txt").read_text()
    assert re.search(r'always "normal"\s+100.00\s+0.00\s+50.00', text)
    assert re.search(r"QLung on Audio-CLAP \(published.*59.80 ± 3.51", text)
    for name in ("selected", "last", "test_selected"):
        assert re.search(rf"^{name}\s+[0-9.]+\s+[0-9.]+", text, re.M)
    output = evaluate(partition="intra", checkpoint="selected")
    text = (output / "report.txt").read_text()
    assert 'always "normal"' in text and "published, full" not in text
    # The one checkpoint that is asked for.
    assert set(read_metrics(output)) == {"selected", "data"}
    assert not (output / "predictions_last.csv").exists()


# --- what must not become a silent score ------------------------------------


def test_no_run_is_one_friendly_line(tmp_path, sprsound_corpus):
    options = {
        "data_folder": sprsound_corpus,
        "output_folder": tmp_path / "out",
    }
    for further, kind, expected in (
        ({}, SystemExit, "--run_folder"),
        ({"run_folder": tmp_path}, FileNotFoundError, "is no model"),
    ):
        with pytest.raises(kind, match=expected) as caught:
            run_script(*SCRIPTS["evaluate"], {**options, **further})
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_not_there(evaluate, copied_run):
    shutil.rmtree(copied_run / "model" / "test_selected")
    with pytest.raises(FileNotFoundError, match="no test_selected model"):
        evaluate(run_folder=copied_run, checkpoint="test_selected")
    with pytest.raises(ValueError, match="'best' is none of"):
        evaluate(run_folder=copied_run, checkpoint="best")
    output = evaluate(run_folder=copied_run, checkpoint="all")
    assert set(read_metrics(output)) == {"selected", "last", "data"}


def test_an_exported_model(evaluate, evaluated, icbhi_run, tmp_path):
    export_run(icbhi_run, tmp_path / "exported", "last")
    output = evaluate(run_folder=tmp_path / "exported")
    assert set(read_metrics(output)) == {"last", "data"}
    table, expected = (
        read_predictions(folder / "predictions_last.csv")
        for folder in (output, evaluated)
    )
    assert table.equals(expected.drop(columns="quality_flatness"))


def test_a_run_with_another_label_order(evaluate, copied_run):
    edit_json(
        copied_run / "model" / "last",
        lambda model: model.update(
            labels=["normal", "wheeze", "crackle", "both"]
        ),
    )
    with pytest.raises(ValueError, match="has the labels .*in this order"):
        evaluate(run_folder=copied_run, checkpoint="last")


@pytest.mark.slow
def test_a_head_on_frozen_blocks_is_standardised_by_its_training(
    corpus, train, evaluate, tmp_path
):
    """Mean 0, deviation 1 over the cycles of train.json alone; and judged."""
    run = train(corpus, hparams="transfer_ce.yaml", number_of_epochs="1")
    model = open_model(run, "last")
    train_set = read_manifest(run / "train.json", corpus)
    store = store_cycles([train_set], model["cycle_features"], tmp_path / "new")
    features = [store[cycle] for cycle in train_set]
    embeddings = model["backbone"](torch.stack(features).float())
    deviation = embeddings.std(dim=0, correction=0)
    torch.testing.assert_close(
        embeddings.mean(dim=0), torch.zeros(len(deviation)), atol=1e-3, rtol=0
    )
    assert ((deviation - 1).abs() < 1e-3).logical_or(deviation == 0).all()
    assert (deviation > 0).any()
    for options in ({}, {"standardise_devices": True}):
        output = evaluate(run_folder=run, checkpoint="last", **options)
        table = read_predictions(output / "predictions_last.csv")
        assert table["p_normal"].between(0, 1).all()


def test_devices_are_standardised_where_it_is_asked_for(
    evaluate, icbhi_run, monkeypatch
):
    """With a deviation of 0 in training, all cycles of a device become alike."""
    options = {"checkpoint": "last", "standardise_devices": True}
    with pytest.raises(ValueError, match="EfficientAT, does not standardise"):
        evaluate(**options)

    def opened(*arguments):
        run = open_model(*arguments)
        for name in ("mean", "deviation"):
            run["backbone"].register_buffer(name, torch.zeros(128))
        return run

    monkeypatch.setattr(models, "open_model", opened)
    output = evaluate(**options)
    table = read_predictions(output / "predictions_last.csv")
    assert (table["p_normal"] == table["p_normal"][0]).all()
    protocol = read_metrics(output)["data"]["protocol"]
    assert "unlabelled adaptation" in protocol
    assert "unlabelled adaptation" in (output / "report.txt").read_text()


# --- what a stranger's folder must not do -----------------------------------

SCRIPTS = {
    "evaluate": (RECIPE / "evaluate.py", HPARAMS),
    "degradation": (
        RECIPE / "degradation.py",
        RECIPE / "hparams" / "degradation.yaml",
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_run_with_a_part_from_outside(
    name, copied_run, tmp_path, monkeypatch
):
    """Its module creates a file, which it does if it is trusted alone."""
    created = tmp_path / "created"
    (tmp_path / "outside.py").write_text(f"open({str(created)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "outside", None)  # undone at the end
    del sys.modules["outside"]
    for checkpoint in ("selected", "last"):
        edit_json(
            copied_run / "model" / checkpoint,
            lambda model: model["architecture"].update(
                backbone={"class": "outside.Backbone"}
            ),
        )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.wav").touch()
    options = {
        "data_folder": tmp_path / "data",
        "run_folder": copied_run,
        "output_folder": tmp_path / "out",
    }
    with pytest.raises(ValueError, match="no module that trust"):
        run_script(*SCRIPTS[name], options)
    with pytest.raises(ValueError, match="trust=True names no modules"):
        run_script(*SCRIPTS[name], {**options, "trust": True})
    assert not created.exists() and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="defines no torch.nn.Module"):
        run_script(*SCRIPTS[name], {**options, "trust": "[outside]"})
    assert created.exists()


@pytest.mark.parametrize(
    "name, message",
    [("evaluate", "are not finite"), ("degradation", "are NaN or")],
)
def test_finite_weights_that_overflow(
    name, message, copied_run, sprsound_corpus, cache, tmp_path
):
    """What comes out is no class, least of all the first."""
    path = copied_run / "model" / "last" / "model.safetensors"
    state = load_file(path)
    for key, tensor in state.items():
        if key.startswith("backbone.") and tensor.dim() == 4:
            state[key] = tensor * 1e30
    save_file(state, path)
    options = {
        "data_folder": sprsound_corpus,
        "run_folder": copied_run,
        "output_folder": tmp_path / "out",
        "checkpoint": "last",
    }
    if name == "evaluate":
        options["cache_folder"] = cache
    with pytest.raises(ValueError, match=message):
        run_script(*SCRIPTS[name], options)


# --- the opposite direction, and two classes --------------------------------


def test_a_model_of_two_classes_is_judged_by_its_own(evaluate, train, corpus):
    run = train(corpus, num_classes=2, number_of_epochs=1)
    output = evaluate(run_folder=run, checkpoint="last")
    entries = json.loads((output / "test.json").read_text())
    assert {e["label"] for e in entries.values()} > {"normal", "wheeze"}
    table = read_predictions(output / "predictions_last.csv", TWO_CLASSES)
    for row in table.itertuples():
        abnormal = entries[row.id]["label"] != "normal"
        assert row.label == TWO_CLASSES[abnormal]
    report = (output / "report.txt").read_text()
    assert 'always "normal"' in report and "published, full" not in report
