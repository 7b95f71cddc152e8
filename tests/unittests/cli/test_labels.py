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


@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_labels_of_several_folders_lie_in_folders_like_them(
    recordings, tmp_path, monkeypatch, form
):
    for name in ("one", "two"):
        (recordings / name).mkdir()
        shutil.move(recordings / "p2_b.wav", recordings / name / "p1_a.wav")
        write_noise(recordings / "p2_b.wav", len(name))
    monkeypatch.chdir(recordings)
    call = "classify", "one", recordings / "two", "--format", form
    assert run(*call, "-o", tmp_path / "labels") == 0
    found = (tmp_path / "labels").rglob("p1_a*.txt")
    assert sorted(path.parent.name for path in found) == ["one", "two"]


def test_corrections_are_of_their_own_recordings(recordings, tmp_path, capsys):
    labels = tmp_path / "labels"
    call = "classify", recordings, "--format", "audacity", "-o", labels
    assert run(*call) == 0
    for number, name in enumerate(("p1_a.txt", "more/p1_a.txt", "p2_b.txt")):
        (labels / name).write_text(f"0\t{number + 1}\tnote {number}\n")
    data = tmp_path / "own.csv"
    call = "labels", recordings, "--cycles", labels, "--patient", "^p[0-9]"
    assert run(*call, "-o", data) == 0
    own = read_labelled_table(data).set_index("path")
    for number, name in enumerate(("p1_a.wav", "more/p1_a.wav", "p2_b.wav")):
        row = own.loc[str(recordings / name)]
        assert (row["end"], row["label"]) == (number + 1, f"note {number}")
    # Of two, the labels of one are missing: the others are not taken for them.
    (labels / "p1_a.txt").unlink()
    assert run(*call, "-o", tmp_path / "other.csv") == 0
    assert "1 of 3 recordings have no annotation" in capsys.readouterr().err
    assert len(read_labelled_table(tmp_path / "other.csv")) == 2
    call = "classify", recordings, "--cycles", labels
    assert run(*call) == 1
    assert "labels/p1_a.txt does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t2\t\n", "p2_b.txt:2: 1 of 2 labels have no text"),
        ("1\t1\there\n", "p2_b.txt:2: 'here' is at a moment"),
        ("1\t2\tx\ty\n", "p2_b.txt:2: 4 fields"),
        ("1\t9.2\there\n", "p2_b.txt:2: 'here' ends at 9.2 s, past the end"),
    ],
)
def test_a_label_that_cannot_be_learned_from_is_an_error(
    recordings, tmp_path, capsys, line, message
):
    (recordings / "p2_b.txt").write_text(f"0\t1\twheeze\n{line}")
    data = tmp_path / "own.csv"
    assert run("labels", recordings, "--patient", "^p[0-9]", "-o", data) == 2
    assert message in capsys.readouterr().err
    assert not data.exists()


def test_a_table_of_some_recordings_leaves_the_others_out(
    recordings, tmp_path, capsys
):
    table = tmp_path / "cycles.csv"
    table.write_text("recording,start,end,label\np2_b,0,2,snore\nq,0,1,x\n")
    data = tmp_path / "own.csv"
    call = "labels", recordings, "--cycles", table, "--patient", "^p([0-9])"
    assert run(*call, "-o", data) == 0
    assert read_labelled_table(data)["label"].tolist() == ["snore"]
    error = capsys.readouterr().err
    assert "1 of 2 rows name no recording given: q" in error
    assert "2 of 3 recordings have no annotation" in error


def test_labels_of_annotations_and_what_is_left_out(
    recordings, tmp_path, capsys
):
    # The second is as long as its recording, but for a digit of rounding.
    (recordings / "p1_a.txt").write_text("0\t2\t1\t0\n2\t6.05\t0\t0\n")
    (recordings / "p2_b.txt").write_text("0\t2\tunusable\n2\t3\tfine crackle\n")
    patients = tmp_path / "patients.csv"
    patients.write_text("recording,patient\nrecordings/p1_a,A\np2_b.wav,B\n")
    data = tmp_path / "own.csv"
    call = "labels", recordings, "--patient", patients, "-o", data
    assert run(*call) == 0
    own = read_labelled_table(data)
    assert own[["start", "label", "patient"]].values.tolist() == [
        [0.0, "crackle", "A"],
        [2.0, "normal", "A"],
        [2.0, "fine crackle", "B"],
    ]
    assert own["end"].tolist() == [2.0, 6.0, 3.0]
    error = capsys.readouterr().err
    assert "1 labels 'unusable' are left out" in error
    assert "1 of 3 recordings have no annotation" in error
    assert run(*call) == 2 and "exists" in capsys.readouterr().err


def test_recordings_without_labels_take_one_line(recordings, tmp_path, capsys):
    """Some of a large folder are corrected; what is no annotation is named."""
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "p2_b.txt").write_text("0\t2\tsnore\n")
    call = "labels", recordings, "--cycles", labels, "--patient", "^p([0-9])"
    assert run(*call, "-o", tmp_path / "own.csv") == 0
    error = capsys.readouterr().err
    assert error.count("annotation") == 1
    assert "2 of 3 recordings have no annotation" in error
    (labels / "p1_a.json").write_text("{}")
    assert run(*call, "-o", tmp_path / "other.csv") == 0
    assert "p1_a.json (" in capsys.readouterr().err


