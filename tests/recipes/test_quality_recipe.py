"""The recipes on quality: against experts, and under degradations.

Authors
 * qlung_plugin contributors
"""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.inference.models import open_model
from qlung_plugin.lobes.quality import FlatnessScore
from qlung_plugin.scores.icbhi_score import prediction_metrics
from qlung_plugin.synthetic.sprsound import generate_sprsound_like
from tests.recipes.conftest import SPRSOUND, run_script

EXPERTS = SPRSOUND / "quality" / "evaluate.py"
EXPERTS_YAML = EXPERTS.parent / "hparams" / "experts.yaml"
DEGRADATION = SPRSOUND / "cross_dataset" / "degradation.py"
DEGRADATION_YAML = DEGRADATION.parent / "hparams" / "degradation.yaml"


def compare(data_folder, folder, hparams=EXPERTS_YAML, **options):
    """Compares measures with experts, into ``results`` of the folder."""
    settings = {
        "data_folder": data_folder,
        "output_folder": folder / "results",
        "cache_folder": folder / "cache",
        **options,
    }
    run_script(EXPERTS, hparams, settings)


def changed(hparams, path, *blocks):
    """A YAML in which some blocks of a recipe's are others."""
    path.write_text("\n".join([f"!include:{hparams}", *blocks, ""]))
    return path


def measures(*names):
    """The block of measures with some of the recipe's."""
    found = re.finditer(
        r"^    (\w+): !new:.*\n(?: {8}.*\n)*", EXPERTS_YAML.read_text(), re.M
    )
    return "measures:\n" + "".join(m[0] for m in found if m[1] in names)


@pytest.fixture(name="children", scope="module")
def fixture_children(tmp_path_factory):
    """A generated corpus in SPRSound's layout."""
    folder = tmp_path_factory.mktemp("children") / "SPRSound"
    generate_sprsound_like(folder, patients=10, recordings=1)
    return folder


def annotations(folder):
    """What the experts said of each recording, read as plain JSON."""
    return {
        path.stem: json.loads(path.read_text())["record_annotation"]
        for path in (folder / "train_json").glob("*.json")
    }


# Against experts


@pytest.fixture(name="judged", scope="module")
def fixture_judged(children, tmp_path_factory):
    """The output of the recipe."""
    output = tmp_path_factory.mktemp("judged")
    compare(children, output)
    return output / "results"


def test_experts_are_those_of_the_annotation_files(judged, children):
    table = pd.read_csv(judged / "quality.csv").set_index("id")
    experts = annotations(children)
    assert set(table.index) == set(experts)
    assert table["annotation"].to_dict() == experts
    poor = {name for name, said in experts.items() if said == "Poor Quality"}
    assert set(table.index[table["poor"]]) == poor
    assert 0 < len(poor) < len(experts)


def test_areas_are_those_of_the_written_values(judged):
    table = pd.read_csv(judged / "quality.csv")
    metrics = json.loads((judged / "metrics.json").read_text())
    assert "not SPRSound 2022's" in metrics["data"]["database"]  # generated
    assert set(metrics["areas"]) == {
        "learned",
        "aqs_absolute",
        "aqs_absolute_full_band",
        "aqs_fitted_frames",
        "aqs_fitted_spectrum",
        "flatness",
        "snr",
        "clipping",
    }
    for name, found in metrics["areas"].items():
        area = roc_auc_score(table["poor"], -table[name])
        assert found["area"] == pytest.approx(area, abs=1e-3), name
        assert found["interval"][0] <= found["area"] <= found["interval"][1]
        assert found["patients"] == table["patient"].nunique()
        assert found["poor"] == table["poor"].sum()
        assert table[name].between(0, 1).all()


def test_written_values_are_those_of_the_measure(judged, children):
    table = pd.read_csv(judged / "quality.csv").set_index("id")
    manifest = json.loads((judged / "recordings.json").read_text())
    score = FlatnessScore(8000)
    for name, entry in list(manifest.items())[:3]:
        waveform = read_cycle(entry["wav"], children)
        value = score(waveform[None], native_rates=torch.tensor([8000]))
        assert table["flatness"][name] == pytest.approx(value.item(), abs=1e-5)


def test_recording_without_annotation_is_left_out_and_said(
    children, tmp_path, caplog
):
    folder = tmp_path / "SPRSound"
    shutil.copytree(children, folder)
    name = sorted(annotations(folder))[0]
    path = folder / "train_json" / f"{name}.json"
    content = json.loads(path.read_text())
    del content["record_annotation"]
    path.write_text(json.dumps(content))
    hparams = changed(
        EXPERTS_YAML, tmp_path / "experts.yaml", measures("clipping")
    )
    compare(folder, tmp_path, hparams)
    table = pd.read_csv(tmp_path / "results" / "quality.csv")
    assert name not in set(table["id"])
    assert len(table) == len(annotations(children)) - 1
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert any(name in warning for warning in metrics["data"]["warnings"])
    assert list(metrics["areas"]) == ["clipping"]


