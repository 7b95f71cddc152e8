"""The rules by which text of this repository becomes text for SpeechBrain's.

Each fails where there is nothing for it to do: then its text was rewritten, here
or there, and a person has to look.

Authors
 * qlung_plugin contributors
"""

import ast
import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class Edit(NamedTuple):
    """Text to replace within one top-level definition of a file."""

    within: str  # the first line of the definition; "" for the whole file
    old: str  # occurs exactly once there
    new: str


def apply_edits(text: str, edits: Iterable[Edit], where: Path | str) -> str:
    """Text with all edits made.

    Example
    -------
    >>> text = "class A:\\n    x = 1\\n\\n\\nclass B:\\n    x = 1\\n"
    >>> apply_edits(text, [Edit("class B:\\n", "x = 1", "x = 2")], "a.py")
    'class A:\\n    x = 1\\n\\n\\nclass B:\\n    x = 2\\n'
    """
    for edit in edits:
        begin, end = _find_block(text, edit.within, where)
        block = text[begin:end]
        if block.count(edit.old) != 1:
            raise ValueError(
                f"{where}: to be replaced in {edit.within.strip() or 'it'},"
                f" found {block.count(edit.old)} times instead of once:"
                f"\n{edit.old}"
            )
        text = text[:begin] + block.replace(edit.old, edit.new) + text[end:]
    return text


def _find_block(text: str, first: str, where: Path | str) -> tuple[int, int]:
    if text.count(first) != 1 and first:
        raise ValueError(f"{where}: not exactly one line {first.strip()!r}")
    begin = text.index(first)
    # The next line that begins with a letter or a decorator begins another one.
    following = re.compile(r"^[\w@]", re.MULTILINE)
    found = following.search(text, begin + len(first)) if first else None
    return begin, found.start() if found else len(text)


def replace_all(text: str, new_by_old: Mapping[str, str], where: str) -> str:
    """Text with every occurrence replaced; each has to occur.

    Example
    -------
    >>> replace_all("old, old", {"old": "new"}, "a.py")
    'new, new'
    """
    for old, new in new_by_old.items():
        if old not in text:
            raise ValueError(f"{where}: to be replaced, but not there:\n{old}")
        text = text.replace(old, new)
    return text


def requirement(origin: str, here: Path) -> str:
    """This package, for pip, from where its repository came from.

    Without an origin, or with one on this machine, that is the repository itself.

    Example
    -------
    >>> requirement("git@example.org:people/repository.git", Path("/here"))
    'qlung_plugin @ git+https://example.org/people/repository.git'
    >>> requirement("", Path("/here"))
    'qlung_plugin @ git+file:///here'
    """
    # Without the user and the password that it may have been cloned with
    by = r"^(?:https://|ssh://)?[^@/]+@([^:/]+)(?::\d+/|[:/])"
    address = re.sub(by, r"https://\1/", origin)
    if not address.startswith("https://"):
        address = here.as_uri()
    return f"qlung_plugin @ git+{address}"


def read_definition(path: Path, name: str) -> str:
    """The text of a function or class of a module, and two blank lines."""
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.name == name:
                return f"{ast.get_source_segment(text, node)}\n\n\n"
    raise ValueError(f"{path}: defines no {name}")


def drop_keys(text: str, keys: Iterable[str], where: str) -> str:
    """A YAML without some keys of its top level that have one line each.

    Where they are given on under their name, `key: !ref <key>`, this goes too.

    Example
    -------
    >>> drop_keys(
    ...     "a: 1\\nb: 2\\nc:\\n    a: !ref <a>\\n    b: 3\\n", ["a"], "a.yaml"
    ... )
    'b: 2\\nc:\\n    b: 3\\n'
    """
    for key in keys:
        text, count = re.subn(
            rf"^({key}: .*|[ ]+{key}: !ref <{key}>)\n", "", text, flags=re.M
        )
        if count == 0 or f"<{key}>" in text:
            raise ValueError(
                f"{where}: {key} is not there, or not only given on"
            )
    return text


def choose_rows(
    table: Path, hparams: Iterable[str], new_by_old: Mapping[str, str]
) -> str:
    """A table of recipes with the rows of some YAMLs, and their text replaced."""
    with open(table, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    column = header.index("Hparam_file")
    by_hparams = {row[column]: row for row in rows}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for name in hparams:
        if name not in by_hparams:
            raise ValueError(f"{table}: no row of {name}")
        row = "\0".join(by_hparams[name])
        writer.writerow(replace_all(row, new_by_old, str(table)).split("\0"))
    return stream.getvalue()


def fill_in(text: str, values: Mapping[str, str], where: str) -> str:
    """A template with its `{{names}}` replaced, none left over.

    Example
    -------
    >>> fill_in("{{a}} and {{b}}", {"a": "this", "b": "that"}, "README.md")
    'this and that'
    """
    names = set(re.findall(r"\{\{(\w+)\}\}", text))
    if names != set(values):
        raise ValueError(
            f"{where}: names {sorted(names)}, values of {sorted(values)}"
        )
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text
