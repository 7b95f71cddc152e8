"""What a page is made of: which runs are shown, and where their cycles are.

Authors
 * qlung_plugin contributors
"""

import json

import pandas as pd
import pytest
import soundfile

from qlung_plugin.report.page import render_page
from qlung_plugin.report.recordings import Recordings
from qlung_plugin.report.sources import find_runs
from qlung_plugin.report.tables import comparison_tables, score_tables
from qlung_plugin.runs.evaluations import Damage
from tests.unittests.report_runs import (
    CYCLES,
    DATA,
    PATIENTS,
    make_manifest,
    render,
    write_configuration,
    write_recordings,
    write_run,
)

# None but the pages themselves look at it.
pytestmark = pytest.mark.usefixtures("without_quality")

FOLDS = 5
OTHER = {"database": "SPRSound", "training": {"data": {"database": "ICBHI"}}}


@pytest.fixture(scope="module")
def results(tmp_path_factory, data_folder):
    """A folder of results with one run in it."""
    folder = tmp_path_factory.mktemp("results")
    write_run(folder / "ce" / "1", data_folder)
    return folder


def test_without_recordings_the_page_says_what_to_give(tmp_path, data_folder):
    folder = write_run(tmp_path / "ce" / "1", tmp_path / "gone")
    text, data, [note] = render(folder)
    assert str(tmp_path / "gone") in note and "--data_folder" in note
    assert "--data_folder" in text
    assert not any(data["media"])
    assert data["runs"][0]["map"] is None
    # Given, it is used; and whoever gives one wants it.
    _, data, notes = render(folder, data_folder=data_folder)
    assert all(data["media"]) and notes == []
    with pytest.raises(FileNotFoundError, match="none of 8 recordings"):
        render(folder, data_folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="not in .*absent"):
        render(folder, data_folder=tmp_path / "absent")
    (folder / "configuration.json").unlink()
    _, _, [note] = render(folder)
    assert "configuration.json says where" in note and "--data_folder" in note


def test_missing_and_damaged_recordings_are_counted(tmp_path):
    data_folder = write_recordings(tmp_path / "data")
    folder = write_run(tmp_path / "ce" / "1", data_folder)
    (data_folder / "003_1b1.wav").unlink()
    (data_folder / "004_1b1.wav").write_bytes(b"no audio")
    path = data_folder / "005_1b1.wav"  # of which two cycles are left
    waveform, rate = soundfile.read(path)
    soundfile.write(path, waveform[: 2 * rate], rate)
    _, data, notes = render(folder)
    silent = [
        key
        for key, one in zip(data["cycles"]["id"], data["media"])
        if one is None
    ]
    assert {key[:3] for key in silent} == {"003", "004", "005"}
    assert len(silent) == 3 * CYCLES - 2
    assert "2 of 8 recordings cannot be read" in notes[0]
    assert "003_1b1.wav" in notes[0]
    assert f"{CYCLES - 2} cycles have no sound" in notes[1]


def test_a_manifest_of_other_cycles_is_refused(tmp_path, data_folder):
    folder = write_run(tmp_path / "ce" / "1", data_folder)
    manifest = json.loads((folder / "test.json").read_text())
    manifest.pop("003_1b1_002")
    (folder / "test.json").write_text(json.dumps(manifest))
    _, _, [note] = render(folder)
    assert "lacks 1 cycles of the predictions, such as 003_1b1_002" in note
    (folder / "test.json").unlink()
    _, _, [note] = render(folder)
    assert "no manifest" in note and "test.json" in note


def test_folders_that_are_no_results(tmp_path, results, data_folder):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_runs([tmp_path / "absent"])
    with pytest.raises(ValueError, match="holds no result"):
        find_runs([tmp_path])
    [run], _, [note] = find_runs([tmp_path, results / "ce/1"])
    assert run.name == "ce/1" and isinstance(note, Damage)
    assert note.startswith(f"{tmp_path} holds no result")
    with pytest.raises(ValueError, match="is given twice: ce/1, ce/1"):
        find_runs([results / "ce/1", results / "ce/1"])
    folder = write_run(tmp_path / "ce" / "1", data_folder)
    with pytest.raises(ValueError, match="are both of ce, 1, .*: rename one"):
        find_runs([results / "ce/1", folder])
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(
        json.dumps({**metrics, "selected": metrics["last"]})
    )
    with pytest.raises(ValueError, match="or of another run"):
        find_runs([folder])
    del metrics["test_selected"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match="only of selected, last"):
        find_runs([folder], "test_selected")


