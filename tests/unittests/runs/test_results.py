"""From predictions to the files of a run: one table, and all from it."""

import json

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.runs.evaluations import read_evaluations
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.predictions import predictions_table
from qlung_plugin.runs.results import (
    age_group,
    evaluate_predictions,
    format_report,
    write_run_results,
)
from qlung_plugin.scores.duration import describe_duration, duration_alone
from qlung_plugin.scores.icbhi_score import LABELS
from qlung_plugin.scores.intervals import bootstrap_interval, patient_outcomes
from qlung_plugin.scores.operating_point import choose_operating_point
from qlung_plugin.utils.files import write_json
from tests.unittests.runs.conftest import corpus

STRATA = ("sp", "se", "score", "auroc")
AGE_GROUPS = ["under 3", "18 to 64", "65 and over"]
DATA = {"data": "ICBHI 2017", "partition": "test", "selection": "last epoch"}


def test_evaluation_equals_its_parts(table):
    metrics = evaluate_predictions(table, LABELS, n_resamples=300)
    normal = table["label"] == "normal"
    right = table["label"] == table["prediction"]
    assert metrics["sp"] == pytest.approx(100 * right[normal].mean())
    assert metrics["se"] == pytest.approx(100 * right[~normal].mean())
    assert metrics["patients"] == table["patient"].nunique()
    outcomes = patient_outcomes([table], LABELS)
    assert metrics["confusion"] == outcomes.confusions[0].sum(0).tolist()
    expected = bootstrap_interval(outcomes, 300)
    assert {"auroc", "auroc_macro", "average_precision_macro"} < set(expected)
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


def test_patients_on_both_sides_are_a_stratum_of_their_own(table):
    chosen = sorted(table["patient"].unique())[:2]
    shared = table["patient"].isin(chosen)
    metrics = evaluate_predictions(
        table, LABELS, 10, both_sides=[*chosen, "nobody"]
    )
    strata = metrics["strata"]["side_of_patient"]
    assert list(strata) == ["both sides", "test side only"]
    for rows, value in zip((table[shared], table[~shared]), strata.values()):
        expected = evaluate_predictions(rows, LABELS, 10)
        assert value["cycles"] == len(rows)
        assert value["score"] == expected["score"]
        assert value["auroc"] == expected["auroc"]
    report = format_report("last", metrics, DATA)
    assert "side of patient" in report and "test side only" in report
    nobody = evaluate_predictions(table, LABELS, 10, both_sides=["nobody"])
    assert "side_of_patient" not in nobody["strata"]


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
    assert metrics["strata"] == {} and metrics["duration_alone"] is None
    report = format_report("QLung", metrics, DATA)
    assert "durations alone: not known" in " ".join(report.split())


def test_report_names_what_it_is_of(table):
    metrics = evaluate_predictions(table, LABELS, 200)
    lines = format_report("QLung", metrics, DATA).splitlines()
    fields = [" ".join(line.split()) for line in lines]
    assert lines[0] == "QLung"
    for name, text in DATA.items():
        assert f"{name}: {text}" in fields
    assert "patients: 12" in fields
    alone = describe_duration(duration_alone(table, LABELS))
    assert f"durations alone: {alone}" in fields
    assert any(field.startswith("Se: exact class") for field in fields)
    low, high = metrics["interval"]["se"]
    assert f"sensitivity {metrics['se']:.2f} {low:.2f} {high:.2f}" in fields
    for name, counts in zip(LABELS, metrics["confusion"]):
        assert f"{name} {' '.join(map(str, counts))}" in fields
        per_class = " ".join(
            f"{metrics[key][name]:.2f}"
            for key in ("recall", "class_auroc", "class_average_precision")
        )
        assert f"{name} {metrics['counts'][name]} {per_class}" in fields
    assert "operating point: none: no validation set chose one" in fields
    for rows in metrics["strata"].values():
        for value, row in rows.items():
            shares = " ".join(f"{row[k]:.2f}" for k in STRATA)
            expected = f"{value} {row['cycles']} {row['patients']} {shares}"
            assert expected in fields


