"""Tests of the folder of Parquet partitions, on a disk and in a store.

Authors
 * qlung_plugin contributors
"""

import json

import fsspec
import pandas as pd
import pytest

pyarrow = pytest.importorskip("pyarrow")

from pyarrow.parquet import read_table, write_table  # noqa: E402

from qlung_plugin.utils.partitions import Partitions  # noqa: E402
from qlung_plugin.utils.stores import open_store  # noqa: E402

SETTINGS = {"--by": "recording", "qlung": "quality 1"}


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path):
    if request.param == "disk":
        yield str(tmp_path / "out")
        return
    yield "memory://out"
    fsspec.filesystem("memory").store.clear()


def table(*names):
    return pyarrow.table(
        {
            "recording": [n for n in names for _ in n],
            "n": range(len("".join(names))),
        }
    )


def rows(folder):
    store, root = open_store(folder)
    tables = []
    for path in store.glob(f"{root}/*.parquet"):
        with store.open(path) as file:
            tables.append(read_table(file).to_pandas())
    return sorted(pd.concat(tables)["recording"])


def opened(folder, resume=True, settings=SETTINGS):
    partitions = Partitions(folder, settings)
    partitions.open(resume)
    return partitions


def test_what_is_there_is_known_by_the_files_alone(folder):
    first = opened(folder, resume=False)
    first.write(table("a", "bb"), {"a": "1", "bb": "2", "none": "3"})
    first.write(table("ccc", "d"), {"ccc": None, "d": "4"})
    again = opened(folder)
    assert again.names == {"a", "bb", "none", "ccc", "d"}
    assert again.finished == {"a": "1", "bb": "2", "none": "3", "d": "4"}
    again.keep({"a", "none", "bb"})  # one as it is, one is removed
    assert rows(folder) == ["a", "bb", "bb"]
    opened(folder).keep({"bb", "none"})
    assert rows(folder) == ["bb", "bb"]
    assert opened(folder).finished == {"bb": "2", "none": "3"}


def test_the_same_pieces_are_written_once(folder):
    partitions = opened(folder)
    for _ in range(2):
        partitions.write(table("a"), {"a": "1"})
    partitions.write(table("b"), {"b": "1"})
    assert rows(folder) == ["a", "b"]


def test_tries_outlast_their_process_and_no_command(folder):
    names = ["a", "b"]
    partitions = opened(folder)
    assert partitions.read_tries(names) is None
    partitions.write_tries(names, {"a": 1})
    assert Partitions(folder, SETTINGS).read_tries(names) == {"a": 1}
    assert partitions.read_tries(["a"]) is None
    opened(folder)
    assert partitions.read_tries(names) is None
    partitions.write_tries(names, {})
    for _ in range(2):
        partitions.write_tries(names, None)
    assert partitions.read_tries(names) is None


def test_others_and_what_was_made_otherwise_are_refused(folder):
    opened(folder, resume=False).write(table("a"), {"a": "1"})
    with pytest.raises(FileExistsError, match="holds partitions: --resume"):
        opened(folder, resume=False)
    other = {**SETTINGS, "--by": "cycle"}
    with pytest.raises(ValueError, match="with --by recording, not cycle: go"):
        opened(folder, settings=other)
    store, root = open_store(folder)
    store.pipe_file(f"{root}/.hidden", b"")
    assert opened(folder).names == {"a"}
    for name, content in (
        ("notes.txt", b""),
        ("x.parquet", b"no Parquet"),
        ("y.parquet", parquet({b"qlung": b"no JSON"})),
        ("y.parquet", parquet({b"qlung": b'{"pieces": {}}'})),
        ("z.parquet", parquet({})),
    ):
        store.pipe_file(f"{root}/{name}", content)
        with pytest.raises(FileExistsError, match=f"{name}, which is no part"):
            opened(folder)
        store.rm_file(f"{root}/{name}")
    with pytest.raises(FileExistsError, match="is a file: partitions go into"):
        opened(f"{folder}/.hidden")


def parquet(metadata):
    sink = pyarrow.BufferOutputStream()
    write_table(table("a").replace_schema_metadata(metadata), sink)
    return sink.getvalue().to_pybytes()


def test_a_reader_sees_one_table(tmp_path):
    """With what is being written, and the footers, which differ."""
    folder = str(tmp_path)
    partitions = opened(folder)
    partitions.write(table("a"), {"a": "1"})
    partitions.write(table("b"), {"b": None})
    partitions.write_tries(["c"], {"c": 1})
    assert sorted(pd.read_parquet(folder)["recording"]) == ["a", "b"]
    [path, _] = sorted(tmp_path.glob("part-*"))
    footer = json.loads(read_table(path).schema.metadata[b"qlung"])
    assert footer["settings"] == SETTINGS


def test_what_cannot_be_opened_is_one_line(monkeypatch):
    with pytest.raises(ValueError, match="nil://x cannot be opened: Protocol"):
        opened("nil://x")
    memory = type(fsspec.filesystem("memory"))

    def refuse(*args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(memory, "pipe_file", refuse)
    message = "^memory://out cannot be reached: Access Denied$"
    with pytest.raises(PermissionError, match=message):
        opened("memory://out")
