"""The site of the documentation is whole, and what it shows ran.

Authors
 * qlung_plugin contributors
"""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qlung_plugin.cli.main import COMMANDS
from qlung_plugin.inference.components import find_components

pytest.importorskip("jupytext")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
sys.path.insert(0, str(ROOT / "tools"))  # as MkDocs and griffe find them
import docs_docstrings  # noqa: E402
import docs_hooks  # noqa: E402

sys.path.pop(0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it, with its tutorials run."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*command, "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


class Loaded(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self, page):
        super().__init__()
        self.addresses = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag != "a":
            loads = ("src", "srcset", "data", "href")
            self.addresses += [value for key, value in attrs if key in loads]


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = {
        (page.name, address)
        for page in pages
        for address in Loaded(page.read_text("utf-8")).addresses
        if not address.startswith("data:image/png;base64,")
    }
    assert loaded
    elsewhere = [one for one in loaded if re.match(r"(\w+:)?//", one[1])]
    assert not elsewhere
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\W?(\w+:)?//", style.read_text("utf-8"))


@pytest.mark.slow
def test_reference_has_every_component(site):
    pages = [page.read_text("utf-8") for page in site.glob("api/*.html")]
    anchors = set(re.findall(r'id="(qlung_plugin\.[\w.]+)"', "".join(pages)))
    paths = {component.path for component in find_components().values()}
    assert paths <= anchors
    for text in pages:  # no section was left as it stands in the code
        assert "-----" not in text


@pytest.mark.slow
def test_commands_and_tutorials_are_shown_as_they_ran(site):
    commands = (site / "commands.html").read_text("utf-8")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        assert f"usage: qlung {name} [-h]" in commands
    for tutorial in TUTORIALS:
        page = site / "tutorials" / f"{tutorial.stem}.html"
        assert page.read_text("utf-8").count('class="language-text') >= 3


def test_a_tutorial_shows_what_its_cells_give():
    text = (
        "# Title\n\n```python\nprint(6 * 7)\n```\n\nText.\n\n"
        '```bash\necho "$((6 * 8))" and $(ls train.py)\n```\n'
    )
    shown = docs_hooks.executed(text)
    assert "```python\nprint(6 * 7)\n```\n\n```text\n42\n```" in shown
    assert "$(ls train.py)\n```\n\n```text\n48 and train.py\n```" in shown


@pytest.mark.parametrize(
    "cell", ["python\n1 / 0", "bash\nqlung classify no.wav"]
)
def test_a_cell_that_fails_is_an_error(cell):
    with pytest.raises(docs_hooks.CellExecutionError):
        docs_hooks.executed(f"```{cell}\n```\n")


def test_links_hold_in_the_repository_too():
    """Those of the site, where some are rewritten, are checked by the build."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    targets = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
        if "://" not in target
    ]
    assert len(targets) > 50
    assert not [
        f"{page.relative_to(ROOT)}: {target}"
        for page, target in targets
        if not (page.parent / target).exists()
    ]


def test_python_of_the_components_page_runs():
    page = (ROOT / "docs" / "components.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["margins"].shape == (8,) and names["loss"] > 0


def test_docstrings_are_read_as_numpys():
    text = (
        "Of :func:`x`.\n\nArguments\n---------\ny : int\n    Number.\n\n"
        "Example\n-------\n>>> x(1)\n\nAuthors\n * someone\n"
    )
    assert docs_docstrings.as_numpy(text) == (
        "Of `x`.\n\nParameters\n----------\ny : int\n    Number.\n\n"
        "Examples\n--------\n>>> x(1)"
    )
