"""The page of a run that was trained: its map, and what its model says again.

Authors
 * qlung_plugin contributors
"""

import json
import re
import shutil

import pytest
from markupsafe import escape
from safetensors.torch import load_file, save_file

from qlung_plugin.inference.export import export_run
from qlung_plugin.report.page import render_page
from qlung_plugin.report.recordings import use_recordings
from qlung_plugin.report.sources import find_runs
from tests.recipes.conftest import SPRSOUND, leave_out_figures, run_script

EVALUATION = SPRSOUND / "cross_dataset"


def make(folders, **options):
    """Runs, what was made of their recordings, and the page."""
    runs, evaluations, notes = find_runs(folders)
    recordings = use_recordings(runs, **options)
    return runs, recordings, render_page(runs, evaluations, notes, recordings)


def name(folder):
    """Of the database that a folder's results are of, as HTML."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return escape(metrics["data"]["database"])


def test_run_is_shown_with_map_sounds_and_training(icbhi_run):
    [run], recordings, page = make([icbhi_run], sounds=7)
    count = len(run.predictions)
    assert recordings.notes == []
    assert len(recordings.media) == 7
    assert len(recordings.maps[run.name]) == count
    assert recordings.differences[run.name] < 1e-4
    assert f"2 epochs on {name(icbhi_run)}" in page
    script = re.search(r'id="data">(.*?)</script>', page, flags=re.S)[1]
    places = json.loads(script)["runs"][0]["map"]
    assert {len(place) for place in places} == {2}
    assert 0 <= min(map(min, places)) and max(map(max, places)) <= 1


def test_another_model_than_that_of_the_predictions_is_told(
    icbhi_run, tmp_path
):
    folder = shutil.copytree(icbhi_run, tmp_path / "other" / "2")
    # That of another seed, say
    for path in folder.glob("model/*/model.safetensors"):
        tensors = load_file(path)
        for name in tensors:
            if name.startswith("classifier."):
                tensors[name] *= -5
        save_file(tensors, path)
    [run], recordings, page = make([folder], sounds=0)
    [note] = recordings.notes
    assert "gives other probabilities" in note and str(folder) in note
    assert note in page and run.name in recordings.maps


def test_a_broken_model_costs_the_map_alone(icbhi_run, tmp_path):
    folder = shutil.copytree(icbhi_run, tmp_path / "other" / "2")
    for path in folder.glob("model/*/model.safetensors"):
        path.write_bytes(b"broken")
    _, recordings, page = make([folder], sounds=2)
    [note] = recordings.notes
    assert note.startswith("No map of other/2") and "model.safetensors" in note
    assert len(recordings.media) == 2 and not recordings.maps
    assert 'id="map"' not in page


@pytest.fixture
def evaluation(icbhi_run, sprsound_corpus, cache, tmp_path, monkeypatch):
    """The run on another database."""
    leave_out_figures(monkeypatch)
    folder = tmp_path / "ood"
    options = {"data_folder": sprsound_corpus, "run_folder": icbhi_run}
    options |= {"output_folder": folder, "cache_folder": cache}
    hparams = EVALUATION / "hparams" / "cross_dataset.yaml"
    run_script(EVALUATION / "evaluate.py", hparams, options)
    return folder


@pytest.mark.slow
def test_another_database_with_the_model_of_the_training(
    evaluation, icbhi_run, tmp_path
):
    [run], recordings, page = make([evaluation], sounds=4)
    assert recordings.notes == []
    assert recordings.differences[run.name] < 1e-4
    assert len(recordings.media) == 4
    trained = name(icbhi_run)
    assert name(evaluation) != trained
    assert f"{name(evaluation)}: " in page and f"trained on {trained}" in page
    assert f"2 epochs on {trained}" in page
    # So it is with an export of it.
    export_run(icbhi_run, tmp_path / "exported")
    path = evaluation / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["data"]["training"]["folder"] = str(tmp_path / "exported")
    path.write_text(json.dumps(metrics))
    [run], recordings, _ = make([evaluation], sounds=0)
    assert recordings.notes == []
    assert recordings.differences[run.name] < 1e-4
