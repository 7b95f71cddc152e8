"""From predictions to the files of a run: one table, and all from it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from qlung_plugin.runs.predictions import (
    predictions_table,
    read_predictions,
    write_predictions,
)
from qlung_plugin.runs.results import (
    age_group,
    evaluate_predictions,
    format_report,
)
from qlung_plugin.scores.icbhi_score import LABELS, RespiratoryScore
from qlung_plugin.scores.intervals import bootstrap_interval, patient_confusions
from qlung_plugin.utils.files import write_json

COLUMNS = (
    "id, recording, patient, device, age, sex, location, label, prediction, "
    "p_normal, p_crackle, p_wheeze, p_both, quality"
).split(", ")
AGE_GROUPS = ["under 3", "18 to 64", "65 and over"]
DATA = {"data": "ICBHI 2017", "partition": "test", "selection": "last epoch"}


def corpus(n_cycles=300, n_patients=12, seed=0):
    """Predictions in random order, their manifest, and their quality."""
    rng = np.random.default_rng(seed)
    manifest = {}
    for cycle in range(n_cycles):
        patient = rng.integers(n_patients)
        manifest[f"{patient:03d}_{cycle}"] = {
            "recording": f"{patient:03d}_1b1",
            "patient": f"{patient:03d}",
            "device": ["Meditron", "Litt3200", None][patient % 3],
            "age": [0.5, 18, 65.0, None][patient % 4],
            "sex": ["F", "M"][patient % 2],
            "label": LABELS[rng.integers(4)],
        }
    ids = rng.permutation(list(manifest)).tolist()
    targets = [LABELS.index(manifest[i]["label"]) for i in ids]
    logits = rng.normal(size=(n_cycles, 4))
    logits[range(n_cycles), targets] += 1
    stats = RespiratoryScore()
    probabilities = torch.tensor(logits).softmax(1)
    stats.append(ids, probabilities, torch.tensor(targets)[:, None])
    return stats, manifest, dict(zip(ids, rng.uniform(size=n_cycles)))


@pytest.fixture(name="table", scope="module")
def fixture_table():
    stats, manifest, quality = corpus()
    return predictions_table(stats, manifest, quality=quality)


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


def test_further_quality_measures_have_columns_of_their_own(tmp_path):
    stats, manifest, quality = corpus(5)
    flatness = {cycle: value / 2 for cycle, value in quality.items()}
    table = predictions_table(
        stats, manifest, quality=quality, quality_flatness=flatness
    )
    assert table.columns.tolist() == [*COLUMNS, "quality_flatness"]
    assert table["quality_flatness"].tolist() == (table["quality"] / 2).tolist()
    write_predictions(table, tmp_path / "predictions.csv")
    found = read_predictions(tmp_path / "predictions.csv")
    assert found["quality_flatness"].dtype == float


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
    found = read_predictions(path)
    pd.testing.assert_frame_equal(
        found, odd, check_dtype=False, atol=5.1e-7, rtol=0
    )
    first = path.read_bytes()
    write_predictions(found, path)
    assert path.read_bytes() == first


def test_everything_comes_from_the_file(tmp_path, table):
    write_predictions(table, tmp_path / "predictions.csv")
    found = read_predictions(tmp_path / "predictions.csv")
    from_file, from_memory = (
        evaluate_predictions(part, LABELS, 200) for part in (found, table)
    )
    assert str(from_file) == str(from_memory)


def test_evaluation_equals_its_parts(table):
    metrics = evaluate_predictions(table, LABELS, n_resamples=300, seed=4)
    normal = table["label"] == "normal"
    right = table["label"] == table["prediction"]
    assert metrics["sp"] == pytest.approx(100 * right[normal].mean())
    assert metrics["se"] == pytest.approx(100 * right[~normal].mean())
    assert metrics["patients"] == table["patient"].nunique()
    confusions = patient_confusions(table, LABELS)
    assert metrics["confusion"] == confusions.sum(0).tolist()
    expected = bootstrap_interval(confusions, 300, 0.95, seed=4)
    for name, ends in expected.items():
        assert metrics["interval"][name] == list(ends)
        assert ends[0] < metrics[name] < ends[1]
    assert metrics["interval"]["confidence"] == 0.95


def test_strata_equal_the_evaluation_of_their_rows(table):
    strata = evaluate_predictions(table, LABELS, 10)["strata"]
    device, age = table["device"], table["age"]
    devices = ["Litt3200", "Meditron", "unknown"]
    devices = {name: device.fillna("unknown") == name for name in devices}
    ages = [age == 0.5, age == 18, age == 65, age.isna()]
    ages = dict(zip([*AGE_GROUPS, "unknown"], ages))
    rows_of = {"device": devices, "age_group": ages}
    for kind, values in rows_of.items():
        assert list(strata[kind]) == list(values)  # in this order
        for value, chosen in values.items():
            expected = evaluate_predictions(table[chosen], LABELS, 10)
            expected["cycles"] = chosen.sum()
            for name, figure in strata[kind][value].items():
                assert figure == expected[name]


def test_age_groups_at_their_edges():
    ages = pd.Series([0, 2.99, 3, 5.9, 6, 11.9, 12, 17.9, 18, 64.9, 65, 93])
    ages = pd.concat([ages, pd.Series([np.nan])])
    groups = "under 3", "3 to 5", "6 to 11", "12 to 17", "18 to 64"
    expected = [*np.repeat([*groups, "65 and over"], 2), "unknown"]
    assert age_group(ages).tolist() == expected


def test_no_metadata_at_all():
    stats, manifest, _ = corpus(40)
    bare = {key: {"patient": manifest[key]["patient"]} for key in manifest}
    metrics = evaluate_predictions(predictions_table(stats, bare), LABELS, 10)
    assert metrics["strata"] == {}


def test_unknown_patient_and_empty_table(table):
    with pytest.raises(ValueError, match="300 cycles name no patient"):
        evaluate_predictions(table.assign(patient=None), LABELS, 10)
    with pytest.raises(ValueError, match="no predictions"):
        evaluate_predictions(table.head(0), LABELS, 10)


def test_report_names_what_it_is_of(table):
    metrics = evaluate_predictions(table, LABELS, 200)
    lines = format_report("QLung", metrics, DATA).splitlines()
    fields = [" ".join(line.split()) for line in lines]
    assert lines[0] == "QLung"
    for name, text in DATA.items():
        assert f"{name}: {text}" in fields
    assert "patients: 12" in fields
    assert any(field.startswith("Se: exact class") for field in fields)
    low, high = metrics["interval"]["se"]
    assert f"sensitivity {metrics['se']:.2f} {low:.2f} {high:.2f}" in fields
    for name, counts in zip(LABELS, metrics["confusion"]):
        assert f"{name} {' '.join(map(str, counts))}" in fields
        recall = metrics["recall"][name]
        assert f"{name} {metrics['counts'][name]} {recall:.2f}" in fields
    for rows in metrics["strata"].values():
        for value, row in rows.items():
            shares = " ".join(f"{row[k]:.2f}" for k in ("sp", "se", "score"))
            expected = f"{value} {row['cycles']} {row['patients']} {shares}"
            assert expected in fields


@pytest.mark.parametrize("kind", ["all", "one patient", "no abnormal"])
def test_report_of_the_json_is_the_same(tmp_path, table, kind):
    rows = {
        "all": table,
        "one patient": table[table["patient"] == "003"],
        "no abnormal": table[table["label"] == "normal"],
    }[kind]
    metrics = evaluate_predictions(rows, LABELS, 50)
    write_json(metrics, tmp_path / "metrics.json")
    found = json.loads((tmp_path / "metrics.json").read_text())
    report = format_report("QLung", found, DATA)
    assert report == format_report("QLung", metrics, DATA)
    assert ("n/a" in report) == (kind != "all")
    assert "nan" not in report and "None" not in report


@pytest.mark.parametrize("lacking", list(DATA))
def test_report_of_unnamed_data(table, lacking):
    data = {key: text for key, text in DATA.items() if key != lacking}
    with pytest.raises(ValueError, match=f"must say its {lacking}"):
        format_report("QLung", evaluate_predictions(table, LABELS, 10), data)
