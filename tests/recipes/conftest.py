"""A small generated corpus and a way to run the recipe on it.

Authors
 * qlung_plugin contributors
"""

import functools
import hashlib
import importlib.util
import logging
import os
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.runs import experiment_report, jobs, run_figures
from qlung_plugin.runs.output_folder import unlock_all
from qlung_plugin.synthetic.heart import generate_heart_like
from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from qlung_plugin.synthetic.sprsound import generate_sprsound_like
from speechbrain.utils import logger
from tests.recipes.stand_in import STAND_IN, write_yaml

# Here and in the processes that tests start: the last digits of a training
# depend on it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "ICBHI" / "classification"
SPRSOUND = ROOT / "recipes" / "SPRSound"
CSV = ROOT / "recipes" / "CSV" / "classification"
KAUH = ROOT / "recipes" / "KAUH" / "cross_dataset"
EXPERIMENTS = ROOT / "recipes" / "run_experiments.py"

# A backbone and an input small enough for two epochs in a few seconds, and the
# three checkpoints of the published protocol.
TINY = {
    "test_each_epoch": "True",
    "pretrained_weights": "none",
    "number_of_epochs": "2",
    "batch_size": "8",
    "width_mult": "0.1",
    "fix_length": "{duration: 1.0}",
}


@pytest.fixture(scope="session", autouse=True)
def describe_environment_once():
    """Each run asks pip, git and the driver for the same, half a second long."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(logger.get_environment_description)
        patch.setattr(logger, "get_environment_description", once)
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A generated corpus in ICBHI's layout."""
    folder = tmp_path_factory.mktemp("corpus") / "ICBHI"
    generate_icbhi_like(folder, recordings=1)
    return folder


@pytest.fixture(scope="session")
def sprsound_corpus(tmp_path_factory):
    """A generated corpus in SPRSound's layout."""
    folder = tmp_path_factory.mktemp("corpus") / "SPRSound"
    generate_sprsound_like(folder)
    return folder


@pytest.fixture(scope="session")
def kauh_corpus(tmp_path_factory):
    """Noise of several lengths named as KAUH's recordings are."""
    folder = tmp_path_factory.mktemp("corpus") / "KAUH"
    folder.mkdir()
    generator = np.random.default_rng(0)
    sounds = ("N", "E W", "Crep", "I C E W", "I C")
    for patient, sound in enumerate(sounds, start=201):
        for mode in "BDE":
            name = f"{mode}P{patient}_none,{sound},P L L,5{patient % 10},F.wav"
            # The first are shorter than a window, the last has two.
            samples = 4000 * 2 * (patient - 199) - 10
            noise = generator.standard_normal(samples)
            soundfile.write(folder / name, 0.1 * noise, 4000)
    return folder


@pytest.fixture(scope="session")
def heart_corpus(tmp_path_factory):
    """Generated heart sounds, which a table labels."""
    folder = tmp_path_factory.mktemp("corpus") / "heart"
    generate_heart_like(folder, recordings=1)
    return folder


@pytest.fixture(scope="session")
def icbhi_run(corpus, cache, tmp_path_factory):
    """One run of two epochs, uninterrupted, which several tests look at."""
    output = tmp_path_factory.mktemp("run") / "qlung"
    options = {**TINY, "data_folder": corpus, "output_folder": output}
    options["cache_folder"] = cache
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        run_train(RECIPE / "hparams/qlung.yaml", options)
    return output


@pytest.fixture(scope="session")
def sprsound_run(sprsound_corpus, cache, tmp_path_factory):
    """The same, trained on SPRSound."""
    output = tmp_path_factory.mktemp("run") / "sprsound_qlung"
    recipe = SPRSOUND / "classification"
    options = {**TINY, "data_folder": sprsound_corpus}
    options |= {"output_folder": output, "cache_folder": cache}
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        run_script(
            recipe / "train.py", recipe / "hparams" / "qlung.yaml", options
        )
    return output


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache for all runs, as users have it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(tmp_path, cache, monkeypatch):
    """Runs train.py in this process; the output folder is returned."""
    leave_out_figures(monkeypatch)

    def run(data_folder, output="run", hparams="qlung.yaml", **overrides):
        output = tmp_path / output
        options = {
            **TINY,
            "data_folder": data_folder,
            "output_folder": output,
            "cache_folder": cache,
            **overrides,
        }
        # None takes an option back that the YAML at hand does not have.
        options = {k: v for k, v in options.items() if v is not None}
        run_train(RECIPE / "hparams" / hparams, options)
        return output

    return run


@pytest.fixture
def experiments(tmp_path, monkeypatch, interruptible):
    """The script as a module, with the stand-in, in an empty folder."""
    spec = importlib.util.spec_from_file_location(
        "run_experiments", EXPERIMENTS
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    for name in ("TRAIN", "EVALUATE"):
        monkeypatch.setattr(module, name, tmp_path / "stand_in.py")
    monkeypatch.setattr(jobs, "POLL", 0.01)
    # The figure takes longer than all the rest; test_experiments draws it.
    monkeypatch.setattr(
        experiment_report, "scores_figure", lambda *tables: None
    )
    monkeypatch.setattr(
        experiment_report, "write_figure", lambda figure, path: path.touch()
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_yaml(tmp_path / f"{name}.yaml")
    for name in ("ICBHI", "SPRSound"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").touch()
    return module


def leave_out_figures(patch):
    """Draws none of a run's figures, which take longer than the training.

    They are drawn by the runs of the recipes' rows.
    """
    patch.setattr(run_figures, "write_figure", lambda *args: None)


def arguments(options):
    """Command-line arguments of a mapping; a flag has no value."""
    return [
        text
        for key, value in options.items()
        for text in (f"--{key}", str(value))
        if text
    ]


def run_train(hparams, options):
    """Runs ICBHI's train.py as the command line would, in this process."""
    run_script(RECIPE / "train.py", hparams, options)


def run_script(script, hparams, options):
    """Runs a recipe's script as the command line would, in this process."""
    argv, hook, path = sys.argv, sys.excepthook, list(sys.path)
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    sys.argv = [script.name, str(hparams), *arguments(options)]
    # As `python train.py` does, after resolving a symlink.
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv, sys.excepthook, sys.path[:] = argv, hook, path
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, handler)
        unlock_all()
        # SpeechBrain logs to a file of each run; close it.
        for handler in list(logging.getLogger().handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
                logging.getLogger().removeHandler(handler)


def digest_tree(folder):
    """Every file and folder, and what the files hold."""
    return {
        path.relative_to(folder): path.is_file()
        and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }
