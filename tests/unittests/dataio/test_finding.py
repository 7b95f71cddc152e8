"""Tests of finding recordings in folders, whatever else is in there.

Authors
 * qlung_plugin contributors
"""

import os

import pytest

from qlung_plugin.dataio.finding import find_recordings


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "recordings"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.wav", "a.M4A", "deep/c.zsa", "notes.txt", "a.csv"):
        (folder / name).write_text(name)
    return folder


def names(found, folder):
    return [str(path.relative_to(folder)) for path in found.recordings]


def test_what_may_be_audio_is_found(folder):
    """But for what is hidden; files are taken as they are."""
    (folder / ".trash").mkdir()
    (folder / ".trash" / "c.wav").touch()
    (folder / "._b.wav").touch()
    found = find_recordings([folder])
    assert names(found, folder) == ["a.M4A", "b.wav", "deep/c.zsa"]
    assert found.unreachable == found.repeated == []
    found = find_recordings([folder / "notes.txt", str(folder / "b.wav")])
    assert names(found, folder) == ["notes.txt", "b.wav"]


def test_what_cannot_be_reached_is_told(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.wav").touch()
    (folder / "gone.wav").symlink_to(tmp_path / "nothing.wav")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "null.flac").symlink_to("/dev/null")
    os.mkfifo(folder / "pipe.wav")
    found = find_recordings([folder])
    assert names(found, folder) == ["a.M4A", "b.wav", "deep/c.zsa"]
    assert found.unreachable == [
        f"{folder / 'gone.wav'} is a link to nothing",
        f"{folder / 'linked'} is a link to a folder, which is not followed:"
        " name that, too",
        f"{folder / 'null.flac'} is no ordinary file",
        f"{folder / 'pipe.wav'} is no ordinary file",
    ]


def test_links_to_what_is_given_are_no_loss(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.wav").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "link.wav").symlink_to(elsewhere / "d.wav")
    found = find_recordings([folder, elsewhere])
    assert found.unreachable == []
    assert names(found, folder)[-1] == "link.wav"
    assert found.repeated == [
        f"{elsewhere / 'd.wav'} is the same file as {folder / 'link.wav'}, and"
        " is left out"
    ]


def test_each_file_once(folder):
    os.link(folder / "b.wav", folder / "z.wav")
    found = find_recordings([folder, folder / "b.wav", folder])
    assert names(found, folder) == ["a.M4A", "b.wav", "deep/c.zsa"]
    assert found.repeated == [
        f"{folder / 'z.wav'} is the same file as {folder / 'b.wav'}, and is"
        " left out"
    ]


def test_folders_that_may_not_be_looked_into(folder, monkeypatch):
    closed = folder / "deep"
    scandir = os.scandir

    def scan(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    found = find_recordings([folder])
    assert names(found, folder) == ["a.M4A", "b.wav"]
    assert found.unreachable == [
        f"{closed} cannot be looked into (Permission denied)"
    ]


def test_nothing_to_find(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no recording"):
        find_recordings([tmp_path])
    (tmp_path / "a.wav").symlink_to("nothing")
    assert find_recordings([tmp_path]).recordings == []
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_recordings([tmp_path / "a.wav"])
