"""Tests of labels that are matched with rows by recording and times.

Authors
 * qlung_plugin contributors
"""

import pandas as pd
import pytest

from qlung_plugin.dataio.row_labels import label_rows


@pytest.fixture
def table():
    names = ["x/a.wav", "x/a.wav", "x/b.wav", "y/b.wav"]
    start, end = [0.0, 1.0, 0.0, 0.0], [1.0, 2.5, 3.0, 3.0]
    return pd.DataFrame({"recording": names, "start": start, "end": end})


@pytest.fixture
def labelled(table, tmp_path):
    def label(text):
        path = tmp_path / "labels.csv"
        path.write_text(text)
        return label_rows(table, path)

    return label


def test_by_recording_and_by_times(labelled):
    """A name with its folder where it needs it; times to a hundredth."""
    rows, notes = labelled(
        "recording,start,end,label,patient\n"
        "a,0,1.01,normal,1\na,0.995,2.5,wheeze,1\ny/b.wav,,,crackle,2\n"
    )
    assert rows["label"].to_dict() == {0: "normal", 1: "wheeze", 3: "crackle"}
    assert rows["patient"].to_dict() == {0: "1", 1: "1", 3: "2"}
    (note,) = notes
    assert note.startswith("1 of 4 rows of the embeddings have no label in")


def test_path_is_recording(labelled):
    rows, notes = labelled(
        "path;label;patient\nx/a.wav;n;1\nx/b.wav;w;2\ny/b.wav;w;3\n"
    )
    assert rows["label"].tolist() == ["n", "n", "w", "w"] and notes == []


def test_what_is_left_out_is_counted(labelled):
    _, notes = labelled(
        "recording,start,end,label,patient\n"
        "a.wav,0,1,n,1\na.wav,0,1.2,n,1\nc.wav,0,1,n,1\n"
    )
    assert "1 of 3 rows are left out" in notes[0] and "c.wav" in notes[0]
    assert "1 of 3 rows are left out" in notes[1] and "row 3" in notes[1]
    assert "3 of 4 rows of the embeddings have no label" in notes[2]


@pytest.mark.parametrize(
    "text, message",
    [
        ("recording,label\na,n\n", "lacks the columns patient"),
        ("recording,path,label,patient\na,a,n,1\n", "several columns path"),
        ("recording,label,patient\nc,n,1\n", "labels none of the 4 rows"),
        ("recording,label,patient\nb,n,1\n", "b may be any of"),
        ("recording,label,patient\na,n,1\na.wav,w,1\n", "more than one label"),
        ("recording,label,patient\na,n,1\na.wav,n,2\n", "than one patient"),
        ("recording,label,patient\na,n,1\na,w,1\n", "more than one label"),
        (
            "recording,start,end,label,patient\na,,,n,1\na,0,1,w,1\n",
            r"row 2 \(n\), row 3 \(w\) give x/a.wav from 0 to 1 s",
        ),
        (
            "recording,start,end,label,patient\na,1,,n,1\n",
            "row 2: start or end",
        ),
    ],
)
def test_tables_that_do_not_say_which(labelled, text, message):
    with pytest.raises(ValueError, match=message):
        labelled(text)
