"""Files that are written as a whole or not at all.

Authors
 * qlung_plugin contributors
"""

import json
import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from qlung_plugin.figures.style import legend_below, make_figure
from qlung_plugin.utils.files import write_figure, write_json


def test_json_is_strict_and_keeps_the_order(tmp_path):
    nan = float("nan")
    written = {
        "z": nan,
        "a": (1, np.float32(0.5), np.int64(3), np.float64(nan)),
        "b": {"c": np.array([1.0, nan]), "d": None, "e": True, "f": "ü"},
    }
    path = tmp_path / "new folder" / "x.json"
    write_json(written, path)
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n") and "NaN" not in text
    results = json.loads(text)
    assert list(results) == ["z", "a", "b"]
    assert results["z"] is None
    assert results["a"] == [1, 0.5, 3, None]
    assert results["b"] == {"c": [1.0, None], "d": None, "e": True, "f": "ü"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"loss": float("inf")}, path)
    assert path.read_text(encoding="utf-8") == text


class Breaking(Figure):
    """A figure whose disk fills up while it is saved."""

    def savefig(self, fname, **kwargs):
        fname.write_bytes(b"half")
        raise OSError("no space left")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figure.svg"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no space"):
        write_figure(Breaking(), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["figure.svg"]


@pytest.mark.parametrize("name", ["figure.png", "figure.pdf"])
def test_a_figure_is_written_as_matplotlib_would(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # of a PDF
    figures = []
    for _ in range(2):
        figure, one, two = make_figure((6, 4), "A title", (1, 2))
        one.plot([1, 5, 2], label="a $ is no formula")
        two.bar(["a class of a long name", "b"], [3, 1e6])
        legend_below(one, 2)
        figures.append(figure)
    write_figure(figures[0], tmp_path / name)
    figures[1].savefig(tmp_path / f"expected_{name}")
    expected = (tmp_path / f"expected_{name}").read_bytes()
    assert (tmp_path / name).read_bytes() == expected


def test_whoever_reads_the_old_file_meanwhile_keeps_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with open(path, encoding="utf-8") as reader:
        write_json({"a": 2}, path)
        assert reader.read() == "old"
    assert path.read_text() != "old"
