"""The report on quality says what was computed, in files.

Authors
 * qlung_plugin contributors
"""

import json

import pytest

from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.quality_report import (
    format_quality_analysis,
    write_quality_analysis,
)
from qlung_plugin.scores.quality_analysis import compare_with_errors
from tests.unittests.figures.test_quality import make_table

ABOUT = {
    "data": "Generated",
    "partition": "test",
    "selection": "best validation score (epoch 3)",
}


@pytest.fixture(name="table")
def fixture_table():
    return make_table()


def test_written_analysis_is_complete(table, tmp_path):
    analysis = write_quality_analysis(table, RunFolder(tmp_path), ABOUT)
    written = json.loads((tmp_path / "quality_analysis.json").read_text())
    assert list(written) == [
        "quality",
        "quality_snr",
        "quality_none",
        "confidence",
    ]
    assert written["quality"] == analysis["quality"]
    assert written["quality_none"]["area"] is None
    assert written["quality_snr"]["missing"] == 20
    text = (tmp_path / "quality_analysis.txt").read_text()
    assert text == format_quality_analysis(analysis, ABOUT)


def test_report_says_what_it_is_of_and_all_figures(table):
    analysis = compare_with_errors(table, n_resamples=50)
    text = format_quality_analysis(analysis, ABOUT)
    for key, value in ABOUT.items():
        assert f"{key}: {value}\n" in text
    results = analysis["quality"]
    low, high = results["interval"]
    row = next(
        line for line in text.splitlines() if line.split()[:1] == ["quality"]
    )
    assert row.split()[:7] == [
        "quality",
        "120",
        "0",
        str(results["patients"]),
        f"{results['error']:.2f}",
        f"{results['aurc']:.2f}",
        f"{results['gain']:.2f}",
    ]
    assert f"{results['area']:.2f} ({low:.2f} to {high:.2f})" in row
    assert f"{results['spearman']:.3f}" in row
    # The quality was made to go with being right: a p value of no more digits.
    assert row.endswith("<0.001")
    assert "independent" in text
    assert "nan" not in text
    # A line per measure and quartile.
    quartiles = text.split("\n\n")[-2].splitlines()[1:]
    assert len(quartiles) == 4 * len(analysis)
