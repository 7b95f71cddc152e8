"""Tests of the ICBHI preparation on generated corpora.

Authors
 * qlung_plugin contributors
"""

import json
import logging
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from qlung_plugin.dataio.icbhi_tables import (
    parse_recording_name,
    read_annotation,
    read_demographics,
)
from qlung_plugin.dataio.manifests import read_manifest
from recipes.ICBHI.icbhi_prepare import prepare_icbhi

PARTITIONS = ("train", "valid", "test")
RATE = 4000
# One cycle of each label, one second each.
CYCLES = "0\t1\t0\t0\n1\t2\t1\t0\n2\t3\t0\t1\n3\t4\t1\t1\n"
SPLIT = "ICBHI_challenge_train_test.txt"
AUDIO = "audio_and_txt_files"

# Eight patients on the training side, two on the test side, 401 on both.
TRAIN = [f"{patient}_1b1_Al_sc_Meditron" for patient in range(201, 209)]
TRAIN += ["401_1b1_Al_sc_Meditron"]
TEST = ["301_1b1_Tc_mc_Litt3200", "302_1b1_Tc_mc_Litt3200"]
TEST += ["401_2b1_Al_sc_Meditron"]
SIDES = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(TEST, "test")}


def write_wav(path, seconds=4.0, rate=RATE, channels=1):
    shape = int(seconds * rate), channels
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, shape)
    soundfile.write(path, samples, rate, format="WAV", subtype="PCM_16")


