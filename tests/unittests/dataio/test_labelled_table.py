"""Tests of reading a table of one's own data.

Authors
 * qlung_plugin contributors
"""

import csv
import logging
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import (
    HealthCheck,
    given,
    settings,
    strategies as st,
)

from qlung_plugin.dataio.labelled_table import read_labelled_table

HEADER = "path,start,end,label,patient\n"


@pytest.fixture
def write(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.wav").touch()

    def write_table(content):
        path = tmp_path / "table.csv"
        path.write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        return path

    return write_table


def test_a_table_says_what_each_stretch_is(write, tmp_path):
    table = read_labelled_table(
        write(
            "Patient, label ,path,start,end,device,age,sex,location,comment\n"
            "7,crackle,a.wav,0,1.5,Littmann,71,female,left,noisy\n"
            f"8,normal,{tmp_path}/b.wav,,,NA,,,,\n"
        )
    )
    expected = {
        "path": [f"{tmp_path}/a.wav", f"{tmp_path}/b.wav"],
        "start": [0.0, np.nan],
        "end": [1.5, np.nan],
        "label": ["crackle", "normal"],
        "patient": ["7", "8"],
        "device": ["Littmann", None],
        "age": [71.0, np.nan],
        "sex": ["F", None],
        "location": ["left", None],
    }
    pd.testing.assert_frame_equal(
        table, pd.DataFrame(expected, index=[2, 3]), check_dtype=False
    )
    assert table["start"].dtype == table["age"].dtype == float


def test_times_and_facts_may_be_absent(write):
    table = read_labelled_table(write("path,label,patient\na.wav,normal,1\n"))
    assert list(table) == ["path", "start", "end", "label", "patient"]
    assert table[["start", "end"]].isna().all(axis=None)


@pytest.mark.parametrize("separator", ",;\t")
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_excel_saves_is_read(write, separator, mark, end):
    decimal = "." if separator == "," else ","
    rows = [
        ["path", "start", "end", "label", "patient", "age"],
        ["a.wav", f"0{decimal}25", f"1{decimal}5", "normal", "1", "7"],
        [""] * 6,
        ["b.wav", "0", "2", "crackle", "2", f"0{decimal}5"],
    ]
    text = end.join(separator.join(row) for row in rows) + end
    table = read_labelled_table(write(mark + text.encode()))
    assert list(table.index) == [2, 4]  # the empty row counts
    assert table[["start", "end", "age"]].to_numpy().tolist() == [
        [0.25, 1.5, 7],
        [0, 2, 0.5],
    ]


def test_windows_paths_lead_to_folders_beside_the_table(write, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "d.wav").touch()
    path = write("path,label,patient\nin\\d.wav,normal,1\n")
    table = read_labelled_table(path)
    assert table.loc[2, "path"] == str(tmp_path / "in" / "d.wav")


def test_the_table_may_be_named_from_elsewhere(write, tmp_path, monkeypatch):
    write(f"{HEADER}a.wav,0,1,normal,1\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    table = read_labelled_table("../table.csv")
    assert table.loc[2, "path"] == str(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "lacks the columns path, label, patient"),
        ("path,label\na.wav,normal\n", "lacks the columns patient"),
        ("path,label,patient,label\n", "has several columns label"),
        ("path,label,patient,Label\n", "has several columns label"),
        (HEADER, "has no rows"),
        (f"{HEADER},,,,\n", "has no rows"),
        (f"{HEADER}a.wav,0,1,,1\n", "row 2: label is empty"),
        (f"{HEADER}a.wav,0,1,normal, \n", "row 2: patient is empty"),
        (f"{HEADER}a.wav,0,1,normal\n", "row 2: patient is empty"),
        (f"{HEADER}a.wav,0,1,normal,NA\n", "row 2: patient is 'NA'"),
        (f"{HEADER},0,1,normal,1\n", "row 2: path is empty"),
        (
            f"{HEADER}a.wav,0,1,normal,1\n\na.wav,x,2,normal,1\n",
            "row 4: start: 'x' is not a number",
        ),
        (f"{HEADER}a.wav,0,-1,normal,1\n", "row 2: end: '-1' is not a number"),
        (f"{HEADER}a.wav,0,nan,normal,1\n", "row 2: end: 'nan'"),
        (f"{HEADER}a.wav,1,1,normal,1\n", "row 2: start 1 is not before end 1"),
        (f"{HEADER}a.wav,2,1,normal,1\n", "row 2: start 2 is not before end 1"),
        (f"{HEADER}a.wav,1,,normal,1\n", "row 2: start or end is missing"),
        (f"{HEADER}a.wav,0,1,normal,1,more\n", "row 2: 6 fields"),
        (f'{HEADER}a.wav,0,1,"normal,1\n', "not readable as CSV"),
        (
            "path,label,patient,age\na.wav,normal,1,old\n",
            "row 2: age: 'old' is not a number",
        ),
        (
            f"{HEADER}a.wav,0,1,normal,1\nb.wav,0,1,normal,1\n"
            "a.wav,0,1,crackle,1\n",
            "1 stretches with more than one label, such as .*a.wav:"
            " row 2 \\(normal\\), row 4 \\(crackle\\)",
        ),
        (
            "path,label,patient\na.wav,normal,1\na.wav,crackle,1\n"
            "b.wav,normal,1\nb.wav,crackle,1\n",
            "2 stretches with more than one label",
        ),
        (
            f"{HEADER}a.wav,0,1,normal,1\na.wav,1,2,normal,2\n",
            "1 recordings with more than one patient, such as .*a.wav:"
            " row 2 \\(1\\), row 3 \\(2\\)",
        ),
        ("path,label,patient\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (f"{HEADER}a.wav,0,1,n\xf6,1".encode("latin-1"), "no text in UTF-8"),
    ],
)
def test_a_malformed_table_is_refused(write, content, message):
    path = write(content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_labelled_table(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_missing_recordings_are_all_counted(write, tmp_path):
    names = [*"abwxyz", "w"]
    rows = [f"{name}.wav,{i},{i + 1},normal,1" for i, name in enumerate(names)]
    with pytest.raises(
        FileNotFoundError,
        match=f"4 of 6 recordings do not exist: row 4 .{tmp_path}/w.wav., row 5"
        " .*, row 6 .*, \\.\\.\\.",
    ):
        read_labelled_table(write(HEADER + "\n".join(rows)))
    with pytest.raises(FileNotFoundError, match=re.escape("none.csv")):
        read_labelled_table(tmp_path / "none.csv")


def test_rows_that_repeat_others_are_counted(write, caplog):
    path = write(
        f"{HEADER}a.wav,0,1,normal,1\na.wav,0.0,1.0,normal,1\n"
        "b.wav,,,normal,1\nb.wav,,,normal,1\nb.wav,0,1,normal,1\n"
    )
    with caplog.at_level(logging.WARNING):
        table = read_labelled_table(path)
    assert list(table.index) == [2, 4, 6]
    assert "2 rows left out that repeat another one: row 3, row 5" in (
        caplog.text
    )


def test_labels_are_renamed_and_left_out(write, caplog):
    path = write(
        f"{HEADER}a.wav,0,1,Fine Crackle,1\na.wav,1,2,Coarse Crackle,1\n"
        "a.wav,2,3,speech,1\na.wav,3,4,normal,1\n"
    )
    mapping = {"Fine Crackle": "crackle", "Coarse Crackle": "crackle"}
    with caplog.at_level(logging.WARNING):
        table = read_labelled_table(path, {**mapping, "speech": None})
    assert dict(table["label"]) == {2: "crackle", 3: "crackle", 5: "normal"}
    assert "speech (1)" in caplog.text
    with pytest.raises(ValueError, match="no row has: Fine Crakle; there are"):
        read_labelled_table(path, {"Fine Crakle": "crackle"})
    labels = ("Fine Crackle", "Coarse Crackle", "speech", "normal")
    with pytest.raises(ValueError, match="none is left"):
        read_labelled_table(path, dict.fromkeys(labels))


def test_two_labels_that_become_one_do_not_contradict(write):
    path = write(f"{HEADER}a.wav,0,1,Fine Crackle,1\na.wav,0,1,crackle,1\n")
    table = read_labelled_table(path, {"Fine Crackle": "crackle"})
    assert table["label"].tolist() == ["crackle"]


text = st.text(
    st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=9
)


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e6),
            st.floats(1e-3, 1e6),
            text,
            text.filter(lambda x: x.casefold() not in ("-", "?", "na")),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_written_is_read_back(tmp_path, rows):
    (tmp_path / "a.wav").touch()
    rows = [(s, s + length, lab, rows[0][3]) for s, length, lab, _ in rows]
    with open(tmp_path / "table.csv", "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["path", "start", "end", "label", "patient"])
        writer.writerows(["a.wav", *row] for row in rows)
    table = read_labelled_table(tmp_path / "table.csv")
    read = table[["start", "end", "label", "patient"]]
    assert list(read.itertuples(index=False, name=None)) == rows