def test_partition_without_poor_recordings(children, tmp_path):
    with pytest.raises(ValueError, match="0 of 4 recordings are annotated"):
        compare(children, tmp_path, partition="inter")


# As the README reports them.
REAL_AREAS = {
    "aqs_absolute": (0.551, 0.420, 0.656),
    "aqs_fitted_spectrum": (0.585, 0.48, 0.68),
    "flatness": (0.731, 0.632, 0.812),
}


@pytest.mark.slow
def test_areas_on_real_recordings(real_data, tmp_path):
    hparams = changed(
        EXPERTS_YAML, tmp_path / "experts.yaml", measures(*REAL_AREAS)
    )
    compare(real_data / "sprsound_quality", tmp_path, hparams)
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    for name, expected in REAL_AREAS.items():
        found = metrics["areas"][name]
        counts = [found[key] for key in ("recordings", "poor", "patients")]
        assert counts == [374, 94, 109]
        values = [found["area"], *found["interval"]]
        assert values == pytest.approx(expected, abs=0.01), name
    # What the whole database was measured to have is within the intervals.
    for name, whole in zip(REAL_AREAS, (0.51, 0.57, 0.70)):
        low, high = metrics["areas"][name]["interval"]
        assert low < whole < high


# Degradations


@pytest.fixture(name="degrade", scope="module")
def fixture_degrade(children, icbhi_run, tmp_path_factory):
    """Runs the study with few degrees; the output folder is returned."""
    hparams = changed(
        DEGRADATION_YAML,
        tmp_path_factory.mktemp("study") / "degradation.yaml",
        "degradations: {white_noise: [20, -5], gain: [-20]}",
        "further_quality:",
        "    flatness: !new:qlung_plugin.lobes.quality.FlatnessScore",
        "        sample_rate: 16000",
    )

    def run(**options):
        output = tmp_path_factory.mktemp("study") / "out"
        settings = {
            "data_folder": children,
            "run_folder": icbhi_run,
            "output_folder": output,
            **options,
        }
        run_script(DEGRADATION, hparams, settings)
        return output

    return run


@pytest.fixture(name="studied", scope="module")
def fixture_studied(degrade):
    """The output of the study."""
    return degrade()


def test_study_of_the_undegraded_is_the_evaluation(
    studied, icbhi_run, children
):
    table = pd.read_csv(studied / "degradation.csv")
    conditions = list(zip(table["degradation"], table["degree"].fillna(0)))
    assert conditions == [
        ("none", 0),
        ("white_noise", 20),
        ("white_noise", -5),
        ("gain", -20),
    ]
    # By the way of the recipes: event by event, through the stored features.
    run = open_model(icbhi_run)
    manifest = json.loads((studied / "test.json").read_text())
    features, quality = [], []
    measure = CycleMeasurements(run["quality"])
    for entry in manifest.values():
        waveform = read_cycle(entry["wav"], children)
        with torch.no_grad():
            features.append(run["cycle_features"](waveform, 8000))
            quality.append(measure(waveform, 8000))
    with torch.no_grad():
        embeddings = run["backbone"](torch.stack(features).float())
        logits, _ = run["classifier"](embeddings)
    labels = np.array(run["labels"])
    metrics = prediction_metrics(
        [entry["label"] for entry in manifest.values()],
        labels[logits.argmax(-1)],
        run["labels"],
    )
    none = table.iloc[0]
    for name in ("sp", "se", "score"):
        assert none[name] == pytest.approx(metrics[name], abs=1e-4)
    assert none["cycles"] == len(manifest)
    assert none["score_low"] <= none["score"] <= none["score_high"]
    median = run["quality"].score(torch.stack(quality)).double().quantile(0.5)
    assert none["quality"] == pytest.approx(median.item(), abs=1e-4)


def test_study_is_reproducible_and_complete(degrade):
    options = {"max_cycles": 10, "checkpoint": "test_selected"}
    first, second = (degrade(**options) for _ in range(2))
    for name in ("degradation.csv", "degradation.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (pd.read_csv(first / "degradation.csv")["cycles"] == 10).all()
    report = (first / "degradation.md").read_text()
    assert "inter partition, 10 of " in report and "test-selected" in report
    assert "| white noise | -5 dB SNR |" in report
    assert (first / "figures" / "degradation.png").stat().st_size > 0
