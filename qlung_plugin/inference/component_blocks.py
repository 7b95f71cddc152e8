"""YAML blocks of components, to be pasted into a recipe.

An argument gets what ``yaml_values`` of its class says, else what the recipes
have a key for, else its default. In ``yaml_values``, which is plain data,
``"!ref <key>"`` is a reference; ``"!new:Name"`` makes another component, or a
class named by its path, and ``{"!new:Name": {"argument": 1}}`` gives it
arguments that differ from its own.

Authors
 * qlung_plugin contributors
"""

import inspect
import textwrap
from typing import Any

import yaml

from qlung_plugin.inference.components import Argument, Component

WIDTH = 80
INDENT = 4
TAG = "!new:"

# What the recipes have a key for, by argument.
REFERENCES = {
    "input_size": "!ref <backbone.embedding_dim>",
    "num_classes": "!ref <num_classes>",
    "pretrained_weights": "!ref <pretrained_weights>",
}

# What an argument gets that is required and of which nothing is known.
UNKNOWN = "!PLACEHOLDER"

NOTES = {
    "margin": "It goes into a margin loss: indent it as the loss's scale.",
}


def yaml_block(name: str, components: dict[str, Component]) -> str:
    """The YAML block of a component with all its arguments, and comments.

    The components are those of
    :func:`qlung_plugin.inference.components.find_components`.
    """
    component = components[name]
    lines = [
        *comment(component.description, 0),
        *comment(NOTES.get(component.key, ""), 0),
        *entry(component.key, f"{TAG}{name}", 0, components),
    ]
    return "\n".join(lines)


def comment(text: str, indent: int) -> list[str]:
    """The lines of a comment; none of no text."""
    start = " " * indent + "# "
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _new(value: Any) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of an object that a value makes, None if it is none."""
    if isinstance(value, str) and value.startswith(TAG):
        return value.removeprefix(TAG), {}
    if isinstance(value, dict) and any(key.startswith(TAG) for key in value):
        ((tag, arguments),) = value.items()
        return tag.removeprefix(TAG), arguments
    return None


def entry(
    key: str, value: Any, indent: int, components: dict[str, Component]
) -> list[str]:
    """The lines of a key and its value."""
    start = f"{' ' * indent}{key}:"
    new = _new(value)
    if new:
        return _object(f"{start} ", new, indent + INDENT, components)
    items = list(map(_new, value)) if isinstance(value, list) else []
    if items and all(items):
        dash = " " * (indent + INDENT) + "- "
        lines = [start]
        for item in filter(None, items):
            lines += _object(dash, item, len(dash), components)
        return lines
    return [f"{start} {_plain(value)}"]


def _object(
    start: str,
    new: tuple[str, dict[str, Any]],
    indent: int,
    components: dict[str, Component],
) -> list[str]:
    """The lines of an object; its arguments are indented."""
    name, values = new
    if name not in components:
        lines = [f"{start}{TAG}{name}"]
        for key, value in values.items():
            lines.extend(entry(key, value, indent, components))
        return lines
    component = components[name]
    lines = [f"{start}{component.tag}"]
    for argument in component.arguments:
        value = values.get(argument.name, _value(component, argument))
        lines.extend(comment(argument.description, indent))
        lines.extend(entry(argument.name, value, indent, components))
    return lines


def _value(component: Component, argument: Argument) -> Any:
    """What a block gives to an argument."""
    for values in (component.values, REFERENCES):
        if argument.name in values:
            return values[argument.name]
    if argument.default is inspect.Parameter.empty:
        return UNKNOWN
    return argument.default


def _plain(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, str) and value.startswith("!"):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").rstrip("\n")