def write_recordings(folder, names, wav=".wav", txt=".txt"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_wav(folder / f"{name}{wav}")
        (folder / f"{name}{txt}").write_text(CYCLES)


def write_split(path, sides=SIDES):
    lines = [f"{name}\t{side}\n" for name, side in sides.items()]
    path.write_text("".join(lines))


def write_demographics(path, names=SIDES):
    patients = sorted({name.split("_")[0] for name in names})
    lines = [f"{patient} 3 F NA 19 99\n" for patient in patients]
    path.write_text("\n" + "".join(lines))


def write_corpus(data, names=SIDES):
    write_recordings(data / AUDIO, names)
    write_split(data / SPLIT)
    write_demographics(data / "demographic_info.txt")


@pytest.fixture
def data(tmp_path):
    """A corpus in the layout of the mirror, with the official split."""
    write_corpus(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results"


def read_manifests(output):
    return {
        name: json.loads((output / f"{name}.json").read_text())
        for name in PARTITIONS
    }


def patients(manifest):
    return {entry["patient"] for entry in manifest.values()}


def the_warning(summary, words):
    """The only warning with these words."""
    (warning,) = [w for w in summary["warnings"] if words in w]
    return warning


# Manifests


def test_manifest_entry_is_as_worked_by_hand(tmp_path, output):
    folder = tmp_path / "data"
    folder.mkdir()
    name = "101_1b1_Al_sc_Meditron"
    write_wav(folder / f"{name}.wav", seconds=2.5, rate=10000)
    (folder / f"{name}.txt").write_text(
        "0.03607\t0.57912\t0\t0\n0.57912 2.45 0 1\n"
    )
    write_split(folder / SPLIT, {name: "test"})
    (folder / "demographic_info.txt").write_text("\n101 3 F NA 19 99\n")
    prepare_icbhi(folder, output, valid_fraction=0)
    manifests = read_manifests(output)
    assert manifests["train"] == manifests["valid"] == {}
    shared = {
        "sample_rate": 10000,
        "patient": "101",
        "recording": name,
        "device": "Meditron",
        "age": 3.0,
        "sex": "F",
        "location": "Al",
    }
    file = f"{{data_root}}/{name}.wav"
    assert manifests["test"] == {
        f"{name}_000": {
            "wav": {"file": file, "start": 361, "stop": 5791},
            "duration": 0.543,
            "label": "normal",
            **shared,
        },
        f"{name}_001": {
            "wav": {"file": file, "start": 5791, "stop": 24500},
            "duration": 1.8709,
            "label": "wheeze",
            **shared,
        },
    }


def test_speechbrain_reads_the_cycle_that_the_entry_names(data, output):
    from speechbrain.dataio.dataio import read_audio
    from speechbrain.dataio.dataset import DynamicItemDataset

    ramp = np.arange(4 * RATE, dtype=np.int16)
    soundfile.write(data / AUDIO / f"{TEST[0]}.wav", ramp, RATE)
    prepare_icbhi(data, output)
    dataset = DynamicItemDataset.from_json(
        str(output / "test.json"), replacements={"data_root": str(data)}
    )
    dataset.add_dynamic_item(read_audio, takes="wav", provides="signal")
    dataset.set_output_keys(["id", "signal", "label"])
    cycle = dataset[1]
    assert (cycle["id"], cycle["label"]) == (f"{TEST[0]}_001", "crackle")
    samples = (cycle["signal"] * 2**15).round().int().tolist()
    assert samples == list(range(4000, 8000))


def test_summary_counts_and_names_the_protocol(data, output, caplog):
    with caplog.at_level(logging.INFO):
        summary = prepare_icbhi(data, output, valid_fraction=0)
    # 9 and 3 recordings of four cycles, one of each label.
    assert summary == {
        # Its patients are 101 to 226: a result on others is not one on ICBHI.
        "database": "recordings in ICBHI's layout that are not ICBHI 2017's",
        "recordings": 12,
        "recordings_published": 920,
        "subset": None,
        "split": "official",
        "protocol": "official split, no validation (the whole training side "
        "is trained on)",
        "patients_on_both_sides": ["401"],
        "partitions": {
            name: {
                "recordings": n_recordings,
                "patients": n_recordings,
                "cycles": 4 * n_recordings,
                "counts": dict.fromkeys(
                    ("normal", "crackle", "wheeze", "both"), n_recordings
                ),
            }
            for name, n_recordings in (("train", 9), ("valid", 0), ("test", 3))
        },
        "warnings": [],
    }
    assert json.loads((output / "icbhi.json").read_text()) == summary
    assert "12 recordings" in caplog.text
    assert "both sides of the split: 401" in caplog.text
    assert "'crackle': 9" in caplog.text


def test_ids_are_sorted_and_unique_over_partitions(data, output):
    # As ids, "..._Litt3200_000" comes before "..._Litt_000".
    names = {**SIDES, "302_1b1_Tc_mc_Litt": "test"}
    write_recordings(data / AUDIO, names)
    write_split(data / SPLIT, names)
    prepare_icbhi(data, output)
    ids = [list(manifest) for manifest in read_manifests(output).values()]
    assert all(part == sorted(part) for part in ids)
    expected = {f"{name}_{index:03d}" for name in names for index in range(4)}
    assert Counter(sum(ids, [])) == Counter(expected)


def test_skip_prep_returns_the_earlier_summary(data, output):
    summary = prepare_icbhi(data, output, valid_fold=3)
    assert prepare_icbhi("absent", output, skip_prep=True) == summary


def test_skip_prep_names_the_missing_manifests(data, output):
    prepare_icbhi(data, output)
    (output / "valid.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks valid\.json$"):
        prepare_icbhi(data, output, skip_prep=True)


@pytest.mark.parametrize("below", ["", "manifests", "audio_and_txt_files/a"])
def test_nothing_is_written_into_the_data_folder(data, tmp_path, below):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="lies in the data folder"):
        prepare_icbhi(data, data / below)
    link = tmp_path / "link"
    link.symlink_to(data)
    with pytest.raises(ValueError, match="lies in the data folder"):
        prepare_icbhi(data, link / below)
    link.unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_write_leaves_the_old_manifest(
    data, output, monkeypatch
):
    prepare_icbhi(data, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def write_half(path, text, **_):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="disk full"):
        prepare_icbhi(data, output, valid_fold=1)
    assert {p.name: p.read_bytes() for p in output.iterdir()} == before


def test_a_reader_of_the_old_manifest_is_not_disturbed(data, output):
    prepare_icbhi(data, output)
    before = read_manifests(output)["train"]
    with open(output / "train.json") as old:
        prepare_icbhi(data, output, valid_fold=1)
        assert json.load(old) == before
    assert read_manifests(output)["train"] != before


def test_what_is_no_manifest_is_refused(data, output):
    prepare_icbhi(data, output)
    path = output / "test.json"
    expected = read_manifest(path, data)
    assert expected.keys() == read_manifests(output)["test"].keys()
    text = path.read_text()
    for content in ("[]", "{}{}", '{"a": 1}', text[:-3] + "," + text[2:]):
        path.write_text(content)
        with pytest.raises(ValueError, match=str(path)):
            read_manifest(path, data)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is no ordinary file"):
        read_manifest(path, data)
    (output / "icbhi.json").unlink()
    os.mkfifo(output / "icbhi.json")
    with pytest.raises(ValueError, match="icbhi.json is no ordinary file"):
        prepare_icbhi(data, output, skip_prep=True)


def test_braces_in_a_path_are_refused(data, output):
    (data / "{x}").mkdir()
    (data / AUDIO).rename(data / "{x}" / AUDIO)
    with pytest.raises(ValueError, match=r"{x}.* without {}"):
        prepare_icbhi(data, output)
    assert not output.exists()


# Layouts


@pytest.mark.parametrize(
    "audio, split_at",
    [
        ("ICBHI_final_database", SPLIT),
        (AUDIO, SPLIT),
        (f"Respiratory_Sound_Database/{AUDIO}", SPLIT),
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
def test_every_layout_is_found(tmp_path, output, audio, split_at, wav, txt):
    data = tmp_path / "data"
    write_recordings(data / audio, SIDES, wav, txt)
    (data / audio / "filename_format.txt").write_text("no annotation")
    write_split(data / split_at)
    summary = prepare_icbhi(data, output)
    assert summary["recordings"] == 12
    for manifest in read_manifests(output).values():
        for entry in manifest.values():
            file = entry["wav"]["file"].format(data_root=data)
            assert soundfile.info(file).frames == 4 * RATE


def test_the_mirrors_second_copy_is_ignored_and_reported(data, output):
    copy = data / "Respiratory_Sound_Database" / AUDIO
    write_recordings(copy, SIDES)
    summary = prepare_icbhi(data, output)
    assert summary["recordings"] == 12
    warning = the_warning(summary, "repeats")
    assert str(copy) in warning and str(data / AUDIO) in warning
    files = [e["wav"]["file"] for e in read_manifests(output)["test"].values()]
    assert files[0] == f"{{data_root}}/{AUDIO}/{TEST[0]}.wav"


def test_two_different_folders_of_recordings_are_an_error(data, output):
    write_recordings(data / "other", TRAIN)
    with pytest.raises(ValueError, match="not the same ones") as error:
        prepare_icbhi(data, output)
    assert str(data / AUDIO) in str(error.value)
    assert str(data / "other") in str(error.value)


def test_annotations_may_lie_in_another_folder(data, output, tmp_path):
    (data / "labels").mkdir()
    for path in (data / AUDIO).glob("*.txt"):
        path.rename(data / "labels" / path.name)
    summary = prepare_icbhi(data, output)
    manifests = read_manifests(output)
    assert summary["recordings"] == 12 and summary["warnings"] == []
    # Also outside of the data folder, with the split beside them.
    for name in ("labels", SPLIT, "demographic_info.txt"):
        (data / name).rename(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="annotation_folder names"):
        prepare_icbhi(data, output)
    again = prepare_icbhi(data, output, annotation_folder=tmp_path / "labels")
    assert again == summary
    assert read_manifests(output) == manifests
    # What lies beside the audio then is another annotation.
    (data / AUDIO / f"{TEST[0]}.txt").write_text("nothing to read")
    again = prepare_icbhi(data, output, annotation_folder=tmp_path / "labels")
    assert again == summary
    with pytest.raises(ValueError, match="lies in the data folder .*labels"):
        prepare_icbhi(
            data,
            tmp_path / "labels" / "manifests",
            annotation_folder=tmp_path / "labels",
        )


def test_two_different_folders_of_annotations_are_an_error(data, output):
    (data / "other").mkdir()
    (data / "other" / f"{TEST[0]}.txt").write_text(CYCLES)
    with pytest.raises(ValueError, match="let annotation_folder point at one"):
        prepare_icbhi(data, output)
    folder = data / AUDIO
    summary = prepare_icbhi(data, output, annotation_folder=folder)
    assert summary["recordings"] == 12


def test_folders_that_cannot_be_read_are_counted(data, output, monkeypatch):
    locked = data / "lost+found"
    locked.mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    summary = prepare_icbhi(data, output)
    assert str(locked) in the_warning(summary, "1 folders that cannot be read")
    with pytest.raises(ValueError, match="1 folders that cannot be read"):
        prepare_icbhi(data, output, strict=True)
    with pytest.raises(PermissionError, match="lost"):
        prepare_icbhi(locked, output)


def test_linked_folders_are_read(data, output, tmp_path):
    (data / AUDIO).rename(tmp_path / "elsewhere")
    (data / AUDIO).symlink_to(tmp_path / "elsewhere")
    (data / "loop").symlink_to(data)
    summary = prepare_icbhi(data, output)
    assert summary["recordings"] == 12


def test_a_missing_data_folder_is_named_with_the_layouts(tmp_path, output):
    with pytest.raises(FileNotFoundError, match="does not exist") as error:
        prepare_icbhi(tmp_path / "absent", output)
    assert str(tmp_path / "absent") in str(error.value)
    assert "ICBHI_final_database" in str(error.value)


def test_a_folder_without_recordings_is_named_with_the_layouts(
    tmp_path, output
):
    (tmp_path / "speech").mkdir()
    write_wav(tmp_path / "speech" / "hello.wav")
    with pytest.raises(FileNotFoundError, match="holds no ICBHI") as error:
        prepare_icbhi(tmp_path / "speech", output)
    assert str(tmp_path / "speech") in str(error.value)
    assert "audio_and_txt_files" in str(error.value)


def test_the_order_of_the_file_system_does_not_matter(
    data, output, monkeypatch
):
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
        summary = prepare_icbhi(data, output, valid_fraction=0.25)
        results.append((summary, read_manifests(output)))
    assert results[0] == results[1]


# Recordings and their names


def test_a_recording_name_has_five_parts():
    assert parse_recording_name("226_1b1_Pl_mc_LittC2SE") == {
        "patient": "226",
        "index": "1b1",
        "location": "Pl",
        "mode": "mc",
        "device": "LittC2SE",
    }


@pytest.mark.parametrize(
    "name",
    [
        "",
        "filename_format",
        "226_1b1_Pl_mc",
        "226_1b1_Pl_xc_LittC2SE",
        "226_1b1_Pl_mc_LittC2SE.wav",
        "._226_1b1_Pl_mc_LittC2SE",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        parse_recording_name(name)


def test_a_name_in_two_cases_is_a_duplicate(data, output):
    double = data / AUDIO / f"{TRAIN[0]}.WAV"
    if double.exists():
        pytest.skip("this file system does not tell .wav from .WAV")
    write_wav(double)
    with pytest.raises(ValueError, match=f"{TRAIN[0]}.*occurs twice"):
        prepare_icbhi(data, output)


@pytest.mark.parametrize(
    "suffix, problem",
    [
        (".txt", "1 recordings without annotation"),
        (".wav", "1 annotations without recording"),
    ],
)
def test_a_missing_half_is_reported(data, output, suffix, problem):
    (data / AUDIO / f"{TEST[0]}{suffix}").unlink()
    summary = prepare_icbhi(data, output)
    assert TEST[0] in the_warning(summary, problem)
    assert summary["recordings"] == 11
    with pytest.raises(ValueError, match=problem):
        prepare_icbhi(data, output, strict=True)


def test_a_wav_with_another_name_is_reported(data, output):
    write_wav(data / AUDIO / "cough.wav")
    summary = prepare_icbhi(data, output)
    assert "cough.wav" in the_warning(summary, "1 wav files not named like")


def test_no_usable_recording_is_an_error(data, output):
    for path in (data / AUDIO).glob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match="no recording has a usable cycle"):
        prepare_icbhi(data, output)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"RIFF" + bytes(100)]
)
def test_an_unreadable_wav_is_named(data, output, content):
    wav = data / AUDIO / f"{TRAIN[3]}.wav"
    wav.write_bytes(content)
    with pytest.raises(ValueError, match=f"{wav} is not readable as audio"):
        prepare_icbhi(data, output)


@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_a_wav_that_is_no_file_is_named(data, output, target):
    wav = data / AUDIO / f"{TRAIN[3]}.wav"
    wav.unlink()
    wav.symlink_to(target) if target else os.mkfifo(wav)
    with pytest.raises(FileNotFoundError, match=f"{wav} is no file"):
        prepare_icbhi(data, output)


def test_a_wav_that_was_cut_off_in_its_header_is_named(data, output):
    wav = data / AUDIO / f"{TRAIN[3]}.wav"
    wav.write_bytes(wav.read_bytes()[:44])
    with pytest.raises(ValueError, match=f"{wav} holds no sample"):
        prepare_icbhi(data, output)


def test_a_stereo_wav_is_named(data, output):
    wav = data / AUDIO / f"{TRAIN[3]}.wav"
    write_wav(wav, channels=2)
    with pytest.raises(ValueError, match=f"{wav}: 2 channels, mix down"):
        prepare_icbhi(data, output)


# Annotations


def test_the_label_is_crackle_plus_twice_wheeze(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(CYCLES)
    assert read_annotation(path) == [
        (f"{path}:1", 0.0, 1.0, "normal"),
        (f"{path}:2", 1.0, 2.0, "crackle"),
        (f"{path}:3", 2.0, 3.0, "wheeze"),
        (f"{path}:4", 3.0, 4.0, "both"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"0.5 1.5 1 0\n",
        b"\n  \n0.5\t1.5\t1\t0",
        b"0.5\t1.5\t1\t0\r\n\r\n",
        b"\xef\xbb\xbf0.5\t1.5\t1\t0\n",
    ],
)
def test_blank_lines_and_line_ends_do_not_matter(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    ((_, *cycle),) = read_annotation(path)
    assert cycle == [0.5, 1.5, "crackle"]


@pytest.mark.parametrize(
    "line",
    [
        "0.5 1.5 1",
        "0.5 1.5 1 0 0",
        "start end crackle wheeze",
        "0,5 1,5 1 0",
        "0.5 1.5 2 0",
        "0.5 1.5 1 -1",
        "0.5 1.5 yes no",
        "-0.5 1.5 0 0",
        "nan 1.5 0 0",
        "0.5 inf 0 0",
        "0.5 1.5 0 \u00b9",
        "0.5 1_0.5 0 0",
        "0.5 \uff11.5 0 0",  # a full-width digit
    ],
)
def test_a_malformed_annotation_is_named_by_file_and_line(data, output, line):
    path = data / AUDIO / f"{TRAIN[2]}.txt"
    path.write_text(f"0 0.5 0 0\n\n{line}\n0.5 1 0 0\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{path}:3: "):
        prepare_icbhi(data, output)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["0", "1", "2", "-1", "1e9", "1e999", "nan", "x"])
            | st.text(max_size=4),
            max_size=6,
        ).map(" ".join),
        max_size=4,
    )
)
def test_any_annotation_is_read_or_refused_by_line(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        cycles = read_annotation(path)
    except ValueError as error:
        assert re.match(rf"{re.escape(str(path))}:\d+: ", str(error))
    else:
        for _, start, end, label in cycles:
            assert 0 <= start < np.inf and 0 <= end < np.inf
            assert label in ("normal", "crackle", "wheeze", "both")


def test_an_annotation_without_cycles_is_reported(data, output):
    (data / AUDIO / f"{TRAIN[0]}.txt").write_text("\n")
    summary = prepare_icbhi(data, output, valid_fraction=0)
    assert TRAIN[0] in the_warning(summary, "1 annotation files hold no cycle")
    assert summary["partitions"]["train"]["recordings"] == 8


def test_a_cycle_past_the_end_is_clipped_and_reported(data, output):
    (data / AUDIO / f"{TEST[0]}.txt").write_text("1 4.002 0 0\n2 4.0001 0 0\n")
    (data / AUDIO / f"{TEST[1]}.txt").write_text("3 4.1234 1 0\n")
    summary = prepare_icbhi(data, output)
    # 0.0001 s are less than half a sample at 4 kHz: nothing is lost.
    warning = the_warning(summary, "clipped")
    assert warning.startswith("2 cycles") and "123.4 ms" in warning
    assert f"{TEST[1]}.txt:1" in warning
    test = read_manifests(output)["test"]
    assert test[f"{TEST[0]}_000"]["wav"]["stop"] == 4 * RATE
    assert test[f"{TEST[0]}_000"]["duration"] == 3.0
    assert test[f"{TEST[1]}_000"]["duration"] == 1.0


def test_cycles_without_length_are_left_out_and_reported(data, output):
    path = data / AUDIO / f"{TEST[0]}.txt"
    lines = [
        "0 1 0 0",
        "1 1 0 0",  # no length
        "2 1 0 0",  # ends before it starts
        "1 1.0001 0 0",  # less than half a sample
        "4 5 0 0",  # starts at the end
        "9 1e300 0 0",  # starts past the end
        "1 2 1 0",
    ]
    path.write_text("\n".join(lines))
    summary = prepare_icbhi(data, output)
    warning = the_warning(summary, "left out")
    assert warning.startswith("5 cycles") and f"{path}:2" in warning
    assert not any("clipped" in w for w in summary["warnings"])
    ids = [i for i in read_manifests(output)["test"] if i.startswith(TEST[0])]
    # The index is the annotation's, so an id never changes its cycle.
    assert ids == [f"{TEST[0]}_000", f"{TEST[0]}_006"]


def test_a_stretch_that_is_annotated_twice_is_there_once(data, output):
    path = data / AUDIO / f"{TEST[0]}.txt"
    path.write_text("0 1 0 0\n0 2 0 0\n0 1 0 0\n1 2 0 1\n0 1.0001 0 0\n")
    summary = prepare_icbhi(data, output)
    warning = the_warning(summary, "2 cycles left out, being a stretch that")
    assert f"{path}:3, {path}:5" in warning
    ids = [i for i in read_manifests(output)["test"] if i.startswith(TEST[0])]
    assert ids == [f"{TEST[0]}_{index:03d}" for index in (0, 1, 3)]
    with pytest.raises(ValueError, match="2 cycles left out, being a stretch"):
        prepare_icbhi(data, output, strict=True)


def test_a_stretch_with_two_labels_has_none(data, output):
    path = data / AUDIO / f"{TEST[0]}.txt"
    path.write_text("0 1 0 0\n1 2 0 0\n0 1 1 0\n")
    summary = prepare_icbhi(data, output)
    assert f"{path}:1" in the_warning(summary, "1 cycles left out, whose")
    assert f"{path}:3" in the_warning(summary, "1 cycles left out, being")
    ids = [i for i in read_manifests(output)["test"] if i.startswith(TEST[0])]
    assert ids == [f"{TEST[0]}_001"]


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_recordings_without_sound_are_left_out(data, output, value):
    wav = data / AUDIO / f"{TEST[0]}.wav"
    soundfile.write(wav, np.full(4 * RATE, value), RATE)
    summary = prepare_icbhi(data, output)
    assert str(wav) in the_warning(summary, "1 recordings without sound")
    assert the_warning(summary, "4 cycles left out, their recordings being")
    assert summary["recordings"] == 11
    found = read_manifests(output)["test"]
    assert not any(cycle.startswith(TEST[0]) for cycle in found)
    with pytest.raises(ValueError, match="1 recordings without sound"):
        prepare_icbhi(data, output, strict=True)
    # A sound somewhere is enough.
    samples = np.full(30 * RATE, value)
    samples[-1] = 0.5
    soundfile.write(wav, samples, RATE)
    assert prepare_icbhi(data, output)["warnings"] == []


def test_truncated_recordings_are_counted(data, output):
    """Of what they still hold, the cycles are used."""
    wav = data / AUDIO / f"{TEST[0]}.wav"
    content = wav.read_bytes()
    wav.write_bytes(content[: 44 + 2 * round(2.5 * RATE)])
    summary = prepare_icbhi(data, output)
    warning = the_warning(summary, "1 recordings truncated, shorter than")
    assert f"{wav} (2.5 of 4 s)" in warning
    assert the_warning(summary, "1 cycles clipped")
    assert the_warning(summary, "1 cycles left out")
    ids = [i for i in read_manifests(output)["test"] if i.startswith(TEST[0])]
    assert len(ids) == 3
    with pytest.raises(ValueError, match="1 recordings truncated"):
        prepare_icbhi(data, output, strict=True)
    wav.write_bytes(content[:-2])  # as of times that were rounded
    summary = prepare_icbhi(data, output)
    assert not any("their header" in w for w in summary["warnings"])


# Demographics


def test_missing_demographics_are_reported(data, output):
    (data / "demographic_info.txt").unlink()
    summary = prepare_icbhi(data, output)
    assert the_warning(summary, "no demographic_info.txt")
    for entry in read_manifests(output)["test"].values():
        assert entry["age"] is None and entry["sex"] is None


def test_unknown_demographics_are_null(data, output):
    (data / "demographic_info.txt").write_text(
        "301 0.75 M NA 9.8 73\n302 NA NA NA NA NA\n"
    )
    prepare_icbhi(data, output)
    test = read_manifests(output)["test"]
    ages = {e["patient"]: (e["age"], e["sex"]) for e in test.values()}
    assert ages == {
        "301": (0.75, "M"),
        "302": (None, None),
        "401": (None, None),
    }


@pytest.mark.parametrize(
    "content",
    [
        "301 0.75 M NA 9.8 73\n302 NA f NA NA NA\n",
        "\r\n301\t0.75\tM\tNA\t9.8\t73\r\n302\tNULL\tF\tNA\tNA\tNA\r\n",
        "Patient_number,Age,Sex,BMI,Weight,Height\n301,0.75,M,,,\n302,,F,,,\n",
        "patient;age;sex\n301;0,75;male\n302;?;female\n",
        ",subject,gender,age\n0,301,M,0.75\n1,302,F,n/a\n",
        "301 0.75 M NA 9.8 73 URTI\n302 NA F NA NA NA Healthy\n",
        '"Patient","Age","Sex"\n"301","0.75","M"\n"302","-","F"\n',
        "Patient number Age Sex\n301 0.75 M\n302 nan F\n301 0.75 M\n",
    ],
)
def test_demographics_as_they_go_round(tmp_path, content):
    path = tmp_path / "demographic_info.txt"
    path.write_bytes(content.encode())
    people, odd = read_demographics(path)
    assert odd == []
    assert people == {
        "301": {"age": 0.75, "sex": "M"},
        "302": {"age": None, "sex": "F"},
    }


@pytest.mark.parametrize(
    "line",
    [
        "302 3",
        "302 old F NA 19 99",
        "302 -3 F NA 19 99",
        "302 1_0 F NA 19 99",
        "302 3 X NA 19 99",
        "0 302 3 F NA 19 99",  # a column before
        "x302 3 F",
    ],
)
def test_lines_of_demographics_that_are_not_understood(data, output, line):
    path = data / "demographic_info.txt"
    path.write_text(f"\n301 3 F NA 19 99\n{line}\n301 4 F NA 19 99\n401 5 M\n")
    summary = prepare_icbhi(data, output)
    test = read_manifests(output)["test"]
    ages = {entry["patient"]: entry["age"] for entry in test.values()}
    assert ages == {"301": 3.0, "302": None, "401": 5.0}
    warning = the_warning(summary, "age and sex are unknown of 9 patients")
    assert f"(201, 202, 203, ...); 2 lines are not understood ({path}:3, " in (
        warning
    )
    with pytest.raises(ValueError, match="unknown of 9 patients"):
        prepare_icbhi(data, output, strict=True)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda path: path.write_text("", "utf-16"),
            "UTF-16: save it as UTF-8",
        ),
        (os.mkfifo, "is no ordinary file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no ordinary file"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (Path.mkdir, "is no ordinary file"),
    ],
)
def test_demographics_that_cannot_be_read_stop_nothing(
    data, output, spoil, message
):
    path = data / "demographic_info.txt"
    path.unlink()
    spoil(path)
    summary = prepare_icbhi(data, output)
    warning = the_warning(summary, "age and sex are unknown")
    assert message in warning and str(path) in warning
    assert summary["recordings"] == 12
    with pytest.raises(ValueError, match="age and sex are unknown"):
        prepare_icbhi(data, output, strict=True)


