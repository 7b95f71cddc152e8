"""Tests of fitting a head to labelled recordings of one's own.

Authors
 * qlung_plugin contributors
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qlung_plugin.inference.adaptation import adapt
from qlung_plugin.inference.calibration import calibrate
from qlung_plugin.inference.calibration_points import Aim
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.labelled_cycles import check_unheard, hear_table
from tests.unittests.own_data import RATE, make_table

BASE = "transfer"  # of a model with random weights, nothing is learned


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(
        tmp_path_factory.mktemp("own"),
        ["normal", "wheeze", "crackle"],
        noise=0.2,
    )


@pytest.fixture(scope="module")
def adapted(table, tmp_path_factory):
    """What adapting gives, and the folder."""
    out = tmp_path_factory.mktemp("adapted") / "own"
    return adapt(BASE, table, out), out


def test_the_export_says_what_the_chosen_head_does(adapted, table):
    """Standardisation, regression and folding, by scikit-learn alone."""
    adaptation, out = adapted
    classifier = RespiratorySoundClassifier.from_hparams(BASE)
    heard = hear_table(classifier, table, embed=True)
    embeddings = heard.filter(regex="^e_")
    pipeline = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=adaptation.strength, max_iter=1000),
    ).fit(embeddings.to_numpy(float), heard["label"])
    expected = pipeline.predict_proba(embeddings.to_numpy(float))
    own = RespiratorySoundClassifier.from_hparams(out)
    assert own.labels == ["normal", "crackle", "wheeze"]  # as the model's are
    found = hear_table(own, table)
    for name, shares in zip(pipeline.classes_, expected.T):
        np.testing.assert_allclose(found[f"p_{name}"], shares, atol=2e-4)


def test_figures_are_those_of_the_held_out_predictions(adapted):
    adaptation, _ = adapted
    table = adaptation.predictions
    called = table["prediction_at_operating_point"]
    normal = table["label"] == "normal"
    sp = (called == "normal")[normal].mean()
    se = (called == table["label"])[~normal].mean()
    point = adaptation.figures["operating_point"]
    assert point["score"] == pytest.approx(50 * (sp + se))
    low, high = point["interval"]["score"]
    assert low < point["score"] < high
    assert table.filter(regex="^p_").sum(axis=1).to_numpy() == pytest.approx(1)


def test_it_learns(adapted):
    assert adapted[0].figures["auroc"] > 70


def test_the_model_as_it_was_is_judged_as_classify_does(adapted, table):
    classifier = RespiratorySoundClassifier.from_hparams(BASE)
    heard = hear_table(classifier, table)
    normal = heard["label"] == "normal"
    names = np.array([c.removeprefix("p_") for c in heard.filter(regex="^p_")])
    called = names[heard.filter(regex="^p_").to_numpy().argmax(1)]
    sp = (called == "normal")[normal].mean()
    assert adapted[0].base["sp"] == pytest.approx(100 * sp)


def test_same_data_same_bytes(adapted, table, tmp_path):
    _, out = adapted
    again = tmp_path / "own"
    files = adapt(BASE, table, again).files
    assert sorted(p.name for p in out.iterdir()) == files
    for name in files:
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_what_the_export_tells(adapted, table):
    _, out = adapted
    model = (out / "model.json").read_text()
    provenance = json.loads(model)["provenance"]
    assert str(table.parent) not in model
    assert provenance["base"]["name"] == "transfer"
    assert provenance["base"]["data"]["database"] == "ICBHI 2017"
    card = (out / "README.md").read_text()
    assert "| all | 12 | 12 | 36 |" in card
    assert "fitted to the embeddings of `transfer`" in card
    assert "chosen for the highest Score" in card
    score = provenance["results"][0]["operating_point"]["score"]
    assert f"at the operating point | {score:.2f} |" in card
    assert "ICBHI 2017 Respiratory Sound Database" in card  # its terms hold on


def test_what_it_learned_from_is_not_calibrated_on(adapted, table, tmp_path):
    """By what is in a recording, whatever it is called; the base's, too."""
    _, out = adapted
    own = make_table(tmp_path / "own", ["normal", "rub"], patients=2)
    told = json.loads((out / "model.json").read_text())["provenance"]
    check_unheard(own, told)
    learned = table.parent / "3.wav"
    shutil.copy(learned, own.parent / "1.wav")
    digest = hashlib.sha256(learned.read_bytes()).hexdigest()
    assert digest[:12] in told["data"]["recording_digests"]
    refused = r"table.csv: the model learned from 1 of its 2 .*: \S+own/1\.wav"
    for provenance in (told, {"data": None, "base": told}):
        with pytest.raises(ValueError, match=refused):
            check_unheard(own, provenance)
    with pytest.raises(ValueError, match=refused):
        calibrate(out, own, tmp_path / "out")


