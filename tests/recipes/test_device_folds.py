"""A device held out of training leaves no trace in what is trained.

Authors
 * qlung_plugin contributors
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile

DEVICE = "AKGC417L"


def alter(corpus, folder):
    """A copy in which all of a held-out device's patients are otherwise.

    Every cycle is labelled the opposite, and all that they sound like is noise.
    """
    shutil.copytree(corpus, folder)
    generator = np.random.default_rng(0)
    split = next(folder.rglob("ICBHI_challenge_train_test.txt"))
    sides = dict(line.split() for line in split.read_text().splitlines())
    held_out = {
        name.split("_")[0]
        for name, side in sides.items()
        if side == "train" and name.endswith(DEVICE)
    }
    for path in folder.rglob("*.wav"):
        if path.stem.split("_")[0] not in held_out:
            continue
        info = soundfile.info(path)
        noise = 0.2 * generator.standard_normal(info.frames)
        soundfile.write(path, noise, info.samplerate, info.subtype)
        text = path.with_suffix(".txt")
        rows = [line.split() for line in text.read_text().splitlines()]
        text.write_text(
            "".join(
                f"{start} {end} {1 - int(crackle)} {1 - int(wheeze)}\n"
                for start, end, crackle, wheeze in rows
            )
        )
    return held_out


@pytest.mark.parametrize("hparams", ["qlung.yaml", "transfer_ce.yaml"])
def test_what_is_held_out_changes_nothing_in_the_model(
    corpus, train, tmp_path, hparams
):
    """Class counts, fitted quality and features, weights: to the byte."""
    patients = alter(corpus, tmp_path / "altered")
    assert patients
    options = {"valid_device": DEVICE, "test_each_epoch": "False"}
    options |= {"number_of_epochs": "1", "hparams": hparams}
    runs = [
        train(data, output, **options)
        for data, output in ((corpus, "run"), (tmp_path / "altered", "again"))
    ]
    manifests = [json.loads((run / "train.json").read_text()) for run in runs]
    assert manifests[0] == manifests[1]
    trained = {entry["patient"] for entry in manifests[0].values()}
    assert trained and not trained & patients
    weights = [run / "model" / "last" / "model.safetensors" for run in runs]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    # What is told of the others is not the same: they were altered indeed.
    tables = [
        pd.read_csv(run / "validation" / "predictions_last.csv") for run in runs
    ]
    assert set(tables[0]["device"]) == {DEVICE}
    assert (tables[0]["label"] != tables[1]["label"]).all()
    assert (tables[0]["p_normal"] != tables[1]["p_normal"]).any()
