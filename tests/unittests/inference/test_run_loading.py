"""Tests of what a training leaves behind, and of loading it.

Authors
 * qlung_plugin contributors
"""

import json

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.checkpoints import Checkpointer

from qlung_plugin.inference.run import (
    find_checkpoint,
    load_run,
)
from qlung_plugin.inference.run_yaml import write_inference_yaml
from qlung_plugin.lobes.quality import LearnedQualityScore
from qlung_plugin.lobes.quality.coefficients import plain_coefficients
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.training.selection import CHECKPOINTS

TRAINING_YAML = """\
# A heading of the file
seed: 7
data_folder: !PLACEHOLDER  # where the data are
output_folder: !ref results/<seed>
labels: [normal, crackle, wheeze, both]  # in this order

# Quality, before its key
rate: 16000  # a rate
quality: !new:qlung_plugin.lobes.quality.AudioQualityScore
    sample_rate: !ref <rate>  # its own
    normalisation: fitted

# Measurements of the quality
cycle_measurements: !new:qlung_plugin.dataio.cycles.CycleMeasurements
    quality: !ref <quality>

front_end: !new:torch.nn.Identity

# The backbone
pretrained_weights: mn04_as  # to be downloaded
dim: 96
backbone: !new:qlung_plugin.lobes.models.efficientat.EfficientAT
    # Narrow
    width_mult: 0.1
    pretrained_weights: !ref <pretrained_weights>

# The last
classifier: !new:torch.nn.Linear
    in_features: !ref <dim>
    out_features: 4
    bias: !ref <has_bias>
has_bias: True

optimizer: !name:torch.optim.Adam
    lr: 0.1
# The end
"""
KEYS = [
    "labels",
    "quality",
    "cycle_measurements",
    "front_end",
    "backbone",
    "classifier",
]
NEEDED = {"data_folder": "/data"}


