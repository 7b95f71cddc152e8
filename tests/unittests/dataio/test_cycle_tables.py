"""Tests of tables of cycles, and whose recordings' they are.

Authors
 * qlung_plugin contributors
"""

import os
import unicodedata

import pytest

from qlung_plugin.dataio.cycle_sources import find_cycles
from qlung_plugin.dataio.cycle_tables import read_table
from qlung_plugin.dataio.shares import share_out
from tests.unittests.dataio.test_cycle_sources import make_recording


@pytest.fixture
def assign(tmp_path, monkeypatch):
    """Whose rows a table's names are, as (recordings, strangers) by name."""
    monkeypatch.chdir(tmp_path)

    def assigned(recordings, names):
        for name in recordings:
            path = tmp_path / "given" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        table = tmp_path / "table.csv"
        rows = [f'"{name}",{i},{i + 1}\n' for i, name in enumerate(names)]
        table.write_bytes(
            "".join(["recording,start,end\n", *rows]).encode(
                "utf-8", "surrogateescape"
            )
        )
        places = {name: tmp_path / "given" / name for name in recordings}
        found, strangers = read_table(table).assign(list(places.values()))
        whose = {}
        for name, place in places.items():
            rows = found[place].rows or []
            whose[name] = [names[int(start)] for _, start, *_ in rows]
        return whose, strangers

    return assigned


@pytest.mark.parametrize(
    "name",
    [
        "a",
        " a.wav ",
        "./p1/a",
        "given/p1/a.wav",
        r"C:\lungs\other\a",
        "../elsewhere/a.wav",
        r"D:\P1\A.WAV",
    ],
)
def test_a_name_as_other_computers_write_it(assign, name):
    found, strangers = assign(["p1/a.wav", "p1/b.wav"], [name, "c.wav"])
    assert found == {"p1/a.wav": [name], "p1/b.wav": []}
    assert strangers == ["c.wav"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_forms_of_unicode_are_one(assign, form):
    """macOS writes a letter and its accent, others both in one."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    file = unicodedata.normalize(form, "é.wav")
    name = unicodedata.normalize(other, "é.wav")
    assert assign([file], [name]) == ({file: [name]}, [])


def test_a_name_that_is_no_text(assign):
    """Latin-1, in the file system as in the table."""
    name = os.fsdecode("é.wav".encode("latin-1"))
    assert assign([name, "b.wav"], [name]) == ({name: [name], "b.wav": []}, [])


def test_the_same_name_in_other_letter_case(assign):
    """Where both are there, each has its own."""
    files = ["a.wav", "A.wav"]
    assert assign(files, ["A.wav", "a.wav"]) == (
        {"a.wav": ["a.wav"], "A.wav": ["A.wav"]},
        [],
    )
    assert assign(files, ["A.WAV"]) == ({"a.wav": [], "A.wav": []}, ["A.WAV"])
    assert assign(["a.wav"], ["A.wav", "a.wav"]) == (
        {"a.wav": ["a.wav"]},
        ["A.wav"],
    )


def test_folders_tell_recordings_of_one_name(assign):
    names = ["/x/p1/1.wav", "/x/p2/1.wav", "/x/p3/1.wav"]
    assert assign(["p1/1.wav", "P2/1.wav"], names) == (
        {"p1/1.wav": names[:1], "P2/1.wav": names[1:2]},
        names[2:],
    )
    # Nothing tells them, so nothing is guessed.
    for files in (["q/1.wav"], ["p1/1.wav", "q/1.wav"]):
        found, strangers = assign(files, names[1:])
        assert found == dict.fromkeys(files, [])
        assert strangers == names[1:]
    found, _ = assign(["q/1.wav", "p1/1.wav"], ["p1/1.wav"])
    assert found == {"q/1.wav": [], "p1/1.wav": ["p1/1.wav"]}
    found, strangers = assign(["q/1.wav", "r/1.wav"], ["/x/p1/1.wav"])
    assert found == {"q/1.wav": [], "r/1.wav": []}
    assert strangers == ["/x/p1/1.wav"]


def test_a_name_that_means_several_is_refused(assign):
    with pytest.raises(ValueError, match="table.csv: .* 1.wav may be any of"):
        assign(["p1/1.wav", "p2/1.wav"], ["1.wav"])
    with pytest.raises(ValueError, match="recording a may be any of"):
        assign(["a.wav", "a.flac"], ["a"])


def test_a_path_that_leads_to_another_file_means_that_one(assign, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a.wav").touch()
    for name in ("kept/a.wav", str(tmp_path / "kept" / "a.wav")):
        assert assign(["a.wav"], [name]) == ({"a.wav": []}, [name])
    for name in ("kept/../given/a.wav", str(tmp_path / "given" / "a.wav")):
        assert assign(["a.wav"], [name]) == ({"a.wav": [name]}, [])


def test_rows_are_in_the_order_of_the_table(assign):
    names = ["a", "b.wav", "given/a.wav", "", "a.wav"]
    found, strangers = assign(["a.wav"], names)
    assert found == {"a.wav": ["a", "given/a.wav", "a.wav"]}
    assert strangers == ["b.wav", ""]


def test_a_table_is_shared_out(tmp_path):
    recordings = [make_recording(tmp_path, f"{name}.wav") for name in "ab"]
    paths = [recording.path for recording in recordings]
    table = tmp_path / "table.csv"
    table.write_text("recording,start,end\na,0.5,1\nx,0,1\n")
    (rows, none), (note,) = share_out(str(table), paths)
    found = find_cycles(recordings[0], rows)
    assert found == ([(0.5, 1.0)], str(table), None)
    with pytest.raises(ValueError, match="table.csv has no cycle of b.wav"):
        find_cycles(recordings[1], none)
    assert note == f"{table}: 1 of 2 rows name no recording given: x"
    # Without names, all rows are of the only one.
    table.write_text("start,end\n0,1\n")
    ([rows], []) = share_out(str(table), paths[:1])
    assert rows.times() == [(0.0, 1.0)]
    with pytest.raises(ValueError, match="column recording: there are 2"):
        share_out(str(table), paths)
    assert share_out("auto", paths) == (["auto", "auto"], [])
