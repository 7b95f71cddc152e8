"""Recordings by the share of their abnormal cycles, against a loop.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from qlung_plugin.scores.recordings import (
    SHARE,
    by_recording,
    choose_share,
    recording_metrics,
)


def cycles(recordings):
    """By name: truth and prediction of each cycle, as letters n, c, w, b."""
    words = {"n": "normal", "c": "crackle", "w": "wheeze", "b": "both"}
    return pd.DataFrame(
        [
            (name, f"{number % 3}", words[label], words[prediction])
            for number, (name, pairs) in enumerate(recordings.items())
            for label, prediction in zip(*pairs)
        ],
        columns=["recording", "patient", "label", "prediction"],
    )


def test_shares_and_truth_of_recordings():
    """Whichever abnormal class; one abnormal cycle makes it abnormal."""
    table = cycles(
        {"a": ("nnnn", "nwcn"), "b": ("nnb", "nnn"), "c": ("w", "c")}
    )
    found = by_recording(table).set_index("recording")
    assert found["p_abnormal"].to_dict() == {"a": 0.5, "b": 0, "c": 1}
    assert found["label"].tolist() == ["normal", "abnormal", "abnormal"]
    windows = table.assign(**{SHARE: 0.25})
    assert (by_recording(windows)["p_abnormal"] == 0.25).all()
    with pytest.raises(ValueError, match="8 predictions do not name their rec"):
        by_recording(table.assign(recording=None))


def draw(seed):
    """Recordings of several lengths, found with errors."""
    rng = np.random.default_rng(seed)
    recordings = {}
    for number in range(40):
        length = rng.integers(1, 9)
        truth = (
            rng.choice(list("nncwb"), length) if number % 2 else ["n"] * length
        )
        wrong = rng.random(length) < 0.3
        called = np.where(wrong, rng.choice(list("ncwb"), length), truth)
        recordings[f"r{number}"] = ("".join(truth), "".join(called))
    return cycles(recordings)


@pytest.mark.parametrize("seed", range(5))
def test_the_share_has_the_highest_score(seed):
    table = draw(seed)
    found = by_recording(table)
    abnormal = found["label"] == "abnormal"

    def score(threshold):
        called = found["p_abnormal"] > threshold
        return 50 * (called[abnormal].mean() + (~called[~abnormal]).mean())

    share = choose_share(table)
    figures = recording_metrics(table, share)
    assert figures["score"] == pytest.approx(score(share))
    assert figures["score"] == pytest.approx(
        max(score(threshold) for threshold in np.linspace(0, 0.999, 1000))
    )
    area = 100 * roc_auc_score(abnormal, found["p_abnormal"])
    assert figures["auroc"] == pytest.approx(area)
    assert figures["counts"]["abnormal"] == abnormal.sum()
    low, high = figures["interval"]["auroc"]
    assert low < area < high


def test_what_has_no_share():
    assert choose_share(cycles({"a": ("nn", "nc"), "b": ("n", "n")})) is None
    table = cycles({"a": ("nn", "nc"), "b": ("w", "w")})
    for threshold in (-0.1, 1):
        with pytest.raises(ValueError, match="abnormal_share is"):
            recording_metrics(table, threshold)
