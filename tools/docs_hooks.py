"""What the site has besides the pages of docs/: called by MkDocs.

The READMEs are pages of it where they lie, so that a text exists once and its
links work on both. Tutorials are notebooks as text, run when the site is built, in a
folder like a clone; the page of the commands is what ``--help`` prints.

Authors
 * qlung_plugin contributors
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError  # noqa: F401, for tests

from qlung_plugin.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
# Pages, and what they show or link to.
OF_THE_REPOSITORY = (
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "qlung_plugin/lobes/quality/learned.*",
    "qlung_plugin/pretrained/*/README.md",
    "recipes/*/*/README.md",
    "recipes/*/*/figures/*.png",
    "tests/integration/README.md",
)
# What a clone has that the tutorials call.
CLONE = ("train.py", "hparams", "recipes")
SHELL = "%%bash"
# What pandas says of a table's looks, which are the site's.
STYLE = re.compile(
    r"<style.*?</style>\s*|(?<=<table) border=\S+ class=[^>]+", re.DOTALL
)
HELP = "<!-- help of all commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files of the repository at their paths there."""
    for pattern in OF_THE_REPOSITORY:
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, **_: Any
) -> str:
    """Text of a page, with links as they are in the site."""
    uri = page.file.src_uri
    up = "../" * uri.count("/")
    if page.file.generated_by:  # below the root, beside docs/
        return markdown.replace(f"]({up}docs/", f"]({up}")
    if uri.startswith("tutorials/") and config.extra["execute"]:
        markdown = executed(Path(config.docs_dir, uri).read_text("utf-8"))
    if HELP in markdown:
        markdown = markdown.replace(HELP, "\n\n".join(helps()))
    return markdown.replace(f"]({up}../", f"]({up}")


def helps() -> Iterator[str]:
    """Of each command its help."""
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        text = subprocess.run(
            [sys.executable, "-m", "qlung_plugin.cli.main", name, "--help"],
            env={**os.environ, "COLUMNS": "80"},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        yield f"## qlung {name}\n\n```text\n{text}```"


def executed(text: str) -> str:
    """A notebook in jupytext's Markdown, run: its cells and what they print.

    A cell that fails is an error.
    """
    notebook = jupytext.reads(text, fmt="md")
    for cell in notebook.cells:  # the first command that fails is an error
        cell.source = cell.source.replace(SHELL, f"{SHELL} -eu", 1)
    path = os.environ["PATH"]
    with TemporaryDirectory() as folder:
        for name in CLONE:
            Path(folder, name).symlink_to(ROOT / name)
        # The commands of this environment, as if it were activated.
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{path}"
        try:
            NotebookClient(
                notebook,
                timeout=600,
                startup_timeout=300,  # of a busy machine
                kernel_name="python3",
                coalesce_streams=True,
                resources={"metadata": {"path": folder}},
            ).execute()
        finally:
            os.environ["PATH"] = path
    return "\n\n".join(part for cell in notebook.cells for part in _parts(cell))


def _parts(cell: Any) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield cell.source
        return
    if cell.cell_type != "code":
        return
    shell = cell.source.startswith(SHELL)
    source = cell.source.partition("\n")[2] if shell else cell.source
    yield f"```{'bash' if shell else 'python'}\n{source}\n```"
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stdout":
                yield f"```text\n{output.text.rstrip()}\n```"
        elif "image/png" in output.data:
            image = re.sub(r"\s", "", output.data["image/png"])
            yield f"![Figure](data:image/png;base64,{image})"
        elif "text/html" in output.data:
            yield STYLE.sub("", output.data["text/html"])
        else:
            yield f"```text\n{output.data['text/plain']}\n```"
