"""The figures of a run show what its files say.

Authors
 * qlung_plugin contributors
"""

import pandas as pd
import pytest

from qlung_plugin.figures.quality import quality_and_errors_figure
from qlung_plugin.figures.results import confusion_matrix_figure
from qlung_plugin.runs.results import write_run_results
from qlung_plugin.runs.run_figures import write_run_figures
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.quality_analysis import compare_with_errors
from qlung_plugin.utils.files import write_figure

DATA = {"database": "ICBHI 2017", "protocol": "official", "subset": None}


@pytest.fixture(name="figures")
def fixture_figures(table, tmp_path):
    """Those of two checkpoints, by the name of their file."""
    tables = {"selected": table, "last": table[::-1]}
    metrics = write_run_results(
        tmp_path, tables, {"selected": 2, "last": 3}, DATA, LABELS, "test"
    )
    assert not (tmp_path / "figures").exists()
    history = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [2.0, 1.0], "valid_score": [40, 50]}
    )
    write_run_figures(tmp_path, tables, metrics, LABELS, history)
    files = (tmp_path / "figures").iterdir()
    return {path.stem: path.read_bytes() for path in files}


def test_each_figure_is_what_the_files_say(figures, table, tmp_path):
    """And no way through a file of JSON changes anything of it."""
    assert sorted(figures) == [
        "confusion_last",
        "confusion_selected",
        "quality",
        "quality_and_errors",
        "training",
    ]
    counts = pd.crosstab(table["label"], table["prediction"])
    counts = counts.reindex(index=LABELS, columns=LABELS, fill_value=0)
    confusion = confusion_matrix_figure(
        counts.to_numpy().tolist(), LABELS, "ICBHI 2017, test, last checkpoint"
    )
    errors = quality_and_errors_figure(
        table,
        compare_with_errors(table, LABELS),
        "Quality and errors: ICBHI 2017, test, best validation score, on"
        " patients held out from training (epoch 2)",
        "Score",
    )
    expected = tmp_path / "expected.png"
    for name, figure in (
        ("confusion_last", confusion),
        ("quality_and_errors", errors),
    ):
        write_figure(figure, expected)
        assert figures[name] == expected.read_bytes()
    assert figures["confusion_selected"] != figures["confusion_last"]  # title
