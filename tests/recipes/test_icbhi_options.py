"""Options that are off by default: what the README shows, wired and run.

Authors
 * qlung_plugin contributors
"""

import json
import re
import sys

import pandas as pd
import pytest
import torch
import yaml

from qlung_plugin.inference.models import open_model
from qlung_plugin.training.checkpoints import find_checkpoint
from speechbrain.utils.checkpoints import Checkpointer
from tests.recipes.conftest import RECIPE, ROOT

COMPONENTS_PAGE = (ROOT / "docs" / "components.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"```yaml\n(.*?)```", (RECIPE / "README.md").read_text(), re.DOTALL
)
OWN_MARGIN = COMPONENTS_PAGE.split("## A part of your own")[1]
TINY_AST = {
    "width_mult": None,
    "backbone": "{frames: 98, config: {hidden_size: 32, num_hidden_layers: 1,"
    " num_attention_heads: 2, intermediate_size: 32}}",
}


def swapped(names, path, base="qlung.yaml"):
    """A YAML that changes the README's blocks that hold these names."""
    text = f"!include:{RECIPE / 'hparams' / base}\n"
    for name in names:
        (block,) = [block for block in BLOCKS if name in block]
        text += block
    path.write_text(text)
    return path


@pytest.fixture
def options(tmp_path, corpus, train):
    """Trains with blocks of the README and further options."""

    def run(*names, base="qlung.yaml", **overrides):
        hparams = swapped(names, tmp_path / "swapped.yaml", base)
        return train(corpus, hparams=hparams, **overrides)

    return run


def brain_state(run):
    """What Brain saved with the last checkpoint."""
    checkpoint = find_checkpoint(Checkpointer(run / "save"), "last")
    return yaml.safe_load(checkpoint.paramfiles["brain"].read_text())


@pytest.mark.slow
def test_two_classes_augmented_mixed_and_averaged(options):
    run = options(
        "WaveformAugmentation",
        "Mixup",
        "StepAveraging",
        "MarginSchedule",
        cache_features="False",
        num_classes="2",
    )
    table = pd.read_csv(run / "predictions.csv")
    probabilities = table[["p_normal", "p_abnormal"]]
    assert [c for c in table if c.startswith("p_")] == list(probabilities)
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1, abs=2e-6)
    assert set(table["label"]) == {"normal", "abnormal"}
    # The quality that is written is that of the recording, not augmented.
    assert table["quality"].between(0, 1).all()
    loaded = open_model(run)
    assert list(loaded["labels"]) == ["normal", "abnormal"]
    report = (run / "report.txt").read_text()
    assert "abnormal" in report and "crackle" not in report.split("data:")[0]


def test_patch_mix_half_precision_and_accumulation(options):
    run = options(
        "PatchMix",
        base="qlung_ast.yaml",
        **TINY_AST,
        batch_size="4",
        precision="bf16",
        eval_precision="bf16",
        grad_accumulation_factor="2",
    )
    cycles = len(json.loads((run / "train.json").read_text()))
    batches = 2 * -(-cycles // 4)  # of two epochs
    assert batches > brain_state(run)["optimizer_step"] >= batches // 2
    for tensor in open_model(run)["backbone"].state_dict().values():
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()


@pytest.mark.slow
def test_a_speechbrain_embedding_model_by_yaml_alone(options):
    run = options(
        "ECAPA_TDNN",
        sample_rate="16000",
        width_mult=None,
        number_of_epochs="1",
    )
    # Of SpeechBrain's, the backbones alone need no trust.
    with pytest.raises(ValueError, match="Fbank' is none of the components"):
        open_model(run)
    trust = ["speechbrain.lobes.features", "speechbrain.processing.features"]
    loaded = open_model(run, trust=trust)
    assert type(loaded["backbone"].model).__name__ == "ECAPA_TDNN"
    embeddings = loaded["backbone"](torch.randn(2, 101, 80))
    assert embeddings.shape == (2, 192)


def test_a_margin_in_a_file_of_ones_own(
    corpus, train, icbhi_run, tmp_path, monkeypatch
):
    """As the README shows it; the model is opened without trust."""
    code, block = re.findall(r"```\w+\n(.*?)```", OWN_MARGIN, re.DOTALL)
    (tmp_path / "my_margins.py").write_text(code)
    (tmp_path / "own.yaml").write_text(block)
    (tmp_path / "hparams").symlink_to(RECIPE / "hparams")
    monkeypatch.syspath_prepend(tmp_path)
    run = train(corpus, hparams=tmp_path / "own.yaml")
    assert "my_margins" in sys.modules
    tables = [
        pd.read_csv(folder / "predictions_last.csv")
        for folder in (run, icbhi_run)
    ]
    assert not tables[0]["p_normal"].equals(tables[1]["p_normal"])
    assert type(open_model(run)["backbone"]).__name__ == "EfficientAT"
