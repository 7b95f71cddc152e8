"""YAMLs that say only what they change in another one.

HyperPyYAML's ``!include:`` puts a file under one key. Here it stands above all
keys, too: the file that it names is meant, but for the blocks that are written
below. A block is a top-level key with what is indented below it, and with the
comment above it.

Authors
 * qlung_plugin contributors
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ruamel.yaml import YAML
from ruamel.yaml.emitter import Emitter
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode

INCLUDE = "!include:"
REMOVE = "!remove"
MAPPING = "tag:yaml.org,2002:map"  # without a tag


class Block(NamedTuple):
    """A top-level key of a YAML with its value, as text."""

    comment: str
    text: str
    tag: str


def read_hparams(path: str | Path) -> str:
    """Reads a HyperPyYAML; changes of another one are put in where they belong.

    A block replaces the one of the same key; one tagged ``!remove`` takes it
    out; a new one, which has to be referred to unless it is an option of
    SpeechBrain's Brain, is put at the end. A change that does not fit is a
    ValueError.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "a.yaml").write_text("lr: 0.1\\nloss: !new:a.Loss\\n")
    >>> _ = (folder / "b.yaml").write_text("!include:a.yaml\\nlr: 0.2\\n")
    >>> print(read_hparams(folder / "b.yaml"), end="")
    lr: 0.2
    loss: !new:a.Loss
    """
    return _read(Path(path), above=())


@contextmanager
def whole_keys() -> Iterator[None]:
    """HyperPyYAML may write and read again a long ``{two words: value, ...}``.

    ruamel.yaml breaks the line within such a key, too, which is no key then.
    """
    write = Emitter.write_plain

    def write_whole(self: Emitter, text: Any, split: Any = True) -> None:
        width = self.best_width
        if not split:
            self.best_width = self.column + len(text) + 1
        write(self, text, split)
        self.best_width = width

    Emitter.write_plain = write_whole  # type: ignore[method-assign]
    try:
        yield
    finally:
        Emitter.write_plain = write  # type: ignore[method-assign]


def check_keys(
    script: str | Path, hparams_file: str | Path, keys: Collection[str]
) -> None:
    """Refuses a YAML that lacks a key which its script looks up by name."""
    source = Path(script).read_text(encoding="utf-8")
    needed = re.findall(r'(?:hparams\["|self\.hparams\.)(\w+)', source)
    missing = [key for key in dict.fromkeys(needed) if key not in keys]
    if missing:
        example = re.search(r"hparams/\S+\.yaml", source)
        raise ValueError(
            f"{hparams_file} lacks {', '.join(missing)}, which"
            f" {Path(script).name} needs: copy the blocks from"
            f" {example[0] if example else 'the YAML of its recipe'}, or write"
            f" only what you change, below a line {INCLUDE} with that file"
        )


def _read(path: Path, above: tuple[Path, ...]) -> str:
    place = path.resolve()
    if place in above:
        raise ValueError(f"{path} includes itself")
    text = path.read_text(encoding="utf-8")
    # HyperPyYAML's own are looked for from here, whoever includes this file.
    text = re.sub(
        rf"(?<=[:-] ){INCLUDE}(?!/)", INCLUDE + quote(f"{place.parent}/"), text
    )
    if not re.search(f"^{INCLUDE}", text, re.M):
        return text  # as most: parsing takes a while
    try:
        root = YAML().compose(text)
    except YAMLError:  # told where the text is parsed
        return text
    if root is None or not root.tag.startswith(INCLUDE):
        return text
    included = place.parent / root.tag.removeprefix(INCLUDE)
    whole = _read(included, (*above, place))
    base = YAML().compose(whole)
    if not isinstance(base, MappingNode):
        raise ValueError(f"{path} includes {included}, which holds no keys")
    title = text
    changes: dict[str, Block] = {}
    if isinstance(root, MappingNode):  # else nothing is changed
        title, changes = _split(text, root)
    _, blocks = _split(whole, base)
    new = changes.keys() - blocks.keys()
    for key, change in changes.items():
        before = blocks.get(key, Block("", "\n", ""))
        if change.tag == MAPPING and before.tag.startswith("!new:"):
            raise ValueError(
                f"{path} replaces {key} of {included} as a whole: write its"
                f" {before.tag} with all arguments"
            )
        end = before.text[len(before.text.rstrip()) :]
        blocks[key] = Block(
            change.comment or before.comment,
            change.text.rstrip() + end,
            change.tag,
        )
    title = re.sub(rf"(^#.*\n)*^{INCLUDE}.*\n\n?", "", title, flags=re.M)
    text = title + "".join(
        block.comment + block.text
        for block in blocks.values()
        if block.tag != REMOVE
    )
    for key in new:
        if not (
            key.startswith("__")
            or re.search(rf"<{key}\W", text)
            or key in _brain_options()
        ):
            raise ValueError(
                f"{path} gives {key}, which {included} does not have and"
                " nothing refers to: is it misspelt?"
            )
    return text


def _brain_options() -> set[str]:
    """What SpeechBrain's Brain looks up in a YAML by itself."""
    from speechbrain.utils.run_opts import RunOptions  # heavy

    return {field.name for field in fields(RunOptions)}


def _split(text: str, root: MappingNode) -> tuple[str, dict[str, Block]]:
    """What stands above the first block, and the blocks by key."""
    lines = text.splitlines(keepends=True)
    keys = [key.start_mark.line for key, _ in root.value]
    starts = []
    for start in keys:
        while start > 0 and lines[start - 1].startswith("#"):
            start -= 1
        starts.append(start)
    blocks = {
        key.value: Block(
            "".join(lines[start:line]), "".join(lines[line:end]), value.tag
        )
        for (key, value), start, line, end in zip(
            root.value, starts, keys, [*starts[1:], len(lines)]
        )
    }
    return "".join(lines[: starts[0]]), blocks