def test_windows_of_it(adapted, table):
    classifier = RespiratorySoundClassifier.from_hparams(adapted[1])
    cycles, summary = classifier.classify_file(
        table.parent / "0.wav", cycles="windows"
    )
    assert summary["cycle_count"] == len(cycles) == 1
    assert summary["operating_point"] is not None


def test_other_labels(tmp_path):
    """The model knows no rub: only what is normal is common to both."""
    table = make_table(tmp_path, ["rub", "normal"])
    adaptation = adapt(BASE, table, tmp_path / "out")
    assert adaptation.labels == ["normal", "rub"]
    assert set(adaptation.base) == {"auroc", "interval"}
    classifier = RespiratorySoundClassifier.from_hparams(BASE)
    heard = hear_table(classifier, table)
    share = {
        x: heard["p_normal"][heard["label"] == x] for x in ("normal", "rub")
    }
    pairs = np.subtract.outer(share["normal"].values, share["rub"].values)
    auroc = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert adaptation.base["auroc"] == pytest.approx(100 * auroc)


def test_labels_without_normal(tmp_path):
    table = make_table(tmp_path, ["cough", "wheeze"])
    out = tmp_path / "out"
    adaptation = adapt(BASE, table, out)
    assert adaptation.base is None and "sp" not in adaptation.figures
    recalls = adaptation.figures["recall"].values()
    assert adaptation.figures["score"] == pytest.approx(np.mean(list(recalls)))
    assert adaptation.figures["auroc_macro"] > 70
    classifier = RespiratorySoundClassifier.from_hparams(out)
    assert classifier.operating_point is None
    _, summary = classifier.classify_file(tmp_path / "0.wav", cycles="windows")
    assert summary["abnormal_fraction"] is None


def test_whole_recordings_are_heard_in_windows(tmp_path):
    table = make_table(tmp_path, patients=3, whole=True, seconds=7.0)
    heard = hear_table(RespiratorySoundClassifier.from_hparams(BASE), table)
    assert heard["start"].tolist() == [0, 2] * 6
    assert heard["end"].tolist() == [5, 7] * 6
    assert (
        heard["label"].tolist() == ["normal", "normal", "wheeze", "wheeze"] * 3
    )
    assert heard["patient"].tolist() == ["p0"] * 4 + ["p1"] * 4 + ["p2"] * 4


def test_what_is_unsure_is_told(tmp_path):
    table = make_table(tmp_path, patients=4, device=lambda i: "AB"[i % 2])
    notes = " ".join(adapt(BASE, table, tmp_path / "out").notes)
    assert "4 patients are few" in notes
    assert "normal (4 patients), wheeze (4 patients)" in notes
    assert "no cycle is of the class crackle, both" in notes
    assert "2 devices (A, B) share one standardisation" in notes


@pytest.mark.slow
def test_balanced_classes_are_called_more_often(tmp_path):
    """Of a rare class, more is said if it weighs as much as the others."""
    table = make_table(
        tmp_path, ["normal"] * 5 + ["wheeze"], patients=10, noise=0.5
    )
    shares = [
        adapt(BASE, table, tmp_path / str(balanced), balanced)
        .predictions["p_wheeze"]
        .mean()
        for balanced in (False, True)
    ]
    assert shares[1] > shares[0] + 0.1