@pytest.mark.parametrize("name", [SPLIT, f"{AUDIO}/{TEST[0]}.txt"])
@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_what_must_be_read_and_is_no_file_is_named(data, output, name, target):
    """Neither does it hang nor fill the memory."""
    path = data / name
    path.unlink()
    if target is None:
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    with pytest.raises(ValueError, match=f"{path} is no ordinary file"):
        prepare_icbhi(data, output)


@pytest.mark.parametrize("name", [SPLIT, f"{AUDIO}/{TEST[0]}.txt"])
def test_a_text_in_utf16_is_called_so(data, output, name):
    path = data / name
    path.write_text(path.read_text(), encoding="utf-16")
    with pytest.raises(ValueError, match=f"{path} is in UTF-16: save it as"):
        prepare_icbhi(data, output)


# The official split


def test_a_missing_split_says_where_to_get_it(data, output):
    (data / SPLIT).unlink()
    with pytest.raises(FileNotFoundError, match="mirror lacks") as error:
        prepare_icbhi(data, output)
    assert "https://bhichallenge.med.auth.gr" in str(error.value)
    assert SPLIT in str(error.value)


def test_the_split_file_can_be_named(data, output, tmp_path):
    (data / SPLIT).rename(tmp_path / "elsewhere.txt")
    summary = prepare_icbhi(
        data, output, split_file=str(tmp_path / "elsewhere.txt")
    )
    assert summary["partitions"]["test"]["recordings"] == 3
    with pytest.raises(FileNotFoundError, match="absent.txt does not exist"):
        prepare_icbhi(data, output, split_file="absent.txt")


