"""From recordings to labels, corrected elsewhere, and back to one's own data.

Authors
 * qlung_plugin contributors
"""

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile

from qlung_plugin.cli.main import main
from qlung_plugin.dataio.labelled_table import read_labelled_table
from tests.unittests.cli.test_output import write_noise

LABELS = ["normal", "crackle", "wheeze", "both"]


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def recordings(tmp_path):
    """Two recordings of one name, in two folders, and a third one."""
    folder = tmp_path / "recordings"
    for number, name in enumerate(("p1_a.wav", "more/p1_a.wav", "p2_b.wav")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_noise(folder / name, number)
    return folder


@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_classified_labels_come_back_as_cycles_and_as_data(
    recordings, tmp_path, form, capsys
):
    labels = tmp_path / "labels"
    call = "classify", recordings, "--cycles", "windows", "--format", form
    assert run(*call, "--output", labels) == 0
    table = pd.read_csv(labels / "cycles.csv")
    again = tmp_path / "again.csv"
    assert run("classify", recordings, "--cycles", labels, "-o", again) == 0
    for column in ("start", "end", "prediction", "p_normal"):
        found = pd.read_csv(again)[column]
        assert found.equals(table[column])
    data = tmp_path / "own.csv"
    call = "labels", recordings, "--cycles", labels, "--patient", "^p([0-9])"
    assert run(*call, "-o", data) == 0
    own = read_labelled_table(data)
    assert own["label"].tolist() == table["prediction"].tolist()
    assert own["path"].tolist() == table["recording"].tolist()
    np.testing.assert_allclose(own["start"], table["start"], atol=1e-6)
    assert set(own["patient"]) == {"1", "2"}
    assert "6 rows of 3 recordings and 2 patients" in capsys.readouterr().err


def test_no_file_of_labels_is_overwritten(recordings, tmp_path, capsys):
    annotation = recordings / "p2_b.txt"
    annotation.write_text("0\t3\t0\t1\n")
    call = "classify", recordings, "--format", "audacity", "-o"
    assert run(*call, recordings) == 2
    assert "p2_b.txt" in capsys.readouterr().err
    assert annotation.read_text() == "0\t3\t0\t1\n"
    assert not (recordings / "p1_a.txt").exists()
    labels = tmp_path / "labels"
    assert run(*call, labels) == 0
    assert run(*call, labels) == 2
    assert "not overwritten" in capsys.readouterr().err
    # Gone on with, what is finished stays, also where it was corrected.
    corrected = "0.000000\t1.000000\twheeze\n"
    (labels / "p2_b.txt").write_text(corrected)
    assert run(*call, labels, "--resume") == 0
    assert (labels / "p2_b.txt").read_text() == corrected
    # Another sound asks for other labels, which are not to go over corrections.
    write_noise(recordings / "p2_b.wav", 9)
    assert run(*call, labels, "--resume") == 2
    assert "p2_b.txt has other labels" in capsys.readouterr().err
    assert (labels / "p2_b.txt").read_text() == corrected


def test_labels_beside_recordings_are_gone_on_with_as_no_annotation(
    recordings, capsys
):
    call = "classify", recordings, "--format", "audacity", "-o", recordings
    assert run(*call, "--cycles", "windows") == 0
    before = (recordings / "cycles.csv").read_bytes()
    assert run(*call, "--resume") == 2
    assert "for its annotation: name another" in capsys.readouterr().err
    assert run(*call, "--resume", "--cycles", "windows") == 0
    assert "3 of 3 were finished before" in capsys.readouterr().err
    assert (recordings / "cycles.csv").read_bytes() == before


def test_labels_that_would_share_a_file_are_refused(recordings, capsys):
    shutil.copy(recordings / "p2_b.wav", recordings / "p2_b.WAV")
    call = "classify", recordings, "--format", "raven", "-o"
    assert run(*call, recordings / "out") == 2
    assert "in one file" in capsys.readouterr().err
    assert run("classify", recordings, "--format", "raven") == 2
    assert "name a folder as --output" in capsys.readouterr().err


def test_labels_of_annotations_and_what_is_left_out(
    recordings, tmp_path, capsys
):
    (recordings / "p1_a.txt").write_text("0\t2\t1\t0\n2\t4\t0\t0\n")
    (recordings / "p2_b.txt").write_text("0\t2\tunusable\n2\t3\tfine crackle\n")
    patients = tmp_path / "patients.csv"
    patients.write_text("recording,patient\np1_a,A\np2_b.wav,B\n")
    data = tmp_path / "own.csv"
    call = "labels", recordings, "--patient", patients, "-o", data
    assert run(*call) == 0
    own = read_labelled_table(data)
    assert own[["start", "label", "patient"]].values.tolist() == [
        [0.0, "crackle", "A"],
        [2.0, "normal", "A"],
        [2.0, "fine crackle", "B"],
    ]
    error = capsys.readouterr().err
    assert "1 labels 'unusable' are left out" in error
    assert "1 of 3 recordings have no annotation" in error
    assert run(*call) == 2 and "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("patient", "message"),
    [
        ("^q", "finds nothing in p1_a.wav"),
        ("(", "is no pattern"),
        ("names.csv", "has no patient of"),
    ],
)
def test_a_patient_has_to_be_known(
    recordings, tmp_path, monkeypatch, capsys, patient, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.csv").write_text("recording,patient\nother,1\n")
    (recordings / "p1_a.txt").write_text("0\t2\t1\t0\n")
    assert run("labels", recordings, "--patient", patient, "-o", "t.csv") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


def test_clips_are_the_most_uncertain_cycles(recordings, tmp_path):
    cycles, clips = tmp_path / "cycles.csv", tmp_path / "clips"
    windows = "--cycles", "windows"
    assert run("classify", recordings, *windows, "-o", cycles) == 0
    assert run("clips", recordings, *windows, "-n", 2, "-o", clips) == 0
    table, all_cycles = pd.read_csv(clips / "clips.csv"), pd.read_csv(cycles)
    shares = all_cycles[[f"p_{label}" for label in LABELS]]
    entropy = -(shares * np.log(shares)).sum(axis=1)
    expected = all_cycles.loc[entropy.nlargest(2).index]
    assert table["recording"].tolist() == expected["recording"].tolist()
    assert table["recording_start"].tolist() == expected["start"].tolist()
    for _, row in table.iterrows():
        clip, rate = soundfile.read(clips / row["path"])
        sound, _ = soundfile.read(row["recording"])
        first = round((row["recording_start"] - row["start"]) * rate)
        np.testing.assert_array_equal(clip, sound[first : first + len(clip)])
        length = row["recording_end"] - row["recording_start"]
        assert row["end"] - row["start"] == pytest.approx(length)
    # Filled in, it is one's own data.
    filled = pd.read_csv(clips / "clips.csv").assign(label="wheeze", patient=7)
    filled.to_csv(clips / "clips.csv", index=False)
    assert read_labelled_table(clips / "clips.csv")["start"].tolist() == (
        filled["start"].tolist()
    )


def test_clips_of_mistakes_have_the_annotated_label(
    recordings, tmp_path, capsys
):
    clips = tmp_path / "clips"
    call = "clips", recordings, "--by", "wrong", "-o"
    assert run(*call, clips) == 2
    assert "no cycle is wrong" in capsys.readouterr().err
    lines = [f"{i}\t{i + 1}\t{label}\n" for i, label in enumerate(LABELS)]
    (recordings / "p1_a.txt").write_text("".join(lines) + "5\t6\tsnore\n")
    assert run(*call, clips) == 0
    table = pd.read_csv(clips / "clips.csv")
    assert 3 <= len(table) <= 4  # one class at most is right of each
    assert (table["label"] != table["prediction"]).all()
    assert set(table["label"]) <= set(LABELS)
    confidence = [row[f"p_{row['prediction']}"] for _, row in table.iterrows()]
    assert confidence == sorted(confidence, reverse=True)
    for _, row in table.iterrows():
        assert row["label"] == LABELS[int(row["recording_start"])]
    assert run(*call, clips) == 2 and "not empty" in capsys.readouterr().err


def test_the_worst_quality_comes_first(recordings, tmp_path):
    clips = tmp_path / "clips"
    call = "clips", recordings, "--by", "quality", "--cycles", "windows"
    assert run(*call, "-n", 4, "-o", clips) == 0
    quality = pd.read_csv(clips / "clips.csv")["quality"]
    assert len(quality) == 4 and quality.is_monotonic_increasing


@pytest.mark.slow
@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_real_recordings_classified_and_read_back(real_data, tmp_path, form):
    recordings = tmp_path / "kauh"
    recordings.mkdir()
    for path in sorted((real_data / "kauh" / "audio").glob("*.wav"))[::16]:
        (recordings / path.name).symlink_to(path)
    labels = tmp_path / "labels"
    assert run("classify", recordings, "--format", form, "-o", labels) == 0
    table = pd.read_csv(labels / "cycles.csv")
    data = tmp_path / "own.csv"
    call = "labels", recordings, "--cycles", labels, "--patient", "P([0-9]+)_"
    assert run(*call, "-o", data) == 0
    own = read_labelled_table(data)
    usable = table[table["prediction"] != "unusable"]
    assert own["label"].tolist() == usable["prediction"].tolist()
    np.testing.assert_allclose(own["start"], usable["start"], atol=1e-6)
    np.testing.assert_allclose(own["end"], usable["end"], atol=1e-6)