@pytest.fixture
def training_yaml(tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text(TRAINING_YAML)
    return path


@pytest.fixture
def write(training_yaml, tmp_path):
    """Writes inference.yaml and returns its path."""

    def write(overrides=NEEDED, keys=KEYS):
        return write_inference_yaml(
            training_yaml, overrides, keys, tmp_path / "run" / "save"
        )

    return write


# --- inference.yaml ---------------------------------------------------------


def test_it_holds_the_keys_and_nothing_else(write):
    path = write()
    assert path.name == "inference.yaml"
    assert [p.name for p in path.parent.iterdir()] == ["inference.yaml"]
    loaded = load_hyperpyyaml(path.read_text())
    assert list(loaded) == KEYS
    assert loaded["labels"] == ["normal", "crackle", "wheeze", "both"]


def test_references_are_resolved(write):
    text = write().read_text()
    assert "!ref" not in text and "<" not in text
    loaded = load_hyperpyyaml(text)
    assert loaded["quality"].sample_rate == 16000
    assert loaded["classifier"].in_features == 96
    assert loaded["classifier"].bias is not None


def test_what_a_function_gives_is_written_out(write, training_yaml):
    text = training_yaml.read_text()
    labels = "[normal, crackle, wheeze, both]"
    assert labels in text
    function = "!apply:qlung_plugin.dataio.partitions.class_labels [4]"
    training_yaml.write_text(text.replace(labels, function))
    assert f"labels: {labels}\n" in write().read_text()


def test_an_attribute_is_written_out(write, training_yaml):
    """Without random numbers that the training would miss."""
    text = training_yaml.read_text()
    attribute = text.replace("!ref <dim>", "!ref <backbone.embedding_dim>")
    assert attribute != text
    training_yaml.write_text(attribute)
    state = torch.get_rng_state()
    written = write().read_text()
    assert "in_features: 96\n" in written and "getattr" not in written
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("own", [False, True])
def test_coefficients_are_written_out(write, training_yaml, tmp_path, own):
    coefficients = plain_coefficients()
    path = tmp_path / "coefficients.json"
    if own:
        coefficients["intercept"] += 1
        path.write_text(json.dumps(coefficients))
    measures = f"""
    weights: [1, 2]
    measures:
        - !new:qlung_plugin.lobes.quality.ClippingScore
          sample_rate: 8000
        - !new:qlung_plugin.lobes.quality.LearnedQualityScore
          sample_rate: 8000
          coefficients: {path if own else "null"}
"""
    start, end = training_yaml.read_text().split("quality: !new", 1)
    training_yaml.write_text(
        f"{start}quality: !new:qlung_plugin.lobes.quality.WeightedQuality"
        f"{measures}{end[end.index('# Measurements') :]}"
    )
    written = write()
    path.unlink(missing_ok=True)
    loaded = load_hyperpyyaml(written.read_text())["quality"].measures[1]
    expected = LearnedQualityScore(8000, coefficients)
    assert torch.equal(loaded.values, expected.values)
    assert loaded.intercept == expected.intercept
    assert loaded.supervision == expected.supervision


def test_nothing_is_to_be_downloaded(write, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    path = write(keys=[*KEYS, "pretrained_weights"])
    loaded = load_hyperpyyaml(path.read_text())
    assert loaded["pretrained_weights"] is None
    assert loaded["backbone"].embedding_dim == 96
    assert "mn04" not in path.read_text()


def test_comments_stay_behind(write):
    heading, *lines = write().read_text().splitlines()
    assert heading.startswith("# Generated")
    assert lines and not any("#" in line for line in lines)


@pytest.mark.parametrize("keys", [KEYS, KEYS[::-1]])
def test_shared_objects_stay_shared(write, keys):
    loaded = load_hyperpyyaml(write(keys=keys).read_text())
    assert loaded["cycle_measurements"].quality is loaded["quality"]


@pytest.mark.parametrize(
    "overrides",
    [
        "data_folder: /data\nrate: 8000\ndim: 32\nhas_bias: False\n"
        "quality: {alpha: 0.5}\nlabels: [a, b]",
        {
            "data_folder": "/data",
            "rate": 8000,
            "dim": 32,
            "has_bias": False,
            "quality": {"alpha": 0.5},
            "labels": ["a", "b"],
        },
    ],
    ids=["text", "dict"],
)
def test_overrides_are_applied(write, overrides):
    loaded = load_hyperpyyaml(write(overrides).read_text())
    assert loaded["quality"].sample_rate == 8000
    assert loaded["quality"].alpha == 0.5
    assert loaded["quality"].normalisation == "fitted"
    assert loaded["classifier"].in_features == 32
    assert loaded["classifier"].bias is None
    assert loaded["labels"] == ["a", "b"]


def test_it_is_replaced(write):
    write()
    loaded = load_hyperpyyaml(write({**NEEDED, "rate": 8000}).read_text())
    assert loaded["quality"].sample_rate == 8000


def test_key_that_the_training_lacks(write, tmp_path):
    with pytest.raises(ValueError, match="lacks tokeniser, probe") as error:
        write(keys=["labels", "tokeniser", "probe"])
    assert str(tmp_path / "training.yaml") in str(error.value)
    assert not (tmp_path / "run" / "save" / "inference.yaml").exists()


def test_unset_placeholder(write):
    with pytest.raises(ValueError, match="data_folder.*must be replaced"):
        write(overrides="")


# --- checkpoints ------------------------------------------------------------

# Epoch 2 is the best on validation, epoch 3 on the test, epoch 4 the last.
SCORES = {1: (50, 52), 2: (61.5, 53), 3: (60, 58), 4: (55, 51)}
EPOCHS = {"selected": 2, "last": 4, "test_selected": 3}


def build(training_yaml, weight):
    """The objects of the training, with one number for every weight."""
    overrides = {**NEEDED, "pretrained_weights": None}
    objects = load_hyperpyyaml(training_yaml.read_text(), overrides)
    for name in ("backbone", "classifier"):
        for value in objects[name].state_dict().values():
            value.fill_(weight)
    objects["quality"].fit(torch.tensor([[0.0, 0.0], [1.0, weight]]))
    return objects


def save_epoch(training_yaml, folder, epoch, meta, names):
    objects = build(training_yaml, weight=epoch)
    recoverables = {name: objects[name] for name in names}
    meta = {**meta, "epoch": epoch}
    return Checkpointer(folder, recoverables).save_checkpoint(meta=meta)


@pytest.fixture
def run_folder(write, training_yaml, tmp_path):
    """Makes a run folder with the checkpoints of all epochs of SCORES."""

    def make(
        keys=("score", "test_score"),
        names=("backbone", "classifier", "quality"),
        epochs=SCORES,
    ):
        write()
        for epoch in epochs:
            meta = dict(zip(("score", "test_score"), SCORES[epoch]))
            meta = {key: meta[key] for key in keys}
            save_epoch(
                training_yaml, tmp_path / "run" / "save", epoch, meta, names
            )
        return tmp_path / "run"

    return make


def assert_is_epoch(run, epoch):
    assert run["epoch"] == epoch
    for name in ("backbone", "classifier"):
        for key, value in run[name].state_dict().items():
            assert (value == epoch).all(), (name, key)
    # The 5th and 95th percentiles of 0 and the epoch.
    ranges = torch.tensor([[0.05, 0.95], [0.05 * epoch, 0.95 * epoch]])
    torch.testing.assert_close(run["quality"].ranges, ranges)
    assert run["cycle_measurements"].quality is run["quality"]


@pytest.mark.parametrize("name, epoch", EPOCHS.items())
def test_each_name_loads_its_checkpoint(run_folder, name, epoch):
    assert_is_epoch(load_run(run_folder(), name), epoch)


def test_selected_is_the_default(run_folder):
    assert_is_epoch(load_run(run_folder()), EPOCHS["selected"])


def test_the_save_folder_will_do_as_well(run_folder):
    run = load_run(run_folder() / "save", "last")
    assert_is_epoch(run, EPOCHS["last"])


def test_modules_are_ready_for_use(run_folder):
    run = load_run(run_folder())
    modules = [v for v in run.values() if isinstance(v, torch.nn.Module)]
    assert len(modules) == 5
    assert not any(part.training for m in modules for part in m.modules())
    assert run["labels"] == ["normal", "crackle", "wheeze", "both"]


def test_modules_go_to_the_device(run_folder):
    run = load_run(run_folder(epochs=[1]), device="meta")
    for name in ("backbone", "classifier", "quality", "cycle_measurements"):
        tensors = run[name].state_dict().values()
        assert tensors and all(tensor.is_meta for tensor in tensors)


def test_without_validation_the_last_is_selected(run_folder):
    run = load_run(run_folder(keys=["test_score"]), "selected")
    assert_is_epoch(run, EPOCHS["last"])


def test_checkpoint_within_an_epoch_is_none_of_the_three(
    run_folder, training_yaml
):
    folder = run_folder()
    objects = build(training_yaml, weight=9)
    names = ("backbone", "classifier", "quality")
    Checkpointer(
        folder / "save", {name: objects[name] for name in names}
    ).save_checkpoint(meta={"brain_intra_epoch_ckpt": True}, end_of_epoch=False)
    for name, epoch in EPOCHS.items():
        assert_is_epoch(load_run(folder, name), epoch)


def test_training_and_loading_agree_on_the_checkpoints(run_folder):
    checkpointer = Checkpointer(run_folder() / "save")
    assert set(CHECKPOINTS) == set(EPOCHS)
    for name, epoch in EPOCHS.items():
        assert find_checkpoint(checkpointer, name).meta["epoch"] == epoch


# --- what can be missing ----------------------------------------------------


@pytest.mark.parametrize("exists", [False, True])
def test_folder_that_is_no_run(tmp_path, exists):
    folder = tmp_path / "elsewhere"
    if exists:
        folder.mkdir()
    for function in (load_run, RunFolder.of_training):
        with pytest.raises(
            FileNotFoundError, match="is no run folder"
        ) as error:
            function(folder)
        assert str(folder) in str(error.value)
    assert folder.exists() == exists


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_run_without_checkpoints(run_folder, name):
    folder = run_folder(epochs=())
    with pytest.raises(FileNotFoundError, match="has no checkpoint") as error:
        load_run(folder, name)
    assert str(folder) in str(error.value)


def test_run_that_never_looked_at_the_test_set(run_folder):
    folder = run_folder(keys=["score"])
    assert_is_epoch(load_run(folder, "selected"), EPOCHS["selected"])
    with pytest.raises(FileNotFoundError, match="none is test_selected"):
        load_run(folder, "test_selected")


@pytest.mark.parametrize("name", ["best", "score", "", None])
def test_unknown_checkpoint(run_folder, name):
    with pytest.raises(ValueError, match="selected, last, test_selected"):
        load_run(run_folder(epochs=[1]), name)


@pytest.mark.parametrize("absent", ["backbone", "classifier", "quality"])
@pytest.mark.parametrize("how", ["never saved", "deleted"])
def test_no_module_keeps_its_random_weights(run_folder, absent, how):
    names = ["backbone", "classifier", "quality"]
    if how == "never saved":
        names.remove(absent)
    folder = run_folder(names=names, epochs=[1])
    if how == "deleted":
        next(folder.glob(f"save/CKPT*/{absent}.ckpt")).unlink()
    with pytest.raises(FileNotFoundError, match=rf"no {absent}\.ckpt") as error:
        load_run(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        lambda path: path.write_bytes(b""),
        lambda path: torch.save(torch.nn.Linear(5, 4).state_dict(), path),
        lambda path: torch.save({"weight": torch.ones(4, 96)}, path),
        lambda path: torch.save(torch.nn.Linear(96, 4), path),
    ],
    ids=["truncated", "empty", "another shape", "a key too few", "an object"],
)
def test_spoilt_file_is_named(run_folder, spoil):
    folder = run_folder(epochs=[1])
    path = next(folder.glob("save/CKPT*/classifier.ckpt"))
    spoil(path)
    with pytest.raises(
        ValueError, match="not a readable state dict|of another model"
    ) as error:
        load_run(folder)
    assert str(path) in str(error.value)
