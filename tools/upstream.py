#!/usr/bin/env python3
"""Writes into a checkout of SpeechBrain what a pull request of ours would add.

It is made of this repository as it is: definitions and recipes with what has
another name there replaced, and, from tools/upstream, what upstream wants
otherwise. A rule without anything to do stops it before a byte is written.
Nothing is committed.

> python tools/upstream.py /path/to/speechbrain margin
> git -C /path/to/speechbrain status

Authors
 * qlung_plugin contributors
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from upstream_rules import (
    choose_rows,
    drop_keys,
    fill_in,
    read_definition,
    replace_all,
    requirement,
)
from upstream_samples import icbhi_samples, sprsound_samples

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "tools" / "upstream"
REQUIREMENTS = "extra_requirements.txt"
QUALITY = ROOT / "qlung_plugin" / "processing" / "quality"

# Contents by path in the checkout; a Path is where a link points.
Files = dict[str, str | bytes | Path]

AUTHORS = {
    " * qlung_plugin contributors\n": " * qlung_plugin contributors, 2026\n"
}
# Options of the package's preparations that the ones of upstream do not have
ICBHI_OPTIONS = (
    "strict",
    "split",
    "test_fold",
    "annotation_folder",
    "fold_file",
    "valid_device",
)
SPRSOUND_OPTIONS = ("strict",)


def margin(checkout: Path) -> Files:
    """Core: a margin for each sample in AdditiveAngularMargin."""
    patch = ["git", "apply", str(TEMPLATES / "margin.patch")]
    subprocess.run(patch, cwd=checkout, check=True)
    return _templates("margin")


def quality(checkout: Path) -> Files:
    """Core: spectral entropy and audio quality score beside VocalFeatures."""
    spectrum = QUALITY / "spectrum.py"
    functions = replace_all(
        read_definition(spectrum, "entropy_of_frames")
        + read_definition(QUALITY / "frames.py", "mean_over_frames"),
        {
            "entropy_of_frames": "compute_spectral_entropy",
            "_in_band(power, bins)": (
                "torch.where(bins.unsqueeze(1), power, 0.0)"
            ),
            """``[batch, frame, bin]``; see
        :func:`qlung_plugin.processing.quality.power_frames`.""": (
                "Of each frame, ``[batch, frame, bin]``."
            ),
            """; see :func:`spectral_entropy`. NaN for a
        frame without energy in the bins.""": """: 0 for a pure tone, 1 for a flat
        spectrum; NaN for a frame without energy in the bins.""",
        },
        str(spectrum),
    )
    template = TEMPLATES / "quality" / "audio_quality_score.py"
    module = read_definition(template, "AudioQualityScore")
    before_function = "def spec_norm(value, spectrum, eps=1e-10):\n"
    before_module = "def moving_average(features, dim=1, n=3):\n"
    imports = "import torch\nimport torchaudio\n"
    edits = {
        "speechbrain/processing/vocal_features.py": {
            imports: f"import math\n\n{imports}",
            before_function: functions + before_function,
        },
        "speechbrain/lobes/features.py": {
            "import torch\n\n": (
                "import torch\nimport torch.nn.functional as F\n\n"
            ),
            "    compute_spectral_features,\n)\n": (
                "    compute_spectral_entropy,\n"
                "    compute_spectral_features,\n"
                "    mean_over_frames,\n)\n"
            ),
            before_module: module + before_module,
        },
    }
    edited: Files = {
        name: replace_all((checkout / name).read_text("utf-8"), changes, name)
        for name, changes in edits.items()
    }
    return {**edited, **_templates("quality/tests", "tests")}


def icbhi(checkout: Path) -> Files:
    """recipes/ICBHI: training with cross entropy or QLung."""
    recipe = "recipes/ICBHI/classification"
    tested_on = {"!ref test side of the <split>": "test side of the official"}
    hparams = {}
    for name in ("ce", "qlung"):
        path = f"{recipe}/hparams/{name}.yaml"
        text = replace_all(_read(path), tested_on, path)
        hparams[path] = drop_keys(text, ICBHI_OPTIONS, path)
    script = {
        '\n            " (`make demo` needs no data)"': "",
        "its database; the recipes of other databases\nlink to this script. ": (
            "its database.\n"
        ),
    }
    # So that few patients have all classes on either side
    options = " --valid_fraction=0.5 --valid_fold=1"
    files = _recipe(f"{recipe}/train.py", script, hparams, checkout, options)
    return files | _under("tests/samples/ICBHI", icbhi_samples())


def sprsound(checkout: Path) -> Files:
    """recipes/SPRSound: evaluation of what recipes/ICBHI trained."""
    if not (checkout / "recipes/ICBHI").is_dir():
        raise FileNotFoundError(
            f"{checkout} has no recipes/ICBHI, whose models this recipe judges:"
            " write icbhi before, and commit it"
        )
    recipe = "recipes/SPRSound/cross_dataset"
    path = f"{recipe}/hparams/cross_dataset.yaml"
    hparams = {path: drop_keys(_read(path), SPRSOUND_OPTIONS, path)}
    script = {
        "database, and the\nrecipes of other ones link to this script. ": (
            "database.\n"
        ),
    }
    files = _recipe(f"{recipe}/evaluate.py", script, hparams, checkout)
    return files | _under("tests/samples/SPRSound", sprsound_samples())


def _recipe(
    script: str,
    new_by_old: dict[str, str],
    hparams: dict[str, str],
    checkout: Path,
    options: str = "",
) -> Files:
    """A recipe with its templates, its script, YAMLs and their test's rows."""
    folder, database = Path(script).parent, Path(script).parts[1]
    prepare = f"{database.lower()}_prepare.py"
    files: Files = {
        **_templates(database.lower()),
        **hparams,
        script: replace_all(_read(script), {**new_by_old, **AUTHORS}, script),
        f"{folder}/{prepare}": Path(f"../{prepare}"),
        f"{folder}/{REQUIREMENTS}": _requirement() + "\n",
    }
    _fill_in_readme(files, f"{folder}/README.md", checkout)
    table = f"tests/recipes/{database}.csv"
    data = {
        f"--data_folder=tests/tmp/{database}": (
            f"--data_folder=tests/samples/{database}"
            f" --cache_folder=tests/tmp/cache{options}"
        )
    }
    files[table] = choose_rows(ROOT / table, hparams, data)
    return files