@pytest.mark.parametrize(
    "line",
    [
        TRAIN[1],
        f"{TRAIN[1]} train test",
        f"{TRAIN[1]} validation",
        "recording side",
        f"{TRAIN[1]}.wav train",
        f"{TRAIN[0]} test",  # again
    ],
)
def test_a_malformed_split_is_named_by_line(data, output, line):
    path = data / SPLIT
    path.write_text(f"{TRAIN[0]}\ttrain\n\n{line}\n")
    with pytest.raises(ValueError, match=f"^{path}:3: "):
        prepare_icbhi(data, output)


def test_what_a_split_leaves_out_is_left_out_and_counted(data, output):
    """As published splits do in which no patient is on both sides."""
    kept = {n: s for n, s in SIDES.items() if not n.startswith("401")}
    write_split(data / SPLIT, kept)
    summary = prepare_icbhi(data, output)
    warning = the_warning(summary, "2 recordings left out")
    assert str(data / SPLIT) in warning and TEST[2] in warning
    found = sum(map(list, read_manifests(output).values()), [])
    assert {cycle.rpartition("_")[0] for cycle in found} == set(kept)
    assert summary["recordings"] == 10
    with pytest.raises(ValueError, match="2 recordings left out"):
        prepare_icbhi(data, output, strict=True)


