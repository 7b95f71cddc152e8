"""The table of predictions, joined, written and read again.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.runs.predictions import (
    predictions_table,
    read_predictions,
    write_predictions,
)
from qlung_plugin.scores.icbhi_score import LABELS, RespiratoryScore
from tests.unittests.runs.conftest import corpus

COLUMNS = (
    "id, recording, patient, device, age, sex, location, duration, label, "
    "prediction, p_normal, p_crackle, p_wheeze, p_both, quality"
).split(", ")


def test_table_joins_by_id():
    stats, manifest, quality = corpus()
    table = predictions_table(stats, manifest, quality=quality)
    assert table.columns.tolist() == COLUMNS
    assert table["id"].tolist() == sorted(manifest)
    kept = stats.predictions().set_index("id")
    for row in table.to_dict("records"):
        entry = manifest[row["id"]]
        for name in ("recording", "patient", "sex", "label"):
            assert row[name] == entry[name]
        assert row["quality"] == quality[row["id"]]
        assert row["duration"] == entry["duration"]
        for name in ("prediction", "p_normal", "p_both"):
            assert row[name] == kept.loc[row["id"], name]
        if entry["age"] is None:
            assert np.isnan(row["age"])
        else:
            assert row["age"] == entry["age"]
    assert table["location"].isna().all()


def test_quality_from_a_series_in_part_or_nowhere():
    stats, manifest, quality = corpus(5)
    table = predictions_table(stats, manifest, quality=pd.Series(quality))
    assert table["quality"].tolist() == [quality[i] for i in table["id"]]
    partly = predictions_table(stats, manifest, quality={table["id"][0]: 0.5})
    assert partly["quality"].notna().tolist() == [True] + [False] * 4
    assert predictions_table(stats, manifest)["quality"].isna().all()


def test_prediction_without_manifest_entry():
    stats, manifest, _ = corpus(5)
    lost = sorted(manifest)[2]
    del manifest[lost]
    with pytest.raises(ValueError, match=f"1 predictions.*'{lost}'"):
        predictions_table(stats, manifest)


def test_equal_predictions_give_equal_bytes(tmp_path):
    stats, manifest, quality = corpus(50)
    table = predictions_table(stats, manifest, quality=quality)
    write_predictions(table, tmp_path / "a.csv")
    # In another order, with a difference below the sixth decimal.
    again = RespiratoryScore()
    for row in stats.predictions().iloc[::-1].to_dict("records"):
        scores = np.array([[row[f"p_{name}"] for name in LABELS]]) + 1e-12
        again.append([row["id"]], scores, [LABELS.index(row["label"])])
    table = predictions_table(
        again, dict(reversed(manifest.items())), quality=quality
    )
    write_predictions(table, tmp_path / "b.csv")
    first = (tmp_path / "a.csv").read_bytes()
    assert first == (tmp_path / "b.csv").read_bytes()
    assert first.decode().splitlines()[0] == ",".join(COLUMNS)
    assert b"\r" not in first


def test_reading_gives_the_table_back(tmp_path, table):
    path = tmp_path / "predictions.csv"
    # Neither is a missing value, nor "000" the number 0.
    odd = table.assign(device="NA", sex="None")
    assert odd["patient"].iloc[0] == "000"
    write_predictions(odd, path)
    again = read_predictions(path)
    pd.testing.assert_frame_equal(
        again, odd, check_dtype=False, atol=5.1e-7, rtol=0
    )
    first = path.read_bytes()
    write_predictions(again, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("p_both", np.nan, "p_both of 000_.* is nan, not in"),
        ("p_normal", 1.5, "p_normal of 000_.* is 1.5, not in"),
        ("quality", np.inf, "quality of 000_.* is inf, not in"),
        ("prediction", "nothing", "000_.* is called nothing, which is not"),
        ("patient", None, "row 4 lacks its patient"),
    ],
)
def test_what_no_evaluation_writes_is_named(
    tmp_path, table, column, value, message
):
    path = tmp_path / "predictions.csv"
    table = table.copy()
    table.loc[3, column] = value
    write_predictions(table, path)
    with pytest.raises(ValueError, match=f"predictions.csv: {message}"):
        read_predictions(path)


@pytest.mark.parametrize(
    "alter",
    [
        lambda rows: [rows[0], *(row.rpartition(",")[0] for row in rows[1:])],
        lambda rows: [*rows, rows[-1]],
        lambda rows: rows[:1],
        lambda rows: [rows[0], *["a"] * 10**5],
    ],
)
def test_rows_that_are_no_table(tmp_path, table, alter):
    path = tmp_path / "predictions.csv"
    write_predictions(table, path)
    rows = alter(path.read_text().splitlines())
    path.write_text("".join(f"{row}\n" for row in rows))
    with pytest.raises(ValueError, match="predictions.csv: "):
        read_predictions(path)
