"""The recipe that spoils clean recordings, and what the measures say to it.

Authors
 * qlung_plugin contributors
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.lobes.quality import FlatnessScore
from qlung_plugin.processing.cycles import resample
from tests.recipes.conftest import SPRSOUND, run_script

STUDY = SPRSOUND / "quality" / "degradation.py"
STUDY_YAML = STUDY.parent / "hparams" / "degradation.yaml"
DEGRADATIONS = {"white_noise": [20, 0], "dropouts": [0.2, 0.6]}


def study(data_folder, folder, **options):
    """Runs the recipe with few degrees, into ``results`` of the folder."""
    (folder / "degradation.yaml").write_text(
        f"!include:{STUDY_YAML}\n"
        f"degradations: {DEGRADATIONS}\n"
        "measures:\n"
        "    flatness: !name:qlung_plugin.lobes.quality.FlatnessScore\n"
        "    snr: !name:qlung_plugin.lobes.quality.SNRScore\n"
    )
    settings = {
        "data_folder": data_folder,
        "output_folder": folder / "results",
        "max_recordings": 12,
        **options,
    }
    run_script(STUDY, folder / "degradation.yaml", settings)
    return folder / "results"


@pytest.fixture(name="studied", scope="module")
def fixture_studied(sprsound_corpus, tmp_path_factory):
    """The output of the recipe."""
    return study(sprsound_corpus, tmp_path_factory.mktemp("studied"))


def test_clean_recordings_are_spread_over_the_patients(
    studied, sprsound_corpus
):
    table = pd.read_csv(studied / "degradation.csv")
    none = table[table["degradation"] == "none"]
    assert len(none) == none["recording"].nunique() == 12
    for name in none["recording"]:
        path = sprsound_corpus / "train_json" / f"{name}.json"
        said = json.loads(path.read_text())["record_annotation"]
        assert said != "Poor Quality"
    # 13 patients have three clean recordings each.
    assert none["patient"].nunique() == 12


def test_every_version_has_its_row(studied):
    table = pd.read_csv(studied / "degradation.csv")
    expected = {
        *(("none", 0),),
        *((kind, d) for kind, degrees in DEGRADATIONS.items() for d in degrees),
        *(("gain", degree) for degree in (-12, -6)),
        ("resampling", 16000),
        *(("cut", degree) for degree in (1, 2)),
    }
    for name, rows in table.groupby("recording"):
        found = set(zip(rows["degradation"], rows["degree"].fillna(0)))
        assert len(found) == len(rows), name
        # A gain of 6 dB is given to those that it leaves within full scale.
        assert found - {("gain", 6)} == expected, name
    assert table[["flatness", "snr"]].stack().between(0, 1).all()


def test_scores_are_those_of_the_measure(studied, sprsound_corpus):
    table = pd.read_csv(studied / "degradation.csv").set_index("recording")
    manifest = json.loads((studied / "recordings.json").read_text())
    rates = torch.tensor([8000])
    for name in table.index.unique()[:3]:
        waveform = read_cycle(manifest[name]["wav"], sprsound_corpus)[None]
        expected = {
            ("none", 0): FlatnessScore(8000)(waveform, native_rates=rates),
            ("gain", -6): FlatnessScore(8000)(
                waveform * 10 ** (-6 / 20), native_rates=rates
            ),
            ("cut", 1): FlatnessScore(8000)(
                waveform[:, 8000:], native_rates=rates
            ),
            ("resampling", 16000): FlatnessScore(16000)(
                resample(waveform, 8000, 16000), native_rates=rates
            ),
        }
        rows = table.loc[name].fillna({"degree": 0})
        found = rows.set_index(["degradation", "degree"])["flatness"]
        for version, score in expected.items():
            assert found[version] == pytest.approx(score.item(), abs=1e-5)
        full_scale = waveform.abs().max() * 10 ** (6 / 20)
        assert (("gain", 6) in found.index) == bool(full_scale <= 1)


def test_figures_are_those_of_the_written_scores(studied):
    table = pd.read_csv(studied / "degradation.csv")
    metrics = json.loads((studied / "metrics.json").read_text())
    assert metrics["recordings"] == 12
    assert "not SPRSound 2022's" in metrics["data"]["database"]  # generated
    assert set(metrics["spearman"]) == {"flatness", "snr"}
    medians = table.fillna({"degree": np.inf}).groupby(
        ["degradation", "degree"]
    )["flatness"]
    medians = medians.median()
    noise = [medians["none", np.inf], *medians["white_noise"][[20, 0]]]
    found = metrics["spearman"]["flatness"]
    assert found["white_noise"] == spearmanr([0, 1, 2], noise).statistic
    assert found["white_noise"] == pytest.approx(-1)
    assert set(found) == set(DEGRADATIONS)
    gain, *_ = (
        row
        for row in metrics["changes"]
        if (row["degradation"], row["degree"]) == ("gain", -12)
    )
    assert gain["recordings"] == 12
    assert gain["flatness_p95"] < 1e-3


def test_recordings_that_are_all_poor(sprsound_corpus, tmp_path):
    folder = tmp_path / "SPRSound"
    shutil.copytree(sprsound_corpus, folder)
    for path in (folder / "train_json").glob("*.json"):
        content = json.loads(path.read_text())
        content["record_annotation"] = "Poor Quality"
        path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="none of 46 recordings is annotated"):
        study(folder, tmp_path)
