"""Tests of finding ICBHI's files, and of its splits; no audio is opened.

Authors
 * qlung_plugin contributors
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from qlung_plugin.dataio.icbhi import read_corpus
from tests.unittests.dataio.icbhi_files import (
    AUDIO,
    CYCLES,
    FOLDS,
    PEOPLE,
    SIDES,
    SPLIT,
    TEST,
    TRAIN,
    the_warning,
    write_split,
)


def touch_recordings(folder, names, wav=".wav", txt=".txt"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{wav}").touch()
        (folder / f"{name}{txt}").write_text(CYCLES)


@pytest.fixture
def data(tmp_path):
    """A corpus in the layout of the mirror, with the official split."""
    data = tmp_path / "data"
    touch_recordings(data / AUDIO, SIDES)
    write_split(data / SPLIT)
    patients = sorted({name.split("_")[0] for name in SIDES})
    lines = [f"{patient} 3 F NA 19 99\n" for patient in patients]
    (data / PEOPLE).write_text("".join(lines))
    return data


def recordings(cycles):
    return {cycle["recording"] for cycle in cycles}


def patients(cycles, side):
    return {cycle["patient"] for cycle in cycles if cycle["side"] == side}


# Layouts


@pytest.mark.parametrize(
    "audio, split_at",
    [
        ("ICBHI_final_database", SPLIT),
        (
            f"Respiratory_Sound_Database/Respiratory_Sound_Database/{AUDIO}",
            f"Respiratory_Sound_Database/{SPLIT}",
        ),
        ("icbhi_dataset/audio_test_data", "icbhi_dataset/official_split.txt"),
        (".", SPLIT),
        (".", f"../{SPLIT}"),
    ],
)
@pytest.mark.parametrize("wav, txt", [(".wav", ".txt"), (".WAV", ".TXT")])
def test_every_layout_is_found(tmp_path, audio, split_at, wav, txt):
    data = tmp_path / "data"
    touch_recordings(data / audio, SIDES, wav, txt)
    (data / audio / "filename_format.txt").write_text("no annotation")
    write_split(data / split_at)
    cycles, protocol, _ = read_corpus(data)
    assert protocol == "official split"
    assert {c["recording"]: c["side"] for c in cycles} == SIDES
    for cycle in cycles:
        assert cycle["wav"] == data / audio / f"{cycle['recording']}{wav}"
    ids = [cycle["id"] for cycle in cycles]
    assert ids == sorted(f"{name}_{i:03d}" for name in SIDES for i in range(4))


def test_the_mirrors_second_copy_is_ignored_and_reported(data):
    """Behind links to folders, too, and links that go round."""
    copy = data / "Respiratory_Sound_Database" / AUDIO
    touch_recordings(copy, SIDES)
    (data / AUDIO).rename(data.parent / "elsewhere")
    (data / AUDIO).symlink_to(data.parent / "elsewhere")
    (data / AUDIO / "loop").symlink_to(data / AUDIO)
    cycles, _, warnings = read_corpus(data)
    assert recordings(cycles) == set(SIDES)
    assert {cycle["wav"].parent for cycle in cycles} == {data / AUDIO}
    assert f"{copy} repeats {data / AUDIO} and is not read" in warnings


def test_two_different_folders_are_an_error(data):
    (data / "other").mkdir()
    (data / "other" / f"{TEST[0]}.txt").write_text(CYCLES)
    message = f"both {data / AUDIO} and {data / 'other'} hold .*not the same"
    with pytest.raises(ValueError, match=f"{message}.*let annotation_folder"):
        read_corpus(data)
    cycles, _, _ = read_corpus(data, annotation_folder=data / AUDIO)
    assert recordings(cycles) == set(SIDES)
    touch_recordings(data / "other", TRAIN)
    with pytest.raises(ValueError, match=f"{message}.*let data_folder"):
        read_corpus(data)


def test_annotations_may_lie_in_another_folder(data, tmp_path):
    (data / "labels").mkdir()
    for path in (data / AUDIO).glob("*.txt"):
        path.rename(data / "labels" / path.name)

    def read(annotation_folder=None):
        cycles, _, warnings = read_corpus(
            data, annotation_folder=annotation_folder
        )
        assert warnings == []
        return [{**cycle, "where": None} for cycle in cycles]

    expected = read()
    assert recordings(expected) == set(SIDES)
    # Also outside of the data folder, with the split beside them.
    for name in ("labels", SPLIT, PEOPLE):
        (data / name).rename(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="annotation_folder names"):
        read()
    assert read(tmp_path / "labels") == expected
    # What lies beside the audio then is another annotation.
    (data / AUDIO / f"{TEST[0]}.txt").write_text("nothing to read")
    assert read(tmp_path / "labels") == expected


def test_folders_that_cannot_be_read_are_counted(data, monkeypatch):
    locked = data / "lost+found"
    locked.mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    _, _, warnings = read_corpus(data)
    assert str(locked) in the_warning(warnings, "1 folders that cannot be read")
    with pytest.raises(ValueError, match="1 folders that cannot be read"):
        read_corpus(data, strict=True)
    with pytest.raises(PermissionError, match="lost"):
        read_corpus(locked)


@pytest.mark.parametrize(
    "name, words", [("absent", "does not exist"), ("speech", "holds no ICBHI")]
)
def test_a_folder_without_recordings_is_named_with_the_layouts(
    tmp_path, name, words
):
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "hello.wav").touch()
    with pytest.raises(FileNotFoundError, match=f"{name} {words}") as error:
        read_corpus(tmp_path / name)
    assert AUDIO in str(error.value)


def test_the_order_of_the_file_system_does_not_matter(data, monkeypatch):
    for name in TRAIN[:4]:
        (data / AUDIO / f"{name}.wav").unlink()
        (data / AUDIO / f"{name}.txt").write_text("")
    walk = os.walk
    results = []
    for reverse in (False, True):

        def walk_in_order(*arguments, reverse=reverse, **options):
            for folder, subfolders, names in walk(*arguments, **options):
                subfolders.sort(reverse=reverse)
                yield folder, subfolders, sorted(names, reverse=reverse)

        monkeypatch.setattr(os, "walk", walk_in_order)
        results.append(read_corpus(data))
    assert results[0] == results[1]


# Recordings


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (
            lambda audio: (audio / f"{TEST[0]}.txt").unlink(),
            f"1 recordings without annotation: {TEST[0]}",
        ),
        (
            lambda audio: (audio / f"{TEST[0]}.wav").unlink(),
            f"1 annotations without recording: {TEST[0]}",
        ),
        (
            lambda audio: (audio / "cough.wav").touch(),
            "1 wav files not named like ICBHI recordings: cough.wav",
        ),
    ],
)
def test_what_is_odd_is_reported(data, spoil, problem):
    spoil(data / AUDIO)
    cycles, _, warnings = read_corpus(data)
    assert the_warning(warnings, problem)
    usable = recordings(cycle for cycle in cycles if cycle["wav"])
    assert usable == set(SIDES) - {name for name in TEST[:1] if name in problem}
    with pytest.raises(ValueError, match=problem):
        read_corpus(data, strict=True)


def test_an_annotation_without_cycles_is_reported(data):
    (data / AUDIO / f"{TRAIN[0]}.txt").write_text("\n")
    cycles, _, warnings = read_corpus(data)
    assert TRAIN[0] in the_warning(warnings, "1 annotation files hold no cycle")
    assert TRAIN[0] not in recordings(cycles)
    # A name in two letter cases is there twice.
    (data / AUDIO / f"{TRAIN[0]}.TXT").touch()
    with pytest.raises(ValueError, match=f"{TRAIN[0]}.*occurs twice"):
        read_corpus(data)


@pytest.mark.parametrize("name", [SPLIT, f"{AUDIO}/{TEST[0]}.txt"])
def test_what_must_be_read_and_cannot_is_named(data, name):
    """It does not hang."""
    path = data / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path} is no ordinary file"):
        read_corpus(data)


# Demographics


def people(cycles):
    return {cycle["patient"]: (cycle["age"], cycle["sex"]) for cycle in cycles}


def test_ages_where_they_are_known(data):
    (data / PEOPLE).write_text("301 0.75 M NA 9.8 73\n302 NA NA NA NA NA\nx\n")
    cycles, _, warnings = read_corpus(data)
    ages = people(cycles)
    assert ages["301"] == (0.75, "M")
    assert ages["302"] == ages["401"] == (None, None)
    warning = the_warning(warnings, "age and sex are unknown of 9 patients")
    assert "(201, 202, 203, ...); 1 lines are not understood" in warning
    assert f"{data / PEOPLE}:3" in warning
    with pytest.raises(ValueError, match="unknown of 9 patients"):
        read_corpus(data, strict=True)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda path: path.write_text("", "utf-16"), "UTF-16: save it as"),
        (lambda path: path.symlink_to("/dev/zero"), "is no ordinary file"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
    ],
)
def test_demographics_that_cannot_be_read_stop_nothing(data, spoil, message):
    path = data / PEOPLE
    path.unlink()
    absent = "no demographic_info.txt: age and sex are unknown"
    assert read_corpus(data)[2] == [absent]
    spoil(path)
    cycles, _, warnings = read_corpus(data)
    assert message in the_warning(warnings, "age and sex are unknown")
    assert set(people(cycles).values()) == {(None, None)}
    with pytest.raises(ValueError, match=f"age and sex are unknown.*{path}"):
        read_corpus(data, strict=True)


# The official split


def test_the_split_file_can_be_named(data, tmp_path):
    """Or it says where to get it."""
    (data / SPLIT).rename(tmp_path / "elsewhere.txt")
    with pytest.raises(FileNotFoundError, match=f"{SPLIT}.*mirror lacks.*http"):
        read_corpus(data)
    cycles, _, _ = read_corpus(data, split_file=tmp_path / "elsewhere.txt")
    assert {c["recording"]: c["side"] for c in cycles} == SIDES
    with pytest.raises(FileNotFoundError, match="absent.txt does not exist"):
        read_corpus(data, split_file="absent.txt")
    with pytest.raises(ValueError, match="'random', not official or patient_"):
        read_corpus(data, split="random")


def test_what_a_split_leaves_out_is_left_out_and_counted(data):
    """As published splits do in which no patient is on both sides."""
    kept = {n: s for n, s in SIDES.items() if not n.startswith("401")}
    write_split(data / SPLIT, kept)
    cycles, _, warnings = read_corpus(data)
    warning = the_warning(warnings, "2 recordings left out")
    assert str(data / SPLIT) in warning and TEST[2] in warning
    assert recordings(cycles) == set(kept)
    with pytest.raises(ValueError, match="2 recordings left out"):
        read_corpus(data, strict=True)
    write_split(data / SPLIT, {"501_1b1_Al_sc_Meditron": "train"})
    with pytest.raises(ValueError, match="none of the 12 recordings.*their"):
        read_corpus(data)


def test_a_recording_renamed_by_the_organisers_is_recognised(data):
    old = "301_1b1_Tc_mc_AKGC417L"
    for suffix in (".wav", ".txt"):
        path = data / AUDIO / f"{TEST[0]}{suffix}"
        path.rename(data / AUDIO / f"{old}{suffix}")
    cycles, _, warnings = read_corpus(data)
    assert the_warning(warnings, "1 recordings have a name").endswith(old)
    (cycle,) = [c for c in cycles if c["id"] == f"{TEST[0]}_000"]
    assert cycle["recording"] == TEST[0]
    assert cycle["device"] == "Litt3200"
    assert cycle["wav"] == data / AUDIO / f"{old}.wav"
    # Beside its new name it is a duplicate.
    touch_recordings(data / AUDIO, TEST[:1])
    with pytest.raises(ValueError, match=f"{TEST[0]}' occurs twice"):
        read_corpus(data)


def test_an_ambiguous_old_name_is_not_guessed(data):
    touch_recordings(data / AUDIO, ["501_1b1_Al_sc_AKGC417L"])
    new = ["501_1b1_Al_sc_Meditron", "501_1b1_Al_sc_Litt3200"]
    write_split(data / SPLIT, {**SIDES, new[0]: "train", new[1]: "test"})
    with pytest.raises(ValueError, match="AKGC417L.txt: not in .* any of"):
        read_corpus(data)


# The folds by patient


def write_folds(path):
    # 201, 206 in fold 0, 202, 207 in fold 1, ..., and 301, 302, 401 in fold 0.
    folds = {str(201 + i): i % 5 for i in range(8)}
    folds.update({"301": 0, "302": 0, "401": 0})
    lines = [f"{patient} {fold}\n" for patient, fold in folds.items()]
    path.write_text("".join(lines))


def test_published_folds_decide_the_test_side(data, tmp_path):
    (data / SPLIT).unlink()  # not needed
    write_folds(data / FOLDS)
    cycles, protocol, _ = read_corpus(data, "patient_folds", test_fold=1)
    everyone = {name.split("_")[0] for name in SIDES}
    assert patients(cycles, "test") == {"202", "207"}
    assert patients(cycles, "train") == everyone - {"202", "207"}
    assert "fold 1 of 5 in patient_list_foldwise.txt" in protocol
    place = (data / FOLDS).rename(tmp_path / "folds.txt")
    for file in (place, None):  # published, or drawn
        with pytest.raises(ValueError, match="test_fold is 5, not one"):
            read_corpus(data, "patient_folds", test_fold=5, fold_file=file)


def test_drawn_folds_cover_every_patient_once(data):
    tested = Counter()
    for fold in range(5):
        cycles, protocol, _ = read_corpus(
            data, "patient_folds", test_fold=fold, split_seed=7
        )
        assert f"fold {fold} of 5 drawn with seed 7" in protocol
        assert not patients(cycles, "train") & patients(cycles, "test")
        tested.update(patients(cycles, "test"))
    assert tested == Counter({name.split("_")[0] for name in SIDES})


def test_patients_without_fold_are_left_out_and_counted(data):
    (data / FOLDS).write_text("201 0\n202 1\n")
    cycles, _, warnings = read_corpus(data, "patient_folds")
    warning = the_warning(warnings, "9 patients left out that it does not name")
    assert "203, 204, 205, ..." in warning
    assert patients(cycles, "train") == {"202"}
    assert patients(cycles, "test") == {"201"}
    with pytest.raises(ValueError, match="9 patients left out"):
        read_corpus(data, "patient_folds", strict=True)
