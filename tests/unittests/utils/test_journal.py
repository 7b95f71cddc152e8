"""Tests of the file that is written piece by piece, cut off and gone on with.

Authors
 * qlung_plugin contributors
"""

import json

import pytest
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from qlung_plugin.utils.journal import JournaledFile

SETTINGS = {"options": "all"}
PIECES = {"a": "1,ä\n", "b": "", "c": "3,\udce4\n4,x\n"}
WHOLE = b"n,t\n1,\xc3\xa4\n3,\\udce4\n4,x\n"


def write(path, pieces, resume=True, content="", made=None):
    """As a command does: what is finished is repeated, the rest made."""
    file = JournaledFile(path, SETTINGS, resume)
    for name, rows in pieces.items():
        if file.is_finished(name, content or name):
            file.repeat(name)
            continue
        if made is not None:
            made.append(name)
        file.head("n,t\n")
        file.write(rows)
        file.commit(name, content or name)
    return file


def test_a_file_cut_off_anywhere_comes_out_the_same(tmp_path):
    """While it is written, or complete; the file, its journal, or both."""
    path, journal = tmp_path / "t.csv", tmp_path / "t.csv.progress"
    for complete in (False, True):
        file = write(path, PIECES)
        file.finish() if complete else file.close()
        assert path.read_bytes() == WHOLE
        file_bytes, journal_bytes = path.read_bytes(), journal.read_bytes()
        cuts = [(i, len(journal_bytes)) for i in range(len(file_bytes) + 1)]
        if not complete:
            # A journal is replaced as a whole once the file is complete.
            first = journal_bytes.index(b"\n") + 1
            for i in range(first, len(journal_bytes) + 1):
                cuts += [(0, i), (5, i), (len(file_bytes), i)]
        for file_end, journal_end in cuts:
            path.write_bytes(file_bytes[:file_end])
            journal.write_bytes(journal_bytes[:journal_end])
            made = []
            write(path, PIECES, made=made).finish()
            assert path.read_bytes() == WHOLE
            if (journal_end, complete) == (len(journal_bytes), False):
                assert made == []
            assert list(tmp_path.glob(".*")) == []
        path.unlink(), journal.unlink()


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=20), max_size=5),
    st.lists(
        st.tuples(st.sets(st.text(max_size=3)), st.integers(0)), max_size=3
    ),
)
def test_failures_and_cuts_in_between(tmp_path_factory, pieces, attempts):
    """What failed, at first, comes where it belongs in the end."""
    folder = tmp_path_factory.mktemp("journal")
    write(folder / "whole", pieces, resume=False).finish()
    path = folder / "t.csv"
    for failing, cut in attempts:
        done = {k: v for k, v in pieces.items() if k not in failing}
        file = write(path, done)
        file.close() if cut % 2 else file.finish()
        journal = path.with_name("t.csv.progress")
        if cut % 2 and journal.exists():
            content = journal.read_bytes()
            start = content.index(b"\n") + 1
            kept = start + cut % (len(content) - start + 1)
            journal.write_bytes(content[:kept])
    write(path, pieces).finish()
    assert path.read_bytes() == (folder / "whole").read_bytes()
    for name in pieces:
        assert JournaledFile(path, SETTINGS, True).is_finished(name, name)


def test_what_changed_is_made_anew_and_the_rest_is_not(tmp_path):
    path = tmp_path / "t.csv"
    write(path, PIECES).finish()
    made = []
    write(path, {"new": "0\n", **PIECES}, made=made).finish()
    assert made == ["new"]
    assert path.read_bytes() == WHOLE.replace(b"1,", b"0\n1,", 1)
    write(path, PIECES, content="other", made=made).finish()
    assert made == ["new", *PIECES] and path.read_bytes() == WHOLE


def test_a_complete_file_that_was_edited_is_counted(tmp_path):
    path = tmp_path / "t.csv"
    write(path, PIECES).finish()
    path.write_bytes(WHOLE.replace(b"4", b"5"))
    file = JournaledFile(path, SETTINGS, resume=True)
    assert file.changed == 1 and set(file.names) == {"a", "b"}


def test_other_settings_are_refused_by_name(tmp_path):
    path = tmp_path / "t.csv"
    write(path, PIECES).finish()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="with options all, not some: go on"):
        JournaledFile(path, {"options": "some"}, resume=True)
    assert path.read_bytes() == before


def test_files_that_are_there_are_kept(tmp_path):
    path = tmp_path / "folder" / "t.csv"
    write(path, PIECES, resume=False).close()
    with pytest.raises(FileExistsError, match="t.csv exists: --resume"):
        JournaledFile(path, SETTINGS)
    running = JournaledFile(path, SETTINGS, resume=True)
    with pytest.raises(FileExistsError, match="by another process"):
        JournaledFile(path, SETTINGS, resume=True)
    assert path.read_bytes() == WHOLE  # nothing was done yet
    running.close()
    path.with_name("t.csv.progress").unlink()
    with pytest.raises(FileExistsError, match="without its t.csv.progress"):
        JournaledFile(path, SETTINGS, resume=True)
    assert path.read_bytes() == WHOLE


def test_nothing_is_left_of_what_never_began(tmp_path):
    JournaledFile(tmp_path / "t.csv", SETTINGS).close()
    assert list(tmp_path.iterdir()) == []


def test_a_complete_journal_keeps_no_text(tmp_path):
    path = tmp_path / "t.csv"
    write(path, PIECES).finish()
    lines = path.with_name("t.csv.progress").read_text().splitlines()
    assert [json.loads(line).get("rows") for line in lines] == [None] * 5