def test_operating_point_is_judged_beside_the_most_probable_class(tmp_path):
    def table(seed):
        stats, manifest, quality = corpus(seed=seed)
        return predictions_table(stats, manifest, quality=quality)

    point = choose_operating_point(table(1), LABELS)
    assert point["normal"]
    data = {"database": "ICBHI 2017", "protocol": "p", "subset": None}
    about = {
        "epochs": {"selected": 2, "last": 3},
        "data": data,
        "labels": LABELS,
        "partition": "test",
        "points": {"selected": point},
    }
    tables = {"selected": table(2), "last": table(2)}
    write_run_results(tmp_path, tables, **about)
    folder = RunFolder(tmp_path)
    one, last = read_evaluations(folder, "ce", "1")
    assert last.at_operating_point() is None
    assert last.figures["operating_point"] is None
    written = folder.read_metrics()["selected"]["operating_point"]
    assert written["offsets"] == point
    # By hand: the logarithms, moved.
    shares = one.predictions[[f"p_{label}" for label in LABELS]].to_numpy()
    with np.errstate(divide="ignore"):
        logs = np.log(shares) + list(point.values())
    called = np.array(LABELS)[logs.argmax(1)]
    normal = (one.predictions["label"] == "normal").to_numpy()
    right = called == one.predictions["label"]
    assert written["sp"] == pytest.approx(100 * right[normal].mean())
    assert written["se"] == pytest.approx(100 * right[~normal].mean())
    assert one.figures["operating_point"]["score"] == written["score"]
    moved = one.at_operating_point().predictions["prediction"]
    assert moved.tolist() == called.tolist()
    assert (one.predictions["prediction"] != called).any()
    report = folder.report.read_text()
    assert f"normal {point['normal']:+.2f} on the logarithm" in report
    assert "selected, at the operating point" in report
    assert "last, at the operating point" not in report
    assert "none: no validation set chose one" in report
    metrics = json.loads(folder.metrics.read_text())
    for change, message in (
        ({"score": 1}, "operating_point: score is 1"),
        ({"offsets": {"normal": 0.1}}, "is of normal, not of normal, crackle"),
        ({"offsets": {**point, "normal": None}}, "offsets.normal is None"),
        ({"offsets": {**point, "normal": 999}}, "operating_point: sp is"),
    ):
        altered = {**metrics["selected"]}
        altered["operating_point"] = {**written, **change}
        write_json({**metrics, "selected": altered}, folder.metrics)
        with pytest.raises(ValueError, match=message):
            read_evaluations(folder, "ce", "1")


def test_results_of_an_older_version_are_read(tmp_path, table):
    data = {"database": "ICBHI 2017", "protocol": "p", "subset": None}
    about = [{"last": 3}, data, LABELS, "test"]
    write_run_results(tmp_path, {"last": table}, *about)
    folder = RunFolder(tmp_path)
    metrics = json.loads(folder.metrics.read_text())
    for key in (
        "operating_point auroc auroc_macro average_precision_macro"
        " class_auroc class_average_precision"
    ).split():
        del metrics["last"][key]
    write_json(metrics, folder.metrics)
    [one] = read_evaluations(folder, "ce", "1")
    assert one.figures["auroc"] > 50
    del metrics["last"]["score"]
    write_json(metrics, folder.metrics)
    with pytest.raises(ValueError, match="lacks score"):
        read_evaluations(folder, "ce", "1")


@pytest.mark.parametrize("kind", ["all", "one patient", "no abnormal"])
def test_report_of_the_json_is_the_same(tmp_path, table, kind):
    rows = {
        "all": table,
        "one patient": table[table["patient"] == "003"],
        "no abnormal": table[table["label"] == "normal"],
    }[kind]
    metrics = evaluate_predictions(rows, LABELS, 50)
    write_json(metrics, tmp_path / "metrics.json")
    result = json.loads((tmp_path / "metrics.json").read_text())
    report = format_report("QLung", result, DATA)
    assert report == format_report("QLung", metrics, DATA)
    assert ("n/a" in report) == (kind != "all")
    assert "nan" not in report and "None" not in report
