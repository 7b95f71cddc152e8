"""Tests that a built wheel is all that is needed away from the checkout.

Authors
 * qlung_plugin contributors
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from csv import DictReader
from pathlib import Path
from zipfile import ZipFile

import pytest

from qlung_plugin.inference.export import export_run
from qlung_plugin.pretrained import MODELS
from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from tests.integration import conventions
from tests.integration.test_speechbrain_recipes import of_the_readme
from tests.unittests.small_runs import make_run

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
    """A wheel with made models, built of a copy: building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("qlung_plugin", "tests", "recipes"):
        shutil.copytree(ROOT / name, source / name)
    for name in MODELS:
        folder = source / "qlung_plugin" / "pretrained" / name
        shutil.rmtree(folder, ignore_errors=True)
        # As if it had begun with published weights, whose notice is needed
        export_run(make_run(source / name, weights="mn01.pt"), folder)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", source, source], check=True)
    (path,) = source.glob("*.whl")
    return path


def test_has_the_package_and_nothing_else(wheel):
    names = {n for n in ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert names == package_files(wheel.parent) >= package_files(ROOT)
    for name in MODELS:
        folder = f"qlung_plugin/pretrained/{name}"
        assert {f"{folder}/model.safetensors", f"{folder}/LICENSE"} <= names


def test_classifies_in_a_fresh_environment(wheel, tmp_path):
    """By the command alone, whose lines on stdout are those of the table."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "venv",
            "--system-site-packages",
            tmp_path / "venv",
        ],
        check=True,
    )
    # This interpreter's packages, which may be an environment's, come last:
    # what is editable among them is not there.
    (site,) = (tmp_path / "venv").glob("lib/*/site-packages")
    (site / "parent.pth").write_text(sysconfig.get_path("purelib"))
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, wheel], check=True)
    generate_icbhi_like(tmp_path / "ICBHI", recordings=1)
    recording = min((tmp_path / "ICBHI").rglob("*.wav"))
    away = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for options, name in (([], "transfer"), (["--model", "icbhi"], "icbhi")):
        run = subprocess.run(
            [
                *(python.with_name("qlung"), "classify", recording),
                *("--format", "csv", *options),
            ],
            cwd=tmp_path,
            env=away,
            capture_output=True,
            text=True,
            check=True,
        )
        rows = list(DictReader(run.stdout.splitlines()))
        assert rows and {row["recording"] for row in rows} == {str(recording)}
        assert sum(
            float(rows[0][f"p_{label}"])
            for label in ("normal", "crackle", "wheeze", "both")
        ) == pytest.approx(1, abs=1e-4)
        assert f"the model {name}, which ships" in run.stderr
        assert str(site / "qlung_plugin" / "pretrained" / name) in run.stderr


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