def test_a_split_of_other_recordings_is_an_error(data, output):
    write_split(data / SPLIT, {"501_1b1_Al_sc_Meditron": "train"})
    with pytest.raises(ValueError, match="none of the 12 recordings.*their"):
        prepare_icbhi(data, output)


def test_a_recording_renamed_by_the_organisers_is_recognised(data, output):
    old = "301_1b1_Tc_mc_AKGC417L"
    for suffix in (".wav", ".txt"):
        path = data / AUDIO / f"{TEST[0]}{suffix}"
        path.rename(data / AUDIO / f"{old}{suffix}")
    summary = prepare_icbhi(data, output)
    assert the_warning(summary, "1 recordings have a name").endswith(old)
    entry = read_manifests(output)["test"][f"{TEST[0]}_000"]
    assert entry["recording"] == TEST[0]
    assert entry["device"] == "Litt3200"
    assert entry["wav"]["file"] == f"{{data_root}}/{AUDIO}/{old}.wav"


def test_a_renamed_recording_beside_its_new_name_is_a_duplicate(data, output):
    write_recordings(data / AUDIO, ["301_1b1_Tc_mc_AKGC417L"])
    with pytest.raises(ValueError, match=f"{TEST[0]}' occurs twice"):
        prepare_icbhi(data, output)


