"""Tests of ``qlung adapt``.

Authors
 * qlung_plugin contributors
"""

import csv

from qlung_plugin.cli.main import main
from tests.unittests.own_data import make_table


def test_from_a_table_to_classes(tmp_path, capsys):
    """What is adapted classifies, in windows too, by the labels of the table."""
    table = make_table(tmp_path, patients=6)
    out = tmp_path / "adapted"
    assert main(["adapt", "--data", str(table), "-o", str(out)]) == 0
    told = capsys.readouterr()
    assert "6 patients are few" in told.err
    for text in (
        "learned from 12 cycles (normal 6, wheeze 6) of 6 patients",
        "adapted, at its operating point",
        "as it was, at its operating point",
        'always "normal"',
        "model.safetensors",
    ):
        assert text in told.out
    command = ["classify", str(tmp_path / "0.wav"), "--model", str(out)]
    assert main([*command, "--cycles", "windows", "--format", "csv"]) == 0
    row = next(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {"p_normal", "p_wheeze"} < set(row) and "p_both" not in row


def test_what_is_wrong_is_a_line(tmp_path, capsys):
    table = make_table(tmp_path, patients=2)
    text = table.read_text().replace("3.0", "30.0")
    table.write_text(text)
    out = tmp_path / "adapted"
    assert main(["adapt", "--data", str(table), "-o", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "table.csv row 3" in lines[-1] and "30 s" in lines[-1]
    assert not out.exists()
