"""The recipe that learns a quality score from experts.

Authors
 * qlung_plugin contributors
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.lobes.quality import (
    MEASUREMENTS,
    LearnedQualityScore,
    RecordingMeasurements,
)
from qlung_plugin.processing.degradations import degrade
from recipes.SPRSound.quality.quality_measurements import DegradedMeasurements
from recipes.SPRSound.quality.quality_results import check_coefficients
from tests.recipes.conftest import SPRSOUND, run_script

RECIPE = SPRSOUND / "quality" / "train.py"
HPARAMS = RECIPE.parent / "hparams" / "quality.yaml"
# Nearly as in the row of the recipe.
SMALL = {
    "folds": 2,
    "inner_folds": 2,
    "repeats": 1,
    "numbers_of_measurements": "[4, 6]",
    "regularisations": "[0.1]",
    "boosting_iterations": 5,
    "resamples": 200,
    "coefficient_resamples": 10,
    "cuts": "[1.0]",
    "degradations": (
        "{white_noise: [], babble: [], crying: [], handling: [],"
        " dropouts: [], lost_contact: []}"
    ),
}


@pytest.fixture(name="learn", scope="module")
def fixture_learn(sprsound_corpus, cache, tmp_path_factory):
    """Runs the recipe with few settings; the output folder is returned."""

    def run(**options):
        output = tmp_path_factory.mktemp("learned")
        settings = {
            "data_folder": sprsound_corpus,
            "output_folder": output,
            "cache_folder": cache,
            **SMALL,
            **options,
        }
        run_script(RECIPE, HPARAMS, settings)
        return output

    return run


@pytest.fixture(name="learned", scope="module")
def fixture_learned(learn):
    """The output of the recipe."""
    return learn()


def read(path):
    return json.loads(path.read_text())


def test_areas_are_those_of_the_predictions(learned):
    table = pd.read_csv(learned / "predictions.csv")
    assert (table["poor"] == (table["annotation"] == "Poor Quality")).all()
    metrics = read(learned / "metrics.json")
    for name in ("quality_logistic", "quality_gradient_boosting"):
        found = metrics["areas"][name]
        assert found["recordings"] == len(table) == table["id"].nunique()
        assert table[name].between(0, 1).all()
        for key, function in (
            ("area", roc_auc_score),
            ("average_precision", average_precision_score),
        ):
            expected = function(table["poor"], -table[name])
            assert found[key] == pytest.approx(expected, abs=0.02), name
    measures = {"aqs_absolute", "aqs_fitted_frames", "flatness", "snr"}
    assert set(metrics["areas"]) > measures
    singles = metrics["single_measurements"]
    assert set(singles) == {
        name for name in MEASUREMENTS if not name.startswith("share_")
    }
    areas = [found["area"] for found in singles.values()]
    assert areas == sorted(areas, reverse=True)
    brier = ((table["quality_logistic"] - ~table["poor"]) ** 2).mean()
    assert metrics["brier_score"] == pytest.approx(brier, abs=1e-4)


def test_score_of_the_coefficients_finds_what_it_was_fitted_to(
    learned, sprsound_corpus
):
    score = LearnedQualityScore(8000, learned / "coefficients.json")
    assert (
        len(score.measurements.names)
        == read(learned / "metrics.json")["setting"]["measurements"]
    )
    qualities = {True: [], False: []}
    for entry in read(learned / "recordings.json").values():
        waveform = read_cycle(entry["wav"], sprsound_corpus)
        poor = entry["annotation"] == "Poor Quality"
        qualities[poor].append(score(waveform[None]).item())
    assert np.mean(qualities[True]) + 0.3 < np.mean(qualities[False])


def test_coefficients_say_where_they_come_from(learned):
    content = read(learned / "coefficients.json")
    table = pd.read_csv(learned / "predictions.csv", dtype={"patient": str})
    provenance = content["provenance"]
    assert "not SPRSound 2022's" in provenance["database"]  # generated
    assert provenance["recordings"] == len(table)
    assert provenance["poor"] == table["poor"].sum()
    assert provenance["patients"] == sorted(table["patient"].unique())
    # One kind of copies, of those that are not poor.
    assert provenance["degraded copies"] == (~table["poor"]).sum()
    command = provenance["command"]
    assert command.startswith("python train.py hparams/quality.yaml")
    assert "--numbers_of_measurements '[4, 6]'" in command
    assert str(learned) not in command and "cache" not in command
    for found in content["measurements"].values():
        for value in (found["mean"], *found["interval"]):
            assert value == float(f"{value:.6g}")


@pytest.mark.slow
def test_same_seed_same_result(learned, learn):
    again = learn()
    for name in ("predictions.csv", "metrics.json", "report.md"):
        assert (learned / name).read_bytes() == (again / name).read_bytes()
    first, second = (read(f / "coefficients.json") for f in (learned, again))
    del first["provenance"]["date"], second["provenance"]["date"]
    assert first == second


def test_degraded_copies_are_those_of_the_study_of_degradations():
    measurements = RecordingMeasurements(8000, ["flatness", "clipping"])
    kinds = {"white_noise": [5], "clipping": [0.1]}
    waveform = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    module = DegradedMeasurements(measurements, kinds, 3)
    found = module(waveform, 8000)
    assert found.shape == (2, 2)
    measure = CycleMeasurements(measurements)
    clipped = measure(degrade(waveform, 8000, "clipping", 0.1), 8000)
    torch.testing.assert_close(found[1], clipped)
    torch.testing.assert_close(found, module(waveform, 8000))
    other = DegradedMeasurements(measurements, kinds, 4)
    assert not other(waveform, 8000)[0].equal(found[0])


def test_degrees_are_drawn_per_recording():
    measurements = RecordingMeasurements(8000, ["clipping"])
    kinds = {"clipping": [0.1, 0.9]}
    module = DegradedMeasurements(measurements, kinds, 0)
    waveforms = torch.randn(
        12, 8000, generator=torch.Generator().manual_seed(0)
    )
    values = [round(module(w, 8000).item(), 1) for w in waveforms]
    assert len(set(values)) == 2


def test_file_that_is_not_the_model_is_refused(learned, tmp_path):
    content = read(learned / "coefficients.json")
    name = next(iter(content["measurements"]))
    content["measurements"][name]["coefficient"] += 0.1
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        rng.standard_normal((10, len(MEASUREMENTS))), columns=MEASUREMENTS
    )
    score = LearnedQualityScore(8000, learned / "coefficients.json")
    values = torch.tensor(table[list(score.measurements.names)].to_numpy())
    expected = score.score(values).numpy()
    check_coefficients(learned / "coefficients.json", table, expected, 8000)
    with pytest.raises(ValueError, match="differ by"):
        check_coefficients(path, table, expected, 8000)


def test_partition_without_poor_recordings(learn):
    with pytest.raises(ValueError, match="0 patients with poor recordings"):
        learn(partition="inter")
