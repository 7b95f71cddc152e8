"""Tests of writing manifests, and of reading them again.

Authors
 * qlung_plugin contributors
"""

import json
import os
from pathlib import Path

import pytest

from qlung_plugin.dataio.manifests import (
    make_manifest,
    read_manifest,
    read_summary,
    write_manifests,
)

SUMMARY = {
    "database": "ICBHI 2017",
    "recordings": 1,
    "subset": None,
    "protocol": "official split",
    "partitions": {},
    "warnings": [],
}


def manifest(stop):
    wav = {"file": "{data_root}/a.wav", "start": 0, "stop": stop}
    return {"a_0": {"wav": wav, "sample_rate": 4000}}


def write(output, stop=8):
    write_manifests(output, {"test.json": manifest(stop)}, "s.json", SUMMARY)


def test_an_interrupted_write_leaves_the_old_manifest(tmp_path, monkeypatch):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def write_half(path, text, **_):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, stop=9)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_reader_of_the_old_manifest_is_not_disturbed(tmp_path):
    write(tmp_path)
    with open(tmp_path / "test.json") as old:
        write(tmp_path, stop=9)
        assert json.load(old) == manifest(8)
    assert read_manifest(tmp_path / "test.json", "/data") == {
        "a_0": {
            "wav": {"file": "/data/a.wav", "start": 0, "stop": 9},
            "sample_rate": 4000,
        }
    }


@pytest.mark.parametrize(
    "content", ["[]", '{"a": 1}', '{"a": {"wav": {}}, "a": {}}']
)
def test_what_is_no_manifest_is_refused(tmp_path, content):
    path = tmp_path / "test.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=str(path)):
        read_manifest(path, "/data")


def test_what_is_no_file_is_refused(tmp_path):
    """Rather than waited for."""
    write(tmp_path)
    assert read_summary(tmp_path, ["test.json"], "s.json") == SUMMARY
    (tmp_path / "test.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks test\.json$"):
        read_summary(tmp_path, ["test.json"], "s.json")
    os.mkfifo(tmp_path / "test.json")
    with pytest.raises(ValueError, match="test.json is no ordinary file"):
        read_manifest(tmp_path / "test.json", "/data")


def test_braces_in_a_path_are_refused():
    """SpeechBrain would fill them in."""
    cycle = {"id": "a", "wav": Path("/data/{x}/a.wav"), "start": 0, "stop": 8}
    with pytest.raises(ValueError, match=r"{x}.* without {}"):
        make_manifest([{**cycle, "sample_rate": 1}], Path("/data"), ())
