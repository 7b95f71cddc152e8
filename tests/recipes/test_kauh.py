"""Tests of judging a run on whole recordings, by their windows.

Authors
 * qlung_plugin contributors
"""

import functools
import json
import re

import numpy as np
import pytest
import torch

from qlung_plugin.dataio.cycle_sources import Windows
from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.quality import CycleMeasurements
from qlung_plugin.inference.models import open_model
from qlung_plugin.runs.predictions import read_predictions
from tests.recipes.conftest import KAUH, leave_out_figures, run_script


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory, cache, kauh_corpus, icbhi_run):
    """Runs evaluate.py in this process, once with each options."""

    @functools.cache
    def evaluate(windows, abnormal_share="null"):
        output = tmp_path_factory.mktemp("kauh") / "out"
        options = {
            "data_folder": kauh_corpus,
            "run_folder": icbhi_run,
            "output_folder": output,
            "cache_folder": cache,
            "checkpoint": "last",
            "windows": windows,
            "abnormal_share": abnormal_share,
        }
        hparams = KAUH / "hparams" / "cross_dataset.yaml"
        with pytest.MonkeyPatch.context() as patch:
            leave_out_figures(patch)
            run_script(KAUH / "evaluate.py", hparams, options)
        return output

    return evaluate


def judge(run, entry, times, data_folder):
    """The mean of the probabilities of stretches of a recording."""
    rate, shares = entry["sample_rate"], []
    for start, end in times:
        wav = {**entry["wav"], "start": round(start * rate)}
        wav["stop"] = round(end * rate)
        features = run["cycle_features"](read_cycle(wav, data_folder), rate)
        with torch.no_grad():
            logits, _ = run["classifier"](
                run["backbone"](features[None].float())
            )
        shares.append(logits[0].softmax(dim=0).numpy())
    return np.mean(shares, axis=0)


@pytest.mark.parametrize(
    "length, hop, windows",
    [(5, 2.5, "{}"), (1, 0.75, "{length: 1.0, hop: 0.75}")],
)
def test_a_recording_is_judged_by_the_mean_of_its_windows(
    length, hop, windows, evaluate, icbhi_run, kauh_corpus
):
    output, run = evaluate(windows), open_model(icbhi_run, "last")
    table = read_predictions(output / "predictions_last.csv")
    entries = json.loads((output / "test.json").read_text())
    assert table["id"].tolist() == sorted(entries) and len(table) == 12
    numbers = []
    for row in table.to_dict("records"):
        entry = entries[row["id"]]
        assert (row["label"], row["patient"]) == (
            entry["label"],
            entry["patient"],
        )
        times = Windows(entry["duration"], length, hop)
        numbers.append(len(times))
        expected = judge(run, entry, times, kauh_corpus)
        found = [row[f"p_{label}"] for label in run["labels"]]
        np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)
        assert row["prediction"] == run["labels"][int(expected.argmax())]
    assert max(numbers) > 1

    # The quality is that of the recording, whatever its windows.
    waveform = read_cycle(entry["wav"], kauh_corpus)
    measured = CycleMeasurements(run["quality"])(waveform, 4000)
    quality = run["quality"].score(measured[None]).item()
    assert row["quality"] == pytest.approx(quality, abs=1e-6)


def test_recordings_by_the_share_of_their_windows(
    evaluate, icbhi_run, kauh_corpus
):
    """What decides comes with the command line; nothing is chosen here."""
    windows = "{length: 1.0, hop: 0.75}"
    output, run = evaluate(windows, 0.4), open_model(icbhi_run, "last")
    table = read_predictions(output / "predictions_last.csv")
    entries = json.loads((output / "test.json").read_text())
    for row in table.to_dict("records"):
        entry = entries[row["id"]]
        called = [
            judge(run, entry, [times], kauh_corpus).argmax() > 0
            for times in Windows(entry["duration"], 1, 0.75)
        ]
        assert row["abnormal_share"] == pytest.approx(np.mean(called), abs=1e-6)
    figures = json.loads((output / "metrics.json").read_text())["last"]
    recordings = figures["recordings"]
    normal = table["label"] == "normal"
    assert recordings["counts"] == {"normal": 3, "abnormal": 9}
    assert recordings["abnormal_share"] == 0.4
    right = table["abnormal_share"][normal] <= 0.4
    assert recordings["sp"] == pytest.approx(100 * right.mean())
    report = " ".join((output / "report.txt").read_text().split())
    assert (
        "Recordings (3 normal, 9 abnormal), abnormal where more than" in report
    )
    without = evaluate(windows) / "metrics.json"
    assert "recordings" not in json.loads(without.read_text())["last"]


def test_modes_are_strata_and_patients_are_counted_once(evaluate):
    output = evaluate("{}")
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["last"]["patients"] == 4
    assert metrics["last"]["counts"] == dict.fromkeys(
        ("normal", "crackle", "wheeze", "both"), 3
    )
    modes = metrics["last"]["strata"]["device"]
    assert set(modes) == {"bell mode", "diaphragm mode", "extended mode"}
    for figures in modes.values():
        assert (figures["cycles"], figures["patients"]) == (4, 4)
    assert "I C (3)" in metrics["data"]["warnings"][0]
    report = (output / "report.txt").read_text()
    assert re.search(r"data: +recordings in KAUH's layout", report)
    assert re.search(r"partition: +all recordings", report)
    assert "published" not in report.split("Beside it")[1]
