"""Tests of finding a model in a folder, and of what a folder lacks.

Authors
 * qlung_plugin contributors
"""

import json
import shutil

import pytest

from qlung_plugin.inference.export import export_run
from qlung_plugin.inference.models import find_checkpoints, open_model
from tests.unittests.refusals import refuses
from tests.unittests.small_runs import make_run


def test_checkpoints_of_a_run_and_of_an_export(tmp_path):
    run, out = make_run(tmp_path / "run", epochs=(1, 2)), tmp_path / "out"
    export_run(run, out, "last")
    assert find_checkpoints(run, "all") == ["selected", "last"]
    assert find_checkpoints(run, "last") == ["last"]
    assert find_checkpoints(out, "all") == ["last"]
    assert [open_model(run, c)["epoch"] for c in (None, "last")] == [1, 2]
    assert [open_model(out, c)["epoch"] for c in (None, "last")] == [2, 2]
    # The folder of a checkpoint's model is one, too.
    assert open_model(run / "model" / "last")["epoch"] == 2


def test_checkpoint_that_is_not_there(run, exported):
    refuses(
        run,
        "has no test_selected model, but selected, last",
        error=FileNotFoundError,
        opened_by=lambda folder: open_model(folder, "test_selected"),
    )
    refuses(
        exported,
        "the selected checkpoint alone",
        opened_by=lambda folder: open_model(folder, "last"),
    )
    for function in (open_model, find_checkpoints):
        with pytest.raises(ValueError, match="'best' is none of selected, la"):
            function(run, "best")


def test_training_that_has_not_come_to_its_end(run):
    (run / "metrics.json").unlink()
    (run / "save" / "CKPT+1").mkdir(parents=True)
    shutil.rmtree(run / "model")
    for function in (
        open_model,
        lambda folder: find_checkpoints(folder, "all"),
    ):
        refuses(
            run,
            "has no model yet",
            "train.py as before",
            error=FileNotFoundError,
            opened_by=function,
        )


def test_training_that_could_not_say_its_model(run):
    (run / "save" / "CKPT+1").mkdir(parents=True)
    shutil.rmtree(run / "model")
    refuses(run, "but no model", "log.txt", error=FileNotFoundError)


def test_folder_that_is_no_model(tmp_path):
    refuses(tmp_path, "is no model", error=FileNotFoundError)
    with pytest.raises(ValueError, match="is a file"):
        (tmp_path / "a").touch()
        open_model(tmp_path / "a")


def test_operating_point_comes_with_the_model_and_is_checked(exported):
    path = exported / "model.json"
    description = json.loads(path.read_text())
    assert open_model(exported)["operating_point"] is None  # as of before
    labels = description["labels"]
    point = {label: 0.5 - k for k, label in enumerate(labels)}
    for value, message in (
        (point, None),
        # By label, in whatever order they are.
        (dict(reversed(point.items())), None),
        ({labels[0]: 0.5}, "operating_point is of .*, not of its labels"),
        ({**point, labels[0]: "0.5"}, "operating_point.* is '0.5', not a num"),
        ([0.5], r"operating_point is \[0.5\], not an object"),
    ):
        description["provenance"]["operating_point"] = value
        path.write_text(json.dumps(description))
        if message is None:
            assert list(
                open_model(exported)["operating_point"].items()
            ) == list(point.items())
            continue
        with pytest.raises(ValueError, match=message):
            open_model(exported)
