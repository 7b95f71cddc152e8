"""Tests that cycles may be loaded by other processes, forked or not.

Authors
 * qlung_plugin contributors
"""

import pickle
import runpy

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from qlung_plugin.inference.models import open_model
from qlung_plugin.runs.hparams import read_hparams
from tests.recipes.conftest import RECIPE, SPRSOUND, TINY


def loaded(script, hparams, **options):
    """What a script defines, and its YAML with options."""
    overrides = "\n".join(f"{key}: {value}" for key, value in options.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(script.parent)
        text = read_hparams(script.parent / "hparams" / hparams)
        return runpy.run_path(str(script)), load_hyperpyyaml(text, overrides)


def assert_sent(dataset):
    """What another process gets of a data set has the same items."""
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again) == len(dataset) > 0
    for item, other in zip(dataset, again):
        assert item.keys() == other.keys()
        for key, value in item.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(other[key], value)
            else:
                assert other[key] == value


def test_data_sets_of_a_training_can_be_sent(
    icbhi_run, corpus, cache, tmp_path
):
    script, hparams = loaded(
        RECIPE / "train.py",
        "qlung.yaml",
        **TINY,
        data_folder=corpus,
        cache_folder=cache,
        output_folder=tmp_path,
        manifest_folder=icbhi_run,
    )
    datasets, quality, _ = script["dataio_prep"](hparams)
    assert datasets.keys() == {"train", "valid", "test"}
    for dataset in datasets.values():
        assert_sent(dataset)
        for item in dataset:
            value = torch.tensor([quality["quality"][item["id"]]])
            assert torch.equal(item["quality"], value)


def test_the_data_set_of_an_evaluation_can_be_sent(
    icbhi_run, corpus, cache, tmp_path
):
    script, hparams = loaded(
        SPRSOUND / "cross_dataset" / "evaluate.py",
        "cross_dataset.yaml",
        data_folder=corpus,
        cache_folder=cache,
        output_folder=tmp_path,
        test_annotation=icbhi_run / "test.json",
    )
    run = open_model(icbhi_run)
    dataset, _, _, _ = script["dataio_prep"](hparams, run)
    assert_sent(dataset)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_trained_as_without_processes(method, train, corpus, icbhi_run):
    # Processes that are not forked import all again: they are kept.
    options = f"{{multiprocessing_context: {method}, persistent_workers: True}}"
    output = train(
        corpus,
        num_workers=2,
        train_dataloader_options=options,
        eval_dataloader_options=options,
    )
    for name in ("predictions.csv", "predictions_last.csv", "metrics.json"):
        expected = (icbhi_run / name).read_bytes()
        assert (output / name).read_bytes() == expected
