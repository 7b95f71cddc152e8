"""The preparations that go upstream write the manifests of the package's.

Authors
 * qlung_plugin contributors
"""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from qlung_plugin.synthetic.sprsound import generate_sprsound_like
from tests.upstream.conftest import ROOT

COUNTED = ("recordings", "subset", "patients_on_both_sides")


def load(path):
    spec = importlib.util.spec_from_file_location("prepare", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def icbhi():
    """Ours, and the one that goes upstream."""
    path = "recipes/ICBHI/icbhi_prepare.py"
    both = load(path), load(f"tools/upstream/icbhi/{path}")
    return [module.prepare_icbhi for module in both]


@pytest.fixture(scope="module")
def sprsound():
    path = "recipes/SPRSound/sprsound_prepare.py"
    both = load(path), load(f"tools/upstream/sprsound/{path}")
    return [module.prepare_sprsound for module in both]


@pytest.fixture(scope="module")
def icbhi_corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("icbhi") / "data"
    generate_icbhi_like(folder, recordings=1)
    return folder


@pytest.fixture(scope="module")
def sprsound_corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sprsound") / "data"
    generate_sprsound_like(folder, recordings=1)
    return folder


@pytest.fixture
def odd_corpus(icbhi_corpus, tmp_path):
    """A copy to be changed."""
    return shutil.copytree(icbhi_corpus, tmp_path / "data")


def check_same(prepare, tmp_path, data_folder, manifests, **options):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    expected = prepare[0](str(data_folder), ours, **options)
    found = prepare[1](str(data_folder), theirs, **options)
    for name in manifests:
        manifest = (theirs / name).read_bytes()
        assert manifest == (ours / name).read_bytes(), name
    assert {k: found[k] for k in COUNTED} == {k: expected[k] for k in COUNTED}
    for partition, counts in found["partitions"].items():
        known = expected["partitions"][partition]
        assert counts == {key: known[key] for key in counts}
    assert set(expected) == set(found)
    assert prepare[1](str(data_folder), theirs, skip_prep=True) == found
    return found


PARTITIONS = ("train.json", "valid.json", "test.json")


@pytest.mark.parametrize("fraction, fold", [(0.2, 1), (0.5, 0), (0, 0)])
def test_icbhi(icbhi, icbhi_corpus, tmp_path, fraction, fold):
    options = {"valid_fraction": fraction, "valid_fold": fold, "split_seed": 3}
    check_same(icbhi, tmp_path, icbhi_corpus, PARTITIONS, **options)


def test_icbhi_with_what_is_odd_but_usable(icbhi, odd_corpus, tmp_path):
    (odd_corpus / "demographic_info.txt").unlink()
    audio = odd_corpus / "audio_and_txt_files"
    long, renamed, unnamed, silent, *_ = sorted(audio.glob("*.txt"))
    lines = long.read_text().splitlines()
    times, kinds = lines[1][:-3], lines[1][-3:]
    contrary = times + ("1\t1" if kinds == "0\t0" else "0\t0")
    lines += [lines[0], contrary, "1.0\t1.0\t0\t0", "99.0\t100.0\t0\t0"]
    lines[-5] = lines[-5].replace(lines[-5].split()[1], "55.5")
    long.write_text("\n".join(lines))
    for suffix in (".txt", ".wav"):
        old = renamed.with_suffix(suffix)
        old.rename(audio / f"{old.stem.rpartition('_')[0]}_Other{suffix}")
    silent.with_suffix(".wav").unlink()
    split = odd_corpus / "ICBHI_challenge_train_test.txt"
    lines = split.read_text().splitlines(keepends=True)
    split.write_text("".join(x for x in lines if unnamed.stem not in x))
    found = check_same(icbhi, tmp_path, odd_corpus, PARTITIONS)
    assert len(found["warnings"]) == 7, found["warnings"]


def test_malformed_annotations_are_named(icbhi, odd_corpus, tmp_path):
    annotation = min((odd_corpus / "audio_and_txt_files").glob("*.txt"))
    annotation.write_text("0.5\t1.5\t2\t0\n")
    with pytest.raises(ValueError, match=f"{annotation.name}:1: crackle"):
        icbhi[1](str(odd_corpus), tmp_path / "run")
    annotation.write_text("\n0.5\t1.5\t0\n")
    with pytest.raises(ValueError, match=f"{annotation.name}:2: 3 fields"):
        icbhi[1](str(odd_corpus), tmp_path / "run")


@pytest.mark.parametrize("continuous", ["merge", "drop"])
@pytest.mark.parametrize("test", ["inter", "intra", "train", "inter+intra"])
def test_sprsound(sprsound, sprsound_corpus, tmp_path, test, continuous):
    options = {"test": test, "continuous": continuous}
    check_same(sprsound, tmp_path, sprsound_corpus, ["test.json"], **options)


def real(name, *marks):
    """A folder of real recordings, or a skip."""
    folder = Path(os.environ.get("QLUNG_DATA", "missing"), name)
    return pytest.param(
        folder,
        marks=[
            pytest.mark.skipif(
                not folder.is_dir(), reason=f"QLUNG_DATA has no {name}"
            ),
            *marks,
        ],
        id=name,
    )


@pytest.mark.parametrize(
    "folder", [real("icbhi_4k", pytest.mark.slow), real("icbhi_sc")]
)
def test_icbhi_on_real_recordings(icbhi, tmp_path, folder):
    check_same(icbhi, tmp_path, folder, PARTITIONS)


@pytest.mark.parametrize("folder", [real("sprsound")])
def test_sprsound_on_real_recordings(sprsound, tmp_path, folder):
    check_same(sprsound, tmp_path, folder, ["test.json"], test="intra")