def test_an_unfinished_run_is_told(tmp_path, data_folder):
    (tmp_path / "ce" / "1").mkdir(parents=True)
    about = {"configuration": "ce", "seed": "1", "fold": None}
    (tmp_path / "ce" / "1" / "experiment.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="no finished run: ce/1 has no"):
        find_runs([tmp_path])
    write_run(tmp_path / "ce" / "2", data_folder)
    runs, _, notes = find_runs([tmp_path])
    assert [run.name for run in runs] == ["ce/2"]
    assert "unfinished" in notes[0]


def test_runs_on_other_cycles_are_not_set_side_by_side(
    tmp_path, results, data_folder
):
    manifest = make_manifest()
    manifest.pop("003_1b1_002")
    other = write_run(tmp_path / "other" / "1", data_folder, manifest=manifest)
    run = results / "ce/1"
    for folders in ([run, other], [other, run]):
        [shown], evaluations, [note] = find_runs(folders)
        assert shown.folder == folders[0]
        assert {one.folder for one in evaluations} == {run, other}
        assert isinstance(note, Damage) and note == (
            f"{folders[1]} is left out: it was not judged on the same cycles"
            f" and classes as {folders[0]}: make a page of each"
        )
    # What most were judged on is shown.
    third = write_run(tmp_path / "third" / "1", data_folder, seed=3)
    runs, _, [note] = find_runs([other, run, third])
    assert [one.folder for one in runs] == [run, third]
    assert str(other) in note


def test_other_results_are_not_shown_in_the_stead_of_damaged_ones(
    tmp_path, data_folder
):
    """Of the training itself: not what it got on another database."""
    for name in ("ce", "qlung"):
        run = write_run(tmp_path / name / "1", data_folder)
        write_run(run / "ood", data_folder, seed=3, data={**DATA, **OTHER})
    (tmp_path / "qlung" / "1" / "predictions.csv").write_text("id\n")
    runs, evaluations, notes = find_runs([tmp_path])
    assert [run.folder for run in runs] == [tmp_path / "ce" / "1"]
    assert isinstance(notes[0], Damage) and "qlung/1 is left out" in notes[0]
    assert "first seed is shown in detail: ce/1." in notes[1]
    assert tmp_path / "qlung/1/ood" in {one.folder for one in evaluations}


def test_checkpoints_of_a_run_are_judged_on_the_same_cycles(
    tmp_path, data_folder
):
    """Two ids that are exchanged change no figure."""
    path = write_run(tmp_path / "ce" / "1", data_folder) / "predictions.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in ("id", "age", "device"):
        altered = table.copy()
        altered.loc[[0, 9], name] = table.loc[[9, 0], name].to_numpy()
        altered.to_csv(path, index=False)
        with pytest.raises(ValueError, match="_last.csv says other things"):
            find_runs([path.parent])


def write_fold(folder, fold, recordings, part=".", split="patient_folds"):
    """The results of a fold as its training leaves them."""
    manifest = {
        key: entry
        for key, entry in make_manifest().items()
        if int(entry["patient"]) % FOLDS == fold
    }
    place = folder / f"fold_{fold}" / part
    data = {**DATA, "split": split, "protocol": f"fold {fold}"}
    write_run(place, recordings, fold, manifest=manifest, data=data)
    home = folder / f"fold_{fold}"
    about = {"configuration": "ce", "seed": "1", "fold": fold}
    (home / "experiment.json").write_text(json.dumps(about))
    (home / "valid.json").write_text(json.dumps(manifest))
    write_configuration(home, recordings)
    return home


@pytest.fixture(scope="module")
def patient_folds(tmp_path_factory, data_folder):
    """A seed of which every patient was tested in one of the folds."""
    folder = tmp_path_factory.mktemp("results")
    for fold in range(FOLDS):
        write_fold(folder / "ce" / "1", fold, data_folder)
    return folder


def test_folds_are_pooled_and_the_first_is_shown(patient_folds):
    runs, evaluations, notes = find_runs([patient_folds])
    [run] = runs
    assert run.name == "ce/1/fold_0" and run.name in notes[0]
    assert set(run.predictions["patient"]) == {"000", "005"}
    metrics = json.loads(
        (patient_folds / "ce/1/fold_0/metrics.json").read_text()
    )
    # What is said of the fold is of the fold, what is pooled of all patients.
    [rows] = score_tables(runs).values()
    assert rows[0][1].figures["score"] == metrics["selected"]["score"]
    assert run.evaluation.protocol == "fold 0"
    assert {len(e.predictions) for e in evaluations} == {PATIENTS * CYCLES}
    [pooled] = comparison_tables(evaluations)
    assert "each tested out of fold (5 folds pooled)" in pooled["title"]
    assert [row["seeds"] for row in pooled["rows"]] == [1, 1, 1]
    text = render_page(runs, evaluations, notes, Recordings())
    assert f"{2 * CYCLES} cycles of 2 patients" in text
    assert pooled["rows"][0]["scores"][2] in text


def test_folds_beside_the_run_of_the_same_seed(tmp_path, data_folder):
    """Its scores are its own, and the folds are compared."""
    folder = write_run(tmp_path / "ce" / "1", data_folder)
    for fold in range(FOLDS):
        write_fold(folder, fold, data_folder)
    for place in (folder, tmp_path):
        [run], evaluations, _ = find_runs([place])
        assert run.name == "ce/1" and len(run.predictions) == PATIENTS * CYCLES
        [rows] = score_tables([run]).values()
        assert [shown for shown, _ in rows] == [run] * 3
        titles = [table["title"] for table in comparison_tables(evaluations)]
        assert any("5 folds pooled" in title for title in titles)


def test_a_fold_can_be_shown_by_itself(patient_folds):
    [run], evaluations, notes = find_runs([patient_folds / "ce/1/fold_3"])
    assert run.name == "ce/1/fold_3" and notes == []
    assert set(run.predictions["patient"]) == {"003"}
    assert comparison_tables(evaluations) == []
    _, data, notes = render(patient_folds / "ce/1/fold_3")
    assert notes == [] and all(data["media"])


def test_folds_of_the_training_side_show_their_validation(
    tmp_path, data_folder
):
    for fold in range(FOLDS):
        for part in ("validation", "."):
            home = tmp_path / "ce" / "1" / f"fold_{fold}"
            if part == ".":  # the test side, which is not looked at
                metrics = (home / "validation/metrics.json").read_text()
                (home / "metrics.json").write_text(metrics)
            else:
                write_fold(home.parent, fold, data_folder, part, "official")
    _, data, notes = render(tmp_path)
    assert notes == [] and all(data["media"])
    assert {key[:3] for key in data["cycles"]["id"]} == {"000", "005"}
    [run], _, _ = find_runs([tmp_path / "ce/1/fold_3/validation"])
    assert run.name == "ce/1/fold_3"