def test_an_ambiguous_old_name_is_not_guessed(data, output):
    write_recordings(data / AUDIO, ["501_1b1_Al_sc_AKGC417L"])
    new = ["501_1b1_Al_sc_Meditron", "501_1b1_Al_sc_Litt3200"]
    write_split(data / SPLIT, {**SIDES, new[0]: "train", new[1]: "test"})
    with pytest.raises(ValueError, match="AKGC417L.txt: not in .* any of"):
        prepare_icbhi(data, output)


def test_an_empty_side_is_reported(tmp_path, output):
    write_corpus(tmp_path / "data", TEST)
    summary = prepare_icbhi(tmp_path / "data", output, valid_fraction=0)
    assert the_warning(summary, "train side")


def test_an_unknown_split_is_refused(data, output):
    with pytest.raises(ValueError, match="'random', not official or patient_"):
        prepare_icbhi(data, output, split="random")


# The folds by patient


def write_folds(path, extra=""):
    # 201, 206 in fold 0, 202, 207 in fold 1, ..., and 301, 302, 401 in fold 0.
    folds = {str(201 + i): i % 5 for i in range(8)}
    folds.update({"301": 0, "302": 0, "401": 0})
    lines = [f"{patient} {fold}\n" for patient, fold in folds.items()]
    path.write_text("".join(lines) + extra)


