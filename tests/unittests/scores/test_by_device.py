import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from qlung_plugin.scores.by_device import bootstrap_macro_auroc

LABELS = ["normal", "abnormal"]


def made_table(seed, shift=1.0):
    """Of two devices with other patients, whose cycles are the same ones."""
    truth = np.random.default_rng(0).integers(0, 2, 90)
    noise = np.random.default_rng(seed).normal(size=90)
    p_abnormal = 1 / (1 + np.exp(-(shift * truth + noise)))
    patient = np.arange(90) // 5
    return pd.DataFrame(
        {
            "device": np.where(patient < 12, "A", "B"),
            "patient": patient.astype(str),
            "label": np.array(LABELS)[truth],
            "prediction": np.array(LABELS)[(p_abnormal > 0.5).astype(int)],
            "p_normal": 1 - p_abnormal,
            "p_abnormal": p_abnormal,
        }
    )


def drawn_by_a_loop(tables, n_resamples):
    """Patients and runs of each device, one at a time, another generator."""
    generator = np.random.default_rng(99)
    values = []
    for _ in range(n_resamples):
        of_devices = []
        for device in "AB":
            runs = [t[t["device"] == device] for t in tables]
            patients = runs[0]["patient"].unique()
            chosen = generator.choice(patients, len(patients))
            of_runs = []
            for run in generator.integers(0, len(runs), len(runs)):
                groups = runs[run].groupby("patient")
                rows = pd.concat([groups.get_group(p) for p in chosen])
                abnormal = rows["label"] == "abnormal"
                of_runs.append(roc_auc_score(abnormal, rows["p_abnormal"]))
            of_devices.append(np.mean(of_runs))
        values.append(100 * np.mean(of_devices))
    return np.array(values)


def test_the_macro_mean_varies_as_in_a_loop():
    tables = [made_table(1), made_table(2)]
    ours = bootstrap_macro_auroc(tables, LABELS, 4000)
    loop = drawn_by_a_loop(tables, 150)
    assert ours.mean() == pytest.approx(loop.mean(), abs=1.0)
    assert ours.std() == pytest.approx(loop.std(), rel=0.2)


def test_configurations_are_drawn_alike():
    tables = [made_table(1), made_table(2)]
    better = [made_table(1, 1.2), made_table(2, 1.2)]
    ours, theirs = (bootstrap_macro_auroc(t, LABELS) for t in (better, tables))
    assert np.ptp(bootstrap_macro_auroc(tables, LABELS) - theirs) == 0
    assert (ours - theirs).std() < 0.5 * theirs.std()
