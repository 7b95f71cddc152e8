"""The page of a run: what it says, and that it keeps to itself.

Authors
 * qlung_plugin contributors
"""

import argparse
import base64
import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.cli import report as command
from qlung_plugin.report.page import render_page
from qlung_plugin.report.recordings import Recordings, use_recordings
from qlung_plugin.report.sources import find_runs
from qlung_plugin.runs.experiment_report import write_experiments
from qlung_plugin.runs.experiments import collect_evaluations
from qlung_plugin.runs.predictions import read_predictions
from qlung_plugin.scores.quality_analysis import compare_with_errors
from tests.unittests.report_runs import (
    CYCLES,
    PATIENTS,
    Tables,
    make_manifest,
    render,
    write_run,
)

TOTAL = PATIENTS * CYCLES


@pytest.fixture(scope="module")
def results(tmp_path_factory, data_folder):
    """Two configurations with two seeds each."""
    folder = tmp_path_factory.mktemp("results")
    for place, name in enumerate(("ce/1", "qlung/1", "ce/2", "qlung/2")):
        write_run(folder / name, data_folder, seed=10 * place)
    return folder


@pytest.fixture(scope="module")
def page(results):
    """The page of two runs, as text and parsed."""
    runs, evaluations, notes = find_runs(
        [results / "ce/1", results / "qlung/1"]
    )
    text = render_page(
        runs, evaluations, notes, use_recordings(runs, method="none")
    )
    return text, Tables(text)


def two(value):
    return "n/a" if value is None else f"{value:.2f}"


def test_scores_and_intervals_are_those_of_metrics_json(page, results):
    assert "<h1>ce/1 and qlung/1</h1>" in page[0]
    [table] = page[1].tables["scores"]
    rows = {(row[0], row[1].split()[0]): row for row in table[1:]}
    assert len(rows) == len(table) - 1 == 6
    checkpoints = {"selected": "selected", "last": "last"}
    checkpoints["test_selected"] = "test-selected"
    for run in ("ce/1", "qlung/1"):
        metrics = json.loads((results / run / "metrics.json").read_text())
        for name, text in checkpoints.items():
            row, figures = rows[run, text], metrics[name]
            assert row[1].endswith(f"epoch {figures['epoch']}")
            for cell, score in zip(
                row[2:], ("sp", "se", "score", "score_two_class")
            ):
                low, high = figures["interval"][score]
                assert cell == (
                    f"{two(figures[score])} {two(low)} to {two(high)}"
                )


def test_confusion_and_groups_are_those_of_metrics_json(page, results):
    names = ("ce/1", "qlung/1")
    figures = [
        json.loads((results / run / "metrics.json").read_text())["selected"]
        for run in names
    ]
    for table, values in zip(page[1].tables["confusion"], figures):
        counts = [[int(cell.split()[0]) for cell in r[1:]] for r in table[1:]]
        assert counts == values["confusion"]
        recall = [row[1 + k].split()[1] for k, row in enumerate(table[1:])]
        assert recall == [two(value) for value in values["recall"].values()]
    kinds = ["device", "age_group", "sex", "location"]
    assert list(figures[0]["strata"]) == kinds
    for kind, table in zip(kinds, page[1].tables["groups"]):
        strata = [values["strata"][kind] for values in figures]
        assert [row[0] for row in table[2:]] == list(strata[0])
        for row in table[2:]:
            group = strata[0][row[0]]
            assert row[1:3] == [str(group["cycles"]), str(group["patients"])]
            assert row[3:] == [
                two(values[row[0]][score])
                for values in strata
                for score in ("sp", "se", "score", "auroc")
            ]


def test_quality_figures_are_those_of_the_analysis(page, results):
    for run, table in zip(("ce/1", "qlung/1"), page[1].tables["quality"]):
        predictions = read_predictions(results / run / "predictions.csv")
        analysis = compare_with_errors(predictions)
        assert [row[0] for row in table[1:]] == list(analysis)
        for row, values in zip(table[1:], analysis.values()):
            assert row[1:3] == [two(values["error"]), two(values["aurc"])]
            assert row[3].startswith(two(values["area"]))


@pytest.mark.usefixtures("without_quality")
def test_comparison_is_that_of_the_results_of_the_experiment(results):
    evaluations, notes = collect_evaluations(results)
    # The order of the configurations is that of the tables that are there.
    text = write_experiments(results, evaluations, ["qlung", "ce"], notes)
    runs, evaluations, notes = find_runs([results])
    assert [run.name for run in runs] == ["qlung/1", "ce/1"]
    assert notes == [
        "Of each configuration the first seed is shown in detail:"
        " qlung/1; ce/1."
    ]
    page = render_page(runs, evaluations, notes, Recordings())
    means, differences = Tables(page).tables["comparison"]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(("| selected", "| last", "| test"))
    ]
    assert means[1:] == lines[:6]
    assert [row[1:] for row in differences[1:]] == [
        line[1:] for line in lines[6:9]
    ]


def test_data_are_those_of_the_predictions(page, results):
    data = json.loads(page[1].scripts[0])
    for run, place in (("ce/1", 0), ("qlung/1", 1)):
        table = pd.read_csv(results / run / "predictions.csv")
        labels = data["labels"]
        result = data["runs"][place]
        assert data["cycles"]["id"] == table["id"].tolist()
        assert [labels[k] for k in data["cycles"]["label"]] == list(
            table["label"]
        )
        assert [labels[k] for k in result["prediction"]] == list(
            table["prediction"]
        )
        np.testing.assert_allclose(
            result["probabilities"],
            table[[f"p_{label}" for label in labels]],
            atol=1e-4,
        )
        np.testing.assert_allclose(result["quality"], table["quality"])
    assert set(data["cycles"]["device"]) == {"Meditron", "Litt3200", "unknown"}
    assert data["spans"][1] == [1.0, 2.0]
    assert sum(one is not None for one in data["media"]) == TOTAL


