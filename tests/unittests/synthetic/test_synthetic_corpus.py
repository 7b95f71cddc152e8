"""Tests of what all generated corpora share: a folder and a command.

Authors
 * qlung_plugin contributors
"""

import csv
import hashlib
import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from qlung_plugin.synthetic import heart, icbhi, sprsound
from qlung_plugin.synthetic.corpus import deal_sounds

GENERATORS = {
    heart: (heart.generate_heart_like, {"all": 2}),
    icbhi: (icbhi.generate_icbhi_like, {"test": 1, "train": 1}),
    sprsound: (
        sprsound.generate_sprsound_like,
        {"inter": 1, "intra": 1, "train": 2},
    ),
}


@pytest.fixture(params=GENERATORS, ids=lambda module: module.DATABASE)
def module(request):
    """A generator's module."""
    return request.param


@pytest.fixture
def small(module):
    """Writes a small corpus."""

    def generate(folder, seed=0, patients=2, recordings=1):
        return GENERATORS[module][0](folder, seed, patients, recordings)

    return generate


def digest(folder):
    """A checksum per file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def wavs(folder):
    """Checksums of the recordings."""
    return {d for path, d in digest(folder).items() if path.endswith(".wav")}


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, small):
    (tmp_path / "empty").mkdir()
    small(tmp_path / "empty")
    small(tmp_path / "new" / "nested")
    small(tmp_path / "other", seed=1)
    first = digest(tmp_path / "empty")
    assert digest(tmp_path / "new" / "nested") == first
    assert not wavs(tmp_path / "other") & wavs(tmp_path / "empty")
    # Over a previous corpus: what stands there is only the new one.
    small(tmp_path / "other")
    assert digest(tmp_path / "other") == first


def test_a_folder_with_other_content_is_refused(tmp_path, module, small):
    """The real database, too, has the same names, but not the same README."""
    for name in ("more", "database"):
        small(tmp_path / name)
    (tmp_path / "more" / "mine.csv").write_text("in a previous corpus")
    (tmp_path / "database" / "README.txt").write_text("The database")
    (tmp_path / "notes.txt").write_text("mine")
    other = next(one for one in GENERATORS if one is not module)
    GENERATORS[other][0](tmp_path / "another", patients=2, recordings=1)
    before = digest(tmp_path)
    for name in (".", "more", "database", "notes.txt", "another"):
        with pytest.raises(FileExistsError, match="new or an empty folder"):
            small(tmp_path / name, seed=1)
    assert digest(tmp_path) == before


def test_half_a_corpus_is_never_left(tmp_path, monkeypatch, small):
    small(tmp_path / "old")
    before = digest(tmp_path)
    write, calls = soundfile.write, []

    def fail_at_the_second(*arguments):
        calls.append(1)
        if len(calls) % 2 == 0:
            raise OSError("No space left on device")
        write(*arguments)

    monkeypatch.setattr(soundfile, "write", fail_at_the_second)
    for target in ("new", "old"):
        with pytest.raises(OSError, match="No space left"):
            small(tmp_path / target, seed=1)
    assert digest(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    "wrong", [{"patients": 1}, {"patients": 100}, {"recordings": 0}]
)
def test_impossible_sizes_are_refused(tmp_path, small, wrong):
    with pytest.raises(ValueError, match="must be"):
        small(tmp_path / "demo", **wrong)
    assert not (tmp_path / "demo").exists()


def test_the_command_writes_a_corpus_and_prints_a_summary(
    tmp_path, capsys, module
):
    folder = tmp_path / "demo"
    sizes = ["--patients", "2", "--recordings", "1"]
    module.main([str(folder), "--seed", "3", *sizes])
    summary = json.loads(capsys.readouterr().out)
    _, recordings = GENERATORS[module]
    assert summary["recordings"] == recordings
    assert len(wavs(folder)) == sum(recordings.values())
    readme = (folder / "README.txt").read_text()
    assert f"NOT {module.DATABASE}" in readme
    assert "NO SCORE ON IT IS A RESULT" in readme
    with open(folder / "generation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["partition"] for row in rows) == recordings
    files = {path.stem for path in folder.rglob("*.wav")}
    assert {row["recording"] for row in rows} == files
    with pytest.raises(SystemExit) as stop:
        module.main([str(tmp_path)])
    assert stop.value.code == 2
    assert "not a corpus" in capsys.readouterr().err


def test_sounds_are_dealt_by_their_shares():
    dealt = deal_sounds(
        {"a": 0.5, "b": 0.3, "c": 0.2}, 20, np.random.default_rng(0)
    )
    assert {len(sounds) for sounds in dealt} == {4, 5, 6}
    every = sum(dealt, [])
    for name, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)):
        assert every.count(name) == pytest.approx(share * len(every), abs=1)
