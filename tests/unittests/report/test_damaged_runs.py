"""Damaged and altered run folders: named and left out, whatever is wrong.

Authors
 * qlung_plugin contributors
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import soundfile

from qlung_plugin.cli.main import main
from qlung_plugin.report.recordings import use_recordings
from qlung_plugin.report.sources import find_runs
from qlung_plugin.runs.experiments import collect_evaluations
from qlung_plugin.scores.metrics import CLASS_METRICS, METRICS, OF_DECISIONS
from tests.unittests.report_runs import (
    render,
    write_configuration,
    write_recordings,
    write_run,
)

HISTORY = "save/CKPT+1/history.ckpt"
RESULTS = ("metrics.json", "predictions.csv", "predictions_last.csv")
# Of which the page can do without: a note says so.
OTHERS = ("test.json", "configuration.json", HISTORY)
# A key that is gone, and values that no run writes in its place.
VALUES = (None, "", "\x1b[2J", -1, 107, 1e300, True, [], {}, "NaN")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs, the second with all the files that are read."""
    folder = tmp_path_factory.mktemp("made")
    recordings = write_recordings(folder / "data")
    write_run(folder / "ce" / "1", recordings, seed=5)
    run = write_run(folder / "qlung" / "1", recordings)
    (run / HISTORY).parent.mkdir(parents=True)
    rows = [
        {"epoch": e, "train_loss": 1 / e, "valid_score": 50} for e in (1, 2)
    ]
    (run / HISTORY).write_text(json.dumps(rows))
    about = {"configuration": "qlung", "seed": "1", "fold": None}
    (run / "experiment.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def results(made, tmp_path, without_quality):
    """A copy to be damaged."""
    shutil.copytree(made, tmp_path / "results")
    return tmp_path / "results"


def report(folder, capsys):
    """The exit code, and what is said, of a report of both runs."""
    output = folder / "report.html"
    runs = [str(folder / "ce" / "1"), str(folder / "qlung" / "1")]
    options = ["--sounds", "1", "--map", "none"]
    code = main(["report", *runs, "-o", str(output), *options])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert all(line.isprintable() for line in said.splitlines())
    assert "ce/1" in output.read_text()
    return code, said


# What an older version did not write.
LATER = {*METRICS, *CLASS_METRICS} - OF_DECISIONS
LATER |= {"operating_point", "duration_alone"}


def keys(node, path=()):
    """The paths of all keys, of lists and of like objects the first alone."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from keys(value, (*path, key))
    elif isinstance(node, list) and node:
        yield (*path, 0)
        yield from keys(node[0], (*path, 0))


def alter(content, path, value):
    """The content with another value at a path, or without the key."""
    content = json.loads(json.dumps(content))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if value == "gone":
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return json.dumps(content).replace('"NaN"', "NaN")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("metrics.json", marks=pytest.mark.slow),
        "experiment.json",
    ],
)
def test_every_key_of_the_results(results, name):
    """Left out and named, or what is read is as it was."""
    folder = results / "qlung"
    path = folder / "1" / name
    content = json.loads(path.read_text())
    before = {
        (e.configuration, e.seed, e.checkpoint): (e.protocol, e.predictions)
        for e in collect_evaluations(folder)[0]
    }
    checked = ("data", "selected") if name == "metrics.json" else content
    read = 0
    for key in (k for k in keys(content) if k[0] in checked):
        if {"interval", "strata"} & set(key):
            continue  # they are computed anew
        for value in ("gone", *VALUES):
            damaged = alter(content, key, value)
            if json.loads(damaged) == content or (key, value) == (
                ("selected",),
                "gone",
            ):
                continue  # of a run without that checkpoint
            path.write_text(damaged)
            evaluations, notes = collect_evaluations(folder)
            if notes:
                assert not evaluations and str(path.parent) in notes[0], (
                    key,
                    value,
                )
                continue
            read += 1
            if value == "gone" and key[1:] and key[1] in LATER:
                assert len(key) == 2
                continue
            # Words that may be others; no figure, and no number of a class.
            assert key[0] in ("data", "configuration", "seed") or key[1:] in (
                ("epoch",),
                ("selection",),
            ), (key, value)
    assert read < 100
    path.write_text(json.dumps(content))
    assert before.keys() == {
        (e.configuration, e.seed, e.checkpoint)
        for e in collect_evaluations(folder)[0]
    }


def test_intervals_and_groups_are_those_of_the_predictions(results):
    folder = results / "qlung" / "1"
    right = render(folder)[0]
    path = folder / "metrics.json"
    content = json.loads(path.read_text())
    content["selected"]["interval"]["sp"] = [0, 107]
    content["selected"]["strata"]["sex"]["F"]["cycles"] = 107
    path.write_text(json.dumps(content))
    assert render(folder)[0] == right


def test_every_column_of_the_predictions(results):
    folder = results / "qlung"
    path = folder / "1" / "predictions.csv"
    head, *rows = [row.split(",") for row in path.read_text().splitlines()]
    texts = ("recording", "device", "sex", "location")
    for place, name in enumerate(head):
        tables = {
            "dropped": [r[:place] + r[place + 1 :] for r in (head, *rows)],
            "doubled": [[*r, r[place]] for r in (head, *rows)],
        }
        for value in ("", "nan", "inf", "-1", "1e400", "x", "0.5", '"'):
            altered = [list(row) for row in rows]
            altered[4][place] = value
            tables[value] = [head, *altered]
        for how, table in tables.items():
            text = "".join(",".join(row) + "\n" for row in table)
            path.write_text(text)
            evaluations, notes = collect_evaluations(folder)
            if notes:
                assert "predictions.csv" in notes[0] and not evaluations
            else:  # words, and what may be missing or is in range
                harmless = ("", "nan", "0.5", "-1")
                if (name, how) == ("duration", "dropped"):
                    continue  # as in a run by an older version
                assert name in (*texts, "id", "patient") or how in harmless, how


def place(results, name):
    """Where a file is read: recordings are those of the first run."""
    first = name in ("test.json", "configuration.json")
    return results / ("ce" if first else "qlung") / "1" / name


@pytest.mark.parametrize("name", [*RESULTS, "experiment.json", *OTHERS])
def test_what_cannot_be_read(results, capsys, name):
    """It is cut, in another encoding, nested too deeply, or hangs its reader."""
    path = place(results, name)
    content = path.read_bytes()
    for damaged in (
        b"",
        content[: len(content) // 2],
        content.decode().encode("utf-16"),
        b"[" * 10**5,
    ):
        path.write_bytes(damaged)
        evaluations, notes = collect_evaluations(results)
        assert evaluations and bool(notes) >= (name in RESULTS)
    path.unlink()
    os.mkfifo(path)
    code, said = report(results, capsys)
    assert code == (1 if name in (*RESULTS, "experiment.json") else 0)
    assert Path(name).name in said


def test_a_damaged_history_costs_the_curves_alone(results, capsys):
    path = results / "qlung" / "1" / HISTORY
    content = json.loads(path.read_text())
    for key in keys(content):
        for value in ("gone", *VALUES):
            path.write_text(alter(content, key, value))
            assert find_runs([path.parents[2]])[0]
    path.write_text(alter(content, (0, "train_loss"), "high"))
    code, said = report(results, capsys)
    assert code == 0 and "[0].train_loss is 'high', not a number" in said


def test_a_damaged_manifest_costs_the_sounds_alone(results):
    path = results / "ce" / "1" / "test.json"
    content = json.loads(path.read_text())
    key = next(iter(content))
    runs, _, _ = find_runs([path.parent])
    for inner in keys(content[key]):
        for value in ("gone", *VALUES):
            path.write_text(alter(content, (key, *inner), value))
            result = use_recordings(runs, sounds=1, method="none")
            if inner[0] in ("wav", "sample_rate") and value != 107:
                assert result.notes
                assert key not in result.media


def test_only_sounds_in_the_data_folder_get_into_the_page(results, capsys):
    """Neither by ``..``, nor by a whole path, nor by a link."""
    run, data = results / "ce" / "1", results / "data"
    (results / "private").mkdir()
    private = results / "private" / "a.wav"
    shutil.copy(next(data.glob("*.wav")), private)
    (data / "link.wav").symlink_to(private)
    write_configuration(run, data)
    content = json.loads((run / "test.json").read_text())
    mine = [key for key in content if key.startswith("003")]
    for name in (
        "{data_root}/../private/a.wav",
        str(private),
        "{data_root}/link.wav",
    ):
        for key in mine:
            content[key]["wav"]["file"] = name
        (run / "test.json").write_text(json.dumps(content))
        _, page_data, [note] = render(run)
        silent = [
            key
            for key, one in zip(page_data["cycles"]["id"], page_data["media"])
            if one is None
        ]
        assert silent == mine
        assert f"{name}, which is not in the data folder" in note


def test_a_run_does_not_choose_among_all_files(results, monkeypatch):
    run, data = results / "ce" / "1", results / "data"
    monkeypatch.setenv("HOME", str(results / "home"))
    content = json.loads((run / "test.json").read_text())
    for entry in content.values():
        name = entry["wav"]["file"].replace("{data_root}/", "")
        entry["wav"]["file"] = f"{{data_root}}{data / name}"
    (run / "test.json").write_text(json.dumps(content))
    for folder in ("/", results, results / "home"):
        write_configuration(run, folder)
        _, page_data, [note] = render(run)
        assert f"{folder}, which holds more than a database" in note
        assert not any(page_data["media"] or [])
    # Who reads the report may.
    _, page_data, _ = render(run, data_folder="/")
    assert any(page_data["media"])


def test_a_rate_that_is_not_the_recording_s_is_told(results):
    run = results / "ce" / "1"
    write_configuration(run, results / "data")
    content = json.loads((run / "test.json").read_text())
    path = next((results / "data").glob("*.wav"))
    waveform, rate = soundfile.read(path)
    soundfile.write(path, waveform, 2 * rate)
    _, data, [note] = render(run)
    assert f"{rate} Hz, but" in note and f"{2 * rate} Hz" in note
    assert not any(data["media"]) and len(content) == len(data["media"])


def test_if_no_run_is_left_it_is_wrong_input(results, capsys):
    path = results / "qlung" / "1" / "metrics.json"
    path.write_text("{}")
    output = results / "report.html"
    assert main(["report", str(path.parent), "-o", str(output)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{path} lacks data" in said
    assert not output.exists()
