"""Tests of recordings in object stores.

Authors
 * qlung_plugin contributors
"""

import io

import fsspec
import numpy as np
import pytest
import soundfile

from qlung_plugin.dataio.annotations import candidates
from qlung_plugin.dataio.finding import find_recordings
from qlung_plugin.dataio.objects import copied, find_objects

NAMES = (
    *("a.wav", "a.txt", "b.WAV", "b.json", "c/a.flac", "c/a.TXT", "c/n.txt"),
    *("c/d/e.mp3", "c/d/e.Table.1.selections.txt", "notes.pdf"),
    *(".hidden.wav", ".hidden/x.wav", "c/._a.wav"),
)


@pytest.fixture
def store():
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()


def test_what_is_found_is_what_is_found_on_a_disk(store, tmp_path):
    for name in NAMES:
        store.pipe_file(f"/ward/{name}", b"")
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_objects("memory://ward/")
    expected = find_recordings([tmp_path]).recordings
    assert [r.url for r in found] == [
        f"memory:///ward/{path.relative_to(tmp_path)}" for path in expected
    ]
    for recording, path in zip(found, expected):
        assert list(recording.beside) == [
            f"memory:///ward/{candidate.relative_to(tmp_path)}"
            for candidate in candidates("auto", path)
        ]
    assert find_objects("memory://ward/a.wav") == found[:1]
    store.pipe_file("/empty/a.txt", b"")
    with pytest.raises(FileNotFoundError, match="memory://empty holds no"):
        find_objects("memory://empty")
    with pytest.raises(FileNotFoundError, match="memory://no does not exist"):
        find_objects("memory://no")


def test_a_copy_has_what_annotates_it_and_is_gone(store):
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(4000), 4000, format="WAV")
    store.pipe({"/w/a.wav": sound.getvalue(), "/w/a.txt": b"0\t1\t0\t0\n"})
    [recording] = find_objects("memory://w")
    with copied(recording) as path:
        assert path.name == "a.wav" and path.with_suffix(".txt").is_file()
        assert path.read_bytes() == sound.getvalue()
    assert not path.parent.exists()
    store.rm_file("/w/a.txt")
    with pytest.raises(FileNotFoundError, match="memory:///w/a.txt does not"):
        with copied(recording):
            pass


def test_what_may_not_be_read_is_told(store, monkeypatch):
    store.pipe_file("/w/a.wav", b"")

    def refuse(*args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(store), "ls", refuse)
    with pytest.raises(
        PermissionError, match="^memory://w cannot be reached: "
    ):
        find_objects("memory://w")
    with pytest.raises(ValueError, match="^nil://w cannot be opened: Protocol"):
        find_objects("nil://w")
