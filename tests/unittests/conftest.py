"""What the unit tests share: a small trained model, and its export.

Authors
 * qlung_plugin contributors
"""

import shutil
from pathlib import Path

import pytest

from qlung_plugin.inference.export import export_run
from tests.unittests.small_runs import make_run


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """The output folder of a training and its export, not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    export_run(make_run(folder / "run"), folder / "exported")
    return folder


@pytest.fixture
def run(originals, tmp_path):
    """The output folder of a training, to be spoilt."""
    return Path(shutil.copytree(originals / "run", tmp_path / "run"))


@pytest.fixture
def exported(originals, tmp_path):
    """An exported model, to be spoilt."""
    return Path(shutil.copytree(originals / "exported", tmp_path / "exported"))
