"""Two processes train together and evaluate what one would.

Authors
 * qlung_plugin contributors
"""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from qlung_plugin.dataio.partitions import count_labels
from qlung_plugin.dataio.store import store_cycles
from qlung_plugin.inference.models import open_model
from qlung_plugin.nnet.margins import ClassImbalanceMargin
from qlung_plugin.training.checkpoints import find_checkpoint
from speechbrain.utils.checkpoints import Checkpointer
from tests.recipes.conftest import RECIPE, SPRSOUND, TINY, arguments, run_script

# Of `make test` is what two processes do without a training: test_distribution.
pytestmark = pytest.mark.slow


def run_by_two(script, hparams, options):
    """Runs a script by torchrun on two CPU processes."""
    options = {**options, "device": "cpu", "distributed_backend": "gloo"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [str(script), str(script.parent / "hparams" / hparams)]
    run = subprocess.run(
        [*launcher, "--nproc_per_node=2", *script, *arguments(options)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.fixture(scope="module")
def two_processes(corpus, cache, tmp_path_factory):
    """A training by two processes."""
    output = tmp_path_factory.mktemp("run") / "two"
    options = {
        **TINY,
        "data_folder": corpus,
        "output_folder": output,
        "cache_folder": cache,
    }
    run_by_two(RECIPE / "train.py", "qlung.yaml", options)
    return output


def state(run, name):
    """What a module was saved with in the selected checkpoint."""
    checkpoint = find_checkpoint(Checkpointer(run / "save"), "selected")
    return torch.load(checkpoint.paramfiles[name], weights_only=True)


def test_counts_and_the_range_of_quality_are_those_of_one(
    two_processes, icbhi_run
):
    manifest = json.loads((two_processes / "train.json").read_text())
    expected = ClassImbalanceMargin(count_labels(manifest)).values
    margins = state(two_processes, "loss")
    (name,) = [name for name in margins if name.endswith(".values")]
    assert torch.equal(margins[name], expected)
    for name, fitted in state(icbhi_run, "quality").items():
        assert torch.equal(state(two_processes, "quality")[name], fitted), name


def test_predictions_are_those_of_one_process(two_processes, corpus, cache):
    run = open_model(two_processes)
    manifest = json.loads((two_processes / "test.json").read_text())
    for entry in manifest.values():
        path = entry["wav"]["file"].replace("{data_root}", str(corpus))
        entry["wav"]["file"] = path
    inputs = store_cycles([manifest], run["cycle_features"], cache)
    table = pd.read_csv(two_processes / "predictions.csv").set_index("id")
    # Every cycle once, though each process evaluated a half of them.
    assert sorted(table.index) == sorted(manifest)
    for cycle in manifest:
        with torch.no_grad():
            embeddings = run["backbone"](inputs[cycle].float()[None])
            logits, _ = run["classifier"](embeddings)
        expected = logits.softmax(dim=1)[0].tolist()
        row = table.loc[cycle, [f"p_{label}" for label in run["labels"]]]
        assert row.tolist() == pytest.approx(expected, abs=2e-6)


def test_another_database_is_judged_by_two_as_by_one(
    icbhi_run, sprsound_corpus, cache, tmp_path
):
    script = SPRSOUND / "cross_dataset" / "evaluate.py"
    options = {
        "data_folder": sprsound_corpus,
        "run_folder": icbhi_run,
        "partition": "inter",
        "cache_folder": cache,
    }
    outputs = [tmp_path / name for name in ("one", "two")]
    hparams = script.parent / "hparams" / "cross_dataset.yaml"
    run_script(script, hparams, {**options, "output_folder": outputs[0]})
    run_by_two(script, hparams.name, {**options, "output_folder": outputs[1]})
    one, two = (pd.read_csv(output / "predictions.csv") for output in outputs)
    pd.testing.assert_frame_equal(one, two, atol=2e-6)


def test_logs_are_written_by_one_process(two_processes):
    lines = (two_processes / "train_log.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch: 1", "epoch: 2"]
