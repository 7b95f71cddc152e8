"""Tests of `qlung probe`: what it prints and writes, and refuses.

Authors
 * qlung_plugin contributors
"""

import re

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.cli.main import main
from qlung_plugin.dataio.embedding_tables import write_rows
from qlung_plugin.scores.icbhi_score import prediction_metrics


@pytest.fixture
def tables(tmp_path):
    """Embeddings of twelve patients, and labels that they tell."""
    generator = np.random.default_rng(0)
    rows = np.arange(72)
    labels = np.array(["normal", "wheeze", "crackle"])[rows % 3]
    table = pd.DataFrame(
        {"recording": [f"d/{i // 3}.wav" for i in rows], "start": rows % 3.0}
    )
    table["end"] = table["start"] + 1
    e = generator.standard_normal((72, 5)) * 0.5
    e[rows, rows % 3] += 1.5
    e[7] = np.nan
    e = pd.DataFrame(e.astype(np.float32)).add_prefix("e_")
    write_rows(table.join(e), tmp_path / "e.csv")
    table = table.assign(label=labels, patient=rows // 6)
    table.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


@pytest.fixture
def probe(tables, capsys):
    def run(*options):
        call = "probe", tables / "e.csv", "--labels", tables / "labels.csv"
        code = main([str(argument) for argument in (*call, *options)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_figures_are_of_the_predictions_that_are_written(probe, tables):
    code, out, err = probe("-o", tables / "p.csv")
    assert code == 0
    assert "qlung: 1 of 72 labelled rows are left out" in err
    assert "71 rows of 12 patients: 24 normal, 24 crackle, 23 wheeze" in out
    assert "always normal" in out
    predictions = pd.read_csv(tables / "p.csv")
    labels = ["normal", "crackle", "wheeze"]
    shares = predictions[[f"p_{label}" for label in labels]].to_numpy()
    expected = prediction_metrics(
        predictions["label"], predictions["prediction"], labels, shares
    )
    assert expected["score"] > 80
    for name, key in (("Score", "score"), ("Macro AUROC", "auroc_macro")):
        value, low, high, always = re.search(
            rf"^{name} +([\d.]+) +([\d.]+) to ([\d.]+) +([\d.]+)$", out, re.M
        ).groups()
        assert float(value) == pytest.approx(expected[key], abs=0.06)
        assert float(low) <= float(value) <= float(high) and always == "50.0"
    assert "truth \\ prediction  normal  crackle  wheeze" in out
    assert probe() == (0, out, err)  # the same again


def test_normal_may_have_another_name_or_be_none(probe, tables):
    labels = (tables / "labels.csv").read_text()
    (tables / "labels.csv").write_text(labels.replace("normal", "N"))
    code, out, _ = probe()
    assert code == 0 and "Score" not in out and "always N" in out
    assert "Macro recall" in out
    code, out, _ = probe("--normal-label", "N")
    assert code == 0 and "\nScore" in out and "always N" in out
    code, out, err = probe("--normal-label", "healthy")
    assert (code, out) == (2, "") and "there are N, crackle, wheeze" in err


def test_few_patients_are_told_and_one_class_is_refused(probe, tables):
    path = tables / "labels.csv"
    labels = pd.read_csv(path)
    labels[labels["patient"] < 4].to_csv(path, index=False)
    code, _, err = probe()
    assert code == 0 and "qlung: 4 patients are few: with less than 10" in err
    lone = labels["label"].where(labels["patient"] > 0, "both")
    labels.assign(label=lone).to_csv(path, index=False)
    assert "never both learned and judged: both\n" in probe()[2]
    labels.assign(label="wheeze").to_csv(path, index=False)
    code, out, err = probe()
    assert (code, out) == (2, "") and "of one label, wheeze" in err
    assert err.splitlines()[-1].startswith(f"qlung: {path}: ")
    labels.assign(patient=1).to_csv(path, index=False)
    code, _, err = probe()
    assert code == 2 and "two patients or more are needed" in err


def test_what_is_not_there_is_one_line(probe, tables):
    code, _, err = probe("-o", tables / "p.txt")
    assert code == 2 and "to end in .csv" in err
    (tables / "labels.csv").unlink()
    code, _, err = probe()
    assert code == 2 and "labels.csv" in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_device_that_the_model_never_heard(real_data, tmp_path, capsys):
    """KAUH, in one filter mode: normal or not is told above chance."""
    kauh = sorted((real_data / "kauh" / "audio").glob("E*.wav"))
    if not kauh:
        pytest.skip("QLUNG_DATA has no KAUH")
    path, labels = tmp_path / "e.npz", tmp_path / "labels.csv"
    rows = ["recording,label,patient"]
    for recording in kauh:
        patient, sound = re.match(
            r"EP(\d+)_[^,]+,([^,]+)", recording.name
        ).groups()
        label = "normal" if sound == "N" else "abnormal"
        rows.append(f'"{recording.name}",{label},{patient}')
    labels.write_text("\n".join(rows))
    command = "embed", *kauh, "--cycles", "windows", "--by", "recording"
    assert main([*map(str, command), "-o", str(path)]) == 0
    assert main(["probe", str(path), "--labels", str(labels)]) == 0
    out = capsys.readouterr().out
    assert "56 rows of 56 patients: 19 normal, 37 abnormal" in out
    area, low = re.search(r"^AUROC +([\d.]+) +([\d.]+)", out, re.M).groups()
    assert 70 < float(area) < 95 and float(low) > 50