def test_annotations_without_a_label_are_counted(recordings, tmp_path, capsys):
    (recordings / "p1_a.txt").write_text("0\t2\t1\t0\n")
    (recordings / "p2_b.json").write_text('{"event_annotation": []}')
    call = "labels", recordings, "--patient", "^p[0-9]", "-o"
    assert run(*call, tmp_path / "own.csv") == 0
    error = capsys.readouterr().err
    assert "1 of 3 recordings have an annotation that holds no label" in error
    assert "p2_b.wav" in error


def test_a_patient_may_be_the_folder_of_a_recording(recordings, tmp_path):
    (recordings / "more" / "p1_a.txt").write_text("0\t2\t1\t0\n")
    (recordings / "p2_b.txt").write_text("0\t2\t1\t0\n")
    data = tmp_path / "own.csv"
    pattern = "([^/]+)/[^/]+$"
    assert run("labels", recordings, "--patient", pattern, "-o", data) == 0
    own = read_labelled_table(data)
    assert own["patient"].tolist() == ["more", "recordings"]


@pytest.mark.parametrize(
    ("patient", "message"),
    [
        ("^q", "--patient ^q finds nothing in"),
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
    assert table["path"].tolist() == expected["recording"].tolist()
    assert table["start"].tolist() == expected["start"].tolist()
    assert table["end"].tolist() == expected["end"].tolist()
    for _, row in table.iterrows():
        clip, rate = soundfile.read(clips / row["clip"])
        sound, _ = soundfile.read(row["path"])
        first = max(round((row["start"] - 0.25) * rate), 0)
        stop = round((row["end"] + 0.25) * rate)
        np.testing.assert_array_equal(clip, sound[first:stop])
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
    assert "no cycle is called another class" in capsys.readouterr().err
    lines = [f"{i}\t{i + 1}\t{label}\n" for i, label in enumerate(LABELS)]
    (recordings / "p1_a.txt").write_text("".join(lines) + "5\t6\tsnore\n")
    assert run(*call, clips, "--patient", "^p([0-9])") == 0
    assert "1 labels are no class of the model" in capsys.readouterr().err
    table = pd.read_csv(clips / "clips.csv")
    assert set(table["patient"]) == {1}
    assert 3 <= len(table) <= 4  # one class at most is right of each
    assert (table["label"] != table["prediction"]).all()
    assert set(table["label"]) <= set(LABELS)
    confidence = [row[f"p_{row['prediction']}"] for _, row in table.iterrows()]
    assert confidence == sorted(confidence, reverse=True)
    for _, row in table.iterrows():
        assert row["label"] == LABELS[int(row["start"])]
    assert run(*call, clips) == 2 and "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "recording,start,end,label\np2_b,0,2,{}\np2_b,2,4,{}\n"),
        (
            "p2_b.json",
            '{{"event_annotation": [{{"start": "0", "end": "2000", "type": "{}"}},'
            ' {{"start": "2000", "end": "4000", "type": "{}"}}]}}',
        ),
    ],
)
def test_mistakes_by_tables_and_by_types_of_sprsound(
    recordings, tmp_path, name, text
):
    cycles, clips = tmp_path / name, tmp_path / "clips"
    types = "Wheeze", "Fine Crackle"
    cycles.write_text(text.format(*types))
    call = "clips", recordings / "p2_b.wav", "--cycles", cycles
    assert run(*call, "-o", tmp_path / "all") == 0
    table = pd.read_csv(tmp_path / "all" / "clips.csv")
    wrong = {
        kind
        for kind, label in zip(types, ("wheeze", "crackle"))
        if table.set_index("label")["prediction"][kind] != label
    }
    assert wrong
    assert run(*call, "--by", "wrong", "-o", clips) == 0
    assert set(pd.read_csv(clips / "clips.csv")["label"]) == wrong


def test_a_clip_needs_a_known_patient_before_anything_is_classified(
    recordings, tmp_path, capsys
):
    call = "clips", recordings, "--patient", "^q", "-o", tmp_path / "clips"
    assert run(*call) == 2
    assert "--patient ^q finds nothing in" in capsys.readouterr().err


def test_the_worst_quality_comes_first(recordings, tmp_path):
    clips = tmp_path / "clips"
    call = "clips", recordings, "--by", "quality", "--cycles", "windows"
    assert run(*call, "-n", 4, "-o", clips) == 0
    quality = pd.read_csv(clips / "clips.csv")["quality"]
    assert len(quality) == 4 and quality.is_monotonic_increasing


def test_labels_are_renamed_and_left_out(recordings, tmp_path, capsys):
    (recordings / "p2_b.txt").write_text(
        "0\t1\tNormal\n1\t2\tFine Crackle\n2\t3\tsnore\n3\t4\tother\n"
    )
    call = "labels", recordings, "--patient", "^p[0-9]", "--rename"
    names = "Normal=normal", "Fine Crackle = crackle", "snore="
    assert run(*call, *names, "-o", tmp_path / "own.csv") == 0
    own = read_labelled_table(tmp_path / "own.csv")
    assert own["label"].tolist() == ["normal", "crackle", "other"]
    assert "1 labels 'snore' are left out" in capsys.readouterr().err
    for wrong, message in (
        (["Fine=x"], "no label is called Fine; there are Fine Crackle"),
        (["Normal"], "--rename Normal: OLD=NEW is needed"),
        (["snore=a", "snore=b"], "each OLD once"),
    ):
        assert run(*call, *wrong, "-o", tmp_path / "no.csv") == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "no.csv").exists()


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
