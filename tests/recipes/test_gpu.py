"""What needs a GPU: half precision, compiling, two processes.

Skipped without one. Run it alone: python -m pytest tests/recipes/test_gpu.py

Authors
 * qlung_plugin contributors
"""

import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from tests.recipes.conftest import RECIPE, TINY, arguments

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no GPU"
)

AST = {
    "pretrained_weights": "none",
    "number_of_epochs": "2",
    "fix_length": "{duration: 1.0}",
    "backbone": "{frames: 98, config: {hidden_size: 32, num_hidden_layers: 1,"
    " num_attention_heads: 2, intermediate_size: 32}}",
}


@pytest.fixture
def train_on_gpu(corpus, cache, tmp_path):
    """Runs train.py as a command, by torchrun if there are several processes."""

    def run(hparams, options, processes=1):
        output = tmp_path / "run"
        command = [sys.executable]
        if processes > 1:
            command += ["-m", "torch.distributed.run", "--standalone"]
            command += [f"--nproc_per_node={processes}"]
        options = {
            **options,
            "data_folder": corpus,
            "output_folder": output,
            "cache_folder": cache,
        }
        finished = subprocess.run(
            [*command, str(RECIPE / "train.py"), *hparams, *arguments(options)],
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        return pd.read_csv(output / "predictions.csv")

    return run


@pytest.mark.parametrize("name", ["qlung", "qlung_ast"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_precision(train_on_gpu, name, precision):
    options = TINY if name == "qlung" else AST
    table = train_on_gpu(
        [str(RECIPE / "hparams" / f"{name}.yaml")],
        {**options, "precision": precision, "eval_precision": precision},
    )
    assert table.filter(like="p_").notna().all(axis=None)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled(train_on_gpu, mode):
    table = train_on_gpu(
        [str(RECIPE / "hparams" / "qlung_ast.yaml")],
        {**AST, "compile": "", "compile_mode": mode},
    )
    assert len(table) == table["id"].nunique()


@pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason="there are no two GPUs"
)
def test_two_gpus(train_on_gpu):
    table = train_on_gpu(
        [str(RECIPE / "hparams" / "qlung.yaml")], TINY, processes=2
    )
    assert len(table) == table["id"].nunique()
