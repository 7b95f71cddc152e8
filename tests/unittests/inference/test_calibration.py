"""Tests of calibrating a model for one's own patients.

Authors
 * qlung_plugin contributors
"""

import json
import re

import numpy as np
import pytest
import torch
from scipy.special import softmax

from qlung_plugin.cli.demo.model import describe_model
from qlung_plugin.cli.main import main
from qlung_plugin.inference.calibration import calibrate, move_references
from qlung_plugin.inference.calibration_points import Aim
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.labelled_cycles import hear_table
from qlung_plugin.inference.models import open_model
from tests.unittests.own_data import make_table

BASE = "transfer"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(
        tmp_path_factory.mktemp("own"), patients=40, each=2, noise=0.15
    )


@pytest.fixture(scope="module")
def heard(table):
    return hear_table(RespiratorySoundClassifier.from_hparams(BASE), table)


@pytest.fixture(scope="module", autouse=True)
def hear_once(table, heard):
    """What the model hears is computed once for all of these tests."""

    def hear(classifier, path):
        return heard.copy() if path == table else hear_table(classifier, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qlung_plugin.inference.calibration.hear_table", hear)
        yield


@pytest.fixture(scope="module")
def calibrated(table, tmp_path_factory):
    """What calibrating, with abstention, gives, and the folder."""
    out = tmp_path_factory.mktemp("calibrated") / "own"
    return calibrate(BASE, table, out, abstain=0.2), out


def shares_of(cycles):
    return cycles.filter(regex="^p_").to_numpy()


def test_probabilities_are_the_calibrated_ones_everywhere(
    calibrated, heard, table
):
    result, out = calibrated
    told = json.loads((out / "model.json").read_text())["provenance"]
    offsets = list(told["calibration"]["offsets"].values())
    logs = np.log(shares_of(heard)) / result.temperature + offsets
    own = RespiratorySoundClassifier.from_hparams(out)
    found = hear_table(own, table)
    np.testing.assert_allclose(shares_of(found), softmax(logs, 1), atol=1e-4)


def test_uncertain_cycles_are_those_without_a_single_class(calibrated, table):
    result, out = calibrated
    classifier = RespiratorySoundClassifier.from_hparams(out)
    found = hear_table(classifier, table)
    point = np.array(list(classifier.operating_point.values()))
    moved = softmax(np.log(shares_of(found)) + point, 1)
    probable = (moved >= result.abstention["threshold"]).sum(1)
    names = np.array(classifier.labels)[moved.argmax(1)]
    expected = np.where(probable == 1, names, "uncertain")
    assert found["prediction"].tolist() == expected.tolist()
    assert 0 < (expected == "uncertain").sum() < len(expected)
    path = found["recording"][0]
    cycles, summary = classifier.classify_file(path, cycles=[(0, 1.5)])
    uncertain = cycles["prediction"].eq("uncertain").sum()
    assert summary["uncertain_count"] == uncertain
    assert summary["operating_point_rule"] == "the highest Score"


def test_a_part_was_not_fitted_to(calibrated):
    """Of 40 patients, half set the threshold, and the other half are judged."""
    result, _ = calibrated
    assert result.abstention["patients"] == 20
    assert result.after["patients"] == 20


def test_a_wanted_sensitivity_is_held_on_others(table, tmp_path):
    result = calibrate(BASE, table, tmp_path / "out", Aim("sensitivity", 0.8))
    point = result.after["operating_point"]
    low, high = point["interval"]["se_two_class"]
    assert low <= 80 <= high and high - low <= 20


def test_same_data_same_bytes(calibrated, table, tmp_path):
    _, out = calibrated
    result = calibrate(BASE, table, tmp_path / "own", abstain=0.2)
    for name in result.files:
        assert (tmp_path / "own" / name).read_bytes() == (
            out / name
        ).read_bytes(), name


def test_what_the_export_tells(calibrated):
    result, out = calibrated
    card = (out / "README.md").read_text()
    error = result.errors["expected_calibration_error"]
    assert (
        f"| expected calibration error | {error['before']:.3f} |"
        f" {error['after']:.3f} |" in card
    )
    assert "Its probabilities were calibrated for patients like" in card
    assert "at most 0.2 are called by a wrong class" in card
    provenance = open_model(out)["provenance"]
    assert "were calibrated" in describe_model("own", provenance)


@pytest.mark.slow
def test_calibrated_again_it_is_calibrated_once(calibrated, table, tmp_path):
    """From the calibrated model, the same is reached, in one step."""
    _, out = calibrated
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "qlung_plugin.inference.calibration.hear_table", hear_table
        )
        calibrate(out, table, tmp_path / "again")
    calibrate(BASE, table, tmp_path / "once")
    one, other = (
        open_model(tmp_path / name)["classifier"] for name in ("again", "once")
    )
    assert type(one.classifier) is type(other.classifier)
    assert one.temperature == pytest.approx(other.temperature, rel=5e-2)
    moved = (one.offsets - other.offsets)[:3:2]  # of classes that are there
    torch.testing.assert_close(moved[0], moved[1], atol=0.2, rtol=0)


@pytest.mark.parametrize(
    "patients, aim, abstain, message",
    [
        (
            6,
            Aim("specificity", 0.9),
            None,
            "[56] patients have a cycle that is normal",
        ),
        (12, Aim(), 0.1, "takes 18 patients or more.*there are 12"),
        (12, Aim("specificity", 0.999), None, r"95 % interval of \d"),
    ],
)
def test_what_the_data_do_not_support_is_refused(
    tmp_path, patients, aim, abstain, message
):
    table = make_table(tmp_path, patients=patients, noise=0.3)
    with pytest.raises(ValueError) as caught:
        calibrate(BASE, table, tmp_path / "out", aim, abstain)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not (tmp_path / "out").exists()


def test_labels_that_the_model_lacks_are_named(tmp_path, capsys):
    table = make_table(tmp_path, ["normal", "rub"], patients=3)
    command = ["calibrate", "--data", str(table), "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert "the model knows no rub" in capsys.readouterr().err


def test_by_command(table, tmp_path, capsys):
    """Classify says which point it uses."""
    out = tmp_path / "out"
    command = ["calibrate", "--data", str(table), "-o", str(out)]
    assert main([*command, "--sensitivity", "0.8"]) == 0
    told = capsys.readouterr().out
    assert "operating point: for sensitivity 0.8" in told
    assert "expected calibration error" in told and "reliability.png" in told
    wav = str(table.parent / "0.wav")
    assert main(["classify", wav, "--model", str(out)]) == 0
    assert "operating point for sensitivity 0.8" in capsys.readouterr().out


@pytest.mark.parametrize("rate", ["0", "1", "90", "x"])
def test_a_share_is_between_0_and_1(rate, capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", "--data", "t", "-o", "o", "--specificity", rate])
    assert "is no share" in capsys.readouterr().err


def test_references_of_a_classifier_stay_right():
    own = {"a": {"reference": "classifier.x"}, "b": [{"reference": "backbone"}]}
    assert move_references(own) == {
        "a": {"reference": "classifier.classifier.x"},
        "b": [{"reference": "backbone"}],
    }
