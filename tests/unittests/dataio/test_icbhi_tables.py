"""Tests of reading the text files of ICBHI.

Authors
 * qlung_plugin contributors
"""

import re

import numpy as np
import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.dataio.icbhi_tables import (
    parse_recording_name,
    read_annotation,
    read_demographics,
    read_folds,
    read_split,
)
from tests.unittests.dataio.icbhi_files import CYCLES, TRAIN


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
        "filename_format",
        "226_1b1_Pl_xc_LittC2SE",
        "226_1b1_Pl_mc_LittC2SE.wav",
        "._226_1b1_Pl_mc_LittC2SE",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        parse_recording_name(name)


def test_the_label_is_crackle_plus_twice_wheeze(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(CYCLES)
    assert read_annotation(path) == [
        (f"{path}:1", 0.0, 1.0, "normal"),
        (f"{path}:2", 1.0, 2.0, "crackle"),
        (f"{path}:3", 2.0, 3.0, "wheeze"),
        (f"{path}:4", 3.0, 4.0, "both"),
    ]


def test_blank_lines_and_line_ends_do_not_matter(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf\r\n  \r\n0.5 1.5\t1\t0\r\n\n")
    ((_, *cycle),) = read_annotation(path)
    assert cycle == [0.5, 1.5, "crackle"]


@pytest.mark.parametrize(
    "read, good, bad",
    [
        (read_annotation, "0 0.5 0 0", "0.5 1.5 1"),
        (read_annotation, "0 0.5 0 0", "0,5 1,5 1 0"),
        (read_annotation, "0 0.5 0 0", "0.5 1.5 2 0"),
        (read_annotation, "0 0.5 0 0", "-0.5 1.5 0 0"),
        (read_annotation, "0 0.5 0 0", "nan 1.5 0 0"),
        (read_annotation, "0 0.5 0 0", "0.5 1e999 0 0"),
        (read_annotation, "0 0.5 0 0", "0.5 1_0.5 0 0"),
        (read_annotation, "0 0.5 0 0", "0.5 \uff11.5 0 0"),  # full width
        (read_split, f"{TRAIN[0]} train", f"{TRAIN[1]} validation"),
        (read_split, f"{TRAIN[0]} train", f"{TRAIN[1]}.wav train"),
        (read_split, f"{TRAIN[0]} train", f"{TRAIN[0]} test"),  # again
        (read_folds, "201 0", "999 -1"),
        (read_folds, "201 0", "201 0"),  # again
    ],
)
def test_a_malformed_line_is_named(tmp_path, read, good, bad):
    path = tmp_path / "a.txt"
    path.write_text(f"{good}\n\n{bad}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{path}:3: "):
        read(path)


@settings(max_examples=100, deadline=None)
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
        "302 3 X NA 19 99",
        "0 302 3 F NA 19 99",  # a column before
        "x302 3 F",
    ],
)
def test_lines_of_demographics_that_are_not_understood(tmp_path, line):
    """Nor is a second line of a patient that differs."""
    path = tmp_path / "demographic_info.txt"
    path.write_text(f"\n301 3 F NA 19 99\n{line}\n301 4 F NA 19 99\n401 5 M\n")
    people, odd = read_demographics(path)
    ages = {patient: person["age"] for patient, person in people.items()}
    assert ages == {"301": 3.0, "401": 5.0}
    assert odd == [f"{path}:3", f"{path}:4"]
