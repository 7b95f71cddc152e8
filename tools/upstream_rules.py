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
