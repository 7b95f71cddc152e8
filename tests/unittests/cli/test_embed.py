"""Tests of `qlung embed`: rows beside those of classify, in three formats.

Authors
 * qlung_plugin contributors
"""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from qlung_plugin.cli.main import main
from qlung_plugin.dataio import embedding_tables
from qlung_plugin.dataio.embedding_tables import (
    convert_rows,
    read_embeddings,
    write_rows,
)
from qlung_plugin.inference.classifier import RespiratorySoundClassifier

RATE = 4000
DIM = 96  # of the small model


@pytest.fixture
def recordings(tmp_path):
    """Of the first, the second cycle is silent; the last is no audio."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        samples = 0.1 * generator.standard_normal(6 * RATE)
        if name == "a":
            samples[2 * RATE : 4 * RATE] = 0
        soundfile.write(folder / f"{name}.wav", samples, RATE)
    (folder / "a.csv").write_text("start,end\n0,2\n2,4\n4,6\n")
    (folder / "b.csv").write_text("start,end\n1,3\n")
    (folder / "z.wav").write_text("no audio")
    return folder


@pytest.fixture
def embed(originals, recordings, tmp_path, capsys):
    """Calls qlung embed, and says what it printed."""

    def run(output, *options):
        call = ["embed", recordings, "--model", originals / "exported"]
        code = main(
            [str(a) for a in [*call, "-o", tmp_path / output, *options]]
        )
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err

    return run


@pytest.fixture(params=["csv", "npz", "parquet"])
def output(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return f"embeddings.{request.param}"


def test_rows_are_those_of_classify_and_embeddings_those_of_encode(
    embed, output, originals, recordings, tmp_path, capsys
):
    code, err = embed(output)
    assert code == 1 and "z.wav is not readable" in err
    table = read_embeddings(tmp_path / output)
    model = originals / "exported"
    call = "classify", recordings, "--model", model, "--format", "csv"
    assert main([str(a) for a in call]) == 1
    (tmp_path / "c.csv").write_text(capsys.readouterr().out)
    classified = pd.read_csv(tmp_path / "c.csv")
    e_columns = [f"e_{i}" for i in range(DIM)]
    assert list(table) == [*classified, *e_columns]
    pd.testing.assert_frame_equal(
        table[list(classified)], classified, check_dtype=False, atol=1e-6
    )
    # What goes into the classifier: a cycle as a batch of its own.
    classifier = RespiratorySoundClassifier.from_hparams(model)
    samples, _ = soundfile.read(recordings / "b.wav", dtype="float32")
    cycle = torch.tensor(samples[RATE : 3 * RATE])
    with torch.inference_mode():
        expected = classifier.engine([cycle], RATE)[0][0]
    embeddings = table[e_columns].to_numpy()
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings[3], expected, rtol=1e-6, atol=1e-6)
    assert table["prediction"][1] == "unusable"
    assert np.isnan(embeddings).all(1).tolist() == [False, True, False, False]


def test_by_recording_it_is_the_mean_of_the_cycles_that_are_heard(
    embed, originals, recordings, tmp_path
):
    embed("cycles.csv")
    embed("recordings.csv", "--by", "recording")
    cycles = read_embeddings(tmp_path / "cycles.csv")
    table = read_embeddings(tmp_path / "recordings.csv")
    assert list(table) == list(cycles)
    assert table["start"].tolist() == [0, 0] and table["end"].tolist() == [6, 6]
    names = [name for name in cycles if name[:2] in ("e_", "p_")]
    first = cycles[names].to_numpy()
    np.testing.assert_allclose(
        table[names].to_numpy()[0], (first[0] + first[2]) / 2, atol=1e-6
    )
    np.testing.assert_allclose(table[names].to_numpy()[1], first[3])
    assert table["quality"][0] == pytest.approx(cycles["quality"][:3].mean())
    samples = np.zeros(2 * RATE)
    soundfile.write(recordings / "a.wav", samples, RATE)
    (recordings / "a.csv").write_text("start,end\n0,2\n")
    model = RespiratorySoundClassifier.from_hparams(originals / "exported")
    silent = model.embed_file(recordings / "a.wav", by="recording").cycles
    assert silent["prediction"].tolist() == ["unusable"]
    assert silent[names].isna().all(axis=None)
    with pytest.raises(ValueError, match="by='window' is neither"):
        model.embed_file(recordings / "a.wav", by="window")


def test_gone_on_with_it_is_the_same(embed, output, recordings, tmp_path):
    """Whatever is there: rows of a kill, or the table; also after an addition."""
    embed(output)
    whole = (tmp_path / output).read_bytes()
    code, err = embed(output)
    assert code == 2 and f"{output} exists: --resume" in err
    kept = (recordings / "b.wav").read_bytes()
    (recordings / "b.wav").unlink()
    embed(output, "--resume")
    assert (tmp_path / output).read_bytes() != whole
    (recordings / "b.wav").write_bytes(kept)
    code, err = embed(output, "--resume")
    assert code == 1 and "qlung: 1 of 3 were finished before" in err
    assert (tmp_path / output).read_bytes() == whole
    if output.endswith("csv"):
        return
    # Killed between the last row and the table.
    rows = tmp_path / f"{output}.csv"
    write_rows(read_embeddings(tmp_path / output), rows)
    rows.write_bytes(rows.read_bytes()[:-9])
    (tmp_path / output).unlink()
    assert embed(output, "--resume")[0] == 1 and not rows.exists()
    assert (tmp_path / output).read_bytes() == whole
    (tmp_path / f"{output}.csv.progress").unlink()
    code, err = embed(output, "--resume")
    assert code == 2 and "cannot be gone on with" in err
    assert (tmp_path / output).read_bytes() == whole and not rows.exists()


def test_tables_of_odd_names_and_numbers_are_the_same(
    output, tmp_path, monkeypatch
):
    """In pieces of two rows; a label may be NA, and a cycle without any."""
    monkeypatch.setattr(embedding_tables, "ROWS_AT_ONCE", 2)
    generator = np.random.default_rng(0)
    e = generator.standard_normal((5, 3)).astype(np.float32) * 10.0**-4
    e[3] = np.nan
    table = pd.DataFrame(
        {
            "recording": ["NA", 'a,"b".wav', "null", "x\ny", "ä"],
            "start": [0.0, 0.1, 2, 3, 1e5],
            "end": [1.0, 2.0, 3, 4, 1e5 + 1],
            "prediction": ["NA", "nan", "None", "unusable", "a b"],
            "p_NA": [0.25, 1 / 3, 1, np.nan, 0],
            "truncated": [0, 1, 0, 0, 0],
        }
    ).join(pd.DataFrame(e, columns=["e_0", "e_1", "e_2"]))
    write_rows(table, tmp_path / "rows.csv")
    if output.endswith("csv"):
        output = "rows.csv"
    else:
        convert_rows(tmp_path / "rows.csv", tmp_path / output)
    read = read_embeddings(tmp_path / output)
    pd.testing.assert_frame_equal(
        read, table, check_dtype=False, rtol=1e-8, atol=0
    )
    assert (read["e_1"].to_numpy() == e[:, 1])[:3].all()


def test_reading_needs_no_torch(embed, output, tmp_path):
    embed(output)
    script = (
        "import sys, numpy, pandas\n"
        "path = sys.argv[1]\n"
        "if path.endswith('npz'):\n"
        "    shape = numpy.load(path)['embeddings'].shape\n"
        "elif path.endswith('csv'):\n"
        "    shape = pandas.read_csv(path).filter(regex='^e_').shape\n"
        "else:\n"
        "    shape = pandas.read_parquet(path).filter(regex='^e_').shape\n"
        "print(*shape, 'torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / output)],
        capture_output=True,
        text=True,
    )
    assert run.stdout == f"4 {DIM} False\n", run.stderr


def test_what_cannot_be_written_is_told_first(embed, tmp_path, monkeypatch):
    code, err = embed("embeddings.txt")
    assert code == 2 and ".csv, .npz, .parquet" in err
    monkeypatch.setattr(
        embedding_tables.importlib.util, "find_spec", lambda name: None
    )
    code, err = embed("embeddings.parquet")
    assert code == 2 and 'pip install "qlung_plugin[parquet]"' in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recordings"]


def test_what_is_no_table_is_told(tmp_path):
    path = tmp_path / "t.csv"
    for content in ("", "a,b\n1,2\n", "recording,start,end,e_0\na,x,1,2\n"):
        path.write_text(content)
        with pytest.raises(ValueError, match="t.csv is no table of embeddings"):
            read_embeddings(path)
    npz = tmp_path / "t.npz"
    npz.write_text("no archive")
    with pytest.raises(ValueError, match="t.npz is no table of embeddings"):
        read_embeddings(npz)
    np.savez(npz, other=np.zeros(3))
    with pytest.raises(ValueError, match="t.npz is no table of embeddings"):
        read_embeddings(npz)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_embeddings(tmp_path / "none.csv")
