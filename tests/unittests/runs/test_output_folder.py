"""Tests of output folders, each of which belongs to one configuration.

Authors
 * qlung_plugin contributors
"""

import functools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import speechbrain as sb
from qlung_plugin.runs.output_folder import OutputFolder, unlock_all
from tests.recipes.conftest import digest_tree

YAML = """
data_folder: !PLACEHOLDER
output_folder: !PLACEHOLDER
save_folder: !ref <output_folder>/save
manifest_folder: !ref <output_folder>
test_annotation: !ref <manifest_folder>/test.json
cache_folder: cache
train_log: !ref <output_folder>/train_log.txt
lr: 0.1
number_of_epochs: 2
"""


@pytest.fixture(autouse=True)
def released():
    yield
    unlock_all()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "a.wav", np.ones(10), 4000)
    return tmp_path / "data"


@pytest.fixture
def start(tmp_path, data, tmp_path_factory):
    """What a script does; the folder it wrote, or went on in."""
    scripts = tmp_path_factory.mktemp("scripts")

    def prepare(data_folder, output_folder, label):
        wav = {"file": "{data_root}/a.wav", "start": 0, "stop": 9}
        text = json.dumps({"a": {"wav": wav, "label": label}})
        (output_folder / "test.json").write_text(text)

    def start(
        *options,
        threads=2,
        label="normal",
        script="train.py",
        results=True,
        output="run",
        yaml=YAML,
    ):
        (tmp_path / "a.yaml").write_text(yaml)
        arguments = {
            "data_folder": str(data),
            "output_folder": str(tmp_path / output),
            "cache_folder": str(tmp_path / "cache"),
            **dict(zip(options[::2], options[1::2])),
        }
        _, run_opts, overrides = sb.parse_arguments(
            [
                str(tmp_path / "a.yaml"),
                *(t for k, v in arguments.items() for t in (f"--{k}", v)),
            ]
        )
        unlock_all()  # as another process
        (scripts / script).touch()
        folder = OutputFolder(
            scripts / script, tmp_path / "a.yaml", run_opts, overrides
        )
        folder.check()
        manifests = [folder.keys["test_annotation"]]
        preparation = {
            "data_folder": folder.keys["data_folder"],
            "output_folder": folder.path,
            "label": label,
        }

        def prepare_in(output_folder, **arguments):
            prepare(output_folder=type(folder.path)(output_folder), **arguments)

        preparing = functools.partial(prepare_in, **preparation)
        folder.check_data(manifests, preparing)
        preparing()
        folder.claim(manifests, threads)
        if results:
            (folder.path / "metrics.json").write_text("{}")
        return folder

    return start


@pytest.mark.parametrize(
    "options, message",
    [
        ({"options": ["lr", "0.2"]}, "lr: it was 0.1, now it is 0.2"),
        ({"label": "wheeze"}, "test.json: it was [0-9a-f]{64}, now it is"),
        (
            {"script": "evaluate.py"},
            "script: it was train.py, now it is evaluate.py",
        ),
        (
            {"options": ["precision", "bf16"]},
            "precision: it was not there, now it is bf16",
        ),
    ],
)
def test_another_configuration_is_refused_and_changes_nothing(
    start, options, message
):
    folder = start().path
    before = digest_tree(folder)
    with pytest.raises(ValueError, match=message) as caught:
        start(*options.pop("options", ()), **options)
    assert "give another" in str(caught.value).lower()
    assert digest_tree(folder) == before
    assert start().threads == 2  # as it was begun


def test_other_sound_under_the_same_names_is_refused(start, data):
    folder = start().path
    soundfile.write(data / "a.wav", np.zeros(10), 4000)
    before = digest_tree(folder)
    with pytest.raises(ValueError, match="recordings: it was"):
        start()
    assert digest_tree(folder) == before


def test_moved_data_pass(start, data, tmp_path):
    start()
    data.rename(tmp_path / "moved")
    assert start("data_folder", str(tmp_path / "moved")).threads == 2


def test_what_hangs_its_reader_is_refused(start):
    folder = start().path
    (folder / "hyperparams.yaml").unlink()
    os.mkfifo(folder / "hyperparams.yaml")
    with pytest.raises(ValueError, match="hyperparams.yaml"):
        start()


def test_results_of_unknown_making_are_refused(tmp_path, start):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.txt").touch()
    before = digest_tree(tmp_path / "run")
    with pytest.raises(ValueError, match="no configuration.json"):
        start()
    assert digest_tree(tmp_path / "run") == before


def test_what_broke_before_any_result_binds_nobody(start):
    start(results=False)
    folder = start("lr", "0.2").path
    known = json.loads((folder / "configuration.json").read_text())
    assert known["options"]["lr"] == 0.2


def test_it_goes_on_with_the_threads_of_its_start(start):
    start(threads=2)
    folder = start(threads=3).path
    known = json.loads((folder / "configuration.json").read_text())
    assert known["threads"] == 2


def test_with_more_epochs_it_is_not_finished(start):
    assert (start().path / "metrics.json").is_file()
    folder = start("number_of_epochs", "3", results=False).path
    assert not (folder / "metrics.json").exists()


def test_a_damaged_record_is_named(start):
    folder = start().path
    (folder / "configuration.json").write_text('{"script": "train.py"}')
    with pytest.raises(ValueError, match="configuration.json lacks options"):
        start()


@pytest.mark.parametrize("option", ["output_folder", "train_log"])
def test_nothing_is_written_into_the_data(start, data, tmp_path, option):
    before = digest_tree(tmp_path)
    with pytest.raises(ValueError, match=f"{option} .*data/in lies in the"):
        start(option, str(data / "in"))
    assert {*digest_tree(tmp_path)} == {
        *before,
        (tmp_path / "a.yaml").relative_to(tmp_path),
    }


def test_an_evaluation_spoils_no_interrupted_training(start):
    folder = start(results=False).path
    (folder / "save" / "CKPT+1").mkdir(parents=True)
    (folder / "save" / "CKPT+1" / "CKPT.yaml").touch()
    before = digest_tree(folder)
    save = "save_folder: !ref <output_folder>/save\n"
    with pytest.raises(ValueError, match="it was train.py, now it is judge.py"):
        start(script="judge.py", yaml=YAML.replace(save, ""))
    assert digest_tree(folder) == before


def test_data_are_looked_at_first(start, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (("no", "does not exist"), ("empty", "no recording")):
        with pytest.raises(FileNotFoundError, match=message):
            start("data_folder", str(tmp_path / name))
    assert not (tmp_path / "run").exists()


HOLD = """
import sys
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.output_folder import lock
lock(RunFolder(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_folder_in_use_is_refused_until_its_process_is_killed(
    start, tmp_path
):
    folder = start().path
    before = digest_tree(folder)
    unlock_all()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(ValueError, match=f"in use by process {holder.pid}:"):
        start()
    assert digest_tree(folder) == before
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert start().threads == 2
