"""What a recipe trained, exported.

Authors
 * qlung_plugin contributors
"""

import json

import pytest
import torch

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.inference.export import export_run


@pytest.mark.slow
def test_exported_run_answers_as_the_run(icbhi_run, corpus, tmp_path):
    entries = json.loads((icbhi_run / "test.json").read_text()).values()
    for checkpoint in ("selected", "last", "test_selected"):
        export_run(icbhi_run, tmp_path / checkpoint, checkpoint)
        trained = RespiratorySoundClassifier.from_hparams(icbhi_run, checkpoint)
        exported = RespiratorySoundClassifier.from_hparams(
            tmp_path / checkpoint
        )
        assert exported.hparams.epoch == trained.hparams.epoch
        for entry in list(entries)[:5]:
            cycle = read_cycle(entry["wav"], corpus)[None]
            for ours, theirs in (
                (trained.classify_batch(cycle), exported.classify_batch(cycle)),
                (trained.mods.quality(cycle), exported.mods.quality(cycle)),
            ):
                assert torch.equal(ours[0], theirs[0])
    metrics = json.loads((icbhi_run / "metrics.json").read_text())
    provenance = exported.hparams.provenance
    assert provenance["checkpoint"] == "test_selected"
    assert (
        provenance["results"][0]["score"] == metrics["test_selected"]["score"]
    )
    assert provenance["data"]["manifests"] == metrics["data"]["manifests"]
    for path in (tmp_path / "selected").iterdir():
        assert str(tmp_path.parent).encode() not in path.read_bytes()
        assert str(corpus.parent).encode() not in path.read_bytes()