def test_published_folds_decide_the_test_side(data, output):
    (data / SPLIT).unlink()  # not needed
    write_folds(data / "patient_list_foldwise.txt")
    summary = prepare_icbhi(
        data, output, split="patient_folds", test_fold=1, valid_fraction=0
    )
    manifests = read_manifests(output)
    assert patients(manifests["test"]) == {"202", "207"}
    everyone = {name.split("_")[0] for name in SIDES}
    assert patients(manifests["train"]) == everyone - {"202", "207"}
    assert summary["split"] == "patient_folds"
    assert summary["patients_on_both_sides"] == []
    assert "fold 1 of 5 in patient_list_foldwise.txt" in summary["protocol"]


def test_the_fold_file_can_be_named(data, output, tmp_path):
    write_folds(tmp_path / "folds.txt")
    prepare_icbhi(
        data,
        output,
        split="patient_folds",
        test_fold=2,
        fold_file=str(tmp_path / "folds.txt"),
    )
    assert patients(read_manifests(output)["test"]) == {"203", "208"}


def test_drawn_folds_cover_every_patient_once(data, output):
    tested = Counter()
    for fold in range(5):
        summary = prepare_icbhi(
            data, output, split="patient_folds", test_fold=fold, split_seed=7
        )
        assert f"fold {fold} of 5 drawn with seed 7" in summary["protocol"]
        manifests = read_manifests(output)
        sides = [patients(manifests[name]) for name in PARTITIONS]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 11
        tested.update(sides[-1])
    assert tested == Counter({name.split("_")[0] for name in SIDES})


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_out_of_range_is_refused(data, output, published, fold):
    if published:
        write_folds(data / "patient_list_foldwise.txt")
    with pytest.raises(ValueError, match=f"test_fold is {fold}, not one of"):
        prepare_icbhi(data, output, split="patient_folds", test_fold=fold)


@pytest.mark.parametrize("line", ["999", "999 0 1", "999 x", "999 -1", "201 0"])
def test_malformed_folds_are_named_by_line(data, output, line):
    path = data / "patient_list_foldwise.txt"
    write_folds(path, extra=line + "\n")
    with pytest.raises(ValueError, match=f"^{path}:12: "):
        prepare_icbhi(data, output, split="patient_folds")


