"""A run folder belongs to one configuration, and a killed run leaves no debris.

Authors
 * qlung_plugin contributors
"""

import shutil

import pytest

from tests.recipes.conftest import RECIPE, digest_tree


@pytest.fixture
def used(icbhi_run, tmp_path):
    """A finished run, as a copy: its folder has been moved."""
    folder = shutil.copytree(icbhi_run, tmp_path / "run")
    return folder


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"number_of_epochs": 3},
            "- number_of_epochs, lr_annealing.epoch_count, epoch_counter.limit:"
            " it was 2, now it is 3",
        ),
        ({"debug": ""}, "- debug: it was not there, now it is True"),
    ],
)
def test_another_configuration_changes_no_byte(
    used, train, corpus, options, message
):
    before = digest_tree(used)
    with pytest.raises(ValueError) as refused:
        train(corpus, **options)
    assert digest_tree(used) == before
    assert str(refused.value).splitlines() == [
        f"{used} was made otherwise, and stays as it is:",
        message,
        "Give another --output_folder, or the options of before; or delete"
        " the folder",
    ]


def test_what_changes_no_result_passes(
    used, train, corpus, cache, tmp_path, icbhi_run
):
    moved = shutil.copytree(corpus, tmp_path / "moved")
    train(moved, num_workers=1, noprogressbar="", ckpt_interval_minutes=1)
    for name in ("predictions.csv", "metrics.json", "train.json"):
        assert (used / name).read_bytes() == (icbhi_run / name).read_bytes()


@pytest.mark.slow
def test_more_epochs_where_no_rate_follows_them(train, corpus, tmp_path):
    (tmp_path / "a.yaml").write_text(
        f"!include:{RECIPE}/hparams/qlung.yaml\n"
        "lr_annealing: !new:qlung_plugin.nnet.schedulers.CosineScheduler\n"
        "    initial_value: !ref <lr>\n"
        "    final_value: !ref <final_lr>\n"
        "    epoch_count: 4\n"
    )
    options = {"hparams": tmp_path / "a.yaml"}
    at_once = train(corpus, "at_once", number_of_epochs=2, **options)
    train(corpus, number_of_epochs=1, **options)
    output = train(corpus, number_of_epochs=2, **options)
    log = (output / "log.txt").read_text()
    assert "number_of_epochs, epoch_counter.limit: it was 1, now it is 2" in log
    for name in ("predictions_last.csv", "metrics.json", "train_log.txt"):
        assert (output / name).read_bytes() == (at_once / name).read_bytes()
    with pytest.raises(ValueError, match="it was 2, now it is 1"):
        train(corpus, number_of_epochs=1, **options)
