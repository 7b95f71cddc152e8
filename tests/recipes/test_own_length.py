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

pytestmark = pytest.mark.slow

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
    table = pd.read_csv(path / "predictions.csv")
    return table.filter(regex="^p_").to_numpy()


def test_a_model_says_the_same_alone_and_in_batches(
    train, corpus, sprsound_corpus, options, tmp_path, monkeypatch
):
    output = train(corpus, "own", **options)
    trained = probabilities(output)

    # Stopped in the second epoch, it goes on with the same batches.
    fit_batch, count = sb.Brain.fit_batch, itertools.count(1)
    lengths = set()

    def fit_or_stop(self, batch):
        if next(count) == 8:
            raise KeyboardInterrupt
        assert batch.inputs.lengths.min() == 1  # nothing is padded
        lengths.add(batch.inputs.data.shape[1])
        return fit_batch(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(sb.Brain, "fit_batch", fit_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(corpus, "stopped", **options, **SAVED_OFTEN)
    assert len(lengths) > 1
    stopped = train(corpus, "stopped", **options, **SAVED_OFTEN)
    for name in ("predictions.csv", "predictions_last.csv", "train_log.txt"):
        assert (stopped / name).read_bytes() == (output / name).read_bytes()

    # Cycle by cycle, in an order of its own
    model = RespiratorySoundClassifier.from_hparams(output)
    recordings = pd.read_csv(output / "predictions.csv")["recording"].unique()
    found = [
        model.classify_file(next(corpus.rglob(f"{name}.wav"))).cycles
        for name in recordings
    ]
    found = pd.concat(found).filter(regex="^p_")
    np.testing.assert_allclose(found, trained, atol=1e-4)

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
    assert np.isfinite(probabilities(evaluated)).all()


def test_without_a_cache_of_features(train, corpus, options, monkeypatch):
    """The same batches, and the same model but for rounding to half precision.

    With hardly a step: what one makes of the rounding grows with the next.
    """
    fit_batch, batches = sb.Brain.fit_batch, []

    def fit_and_tell(self, batch):
        batches.append(list(batch.id))
        return fit_batch(self, batch)

    monkeypatch.setattr(sb.Brain, "fit_batch", fit_and_tell)
    options |= {"lr": 1e-6, "final_lr": 1e-7}
    cached, uncached = (
        train(corpus, f"cached_{cached}", cache_features=cached, **options)
        for cached in ("True", "False")
    )
    half = len(batches) // 2
    assert half > 4 and batches[:half] == batches[half:]
    np.testing.assert_allclose(
        probabilities(uncached), probabilities(cached), atol=2e-4
    )
