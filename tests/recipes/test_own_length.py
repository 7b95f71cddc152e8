"""A training on cycles of their own length, in batches of one length each.

Authors
 * qlung_plugin contributors
"""

import itertools

import numpy as np
import pandas as pd
import pytest

import speechbrain as sb
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from tests.recipes.conftest import RECIPE, SPRSOUND, run_script

OWN_LENGTH = f"""\
!include:{RECIPE}/hparams/qlung.yaml

fix_length: !new:qlung_plugin.dataio.cycles.OwnLength
    sample_rate: !ref <sample_rate>
    step: 0.5
    duration: 2.0
"""
SAVED_OFTEN = {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 2}


@pytest.fixture
def options(tmp_path):
    hparams = tmp_path / "own_length.yaml"
    hparams.write_text(OWN_LENGTH)
    return {"hparams": hparams, "fix_length": None}


def probabilities(path):
    table = pd.read_csv(path)
    return table.filter(regex="^p_").to_numpy()


def test_a_model_says_the_same_alone_and_in_batches(
    train, corpus, sprsound_corpus, options, tmp_path
):
    output = train(corpus, "own", **options)
    trained = probabilities(output / "predictions.csv")
    # Cycle by cycle, in an order of its own
    model = RespiratorySoundClassifier.from_hparams(output)
    table = pd.read_csv(output / "predictions.csv")
    found = []
    for name, cycles in table.groupby("recording", sort=False):
        path = next(corpus.rglob(f"{name}.wav"))
        found.append(model.classify_file(path).cycles.filter(regex="^p_"))
    np.testing.assert_allclose(pd.concat(found), trained, atol=1e-4)

    # Without a cache of features: the same batches, not rounded to half precision
    again = train(corpus, "uncached", cache_features="False", **options)
    np.testing.assert_allclose(
        probabilities(again / "predictions.csv"), trained, atol=0.02
    )

    # On another database
    evaluated = tmp_path / "sprsound"
    run_script(
        SPRSOUND / "cross_dataset" / "evaluate.py",
        SPRSOUND / "cross_dataset" / "hparams" / "cross_dataset.yaml",
        {
            "data_folder": sprsound_corpus,
            "run_folder": output,
            "output_folder": evaluated,
            "cache_folder": tmp_path / "cache",
            "partition": "inter",
        },
    )
    assert np.isfinite(probabilities(evaluated / "predictions.csv")).all()


def test_batches_of_one_length_go_on_where_they_stopped(
    train, corpus, options, tmp_path, monkeypatch
):
    whole = train(corpus, "whole", **options)
    fit_batch, count = sb.Brain.fit_batch, itertools.count(1)
    lengths = []

    def fit_or_stop(self, batch):
        if next(count) == 8:
            raise KeyboardInterrupt
        assert batch.inputs.lengths.min() == 1  # nothing is padded
        lengths.append(batch.inputs.data.shape[1])
        return fit_batch(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(sb.Brain, "fit_batch", fit_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(corpus, "stopped", **options, **SAVED_OFTEN)
    assert len(set(lengths)) > 1
    output = train(corpus, "stopped", **options, **SAVED_OFTEN)
    for name in ("predictions.csv", "predictions_last.csv", "train_log.txt"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()
