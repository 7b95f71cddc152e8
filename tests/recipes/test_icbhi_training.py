"""Tests of the ICBHI recipe: real runs of train.py on a generated corpus.

Authors
 * qlung_plugin contributors
"""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

import speechbrain as sb
from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.models import open_model
from qlung_plugin.runs.configuration import flatten, parse_yaml
from qlung_plugin.runs.predictions import read_predictions
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.operating_point import choose_operating_point
from qlung_plugin.training.checkpoints import CompleteCheckpointer
from speechbrain.dataio.dataio import load_data_json
from tests.recipes.conftest import ROOT

COLUMNS = (
    "id recording patient device age sex location label prediction"
    " p_normal p_crackle p_wheeze p_both quality"
).split()


@pytest.fixture(scope="module")
def run(icbhi_run):
    return icbhi_run


def read_metrics(output):
    return json.loads((output / "metrics.json").read_text())


def read_weights(output, checkpoint):
    return open_model(output, checkpoint)["backbone"].state_dict()


def test_three_checkpoints_are_evaluated(run):
    metrics = read_metrics(run)
    history = (run / "train_log.txt").read_text().splitlines()
    assert len(history) == 2
    assert {"selected", "last", "test_selected", "data"} == set(metrics)
    assert metrics["last"]["epoch"] == 2
    tested = [float(line.rsplit("test score: ", 1)[1]) for line in history]
    best = max(range(2), key=lambda i: (round(tested[i], 6), i))
    if abs(tested[0] - tested[1]) > 0.01:
        assert metrics["test_selected"]["epoch"] == best + 1
    assert metrics["test_selected"]["score"] >= metrics["last"]["score"] - 1e-9
    assert metrics["data"]["partitions"]["test"]["cycles"] == sum(
        metrics["selected"]["counts"].values()
    )


def test_same_seed_same_predictions_and_another_seed_others(run, train, corpus):
    first = (run / "predictions.csv").read_bytes()
    again = train(corpus, "again")
    assert (again / "predictions.csv").read_bytes() == first
    other = train(corpus, "other", seed=7, number_of_epochs=1)
    assert (other / "predictions.csv").read_bytes() != first


SAVED_OFTEN = {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 2}