def test_nothing_is_loaded_and_only_the_own_script_runs(page):
    text, parsed = page
    addresses = set(re.findall(r"https?://[^\"' <]+", text))
    assert addresses <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"<(link|iframe|object|embed|form [^>]*action)", text)
    assert not re.search(r"\s(src|srcset|action|on\w+)\s*=\s*[\"']", text)
    assert set(re.findall(r'href="([^"]*)"', text)) >= {"#cycles"}
    assert all(h.startswith("#") for h in re.findall(r'href="([^"]*)"', text))
    policy = re.search(r'Policy" content="([^"]*)"', text)[1]
    digest = hashlib.sha256(parsed.scripts[1].encode()).digest()
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none';")
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_the_same_folder_gives_the_same_page(page, results):
    runs, evaluations, notes = find_runs(
        [results / "ce/1", results / "qlung/1"]
    )
    again = render_page(
        runs, evaluations, notes, use_recordings(runs, method="none")
    )
    assert again == page[0]


def test_names_from_the_data_are_text(tmp_path, data_folder):
    evil = "</script><script>alert(1)</script>"
    manifest = make_manifest(devices=(evil, '"><img src=x onerror=alert(1)>'))
    for entry in manifest.values():
        entry["recording"] = entry["recording"] + evil
    write_run(tmp_path / "<b>evil" / "1", data_folder, manifest=manifest)
    text, data, _ = render(tmp_path / "<b>evil" / "1")
    parsed = Tables(text)
    assert len(parsed.scripts) == 2
    assert "<script>alert" not in text
    assert "<img src" not in text and "<b>evil" not in text
    assert evil in set(data["cycles"]["device"])
    assert data["cycles"]["recording"][0].endswith(evil)
    assert evil in [row[0] for row in parsed.tables["groups"][0]]


def test_two_classes_no_metadata_no_quality_no_validation(
    tmp_path, data_folder
):
    labels = ("normal", "abnormal")
    manifest = make_manifest(labels, devices=(None,))
    for entry in manifest.values():
        for name in ("age", "sex", "location"):
            entry[name] = None
    folder = write_run(
        tmp_path / "ce" / "1",
        data_folder,
        labels=labels,
        manifest=manifest,
        validated=False,
        unmeasured=set(manifest),
    )
    text, data, _ = render(folder)
    parsed = Tables(text)
    assert "groups" not in parsed.tables
    assert len(parsed.tables["confusion"][0]) == 3
    assert "there was no validation set" in text
    assert set(data["cycles"]["device"]) == {"unknown"}
    assert data["runs"][0]["quality"] == [None] * TOTAL
    assert f"{TOTAL} cycles were not measured" in text
    cells = [c for t in sum(parsed.tables.values(), []) for r in t for c in r]
    assert not [
        c for c in [*cells, *parsed.texts] if "nan" in c.lower().split()
    ]


def test_a_class_without_a_cycle_and_one_patient(tmp_path, data_folder):
    manifest = {
        key: entry
        for key, entry in make_manifest().items()
        if entry["patient"] == "001" and entry["label"] != "both"
    }
    folder = write_run(tmp_path / "ce" / "1", data_folder, manifest=manifest)
    parsed = Tables(render(folder)[0])
    [scores] = parsed.tables["scores"]
    assert scores[1][2].endswith("n/a to n/a")
    assert parsed.tables["confusion"][0][-1][1:] == ["0 no cycle"] * 4


@pytest.mark.usefixtures("without_quality")
def test_another_checkpoint_is_shown(results):
    runs, evaluations, notes = find_runs([results / "ce/1"], "test_selected")
    text = render_page(runs, evaluations, notes, Recordings())
    assert "test-selected (as published results mostly are) (epoch 5)" in text
    metrics = json.loads((results / "ce/1/metrics.json").read_text())
    table = Tables(text).tables["confusion"][0]
    counts = [[int(cell.split()[0]) for cell in r[1:]] for r in table[1:]]
    assert counts == metrics["test_selected"]["confusion"]


@pytest.mark.usefixtures("without_quality")
def test_the_command_writes_a_page_and_says_what_it_lacks(
    results, tmp_path, capsys
):
    parser = _subparser()
    output = tmp_path / "new" / "report.html"
    arguments = parser.parse_args(
        [str(results / "ce/1"), "-o", str(output), "--sounds", "5"]
    )
    assert command.run(arguments) == 0
    captured = capsys.readouterr()
    assert "report.html" in captured.out and "5 sounds" in captured.out
    # It has no model: no map, and why.
    [line] = captured.err.splitlines()
    assert line.startswith("qlung: No map of ce/1") and str(results) in line
    assert line.removeprefix("qlung: ") in output.read_text(encoding="utf-8")
    data = json.loads(Tables(output.read_text(encoding="utf-8")).scripts[0])
    assert sum(one is not None for one in data["media"]) == 5
    with pytest.raises(ValueError, match="is a folder"):
        arguments.output = str(tmp_path)
        command.run(arguments)
    with pytest.raises(SystemExit):
        parser.parse_args([str(results), "-o", "a.html", "--sounds", "-1"])


def _subparser():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser
