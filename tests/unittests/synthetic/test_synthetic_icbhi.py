"""Tests of the generated sounds and of the generated ICBHI-like corpus.

What is measured is set against the definitions of respiratory sounds and
against ICBHI's layout, parsed here by hand.

Authors
 * qlung_plugin contributors
"""

import csv
import hashlib
import json
import re

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, hilbert, medfilt, sosfilt, welch

from qlung_plugin.synthetic import icbhi, sounds
from qlung_plugin.synthetic.icbhi import generate_icbhi_like, main

RATE = 44100
SPLIT = "ICBHI_challenge_train_test.txt"
NAME = re.compile(
    r"(9\d\d)_\d[bp]\d_(Tc|Al|Ar|Pl|Pr|Ll|Lr)_(sc|mc)"
    r"_(AKGC417L|LittC2SE|Litt3200|Meditron)"
)


def rng(seed=0):
    return np.random.default_rng(seed)


def decibels(ratio):
    return 10 * np.log10(ratio)


def band_powers(sound, rate, *bands):
    """Mean power density between the (low, high) of each band."""
    frequencies, power = welch(sound, rate, nperseg=rate // 10)
    return [
        power[(frequencies >= low) & (frequencies < high)].mean()
        for low, high in bands
    ]


# --- sounds -----------------------------------------------------------------


@pytest.mark.parametrize(
    "two_cycle, deflection",
    [(0.005, 0.0007), (0.010, 0.0015)],  # the ATS means, fine and coarse
)
def test_crackle_has_the_documented_durations(two_cycle, deflection):
    burst = sounds.crackle(two_cycle, deflection, RATE)
    crossings = np.flatnonzero(np.diff(np.sign(burst[1:]))) + 1
    # Three crossings inside and the end: four half-waves, thus two cycles.
    assert len(crossings) == 3
    assert crossings[0] / RATE == pytest.approx(deflection, abs=1.5 / RATE)
    assert len(burst) / RATE == pytest.approx(two_cycle, abs=1 / RATE)
    # A crackle widens: each half-wave is longer than the one before it.
    assert (np.diff(crossings, prepend=0, append=len(burst)) > 0).all()
    assert (np.diff(np.diff([0, *crossings, len(burst)])) > 0).all()
    spectrum = np.abs(np.fft.rfft(burst, RATE))
    assert spectrum.argmax() == pytest.approx(2 / two_cycle, rel=0.3)
    # Damped: the last quarter holds little of the energy.
    assert (burst[-len(burst) // 4 :] ** 2).sum() < 0.1 * (burst**2).sum()


@pytest.mark.parametrize(
    "kind, shortest, longest", [("fine", 0, 0.010), ("coarse", 0.010, 0.020)]
)
def test_crackles_of_a_breath_are_fine_or_coarse(kind, shortest, longest):
    # So long a breath that the bursts lie apart.
    breath = sounds.crackles(100.0, RATE, rng(), kind, inhale=0.4)
    silent = np.flatnonzero(breath == 0)
    lengths = np.diff(silent)
    bursts = lengths[lengths > 20] / RATE
    assert len(bursts) >= 3
    # CORSA draws the line at a two-cycle duration of 10 ms.
    assert (bursts > shortest - 2 / RATE).all()
    assert (bursts < longest + 2 / RATE).all()
    assert not breath[round(0.41 * len(breath)) :].any()  # inspiration only


def test_wheeze_peaks_at_the_fundamental_and_its_harmonics():
    tone = sounds.wheeze(1.0, RATE, rng(), fundamental=400.0, drift=0.0)
    spectrum = np.abs(np.fft.rfft(tone))  # bins of 1 Hz
    for partial, height in ((1, 1), (2, 1 / 4), (3, 1 / 9)):
        around = spectrum[400 * partial - 100 : 400 * partial + 100]
        assert around.argmax() == 100
        assert around.max() / spectrum.max() == pytest.approx(height, rel=0.05)
    assert spectrum[1500:].max() < 0.01 * spectrum.max()


def test_wheeze_drifts_slowly_and_lasts():
    tone = sounds.wheeze(0.5, RATE, rng(), 400.0, harmonics=1, drift=0.1)
    analytic = hilbert(tone)
    loud = np.abs(analytic) > 0.5
    assert loud.sum() / RATE > 0.1  # CORSA: wheezes last longer than 100 ms
    pitch = np.diff(np.unwrap(np.angle(analytic))) * RATE / (2 * np.pi)
    pitch = pitch[loud[1:]]
    assert pitch.min() > 355 and pitch.max() < 445
    assert np.ptp(pitch) > 10
    # In a tenth of a second it moves by less than a tenth.
    moved = pitch[RATE // 10 :] - pitch[: -RATE // 10]
    assert np.abs(moved).max() < 40


def test_wheeze_does_not_alias():
    tone = sounds.wheeze(1.0, 4000, rng(), fundamental=900.0, drift=0.0)
    spectrum = np.abs(np.fft.rfft(tone))
    assert spectrum[1300] < 1e-2 * spectrum[900]  # where 3 * 900 would fold to


def test_breathing_has_the_published_slopes():
    # The middle half of each phase, as in Gavriely et al. 1995.
    breaths = [sounds.breathing(4.0, RATE, rng(i)) for i in range(5)]
    phases = {"in": (0.5, 1.1, 12.7, 15.2), "out": (1.7, 2.6, 13.4, 20.3)}
    power = {}
    for phase, (start, stop, least, most) in phases.items():
        cut = np.concatenate(
            [b[round(start * RATE) : round(stop * RATE)] for b in breaths]
        )
        power[phase] = cut.var()
        low, high = band_powers(cut, RATE, (380, 420), (760, 840))
        assert least - 1 < decibels(low / high) < most + 1
    assert decibels(power["in"] / power["out"]) > 3
    assert all(not b[round(3.65 * RATE) :].any() for b in breaths)  # the pause


def test_heart_beats_are_low_and_regular():
    beats = sounds.heart_beats(20.0, 4000, rng(), rate=80.0)
    low, high = band_powers(beats, 4000, (20, 100), (200, 2000))
    assert low > 1e3 * high
    envelope = np.abs(beats).reshape(-1, 40).mean(1)  # 100 per second
    envelope -= envelope.mean()
    likeness = np.correlate(envelope, envelope, "full")[len(envelope) - 1 :]
    assert 50 + likeness[50:100].argmax() == pytest.approx(75, abs=5)


@pytest.mark.parametrize("snr", [-5, 0, 3, 30])
def test_noise_is_mixed_at_the_ratio_asked_for(snr):
    lungs = sounds.breathing(2.0, 4000, rng())
    noise = sounds.ambient_noise(2.0, 4000, rng(1))
    added = sounds.mix_at_snr(lungs, noise, snr) - lungs
    ratio = (lungs**2).mean() / (added**2).mean()
    assert decibels(ratio) == pytest.approx(snr, abs=1e-6)
    assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1.0)


def test_band_limit_is_3_db_at_its_edges_and_12_db_per_octave_beyond():
    click = np.zeros(RATE)
    click[0] = 1.0
    gain = 20 * np.log10(
        np.abs(np.fft.rfft(sounds.band_limit(click, RATE, 100, 1000)))
    )
    assert gain[[100, 1000]] == pytest.approx([-3, -3], abs=0.2)
    assert gain[316] == pytest.approx(0, abs=0.1)
    assert gain[2000] - gain[4000] == pytest.approx(12, abs=1)
    assert gain[24] - gain[12] == pytest.approx(12, abs=1)


@settings(max_examples=15, deadline=None)
@given(
    duration=st.floats(0.5, 4.0),
    rate=st.sampled_from([4000, 8000, 16000]),
    kind=st.sampled_from([None, "fine", "coarse"]),
    pitch=st.none() | st.floats(100, 1000),
    seed=st.integers(0, 2**32),
)
def test_any_cycle_is_finite_and_of_its_length(
    duration, rate, kind, pitch, seed
):
    cycle = sounds.lung_cycle(duration, rate, rng(seed), kind, pitch)
    assert cycle.shape == (round(duration * rate),)
    assert np.isfinite(cycle).all() and cycle.any()
    again = sounds.lung_cycle(duration, rate, rng(seed), kind, pitch)
    assert np.array_equal(cycle, again)


# --- corpus -----------------------------------------------------------------


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


def digest(folder):
    """A checksum per file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


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
    with open(folder / "patient_diagnosis.csv", newline="") as file:
        assert {row["ID"] for row in csv.DictReader(file)} == set(sides)
    readme = (folder / "README.txt").read_text()
    assert "demonstration" in readme and "NO SCORE ON IT IS A RESULT" in readme


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
        assert summary["cycles"][side] == dict(zip(names, counts.tolist()))
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
            _, power = welch(breath_out, rate, nperseg=rate // 10)
            # Peaks over what surrounds them, from 140 to 1000 Hz.
            peaks = (power / medfilt(power, 21))[14:100]
            tones[label].append(peaks.max())
    burst = np.array([np.median(values) for values in bursts])
    tone = np.array([np.median(values) for values in tones])
    assert burst[[1, 3]].min() > 1.5 * burst[[0, 2]].max()
    assert decibels(tone[[2, 3]].min() / tone[[0, 1]].max()) > 4


def test_recordings_have_several_noise_levels(corpus):
    folder, _ = corpus
    with open(folder / "generation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["recording"] for row in rows} == set(read_split(folder))
    assert len({row["snr_db"] for row in rows}) >= 3


def test_the_default_corpus_stays_small(corpus):
    folder, _ = corpus
    sizes = sum(path.stat().st_size for path in folder.rglob("*.wav"))
    assert 3 * sizes < 40e6  # three recordings per patient by default


# --- writing ----------------------------------------------------------------


def small(folder, seed=0):
    return generate_icbhi_like(folder, seed=seed, patients=2, recordings=1)


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    (tmp_path / "empty").mkdir()
    small(tmp_path / "empty")
    small(tmp_path / "new" / "nested")
    small(tmp_path / "other", seed=1)
    first, second, other = (
        digest(tmp_path / name) for name in ("empty", "new/nested", "other")
    )
    assert first == second
    sounds_of = [
        {value for path, value in files.items() if path.endswith(".wav")}
        for files in (first, other)
    ]
    assert not sounds_of[0] & sounds_of[1]
    # Over a previous corpus: what stands there is only the new one.
    small(tmp_path / "other")
    assert digest(tmp_path / "other") == first


def test_a_folder_with_other_content_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="new or an empty folder"):
        small(tmp_path)
    with pytest.raises(FileExistsError):
        small(tmp_path / "notes.txt")
    small(tmp_path / "demo")
    (tmp_path / "demo" / "mine.csv").write_text("in a previous corpus")
    before = digest(tmp_path)
    with pytest.raises(FileExistsError):
        small(tmp_path / "demo")
    assert digest(tmp_path) == before


def test_the_real_database_is_refused(tmp_path):
    (tmp_path / "audio_and_txt_files").mkdir()
    (tmp_path / SPLIT).write_text("101_1b1_Al_sc_Meditron\ttest\n")
    with pytest.raises(FileExistsError):
        small(tmp_path)


def test_half_a_corpus_is_never_left(tmp_path, monkeypatch):
    small(tmp_path / "old")
    before = digest(tmp_path)
    write, calls = soundfile.write, []

    def fail_at_the_second(*arguments):
        calls.append(1)
        if len(calls) % 2 == 0:
            raise OSError("No space left on device")
        write(*arguments)

    monkeypatch.setattr(icbhi.soundfile, "write", fail_at_the_second)
    for target in ("new", "old"):
        with pytest.raises(OSError, match="No space left"):
            small(tmp_path / target, seed=1)
    assert digest(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    "wrong", [{"patients": 1}, {"patients": 100}, {"recordings": 0}]
)
def test_impossible_sizes_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="must be"):
        generate_icbhi_like(tmp_path / "demo", **wrong)
    assert not (tmp_path / "demo").exists()


def test_the_command_writes_a_corpus_and_tells_what(tmp_path, capsys):
    folder = tmp_path / "demo"
    main([str(folder), "--seed", "3", "--patients", "2", "--recordings", "1"])
    told = json.loads(capsys.readouterr().out)
    assert told["recordings"] == {"train": 1, "test": 1}
    assert len(read_split(folder)) == 2
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert "not a corpus" in capsys.readouterr().err


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "python -m qlung_plugin.synthetic.icbhi demo_icbhi" in told
    assert "no score on it is a result" in told