# In the middle of the first and of the second epoch.
@pytest.mark.parametrize(
    "batches", [4, pytest.param(8, marks=pytest.mark.slow)]
)
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    run, train, corpus, tmp_path, monkeypatch, batches
):
    cycles = len(json.loads((run / "train.json").read_text()))
    steps = -(-cycles // 8)
    assert 4 < steps < 8, "the corpus changed: stop within an epoch"
    fit_batch, count = sb.Brain.fit_batch, itertools.count(1)

    def fit_or_stop(self, batch):
        if next(count) == batches:
            raise KeyboardInterrupt
        return fit_batch(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(sb.Brain, "fit_batch", fit_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(corpus, "stopped", **SAVED_OFTEN)
    assert not (tmp_path / "stopped" / "metrics.json").exists()
    output = train(corpus, "stopped", **SAVED_OFTEN)
    for name in (
        *("predictions.csv", "predictions_last.csv", "metrics.json"),
        "train_log.txt",
    ):
        assert (output / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.slow
def test_balanced_draws_go_on_where_they_stopped(
    train, corpus, tmp_path, monkeypatch
):
    options = {"hparams": "transfer_ce.yaml", "number_of_epochs": 2}
    whole = train(corpus, "whole", **options)
    fit_batch, count = sb.Brain.fit_batch, itertools.count(1)
    drawn = []

    def fit_or_stop(self, batch):
        if next(count) == 8:
            raise KeyboardInterrupt
        drawn.append(list(batch.id))
        return fit_batch(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(sb.Brain, "fit_batch", fit_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(corpus, "stopped", **options, **SAVED_OFTEN)
    assert drawn[0] != drawn[5]  # other cycles in the second epoch
    output = train(corpus, "stopped", **options, **SAVED_OFTEN)
    for name in ("predictions.csv", "predictions_last.csv", "train_log.txt"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()


def test_test_labels_change_neither_weights_nor_selection(
    run, train, corpus, tmp_path
):
    """The test set is looked at after each epoch, but steers nothing."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for name in ("train.json", "valid.json", "icbhi.json"):
        (manifests / name).write_bytes((run / name).read_bytes())
    test = json.loads((run / "test.json").read_text())
    labels = [entry["label"] for entry in test.values()]
    for entry, label in zip(test.values(), labels[1:] + labels[:1]):
        entry["label"] = label
    assert [entry["label"] for entry in test.values()] != labels
    (manifests / "test.json").write_text(json.dumps(test))
    permuted = train(
        corpus, "permuted", manifest_folder=manifests, skip_prep=True
    )
    untested = train(corpus, "untested", test_each_epoch=None)
    expected = read_metrics(run)["selected"]
    before = pd.read_csv(run / "predictions.csv")
    after = pd.read_csv(permuted / "predictions.csv")
    assert (after["label"] != before["label"]).any()
    assert after["prediction"].equals(before["prediction"])
    assert read_metrics(permuted)["selected"]["epoch"] == expected["epoch"]
    assert read_metrics(untested)["selected"] == expected
    chosen = choose_operating_point(
        read_predictions(run / "validation" / "predictions.csv"), LABELS
    )
    assert expected["operating_point"]["offsets"] == chosen
    for output in (run, permuted, untested):
        assert open_model(output, "selected")["operating_point"] == chosen
    for output in (permuted, untested):
        for checkpoint in ("selected", "last"):
            weights = read_weights(output, checkpoint)
            reference = read_weights(run, checkpoint)
            assert all(
                torch.equal(weights[name], value)
                for name, value in reference.items()
            )
    with pytest.raises(FileNotFoundError, match="test_selected"):
        open_model(untested, "test_selected")
    assert not (untested / "predictions_test_selected.csv").exists()


@pytest.mark.slow
def test_cached_waveforms_give_what_cached_features_give(train, corpus):
    """Features on the device differ from stored ones by rounding alone."""
    # At a low rate, since training amplifies any rounding.
    options = {"lr": 1e-6, "number_of_epochs": 1}
    tables = [
        pd.read_csv(train(corpus, **options) / "predictions_last.csv")
        for options in (
            {**options, "output": "features"},
            {**options, "output": "waveforms", "cache_features": False},
        )
    ]
    columns = [c for c in COLUMNS if c.startswith("p_")]
    expected, found = (table[columns].to_numpy() for table in tables)
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=0)
    assert (found != expected).any()


def test_without_validation_the_last_epoch_is_selected(
    train, corpus, monkeypatch
):
    """Here of a patient fold; all epochs are drawn.

    Also those after the checkpoint that is evaluated last.
    """
    drawn, save = [], CompleteCheckpointer.save_checkpoint

    def save_worse(self, meta, **kwargs):
        meta["test_score"] = -meta["epoch"]  # the first is test-selected
        return save(self, meta=meta, **kwargs)

    monkeypatch.setattr(CompleteCheckpointer, "save_checkpoint", save_worse)
    monkeypatch.setattr(
        "qlung_plugin.figures.results.training_curves_figure",
        lambda history, title: drawn.append(history["epoch"].tolist()),
    )
    options = {"split": "patient_folds", "test_fold": 1, "valid_fraction": 0}
    output = train(corpus, "all", **options)
    metrics = read_metrics(output)
    assert metrics["test_selected"]["epoch"] == 1
    assert drawn and all(epochs == [1, 2] for epochs in drawn)
    assert metrics["selected"]["epoch"] == metrics["last"]["epoch"] == 2
    assert "no validation" in metrics["selected"]["selection"]
    assert metrics["selected"]["operating_point"] is None
    assert (
        "none: no validation set chose" in (output / "report.txt").read_text()
    )
    assert open_model(output)["operating_point"] is None
    assert metrics["data"]["partitions"]["valid"]["cycles"] == 0
    assert "patient fold 1" in metrics["data"]["protocol"]
    entries = {
        name: json.loads((output / f"{name}.json").read_text())
        for name in ("train", "valid", "test")
    }
    assert entries["valid"] == {}
    sides = [
        {entry["patient"] for entry in entries[name].values()}
        for name in ("train", "test")
    ]
    assert not sides[0] & sides[1]


@pytest.mark.slow
def test_real_recordings_and_weights(train, real_data):
    """Two cycles' worth of everything real: formats, split, weights."""
    output = train(
        real_data / "icbhi_original",
        hparams="ce.yaml",  # the one training recording lacks classes
        valid_fraction=0,
        number_of_epochs=1,
        pretrained_weights=real_data / "weights" / "mn04_as_mAP_432.pt",
        width_mult="0.4",
    )
    metrics = read_metrics(output)
    assert metrics["data"]["subset"] == "10 of 920 recordings"
    partitions = metrics["data"]["partitions"]
    assert sum(partitions[p]["cycles"] for p in partitions) == 97


def test_frozen_blocks_are_cached_and_come_back_with_the_run(train, corpus):
    options = {"frozen_blocks": 7, "augmentation": "null"}
    output = train(corpus, "frozen", **options)
    predictions = pd.read_csv(output / "predictions.csv")
    run = open_model(output)
    features = [
        run["cycle_features"](read_cycle(entry["wav"]), entry["sample_rate"])
        for entry in load_data_json(
            output / "test.json", {"data_root": corpus}
        ).values()
    ]
    assert features[0].shape[0] < 100 / 7  # at the blocks' resolution
    with torch.no_grad():
        embeddings = run["backbone"](torch.stack(features).float())
        probabilities = run["classifier"](embeddings)[0].softmax(dim=1)
    columns = ["p_normal", "p_crackle", "p_wheeze", "p_both"]
    np.testing.assert_allclose(
        probabilities, predictions[columns], atol=2e-6, rtol=0
    )


NORMALISED = """\
!include:{base}

level: !new:qlung_plugin.lobes.features.RecordingLevel
    rms_db: -20.0
    f_min: 150.0
    f_max: 2000.0

band: !new:qlung_plugin.lobes.features.MelBand
    f_min: 150.0
    f_max: 2000.0

spectral_mean: True
"""


@pytest.mark.parametrize("cached", [True, False])
def test_recordings_are_normalised_alike_everywhere(
    train, corpus, tmp_path, cached
):
    """What was tested in training is what classify says of the files."""
    hparams = tmp_path / "normalised.yaml"
    base = ROOT / "recipes/ICBHI/classification/hparams/ce.yaml"
    hparams.write_text(NORMALISED.format(base=base))
    output = train(
        corpus,
        hparams=hparams,
        number_of_epochs=1,
        augmentation="null",
        cache_features=cached,
    )
    predictions = pd.read_csv(output / "predictions.csv").set_index("id")
    model = RespiratorySoundClassifier.from_hparams(output)
    columns = [f"p_{label}" for label in model.labels]
    entries = load_data_json(output / "test.json", {"data_root": corpus})
    by_file = {}
    for cycle, entry in entries.items():
        by_file.setdefault(entry["wav"]["file"], []).append((cycle, entry))
    assert len(by_file) > 1
    for file, cycles in by_file.items():
        rate = cycles[0][1]["sample_rate"]
        times = [
            (entry["wav"]["start"] / rate, entry["wav"]["stop"] / rate)
            for _, entry in cycles
        ]
        table = model.classify_file(file, times, shortest=0.0).cycles
        expected = predictions.loc[[cycle for cycle, _ in cycles], columns]
        # Cached features are rounded to half precision.
        np.testing.assert_allclose(
            table[columns], expected, rtol=0, atol=2e-6 if cached else 2e-3
        )


def test_validation_patients_have_results_of_their_own(run):
    """Settings are compared by them, not by the test set."""
    entries = json.loads((run / "valid.json").read_text())
    predictions = read_predictions(run / "validation" / "predictions.csv")
    assert set(predictions["id"]) == set(entries)
    metrics = read_metrics(run / "validation")
    assert set(metrics) == {"selected", "last", "data"}
    log = (run / "train_log.txt").read_text()
    scores = map(float, re.findall(r"valid score: ([0-9.e+]+)", log))
    assert metrics["selected"]["score"] == pytest.approx(max(scores), abs=0.01)


# Those of the package; that of a part of one's own is in test_icbhi_options.py.
README_BLOCKS = [
    block
    for page in ("README.md", "docs/components.md")
    for block in re.findall(
        r"```yaml\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL
    )
    if set(re.findall(r"!new:(\w+)", block)) == {"qlung_plugin"}
]


def test_components_are_swapped_as_the_readme_shows(
    run, train, corpus, tmp_path
):
    """A block of the README takes the place of the one of its name."""
    keys = parse_yaml((run / "hyperparams.yaml").read_text(), run)
    swapped = parse_yaml("".join(README_BLOCKS), "README.md")
    assert set(swapped) == {"output_folder", "quality", "loss"}
    text = "".join(README_BLOCKS)
    assert text.startswith("!include:hparams/qlung.yaml\n")
    (tmp_path / "swapped.yaml").write_text(text)
    (tmp_path / "hparams").symlink_to(ROOT / "hparams")
    output = train(corpus, "swapped", hparams=tmp_path / "swapped.yaml")
    written = parse_yaml((output / "hyperparams.yaml").read_text(), output)
    for key in ("quality", "loss"):
        before, expected, now = (
            json.dumps(flatten({key: yaml[key]}))
            for yaml in (keys, swapped, written)
        )
        assert now == expected != before
    before = pd.read_csv(run / "predictions_last.csv")
    after = pd.read_csv(output / "predictions_last.csv")
    assert not after["p_normal"].equals(before["p_normal"])


@pytest.mark.parametrize("valid_fraction", [0, 0.4])
def test_an_operating_point_may_come_from_elsewhere(
    corpus, train, valid_fraction
):
    output = train(
        corpus,
        f"point_{valid_fraction}",
        normal_offset=-2.5,
        valid_fraction=valid_fraction,
        number_of_epochs=1,
    )
    point = {**dict.fromkeys(LABELS, 0.0), "normal": -2.5}
    assert open_model(output)["operating_point"] == point
    assert read_metrics(output)["last"]["operating_point"]["offsets"] == point
