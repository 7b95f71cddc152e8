"""Tests of the generated ICBHI-like corpus, its layout parsed here by hand.

Authors
 * qlung_plugin contributors
"""

import re

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from tests.unittests.synthetic.spectra import band_powers, decibels, tonality

SPLIT = "ICBHI_challenge_train_test.txt"
NAME = re.compile(
    r"(9\d\d)_\d[bp]\d_(Tc|Al|Ar|Pl|Pr|Ll|Lr)_(sc|mc)"
    r"_(AKGC417L|LittC2SE|Litt3200|Meditron)"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """All 16 patients with one recording each, and what the call returned."""
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    return folder, generate_icbhi_like(folder, seed=0, recordings=1)


def read_split(folder):
    lines = (folder / SPLIT).read_text().splitlines()
    return dict(line.split("\t") for line in lines)


def read_cycles(folder, name):
    """(start, end, label) of a recording; label = crackle + 2 * wheeze."""
    text = (folder / "audio_and_txt_files" / f"{name}.txt").read_text()
    for line in text.splitlines():
        start, end, crackle, wheeze = line.split("\t")
        yield float(start), float(end), int(crackle) + 2 * int(wheeze)


def read_wav(folder, name):
    return soundfile.read(folder / "audio_and_txt_files" / f"{name}.wav")


def test_the_layout_is_that_of_icbhi(corpus):
    folder, _ = corpus
    split = read_split(folder)
    assert set(split.values()) == {"train", "test"}
    files = {path.name for path in (folder / "audio_and_txt_files").iterdir()}
    assert files == {f"{n}{end}" for n in split for end in (".wav", ".txt")}
    formats = {
        "AKGC417L": (44100, "PCM_24"),
        "LittC2SE": (44100, "PCM_24"),
        "Litt3200": (4000, "PCM_16"),
        "Meditron": (44100, "PCM_16"),
    }
    for name in split:
        device = NAME.fullmatch(name)[4]
        info = soundfile.info(folder / "audio_and_txt_files" / f"{name}.wav")
        assert (info.samplerate, info.subtype) == formats[device]
        assert info.channels == 1
        starts, ends, labels = zip(*read_cycles(folder, name))
        assert 4 <= len(labels) <= 6 and set(labels) <= {0, 1, 2, 3}
        assert starts[1:] == ends[:-1]
        assert 0 <= starts[0] and ends[-1] <= info.duration
        assert all(1 <= end - start <= 3 for start, end in zip(starts, ends))
    text = b"".join(path.read_bytes() for path in folder.rglob("*.txt"))
    assert b"\r" not in text
    sizes = [path.stat().st_size for path in folder.rglob("*.wav")]
    assert 3 * sum(sizes) < 40e6  # three recordings per patient by default


def test_patients_are_told_of_and_cannot_be_taken_for_real_ones(corpus):
    folder, _ = corpus
    sides = {}
    for name, side in read_split(folder).items():
        sides.setdefault(name[:3], set()).add(side)
    assert set(sides) == {str(number) for number in range(901, 917)}
    assert all(len(side) == 1 for side in sides.values())  # split by patient
    assert sum(side == {"train"} for side in sides.values()) == 10
    rows = (folder / "demographic_info.txt").read_text().splitlines()
    people = {row.split(" ")[0]: row.split(" ")[1:] for row in rows}
    assert set(people) == set(sides)
    assert ["NA"] * 5 in people.values()
    for age, sex, bmi, weight, height in people.values():
        if age != "NA":
            assert sex in "MF"
            child = float(age) < 18
            assert child == (bmi == "NA") == (weight != "NA" != height)
    rows = (folder / "patient_diagnosis.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == set(sides)


def test_all_labels_are_on_both_sides_and_imbalanced_as_in_icbhi(corpus):
    folder, summary = corpus
    cycles = {"train": np.zeros(4, int), "test": np.zeros(4, int)}
    patients = [set(), set(), set(), set()]
    for name, side in read_split(folder).items():
        for *_, label in read_cycles(folder, name):
            cycles[side][label] += 1
            if side == "train":
                patients[label].add(name[:3])
    assert min(cycles["train"]) > 0 and min(cycles["test"]) > 0
    assert min(map(len, patients)) >= 3
    share = sum(cycles.values()) / sum(map(sum, cycles.values()))
    # So few cycles come to the shares but roughly.
    assert share == pytest.approx([0.53, 0.27, 0.13, 0.07], abs=0.08)
    assert (np.diff(share) < 0).all()
    names = ("normal", "crackle", "wheeze", "both")
    for side, counts in cycles.items():
        assert summary["sounds"][side] == dict(zip(names, counts.tolist()))
    assert summary["patients"] == {"train": 10, "test": 6}
    assert summary["recordings"] == {"train": 10, "test": 6}


def test_devices_pass_their_own_bands_and_levels(corpus):
    folder, _ = corpus
    edges = {"AKGC417L": 4000, "LittC2SE": 1000, "Litt3200": 700}
    edges["Meditron"] = 2000
    levels, lows = {}, {}
    for name in read_split(folder):
        device = name.split("_")[-1]
        sound, rate = read_wav(folder, name)
        edge = edges[device]
        inside, beyond, rumble, breath = band_powers(
            sound,
            rate,
            (0.45 * edge, 0.55 * edge),
            (1.8 * edge, 2.2 * edge),
            (20, 40),
            (100, 200),
        )
        # The flattest source, the noise, falls by 12 dB over these octaves.
        assert decibels(inside / beyond) > 20
        lows.setdefault(device, []).append(rumble / breath)
        levels.setdefault(device, []).append(decibels((sound**2).mean()))
    lows = {name: np.median(low) for name, low in lows.items()}
    assert decibels(lows["Meditron"] / lows["Litt3200"]) > 8
    assert np.median(levels["LittC2SE"]) > np.median(levels["Meditron"]) + 6


def test_adventitious_sounds_stand_out_in_their_cycles(corpus):
    folder, _ = corpus
    bursts, tones = [[], [], [], []], [[], [], [], []]
    for name in read_split(folder):
        sound, rate = read_wav(folder, name)
        sections = butter(4, (150, 1200), "bandpass", fs=rate, output="sos")
        sound = sosfilt(sections, sound)
        for start, end, label in read_cycles(folder, name):
            cycle = sound[round(start * rate) : round(end * rate)]
            breath_in, breath_out = np.split(cycle, [round(0.42 * len(cycle))])
            bursts[label].append((breath_in**4).mean() / breath_in.var() ** 2)
            tones[label].append(tonality(breath_out, rate))
    burst = np.array([np.median(values) for values in bursts])
    tone = np.array([np.median(values) for values in tones])
    assert burst[[1, 3]].min() > 1.5 * burst[[0, 2]].max()
    assert decibels(tone[[2, 3]].min() / tone[[0, 1]].max()) > 4
