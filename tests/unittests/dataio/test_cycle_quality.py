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
    QualityMeasure,
    SNRScore,
    WeightedQuality,
)
from qlung_plugin.processing.cycles import resample
from qlung_plugin.training.checkpoints import CompleteCheckpointer
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
    patients = None
    if block == "weighted":
        patients = sorted(LEARNED.supervision["patients"])
    supervision = hparams["quality"].supervision or {"patients": None}
    assert supervision["patients"] == patients


@pytest.mark.parametrize("block", BLOCKS)
def test_a_training_goes_on_with_its_quality(block, build, manifests, tmp_path):
    hparams = build(block)
    arguments = manifests.values(), tmp_path / "cache"
    before = cycle_quality(
        hparams["quality"], *arguments, fit_on=manifests["train"]
    )
    assert isinstance(hparams["checkpointer"], CompleteCheckpointer)
    hparams["checkpointer"].save_checkpoint(meta={"epoch": 1})
    again = build(block)
    again["checkpointer"].recover_if_possible()
    assert cycle_quality(again["quality"], *arguments) == before


def test_weights_are_overridden_as_any_argument(build, tmp_path):
    build("weighted")
    text = (tmp_path / "train.yaml").read_text()
    weights = "quality: {weights: [0, 3, 1]}"
    assert load_hyperpyyaml(text, weights)["quality"].weights == (0, 0.75, 0.25)


def test_each_measure_is_stored_once(manifests, tmp_path):
    def score(*measures):
        weights = [1] * len(measures)
        cycle_quality(
            WeightedQuality(list(measures), weights),
            [*manifests.values()],
            cache,
        )
        return {path.name for path in cache.glob("CycleMeasurements-*")}

    cache = tmp_path / "cache"
    first = score(SNRScore(8000), ClippingScore(8000))
    assert len(first) == 2
    assert (
        score(ClippingScore(8000), SNRScore(8000), FlatnessScore(8000)) > first
    )
    assert len(score(FlatnessScore(8000))) == 3


@pytest.mark.parametrize("block", ["constant", "column"])
def test_no_waveform_is_read(block, build, manifests, tmp_path):
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    measure = build(block)["quality"]
    cycle_quality(measure, manifests.values(), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_entries_without_the_column(manifests, tmp_path):
    del (
        manifests["test"]["b_1"]["expert_mark"],
        manifests["test"]["b_2"]["label"],
    )
    manifests["test"]["b_3"]["expert_mark"] = 1.5
    message = "2 of 8 .* as 'expert_mark': b_1 has None"
    with pytest.raises(ValueError, match=message):
        cycle_quality(
            ManifestQuality("expert_mark"), manifests.values(), tmp_path
        )


def test_a_measure_that_is_not_fitted(manifests, tmp_path):
    measure = AudioQualityScore(8000, normalisation="fitted")
    with pytest.raises(RuntimeError, match="not fitted"):
        cycle_quality(measure, manifests.values(), tmp_path)


@pytest.mark.parametrize("key", ["expert_mark", "sample_rate"])
@pytest.mark.parametrize(
    "measure", [ManifestQuality("expert_mark"), ClippingScore(8000)]
)
def test_two_cycles_of_one_name(measure, key, manifests, tmp_path):
    entry = manifests["train"]["a_0"]
    manifests["test"]["a_0"] = {**entry, key: 0.75}
    with pytest.raises(ValueError, match="two cycles a_0"):
        cycle_quality(measure, manifests.values(), tmp_path)


def test_one_cycle_in_two_manifests(manifests, tmp_path):
    manifests["test"]["a_0"] = manifests["train"]["a_0"]
    quality = cycle_quality(
        ManifestQuality("expert_mark"), manifests.values(), tmp_path
    )
    assert len(quality) == 8


class Loudness(QualityMeasure):
    """A measure of one's own needs to know of nothing else."""

    def measure_valid(self, signal):
        return signal.centred.abs().amax(dim=-1, keepdim=True).repeat(1, 3)

    def score(self, measurements):
        return measurements.mean(dim=-1).clamp(0, 1).nan_to_num(nan=0.0)


def test_a_measure_of_ones_own(manifests, heard, tmp_path):
    measure = WeightedQuality([SNRScore(8000), Loudness(8000)], [1, 3])
    ratio, loudness = heard(SNRScore(8000)), heard(Loudness(8000))
    quality = cycle_quality(measure, manifests.values(), tmp_path / "cache")
    assert quality == pytest.approx(
        {c: 0.25 * ratio[c] + 0.75 * loudness[c] for c in ratio}, abs=1e-6
    )
