"""Predictions and evaluations that the tests of runs share.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.runs.predictions import predictions_table
from qlung_plugin.scores.icbhi_score import LABELS, RespiratoryScore


def corpus(n_cycles=300, n_patients=12, seed=0):
    """Predictions in random order, their manifest, and their quality."""
    rng = np.random.default_rng(seed)
    manifest = {}
    for cycle in range(n_cycles):
        patient = rng.integers(n_patients)
        manifest[f"{patient:03d}_{cycle}"] = {
            "recording": f"{patient:03d}_1b1",
            "patient": f"{patient:03d}",
            "device": ["Meditron", "Litt3200", None][patient % 3],
            "age": [0.5, 18, 65.0, None][patient % 4],
            "sex": ["F", "M"][patient % 2],
            "label": LABELS[rng.integers(4)],
            "duration": 1 + cycle % 7 / 2,
        }
    ids = rng.permutation(list(manifest)).tolist()
    targets = [LABELS.index(manifest[i]["label"]) for i in ids]
    logits = rng.normal(size=(n_cycles, 4))
    logits[range(n_cycles), targets] += 1
    stats = RespiratoryScore()
    probabilities = torch.tensor(logits).softmax(1)
    stats.append(ids, probabilities, torch.tensor(targets)[:, None])
    return stats, manifest, dict(zip(ids, rng.uniform(size=n_cycles)))


@pytest.fixture(name="table", scope="module")
def fixture_table():
    stats, manifest, quality = corpus()
    return predictions_table(stats, manifest, quality=quality)


def evaluation(configuration, seed, label, prediction, patient=None, **about):
    """An evaluation of cycles c0, c1, ...; two to a patient by default."""
    count = len(label)
    cycles = pd.DataFrame(
        {
            "id": [f"c{index:03d}" for index in range(count)],
            "patient": patient or [str(index // 2) for index in range(count)],
            "label": label,
            "prediction": prediction,
        }
    )
    return Evaluation(
        **{
            "configuration": configuration,
            "seed": seed,
            "database": "ICBHI 2017",
            "partition": "test side of the official split",
            "checkpoint": "selected",
            "epoch": "3",
            "selection": "best validation score",
            "protocol": "official split",
            "labels": LABELS,
            "predictions": cycles,
            "folder": Path(configuration, seed),
            **about,
        }
    )