def _under(folder: str, contents: dict[str, bytes]) -> Files:
    return {f"{folder}/{name}": text for name, text in contents.items()}


PULL_REQUESTS: dict[str, Callable[[Path], Files]] = {
    function.__name__: function
    for function in (margin, quality, icbhi, sprsound)
}


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _requirement() -> str:
    git = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    origin = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return requirement(origin, ROOT)


def _templates(folder: str, at: str = ".") -> Files:
    """The files of a folder of templates, by their path in the checkout."""
    root = TEMPLATES / folder
    return {
        Path(at, path.relative_to(root)).as_posix(): path.read_text("utf-8")
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _fill_in_readme(files: Files, path: str, checkout: Path) -> None:
    """Results as this repository has them, the citation as upstream has it."""
    rows = [
        line
        for line in _read(path).splitlines()
        if re.match(r"\| (selected|last|test-selected) \| (ce|qlung) \|", line)
        and line.count("|") == 10  # scores with AUROC, of the whole database
    ]
    # Of each checkpoint both, and none twice
    found = [tuple(row.split(" | ")[:2]) for row in rows]
    checkpoints = dict.fromkeys(checkpoint for checkpoint, _ in found)
    wanted = [(name, of) for name in checkpoints for of in ("ce", "qlung")]
    if not found or found != wanted:
        raise ValueError(f"{path}: rows of ce and qlung are {found}")
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    _, heading, citing = readme.partition("Citing SpeechBrain\n")
    if "```bibtex" not in citing:
        raise ValueError(f"{checkout}/README.md: no section Citing SpeechBrain")
    values = {"results": "\n".join(rows), "citing": citing.strip()}
    files[path] = fill_in(str(files[path]), values, path)


def write(checkout: Path, files: Files) -> None:
    """Writes the files, formats what is Python as upstream does."""
    for name, content in files.items():
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8", newline="\n")
        if name.startswith("tests/recipes/setup/"):
            path.chmod(0o755)
    names = [
        name
        for name, content in files.items()
        if name.endswith(".py") and not isinstance(content, Path)
    ]
    for command in (["check", "--fix"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", *names]
        subprocess.run(ruff, cwd=checkout, check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Writes what a pull request to SpeechBrain would add.",
        epilog="pull requests: "
        + " ".join(f"{n}: {f.__doc__}" for n, f in PULL_REQUESTS.items()),
    )
    parser.add_argument(
        "checkout", type=Path, help="a clean clone of SpeechBrain"
    )
    parser.add_argument("pull_request", choices=PULL_REQUESTS)
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    if not (checkout / "speechbrain" / "nnet" / "losses.py").is_file():
        parser.error(f"{checkout} is no checkout of speechbrain/speechbrain")
    status = ["git", "-C", str(checkout), "status", "--porcelain"]
    if subprocess.check_output(status):
        parser.error(f"{checkout} has changes: commit or stash them before")
    try:
        files = PULL_REQUESTS[arguments.pull_request](checkout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    write(checkout, files)
    if any(name.endswith(REQUIREMENTS) for name in files):
        print(f"{REQUIREMENTS}: {_requirement()}")
        if "git+file:" in _requirement():
            print("Others cannot install that: write a public address there")
    print(f"Written to {checkout}: git status and git diff show what")


if __name__ == "__main__":
    main()
