"""Tests of the generated SPRSound-like corpus, its layout parsed here by hand.

Authors
 * qlung_plugin contributors
"""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from scipy.signal import welch

from qlung_plugin.dataio.sprsound import TYPES
from qlung_plugin.synthetic.sprsound import generate_sprsound_like
from recipes.SPRSound.sprsound_prepare import prepare_sprsound
from tests.unittests.synthetic.spectra import band_powers, decibels, tonality

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


def types_by_partition(recordings):
    types = {partition: Counter() for partition in FOLDERS}
    for recording in recordings:
        types[recording.partition].update(
            event["type"] for event in recording.events
        )
    return types


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
    by_partition = types_by_partition(recordings)
    assert summary["sounds"] == by_partition
    for types in by_partition.values():
        assert {TYPES[kind] for kind in types} == LABELS
        assert types["Normal"] == max(types.values())
    total = sum(by_partition.values(), Counter())
    assert set(total) == set(TYPES)
    rare = total["Rhonchi"] + total["Stridor"] + total["Wheeze+Crackle"]
    assert rare < 0.25 * total.total()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sizes", [(2, 1), (7, 2)])
def test_any_size_has_every_label_everywhere(tmp_path, seed, sizes):
    count, recordings = sizes
    summary = generate_sprsound_like(tmp_path / "demo", seed, count, recordings)
    for types in summary["sounds"].values():
        assert {TYPES[kind] for kind in types} == LABELS
    assert summary["recordings"]["inter"] % recordings == 0


def flatness(recording):
    sound, rate = soundfile.read(recording.wav)
    frequencies, power = welch(sound, rate, nperseg=400)
    power = power[(frequencies > 50) & (frequencies < 2000)]
    return np.exp(np.log(power).mean()) / power.mean()


def test_a_few_recordings_of_train_are_of_poor_quality(recordings):
    poor = [r for r in recordings if r.annotation == "Poor Quality"]
    good = [r for r in recordings if r.annotation != "Poor Quality"]
    assert {recording.partition for recording in poor} == {"train"}
    train = [r for r in good if r.partition == "train"]
    assert 5 <= len(poor) < len(train)
    assert np.median([*map(flatness, poor)]) > 3 * np.median(
        [*map(flatness, train)]
    )
    assert {bool(recording.events) for recording in poor} == {True, False}
    assert all(recording.events for recording in good)


def test_the_device_passes_its_own_band(recordings):
    for recording in recordings:
        if recording.partition == "inter":
            sound, rate = soundfile.read(recording.wav)
            inside, beyond = band_powers(sound, rate, (600, 700), (2500, 2700))
            assert decibels(inside / beyond) > 20


def test_wheezes_stand_out_in_their_events(recordings):
    tones = {"Wheeze": [], "Stridor": [], "Normal": []}
    for recording in recordings:
        if recording.annotation == "Poor Quality":
            continue
        sound, rate = soundfile.read(recording.wav)
        for event in recording.events:
            if event["type"] in tones:
                start, end = int(event["start"]), int(event["end"])
                cut = sound[8 * start : 8 * end]
                tones[event["type"]].append(tonality(cut, rate))
    tones = {kind: np.median(values) for kind, values in tones.items()}
    assert tones["Wheeze"] > 2 * tones["Normal"]
    assert tones["Stridor"] > 2 * tones["Normal"]


def test_what_was_made_is_written_down_and_is_no_result(corpus, recordings):
    folder, _ = corpus
    readme = (folder / "README.txt").read_text()
    assert readme.startswith("Generated by") and "NOT SPRSound" in readme
    assert "NO SCORE ON IT IS A RESULT" in readme
    with open(folder / "generation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    made = {(row["partition"], row["recording"]) for row in rows}
    assert made == {(r.partition, r.name) for r in recordings}
    assert len({row["snr_db"] for row in rows}) >= 4


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