def test_patients_without_fold_are_left_out_and_counted(data, output):
    path = data / "patient_list_foldwise.txt"
    path.write_text("201 0\n202 1\n")
    options = dict(split="patient_folds", valid_fraction=0)
    summary = prepare_icbhi(data, output, **options)
    warning = the_warning(summary, "9 patients left out that it does not name")
    assert "203, 204, 205, ..." in warning
    assert summary["partitions"]["train"]["patients"] == 1
    assert summary["partitions"]["test"]["patients"] == 1
    with pytest.raises(ValueError, match="9 patients left out"):
        prepare_icbhi(data, output, strict=True, **options)


# Validation


def test_the_validation_folds_cover_the_eligible_patients_once(data, output):
    held_out = Counter()
    for fold in range(4):
        summary = prepare_icbhi(
            data, output, valid_fraction=0.25, valid_fold=fold
        )
        assert summary["protocol"] == (
            f"official split, validation on fold {fold} of 4 of the training "
            "patients (split seed 0)"
        )
        valid = read_manifests(output)["valid"]
        # Eight like patients in four folds.
        assert len(patients(valid)) == 2 and len(valid) == 8
        held_out.update(patients(valid))
    assert held_out == Counter(str(patient) for patient in range(201, 209))


def test_validation_is_stratified_by_label(tmp_path, output):
    """Crackles occur in every other patient only; each fold gets its share."""
    data = tmp_path / "data"
    write_corpus(data)
    for index, name in enumerate(TRAIN[:8]):
        flag = index % 2
        path = data / AUDIO / f"{name}.txt"
        path.write_text(f"0 1 {flag} 0\n1 2 {flag} 0\n2 3 {flag} 0\n")
    for seed in range(5):
        summary = prepare_icbhi(
            data, output, valid_fraction=0.25, split_seed=seed
        )
        counts = summary["partitions"]["valid"]["counts"]
        assert counts == {"normal": 3, "crackle": 3, "wheeze": 0, "both": 0}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Patients with one to three recordings, some on both sides."""
    data = tmp_path_factory.mktemp("uneven")
    sides = {}
    for patient in range(101, 121):
        for index in range(1 + patient % 3):
            side = "test" if (patient + index) % 4 == 0 else "train"
            sides[f"{patient}_{index}b1_Al_sc_Meditron"] = side
    write_recordings(data / AUDIO, sides)
    write_split(data / SPLIT, sides)
    return data, sides


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    fraction=st.sampled_from([0.5, 0.3, 0.2, 0.1]),
    data=st.data(),
)
def test_any_draw_keeps_patients_apart(
    uneven, tmp_path_factory, seed, fraction, data
):
    folder, sides = uneven
    output = tmp_path_factory.getbasetemp() / "draws"
    arguments = dict(
        valid_fraction=fraction,
        valid_fold=data.draw(st.integers(0, round(1 / fraction) - 1)),
        split_seed=seed,
    )
    prepare_icbhi(folder, output, **arguments)
    manifests = read_manifests(output)
    tested = {n.split("_")[0] for n, side in sides.items() if side == "test"}
    valid = patients(manifests["valid"])
    assert valid and not valid & patients(manifests["train"])
    assert not valid & tested
    assert patients(manifests["test"]) == tested
    ids = Counter(sum(map(list, manifests.values()), []))
    assert ids == Counter(f"{n}_{i:03d}" for n in sides for i in range(4))
    prepare_icbhi(folder, output, **arguments)
    assert read_manifests(output) == manifests


def test_the_seed_changes_the_draw(uneven, output):
    draws = set()
    for seed in range(8):
        prepare_icbhi(uneven[0], output, split_seed=seed)
        draws.add(frozenset(patients(read_manifests(output)["valid"])))
    assert len(draws) > 1


@pytest.mark.parametrize("fraction", [-0.1, 0.6, 1, float("nan")])
def test_a_fraction_out_of_range_is_refused(data, output, fraction):
    with pytest.raises(ValueError, match="valid_fraction is"):
        prepare_icbhi(data, output, valid_fraction=fraction)


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_validation_fold_out_of_range_is_refused(data, output, fold):
    with pytest.raises(ValueError, match=f"valid_fold is {fold}, not one of"):
        prepare_icbhi(data, output, valid_fraction=0.2, valid_fold=fold)


def test_too_few_patients_to_hold_out_are_reported(data, output):
    with pytest.raises(ValueError, match="8 patients cannot make 10 folds"):
        prepare_icbhi(data, output, valid_fraction=0.1)
    assert not os.path.exists(output)


# The published counts


def test_strict_lists_what_differs_from_the_published_counts(data, output):
    with pytest.raises(ValueError, match="not the published ICBHI") as error:
        prepare_icbhi(data, output, strict=True)
    for difference in (
        "all recordings: expected 920, found 12",
        "all patients: expected 126, found 11",
        "all cycles: expected 6898, found 48",
        "train recordings: expected 539, found 9",
        "test recordings: expected 381, found 3",
        "train counts: expected (2063, 1215, 501, 363), found (9, 9, 9, 9)",
        "test counts: expected (1579, 649, 385, 143), found (3, 3, 3, 3)",
    ):
        assert difference in str(error.value)
    assert not output.exists()


def test_strict_on_patient_folds_knows_no_sides(data, output):
    with pytest.raises(ValueError, match="all recordings") as error:
        prepare_icbhi(data, output, split="patient_folds", strict=True)
    assert "train" not in str(error.value)
