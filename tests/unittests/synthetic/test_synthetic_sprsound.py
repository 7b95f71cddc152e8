"""Tests of the generated SPRSound-like corpus, its layout parsed here by hand.

Authors
 * qlung_plugin contributors
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from qlung_plugin.dataio.sprsound import TYPES
from qlung_plugin.synthetic.sprsound import generate_sprsound_like
from recipes.SPRSound.sprsound_prepare import prepare_sprsound
from tests.unittests.synthetic.spectra import band_powers

NAME = re.compile(r"(9\d{3})_(\d+\.\d)_([01])_p[1-4]_(\d+)")
FOLDERS = {
    "train": ("train_wav", "train_json"),
    "intra": ("test_wav", "test_json/intra_test_json"),
    "inter": ("test_wav", "test_json/inter_test_json"),
}
LABELS = set(TYPES.values())


class Recording(NamedTuple):
    partition: str
    name: str
    wav: Path
    annotation: str
    events: list

    @property
    def types(self):
        return {event["type"] for event in self.events}

    @property
    def patient(self):
        return NAME.fullmatch(self.name)[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """All 20 patients with one recording each, and what the call returned."""
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    return folder, generate_sprsound_like(folder, seed=0, recordings=1)


@pytest.fixture(scope="module")
def recordings(corpus):
    folder, _ = corpus
    found = []
    for partition, (audio, annotations) in FOLDERS.items():
        for path in (folder / annotations).iterdir():
            content = json.loads(path.read_text())
            assert list(content) == ["record_annotation", "event_annotation"]
            wav = folder / audio / f"{path.stem}.wav"
            found.append(
                Recording(partition, path.stem, wav, *content.values())
            )
    return found


def test_the_layout_is_that_of_sprsound(corpus, recordings):
    folder, _ = corpus
    assert {*folder.rglob("*.wav")} == {r.wav for r in recordings}
    numbers = {NAME.fullmatch(r.name)[4] for r in recordings}
    assert len(numbers) == len(recordings)
    for recording in recordings:
        assert 0.2 <= float(NAME.fullmatch(recording.name)[2]) <= 14
        info = soundfile.info(recording.wav)
        assert (info.samplerate, info.channels) == (8000, 1)
        assert info.subtype == "PCM_16"
        last = 0
        for event in recording.events:
            assert list(event) == ["start", "end", "type"]
            assert event["start"].isdigit() and event["end"].isdigit()
            start, end = int(event["start"]), int(event["end"])
            assert last <= start < end <= info.frames / 8
            last = end
    sizes = [path.stat().st_size for path in folder.rglob("*.wav")]
    assert 3 * sum(sizes) < 40e6  # three recordings per patient by default


def test_the_breathing_rates_are_those_of_children(recordings):
    """From one onset to the next it takes as long as at that age."""
    inter = [r for r in recordings if r.partition == "inter"]
    onsets = [[int(event["start"]) for event in r.events] for r in inter]
    rates = [60_000 / np.diff(starts).mean() for starts in onsets]
    ages = [float(NAME.fullmatch(r.name)[2]) for r in inter]
    assert 17 < min(rates) and max(rates) < 50
    assert np.corrcoef(ages, rates)[0, 1] < -0.7


def test_recordings_are_annotated_by_what_they_have(recordings):
    continuous = {"Wheeze", "Rhonchi", "Stridor", "Wheeze+Crackle"}
    discontinuous = {"Fine Crackle", "Coarse Crackle", "Wheeze+Crackle"}
    for recording in recordings:
        parts = ["CAS"] * bool(recording.types & continuous)
        parts += ["DAS"] * bool(recording.types & discontinuous)
        if recording.annotation != "Poor Quality":
            assert recording.annotation == (" & ".join(parts) or "Normal")
    seen = {recording.annotation for recording in recordings}
    assert seen == {"Normal", "CAS", "DAS", "CAS & DAS", "Poor Quality"}


def test_patients_keep_to_their_partitions(corpus, recordings):
    patients = {
        partition: {r.patient for r in recordings if r.partition == partition}
        for partition in FOLDERS
    }
    everyone = {str(number) for number in range(9001, 9021)}
    assert patients["train"] | patients["inter"] == everyone
    assert not patients["train"] & patients["inter"]
    assert patients["intra"] < patients["train"]
    # Enough for five folds of validation, whichever partition is tested on.
    assert len(patients["train"] - patients["intra"]) >= 5
    _, summary = corpus
    assert summary["patients"] == {p: len(patients[p]) for p in FOLDERS}


def test_every_type_and_in_each_partition_every_label_occurs(
    corpus, recordings
):
    _, summary = corpus
    by_partition = {partition: Counter() for partition in FOLDERS}
    for recording in recordings:
        types = [event["type"] for event in recording.events]
        by_partition[recording.partition].update(types)
    assert summary["sounds"] == by_partition
    for types in by_partition.values():
        assert {TYPES[kind] for kind in types} == LABELS
        assert types["Normal"] == max(types.values())
    total = sum(by_partition.values(), Counter())
    assert set(total) == set(TYPES)
    rare = total["Rhonchi"] + total["Stridor"] + total["Wheeze+Crackle"]
    assert rare < 0.25 * total.total()


def test_the_smallest_has_every_label_everywhere(tmp_path):
    for types in generate_sprsound_like(tmp_path, 1, 2, 1)["sounds"].values():
        assert {TYPES[kind] for kind in types} == LABELS


def share_beyond(wav):
    low, high = band_powers(*soundfile.read(wav), (100, 300), (800, 1200))
    return high / low


def test_a_few_recordings_of_train_are_of_poor_quality(recordings):
    poor = [r for r in recordings if r.annotation == "Poor Quality"]
    good = [r for r in recordings if r.annotation != "Poor Quality"]
    assert {recording.partition for recording in poor} == {"train"}
    train = [r for r in good if r.partition == "train"]
    assert 5 <= len(poor) < len(train)
    # Beyond the band of breathing, they are louder.
    noisy, clear = (
        np.median([share_beyond(r.wav) for r in side]) for side in (poor, train)
    )
    assert noisy > 3 * clear
    assert {bool(recording.events) for recording in poor} == {True, False}
    assert all(recording.events for recording in good)


def test_the_recipe_reads_it_without_a_warning(corpus, tmp_path):
    folder, written = corpus
    summary = prepare_sprsound(folder, tmp_path, test="inter+intra")
    assert summary["warnings"] == []
    assert "not SPRSound" in summary["database"]
    counts = Counter()
    for partition in ("inter", "intra"):
        for kind, count in written["sounds"][partition].items():
            counts[TYPES[kind]] += count
    assert summary["partitions"]["test"]["counts"] == counts
