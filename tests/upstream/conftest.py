"""Checkouts of SpeechBrain with what a pull request would add.

Authors
 * qlung_plugin contributors
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))  # as for the script
PULL_REQUESTS = ("margin", "quality", "icbhi", "sprsound")


class Checkout:
    """A clone with the files of a pull request, and an environment for it.

    The environment's SpeechBrain is that of the clone, its qlung_plugin that of
    this repository; all else is as here.
    """

    def __init__(self, folder, environment):
        self.folder = folder
        tools = Path(sys.executable).parent  # ruff, yamllint, codespell
        places = [f"{environment}/bin", str(tools), os.environ["PATH"]]
        search = os.pathsep.join(places)
        self.variables = {**os.environ, "PATH": search}
        self.variables.pop("PYTHONPATH", None)

    def run(self, *command):
        """What a command printed; that it fails is an error which shows it."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def git(self, *arguments):
        identity = ("-c", "user.name=check", "-c", "user.email=check@localhost")
        return self.run("git", *identity, *arguments)

    def changed(self, *suffixes):
        """The files that were added or changed, links left out."""
        self.git("add", "--all")
        names = self.git("diff", "--cached", "--name-only").split()
        return [
            name
            for name in names
            if name.endswith(suffixes) and not (self.folder / name).is_symlink()
        ]


@pytest.fixture(scope="session")
def speechbrain():
    """The checkout that SPEECHBRAIN names, which is never written to."""
    if "SPEECHBRAIN" not in os.environ:
        pytest.skip("SPEECHBRAIN names no checkout of speechbrain/speechbrain")
    return Path(os.environ["SPEECHBRAIN"]).resolve()


@pytest.fixture(scope="session")
def make_checkout(speechbrain, tmp_path_factory):
    """Makes clones with the pull requests that are named, the last not committed."""

    def make(*pull_requests):
        place = tmp_path_factory.mktemp("upstream")
        folder, environment = place / "speechbrain", place / "environment"
        venv.create(environment, symlinks=True, with_pip=False)
        (packages,) = environment.glob("lib/python*/site-packages")
        paths = [folder, ROOT, *(p for p in sys.path if "-packages" in p)]
        (packages / "here.pth").write_text("\n".join(map(str, paths)))
        clone = ["git", "clone", "--quiet", "--shared", speechbrain, folder]
        subprocess.run(clone, check=True)
        checkout = Checkout(folder, environment)
        where = "import importlib.util as u; print(u.find_spec('{}').origin)"
        for package, root in (("speechbrain", folder), ("qlung_plugin", ROOT)):
            found = checkout.run("python", "-c", where.format(package))
            assert Path(found.strip()).is_relative_to(root), found
        for name in pull_requests:
            checkout.git("add", "--all")
            checkout.git("commit", "--quiet", "--allow-empty", "-m", "Before")
            script = ROOT / "tools" / "upstream.py"
            subprocess.run(
                [sys.executable, script, folder, name],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=True,
            )
        return checkout

    return make


@pytest.fixture(scope="session", params=PULL_REQUESTS)
def checkout(request, make_checkout):
    """A clone for each pull request."""
    # The recipe of SPRSound follows that of ICBHI.
    before = ["icbhi"] if request.param == "sprsound" else []
    made = make_checkout(*before, request.param)
    yield made
    shutil.rmtree(made.folder.parent)
