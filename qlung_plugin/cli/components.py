"""``qlung components``: what a recipe can be made of.

Authors
 * qlung_plugin contributors
"""

import argparse
import difflib
import inspect
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qlung_plugin.inference.components import Component

HELP = "list what a recipe can be made of, or print the YAML of a part"

DESCRIPTION = """\
Lists every component that a recipe can name, with its YAML tag and
arguments; or prints the block of one, ready to paste."""

EXAMPLES = """\
examples:
  qlung components
  qlung components QualityMargin
  qlung components QualityMargin --for speechbrain"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="print the YAML block of this component",
    )
    parser.add_argument(
        "--for",
        dest="recipe",
        choices=("qlung", "speechbrain"),
        default="qlung",
        help="whose recipe the block is for (default: qlung, this package's)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints the list, or a block; an unknown component is a ValueError."""
    from qlung_plugin.inference.components import find_components

    components = find_components()
    speechbrain = arguments.recipe == "speechbrain"
    if arguments.name is None and speechbrain:
        raise ValueError("--for needs the NAME of a component")
    if arguments.name is None:
        print(text_list(components))
    elif arguments.name in components and speechbrain:
        from qlung_plugin.inference.speechbrain_blocks import speechbrain_block

        print(speechbrain_block(arguments.name, components))
    elif arguments.name in components:
        from qlung_plugin.inference.component_blocks import yaml_block

        print(yaml_block(arguments.name, components))
    else:
        raise ValueError(_unknown(arguments.name, components))


def text_list(components: "dict[str, Component]") -> str:
    """The components for a terminal, under the keys of the recipes."""
    lines: list[str] = []
    key = None
    for component in components.values():
        if component.key != key:
            key = component.key
            lines.extend(["", f"{key}:"] if lines else [f"{key}:"])
        lines.append(f"  {component.tag}")
        arguments = ", ".join(
            argument.name
            if argument.default is inspect.Parameter.empty
            else f"{argument.name}={argument.default!r}"
            for argument in component.arguments
        )
        for text in (component.description, f"({arguments})"):
            wrapped = textwrap.wrap(text, 80 - 6)
            lines.extend(f"      {line}" for line in wrapped)
    return "\n".join(lines)


def _unknown(name: str, components: "dict[str, Component]") -> str:
    similar = difflib.get_close_matches(name, components)
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    return f"no component is called {name}: {hint}`qlung components` lists them"
