"""The rules of tools/upstream.py fail loudly where there is nothing to do.

Authors
 * qlung_plugin contributors
"""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest
import upstream
import upstream_rules
from packaging.requirements import Requirement
from upstream_rules import (
    choose_rows,
    drop_keys,
    fill_in,
    read_definition,
    replace_all,
    requirement,
)

from tests.upstream.conftest import PULL_REQUESTS, ROOT

TABLE = ROOT / "tests" / "recipes" / "ICBHI.csv"


def test_examples_of_the_rules():
    assert doctest.testmod(upstream_rules).failed == 0


@pytest.mark.parametrize(
    "rule",
    [
        lambda: replace_all("text", {"other": ""}, "a.py"),
        lambda: read_definition(ROOT / "tools/upstream_rules.py", "missing"),
        lambda: drop_keys("a: 1\n", ["b"], "a.yaml"),
        lambda: drop_keys("a: 1\nb: !ref <a>/c\n", ["a"], "a.yaml"),
        lambda: choose_rows(TABLE, ["recipes/other.yaml"], {}),
        lambda: fill_in("{{a}}", {}, "README.md"),
        lambda: fill_in("text", {"a": "b"}, "README.md"),
    ],
)
def test_a_rule_without_anything_to_do_is_an_error(rule):
    with pytest.raises(ValueError, match=r"\.(py|yaml|csv|md): "):
        rule()


@pytest.mark.parametrize(
    "origin, address",
    [
        ("https://host.org/a/b.git", "https://host.org/a/b.git"),
        ("git@host.org:a/b.git", "https://host.org/a/b.git"),
        ("ssh://git@host.org/a/b", "https://host.org/a/b"),
        ("ssh://git@host.org:22/a/b", "https://host.org/a/b"),
        ("https://me:secret@host.org/a/b", "https://host.org/a/b"),
        ("/somewhere/else", "file:///a%20b"),
        ("", "file:///a%20b"),
    ],
)
def test_pip_is_told_where_this_repository_came_from(origin, address):
    parsed = Requirement(requirement(origin, Path("/a b")))
    assert (parsed.name, parsed.url) == ("qlung_plugin", f"git+{address}")


@pytest.fixture
def clone(tmp_path):
    """What the tool looks at in a checkout, but for what it edits."""
    losses = tmp_path / "speechbrain" / "nnet" / "losses.py"
    losses.parent.mkdir(parents=True)
    losses.write_text("class AngularMargin(nn.Module):\n    pass\n")
    citation = "# Citing SpeechBrain\n\n```bibtex\n@misc{}\n```\n"
    (tmp_path / "README.md").write_text(citation)
    return tmp_path


def test_recipes_are_made_of_what_is_here(clone):
    """Each rule has its text in the recipes as they are today."""
    (clone / "recipes" / "ICBHI").mkdir(parents=True)
    # Of ICBHI three checkpoints are told, of SPRSound the last.
    for name, checkpoints in (("icbhi", 3), ("sprsound", 1)):
        files = upstream.PULL_REQUESTS[name](clone)
        script = next(
            f for f in files if f.endswith(("train.py", "evaluate.py"))
        )
        compile(files[script], script, "exec")
        readme = next(f for f in files if f.endswith("/README.md"))
        for configuration in ("ce", "qlung"):
            rows = files[readme].count(f" | {configuration} | 5 |")
            assert rows == checkpoints
        assert "@misc{}" in files[readme]
        needed = f"{script.rpartition('/')[0]}/extra_requirements.txt"
        for line in files[needed].splitlines():
            assert Requirement(line).url.startswith("git+")
        table = f"tests/recipes/{readme.split('/')[1]}.csv"
        assert "tests/samples/" in files[table]


def test_what_changed_upstream_is_named_and_nothing_written(clone, capfd):
    with pytest.raises(subprocess.CalledProcessError):
        upstream.margin(clone)
    assert "patch does not apply" in capfd.readouterr().err
    with pytest.raises(FileNotFoundError, match="write icbhi before"):
        upstream.sprsound(clone)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(clone), *command], check=True)
    run = [sys.executable, ROOT / "tools" / "upstream.py", clone, "margin"]
    result = subprocess.run(run, capture_output=True, text=True)
    assert result.returncode != 0 and "has changes" in result.stderr


def test_all_pull_requests_are_checked():
    assert tuple(upstream.PULL_REQUESTS) == PULL_REQUESTS
