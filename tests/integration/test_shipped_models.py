"""The models that ship, as they are in the package.

Authors
 * qlung_plugin contributors
"""

import json

import numpy as np
import pytest
import soundfile
from hypothesis import (
    HealthCheck,
    given,
    settings,
    strategies as st,
)
from scipy.signal import resample_poly

from qlung_plugin import pretrained
from qlung_plugin.cli.main import main
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.models import open_model
from qlung_plugin.synthetic.icbhi import generate_icbhi_like

LARGEST = 3 * 10**6  # bytes, with which the package stays small
LABELS = ["normal", "crackle", "wheeze", "both"]


@pytest.fixture(scope="module")
def transfer():
    return RespiratorySoundClassifier.from_hparams("transfer")


@pytest.mark.parametrize("name", pretrained.MODELS)
def test_folder_is_complete_and_small(name):
    folder = pretrained.FOLDER / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < LARGEST
    model = open_model(name)
    assert model["labels"] == LABELS
    provenance = model["provenance"]
    assert provenance["data"]["database"] == "ICBHI 2017"
    assert provenance["data"]["split"] == "official"
    assert {result["data"]["database"] for result in provenance["results"]} == {
        *("ICBHI 2017", "SPRSound 2022", "KAUH 2021"),
    }
    assert '"/' not in json.dumps(provenance)  # no path of a machine
    assert "Florian Schmid" in (folder / "LICENSE").read_text()
    card = (folder / "README.md").read_text()
    for phrase in (
        *("Not a medical device", "for research", "4 kHz", "| device |"),
        "operating point, at which `qlung classify` decides",
    ):
        assert phrase in card


def test_classifies_without_a_model_given(tmp_path, capsys):
    generate_icbhi_like(tmp_path / "ICBHI", recordings=1)
    recording = min((tmp_path / "ICBHI").rglob("*.wav"))
    assert main(["classify", str(recording)]) == 0
    out, err = capsys.readouterr()
    assert "% not normal" in out and "the model transfer, which ships" in err


CYCLES = [(0.5, 3.0), (3.0, 5.25)]  # s, within the sound


def breathing(seed, rate=44100, seconds=6):
    """Noise below 1.8 kHz in breaths, with a wheeze now and then."""
    rng = np.random.default_rng(seed)
    time = np.arange(rate * seconds) / rate
    spectrum = np.fft.rfft(rng.standard_normal(len(time)))
    frequency = np.fft.rfftfreq(len(time), 1 / rate)
    spectrum *= (frequency > 100) * (frequency < 1800) / (200 + frequency)
    noise = np.fft.irfft(spectrum, len(time))
    sound = noise / noise.std() * (1.05 + np.sin(2 * np.pi * time / 3))
    sound += rng.random() * np.sin(2 * np.pi * rng.uniform(200, 900) * time)
    return 0.1 * sound


def probabilities(model, folder, sound, rate):
    path = folder / "breathing.wav"
    soundfile.write(path, sound, rate, subtype="FLOAT")
    cycles, _ = model.classify_file(path, CYCLES)
    return cycles[[f"p_{label}" for label in LABELS]].to_numpy()


@given(st.integers(0, 10**6), st.floats(-60, 60))
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_gain_gives_the_same_probabilities(
    transfer, tmp_path, seed, decibel
):
    sound = breathing(seed)
    plain = probabilities(transfer, tmp_path, sound, 44100)
    louder = probabilities(
        transfer, tmp_path, sound * 10 ** (decibel / 20), 44100
    )
    assert plain.max() < 0.999  # there is something to change
    np.testing.assert_allclose(louder, plain, atol=1e-3)


@given(st.integers(0, 10**6))
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_lower_rate_gives_the_same_probabilities(transfer, tmp_path, seed):
    sound = breathing(seed)
    plain = probabilities(transfer, tmp_path, sound, 44100)
    lower = resample_poly(sound, 80, 441, window=("kaiser", 12.0))
    found = probabilities(transfer, tmp_path, lower, 8000)
    np.testing.assert_allclose(found, plain, atol=1e-3)
