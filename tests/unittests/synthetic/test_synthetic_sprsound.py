"""Tests of the generated SPRSound-like corpus, its layout parsed here by hand.

Authors
 * qlung_plugin contributors
"""

import csv
import json
import re
from collections import Counter

import numpy as np
import pytest
import soundfile
from scipy.signal import welch

from qlung_plugin.dataio.sprsound import TYPES
from qlung_plugin.synthetic.sprsound import generate_sprsound_like
from recipes.SPRSound.sprsound_prepare import prepare_sprsound
from tests.unittests.synthetic.spectra import (
    band_powers,
    decibels,
    tonality,
)

NAME = re.compile(r"(9\d{3})_(\d+\.\d)_([01])_p[1-4]_(\d+)")
FOLDERS = {
    "train": ("train_wav", "train_json"),
    "intra": ("test_wav", "test_json/intra_test_json"),
    "inter": ("test_wav", "test_json/inter_test_json"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """All 20 patients with one recording each, and what the call returned."""
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    return folder, generate_sprsound_like(folder, seed=0, recordings=1)


def read_partition(folder, partition):
    """Annotations by recording."""
    files = (folder / FOLDERS[partition][1]).iterdir()
    return {path.stem: json.loads(path.read_text()) for path in files}


def read_wav(folder, partition, name):
    return soundfile.read(folder / FOLDERS[partition][0] / f"{name}.wav")


def types_in(annotations):
    return Counter(
        event["type"]
        for content in annotations.values()
        for event in content["event_annotation"]
    )


def patients(names):
    return {NAME.fullmatch(name)[1] for name in names}


def test_the_layout_is_that_of_sprsound(corpus):
    folder, _ = corpus
    names = {p: set(read_partition(folder, p)) for p in FOLDERS}
    train = {path.name for path in (folder / "train_wav").iterdir()}
    test = {path.name for path in (folder / "test_wav").iterdir()}
    assert train == {f"{name}.wav" for name in names["train"]}
    assert test == {f"{n}.wav" for n in names["intra"] | names["inter"]}
    numbers = [NAME.fullmatch(n)[4] for n in set.union(*names.values())]
    assert len(set(numbers)) == len(numbers) == sum(map(len, names.values()))
    for partition in FOLDERS:
        for name, content in read_partition(folder, partition).items():
            assert 0.2 <= float(NAME.fullmatch(name)[2]) <= 14
            info = soundfile.info(
                folder / FOLDERS[partition][0] / f"{name}.wav"
            )
            assert (info.samplerate, info.channels) == (8000, 1)
            assert info.subtype == "PCM_16"
            assert list(content) == ["record_annotation", "event_annotation"]
            last = 0
            for event in content["event_annotation"]:
                assert list(event) == ["start", "end", "type"]
                assert event["start"].isdigit() and event["end"].isdigit()
                start, end = int(event["start"]), int(event["end"])
                assert last <= start < end <= info.frames / 8
                last = end


def test_the_breathing_rates_are_those_of_children(corpus):
    """From one onset to the next it takes as long as at that age."""
    folder, _ = corpus
    rates, ages = [], []
    for name, content in read_partition(folder, "inter").items():
        onsets = [int(e["start"]) for e in content["event_annotation"]]
        rates.append(60_000 / np.diff(onsets).mean())
        ages.append(float(NAME.fullmatch(name)[2]))
    assert 17 < min(rates) and max(rates) < 50
    assert np.corrcoef(ages, rates)[0, 1] < -0.7


def test_recordings_are_annotated_by_what_they_have(corpus):
    folder, _ = corpus
    seen = set()
    for partition in FOLDERS:
        for content in read_partition(folder, partition).values():
            types = {event["type"] for event in content["event_annotation"]}
            parts = []
            if types & {"Wheeze", "Rhonchi", "Stridor", "Wheeze+Crackle"}:
                parts.append("CAS")
            if types & {"Fine Crackle", "Coarse Crackle", "Wheeze+Crackle"}:
                parts.append("DAS")
            annotation = content["record_annotation"]
            seen.add(annotation)
            if annotation != "Poor Quality":
                assert annotation == (" & ".join(parts) or "Normal")
    assert seen == {"Normal", "CAS", "DAS", "CAS & DAS", "Poor Quality"}


def test_patients_keep_to_their_partitions(corpus):
    folder, summary = corpus
    by_partition = {p: patients(read_partition(folder, p)) for p in FOLDERS}
    everyone = {str(number) for number in range(9001, 9021)}
    assert by_partition["train"] | by_partition["inter"] == everyone
    assert not by_partition["train"] & by_partition["inter"]
    assert by_partition["intra"] < by_partition["train"]
    # Enough for five folds of validation, whichever partition is tested on.
    assert len(by_partition["train"] - by_partition["intra"]) >= 5
    assert summary["patients"] == {p: len(by_partition[p]) for p in FOLDERS}


def test_every_type_and_in_each_partition_every_label_occurs(corpus):
    folder, summary = corpus
    total = Counter()
    for partition in FOLDERS:
        types = types_in(read_partition(folder, partition))
        assert {TYPES[kind] for kind in types} == set(TYPES.values())
        assert types["Normal"] == max(types.values())
        assert summary["sounds"][partition] == types
        total += types
    assert set(total) == set(TYPES)
    rare = total["Rhonchi"] + total["Stridor"] + total["Wheeze+Crackle"]
    assert rare < 0.25 * total.total()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sizes", [(2, 1), (7, 2)])
def test_any_size_has_every_label_everywhere(tmp_path, seed, sizes):
    count, recordings = sizes
    summary = generate_sprsound_like(tmp_path / "demo", seed, count, recordings)
    for types in summary["sounds"].values():
        assert {TYPES[kind] for kind in types} == set(TYPES.values())
    assert summary["recordings"]["inter"] % recordings == 0


def test_a_few_recordings_of_train_are_of_poor_quality(corpus):
    folder, _ = corpus
    flatness, poor = [], []
    for name, content in read_partition(folder, "train").items():
        sound, rate = read_wav(folder, "train", name)
        frequencies, power = welch(sound, rate, nperseg=400)
        power = power[(frequencies > 50) & (frequencies < 2000)]
        flatness.append(np.exp(np.log(power).mean()) / power.mean())
        poor.append(content["record_annotation"] == "Poor Quality")
        if not poor[-1]:
            assert content["event_annotation"]
    poor, flatness = np.array(poor), np.array(flatness)
    assert 5 <= poor.sum() < 0.5 * len(poor)
    assert np.median(flatness[poor]) > 3 * np.median(flatness[~poor])
    bare = [
        not content["event_annotation"]
        for content in read_partition(folder, "train").values()
        if content["record_annotation"] == "Poor Quality"
    ]
    assert any(bare) and not all(bare)
    for partition in ("inter", "intra"):
        for content in read_partition(folder, partition).values():
            assert content["record_annotation"] != "Poor Quality"


def test_the_device_passes_its_own_band(corpus):
    folder, _ = corpus
    for name in read_partition(folder, "inter"):
        sound, rate = read_wav(folder, "inter", name)
        inside, beyond = band_powers(sound, rate, (600, 700), (2500, 2700))
        assert decibels(inside / beyond) > 20


def test_wheezes_stand_out_in_their_events(corpus):
    folder, _ = corpus
    tones = {"Wheeze": [], "Stridor": [], "Normal": []}
    for partition in FOLDERS:
        for name, content in read_partition(folder, partition).items():
            if content["record_annotation"] == "Poor Quality":
                continue
            sound, rate = read_wav(folder, partition, name)
            for event in content["event_annotation"]:
                if event["type"] not in tones:
                    continue
                start, end = int(event["start"]), int(event["end"])
                cut = sound[8 * start : 8 * end]
                tones[event["type"]].append(tonality(cut, rate))
    tones = {kind: np.median(values) for kind, values in tones.items()}
    assert tones["Wheeze"] > 2 * tones["Normal"]
    assert tones["Stridor"] > 2 * tones["Normal"]


def test_what_was_made_is_told_and_is_no_result(corpus):
    folder, _ = corpus
    readme = (folder / "README.txt").read_text()
    assert readme.startswith("Generated by") and "NOT SPRSound" in readme
    assert "NO SCORE ON IT IS A RESULT" in readme
    with open(folder / "generation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    made = {(row["partition"], row["recording"]) for row in rows}
    assert made == {
        (p, name) for p in FOLDERS for name in read_partition(folder, p)
    }
    assert len({row["snr_db"] for row in rows}) >= 4


def test_the_recipe_reads_it_without_a_warning(corpus, tmp_path):
    folder, written = corpus
    summary = prepare_sprsound(folder, tmp_path, test="inter+intra")
    assert summary["warnings"] == []
    assert "not SPRSound" in summary["database"]
    recordings = written["recordings"]["inter"] + written["recordings"]["intra"]
    assert summary["recordings"] == recordings
    counts = Counter()
    for partition in ("inter", "intra"):
        for kind, count in written["sounds"][partition].items():
            counts[TYPES[kind]] += count
    assert summary["partitions"]["test"]["counts"] == counts
