"""Tests of the quality of every cycle of some manifests, as a YAML asks for it.

Authors
 * qlung_plugin contributors
"""

import json

import numpy as np
import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml

from qlung_plugin.dataio.cycles import read_cycle
from qlung_plugin.dataio.partitions import check_manifests, with_labels
from qlung_plugin.dataio.quality import cycle_quality
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ClippingScore,
    FlatnessScore,
    LearnedQualityScore,
    ManifestQuality,
    SNRScore,
    WeightedQuality,
)
from qlung_plugin.processing.cycles import resample
from speechbrain.dataio.dataio import load_data_json

RATE = 4000
LABELS = ["normal", "crackle", "wheeze", "both"]
LEARNED = LearnedQualityScore(8000)

# As the recipes' YAML has them; the first two are of one kind each.
BLOCKS = {
    "formula": """\
quality: !new:qlung_plugin.lobes.quality.FlatnessScore
    sample_rate: !ref <rate>
""",
    "fitted": """\
quality: !new:qlung_plugin.lobes.quality.AudioQualityScore
    sample_rate: !ref <rate>
    normalisation: fitted
""",
    "weighted": """\
quality: !new:qlung_plugin.lobes.quality.WeightedQuality
    measures:
        - !new:qlung_plugin.lobes.quality.AudioQualityScore
          sample_rate: !ref <rate>
          normalisation: fitted
        - !new:qlung_plugin.lobes.quality.LearnedQualityScore
          sample_rate: !ref <rate>
        - !new:qlung_plugin.lobes.quality.ManifestQuality
          column: expert_mark
    weights: [0.5, 0.25, 0.25]
""",
    "constant": """\
quality: !new:qlung_plugin.lobes.quality.ConstantQuality
    value: 0.4
""",
    "column": """\
quality: !new:qlung_plugin.lobes.quality.ManifestQuality
    column: expert_mark
""",
}
RECIPE = """\
labels: [normal, crackle, wheeze, both]
rate: 8000
{quality}
modules:
    quality: !ref <quality>
checkpointer: !new:qlung_plugin.training.checkpoints.CompleteCheckpointer
    checkpoints_dir: !ref <save_folder>
    recoverables:
        quality: !ref <quality>
save_folder: {folder}
"""


@pytest.fixture
def manifests(tmp_path):
    """Of two recordings, read as a recipe does that skips its preparation."""
    data = tmp_path / "data"
    data.mkdir()
    names = {"train": "a", "valid": None, "test": "b"}
    read = {}
    for side, (name, recording) in enumerate(names.items()):
        entries = {}
        for i in range(4 if recording else 0):
            wav = {"file": f"{{data_root}}/{recording}.wav"}
            wav.update(start=1500 * i, stop=1500 * i + 900 + 200 * i)
            entries[f"{recording}_{i}"] = {
                "wav": wav,
                "sample_rate": RATE,
                "label": LABELS[i],
                "expert_mark": 0.25 * side + 0.1 * i,
            }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(entries))
        if recording:
            rng = np.random.default_rng(side)
            sound = rng.normal(0, 0.2, 6000) * np.linspace(0.1, 1, 6000)
            soundfile.write(data / f"{recording}.wav", sound, RATE)
        loaded = load_data_json(path, {"data_root": str(data)})
        read[name] = with_labels(loaded, LABELS)
    check_manifests(read, LABELS)
    return read


@pytest.fixture
def build(tmp_path):
    """The objects of a training YAML."""

    def build(block):
        path = tmp_path / "train.yaml"
        folder = tmp_path / "run" / "save"
        path.write_text(RECIPE.format(quality=BLOCKS[block], folder=folder))
        return load_hyperpyyaml(path.read_text())

    return build


@pytest.fixture
def heard(manifests):
    """From a measure to its scores of all cycles, one by one."""

    def heard(measure, fit=False):
        measured = []
        entries = {**manifests["train"], **manifests["test"]}
        for entry in entries.values():
            waveform = resample(read_cycle(entry["wav"]), RATE, 8000)
            rates = torch.tensor([RATE])
            measured.append(measure.measure(waveform[None], None, rates)[0])
        measured = torch.stack(measured)
        if fit:
            measure.fit(measured[:4])
        return dict(zip(entries, measure.score(measured).tolist()))

    return heard


@pytest.fixture
def expected(heard, manifests):
    """What each YAML is to give."""
    marks = {
        cycle: entry["expert_mark"]
        for manifest in manifests.values()
        for cycle, entry in manifest.items()
    }
    fitted = heard(AudioQualityScore(8000, normalisation="fitted"), fit=True)
    learned = heard(LEARNED)
    return {
        "formula": heard(FlatnessScore(8000)),
        "fitted": fitted,
        "weighted": {
            cycle: 0.5 * fitted[cycle]
            + 0.25 * learned[cycle]
            + 0.25 * marks[cycle]
            for cycle in marks
        },
        "constant": dict.fromkeys(marks, 0.4),
        "column": marks,
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_as_a_recipe_asks(block, build, manifests, expected, tmp_path):
    hparams = build(block)
    quality = cycle_quality(
        hparams["quality"],
        manifests.values(),
        tmp_path / "cache",
        fit_on=manifests["train"],
    )
    assert list(quality) == [f"{r}_{i}" for r in "ab" for i in range(4)]
    assert quality == pytest.approx(expected[block], abs=1e-4)


def test_a_training_goes_on_with_its_quality(build, manifests, tmp_path):
    hparams = build("weighted")
    arguments = manifests.values(), tmp_path / "cache"
    before = cycle_quality(
        hparams["quality"], *arguments, fit_on=manifests["train"]
    )
    hparams["checkpointer"].save_checkpoint(meta={"epoch": 1})
    again = build("weighted")
    again["checkpointer"].recover_if_possible()
    assert cycle_quality(again["quality"], *arguments) == before


def test_each_measure_is_stored_once(manifests, tmp_path):
    cache = tmp_path / "cache"

    def score(*measures):
        measure = WeightedQuality(list(measures), [1] * len(measures))
        cycle_quality(measure, manifests.values(), cache)
        return {path.name for path in cache.glob("CycleMeasurements-*")}

    first = score(SNRScore(8000), ClippingScore(8000))
    assert len(first) == 2
    assert len(score(ClippingScore(8000), FlatnessScore(8000)) - first) == 1


@pytest.mark.parametrize("block", ["constant", "column"])
def test_no_waveform_is_read(block, build, manifests, tmp_path):
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    measure = build(block)["quality"]
    cycle_quality(measure, manifests.values(), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_measure_that_is_not_fitted(manifests, tmp_path):
    measure = AudioQualityScore(8000, normalisation="fitted")
    with pytest.raises(RuntimeError, match="not fitted"):
        cycle_quality(measure, manifests.values(), tmp_path)


def test_two_cycles_of_one_name(manifests, tmp_path):
    entry, measure = manifests["train"]["a_0"], ManifestQuality("expert_mark")
    manifests["test"]["a_0"] = entry
    assert len(cycle_quality(measure, manifests.values(), tmp_path)) == 8
    manifests["test"]["a_0"] = {**entry, "expert_mark": 0.75}
    with pytest.raises(ValueError, match="two cycles a_0"):
        cycle_quality(measure, manifests.values(), tmp_path)
