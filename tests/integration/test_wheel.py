"""Tests that a built wheel is all that a recipe of SpeechBrain needs.

Authors
 * qlung_plugin contributors
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.integration import conventions
from tests.integration.test_speechbrain_recipes import of_the_readme

ROOT = Path(__file__).resolve().parents[2]
# Two modules without a place in the package or the checkout, and the blocks.
SCRIPT = """\
import json
import sys
from pathlib import Path

import conventions
import qlung_plugin

blocks, folder = Path("blocks.yaml").read_text(), Path.cwd()
conventions.make_data(folder)
brain = conventions.train("UrbanSound8k", folder / "run", folder, blocks)
print(json.dumps([qlung_plugin.__file__, brain.losses]))
"""

pytestmark = pytest.mark.slow


def package_files(folder):
    """What belongs to the package in a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / "qlung_plugin").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built of a copy: building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("qlung_plugin", "tests", "recipes"):
        shutil.copytree(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", source, source], check=True)
    (path,) = source.glob("*.whl")
    return path


def test_has_the_package_and_nothing_else(wheel):
    names = {n for n in ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert names == package_files(ROOT)


def test_trains_away_from_the_checkout(wheel, tmp_path):
    """A script of SpeechBrain's with QLung's objective, by YAML alone."""
    installed, recipe = tmp_path / "installed", tmp_path / "recipe"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", installed, wheel], check=True)
    recipe.mkdir()
    for name in ("conventions.py", "base.yaml"):
        shutil.copy(Path(conventions.__file__).with_name(name), recipe)
    (recipe / "blocks.yaml").write_text(of_the_readme())
    (recipe / "train.py").write_text(SCRIPT)
    output = subprocess.check_output(
        [sys.executable, "train.py"],
        cwd=recipe,
        env={**os.environ, "PYTHONPATH": str(installed)},
        text=True,
    )
    file, losses = json.loads(output.splitlines()[-1])
    assert Path(file).is_relative_to(installed)
    brain = conventions.train(
        "UrbanSound8k", tmp_path / "here", recipe, of_the_readme()
    )
    assert losses == pytest.approx(brain.losses, rel=1e-6)