def spoil(table, change):
    rows = pd.read_csv(table, dtype=str)
    change(rows)
    rows.to_csv(table, index=False)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.assign(label="x"), "all rows have the label x"),
        (lambda t: t.assign(patient="1"), "all rows have the patient 1"),
        (
            lambda t: t.replace({"end": {"3.0": "9.0"}}),
            "row 3: the stretch.*past",
        ),
        (lambda t: t.drop(columns="patient"), "lacks the columns patient"),
        (lambda t: t.replace({"path": {"1.wav": "a.txt"}}), "row 4: .*a.txt"),
        (
            lambda t: t.replace({"path": {"1.wav": "b.wav"}}),
            "do not exist.*row 4",
        ),
        (
            lambda t: t.replace({"path": {"1.wav": "silent.wav"}}).iloc[:3],
            "sound",
        ),
    ],
)
def test_tables_that_are_refused(tmp_path, change, message):
    table = make_table(tmp_path, patients=3)
    (tmp_path / "a.txt").write_text("no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(3 * RATE), RATE)
    change(pd.read_csv(table, dtype=str)).to_csv(table, index=False)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        adapt(BASE, table, tmp_path / "out")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "table.csv" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_stays(table, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(FileExistsError, match="there already"):
        adapt(BASE, table, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_margins(tmp_path):
    table = make_table(tmp_path, patients=6)
    adaptation = adapt(BASE, table, tmp_path / "out", margin=True)
    assert adaptation.figures["auroc"] > 70
    assert "QLung's margins" in (tmp_path / "out" / "README.md").read_text()


def test_margins_are_not_balanced(table, tmp_path):
    with pytest.raises(ValueError, match="not both"):
        adapt(BASE, table, tmp_path / "out", balanced=True, margin=True)


KAUH = Path(os.environ.get("QLUNG_DATA", "")) / "kauh" / "audio"
KAUH_SOUNDS = {
    "N": "normal",
    "E W": "wheeze",
    "I E W": "wheeze",
    "Crep": "crackle",
}


@pytest.mark.slow
@pytest.mark.skipif(
    not (os.environ.get("QLUNG_DATA") and KAUH.is_dir()),
    reason="QLUNG_DATA names no folder with kauh",
)
def test_from_kauhs_names_to_classes(tmp_path):
    """A table from the names, a head, its calibration, and what they say."""
    rows = {"learned": ["path,label,patient"], "fitted": ["path,label,patient"]}
    for path in sorted(KAUH.glob("BP*.wav")):  # one of three filters
        patient, sound = re.fullmatch(
            r"BP(\d+)_[^,]*,([^,]*),.*", path.stem
        ).groups()
        if sound.strip() in KAUH_SOUNDS:
            part = "learned" if int(patient) // 2 % 2 else "fitted"
            row = f'"{path}",{KAUH_SOUNDS[sound.strip()]},{patient}'
            rows[part].append(row)
    for part, lines in rows.items():
        (tmp_path / f"{part}.csv").write_text("\n".join(lines))
    adaptation = adapt(BASE, tmp_path / "learned.csv", tmp_path / "adapted")
    figures = adaptation.figures["operating_point"]
    low, high = figures["interval"]["score"]
    assert low <= figures["score"] <= high
    # 20 patients say little: no point is supported, which says how little.
    with pytest.raises(ValueError, match="do not support an operating point"):
        calibrate(
            tmp_path / "adapted",
            tmp_path / "fitted.csv",
            tmp_path / "out",
            Aim("specificity", 0.9),
        )
    classifier = RespiratorySoundClassifier.from_hparams(tmp_path / "adapted")
    path = sorted(KAUH.glob("BP*.wav"))[0]
    cycles, summary = classifier.classify_file(path, cycles="windows")
    assert set(cycles["prediction"]) <= {"normal", "crackle", "wheeze"}
    assert summary["operating_point_rule"] == "the highest Score"


@pytest.mark.slow
def test_onnx(table, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    assert "model.onnx" in adapt(BASE, table, out, onnx=True).files
    session = onnxruntime.InferenceSession(out / "model.onnx")
    waveforms = np.random.default_rng(0).normal(size=(2, 160000)) / 10
    feeds = {"waveforms": waveforms.astype(np.float32)}
    shares = session.run(None, feeds)[0]
    assert shares.shape == (2, 3) and shares.sum(1) == pytest.approx(1)
