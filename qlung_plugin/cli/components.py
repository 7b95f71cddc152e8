"""``qlung components``: what a recipe can be made of.

Authors
 * qlung_plugin contributors
"""

import difflib
import re
import textwrap

EXAMPLES = """\
examples:
  qlung components
  qlung components QualityMargin
  qlung components --update README.md"""

BEGIN, END = "<!-- qlung components -->", "<!-- end of qlung components -->"


def add_parser(subparsers):
    """Adds the command to the parsers of ``qlung``, and returns its parser."""
    parser = subparsers.add_parser(
        "components",
        help="list what a recipe can be made of, or print the YAML of a part",
        description=(
            "Lists every component that a recipe can name, with its YAML tag and"
            "\narguments; or prints the block of one, ready to paste."
        ),
        epilog=EXAMPLES,
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="print the YAML block of this component",
    )
    output.add_argument(
        "--update",
        metavar="FILE",
        help="renew the table between its marks in a Markdown file",
    )
    return parser


def run(arguments):
    """Prints a list or a block, or renews a table in a file.

    Arguments
    ---------
    arguments : argparse.Namespace
        What the parser made.

    Raises
    ------
    ValueError
        If there is no such component, or no place for a table in the file.
    """
    from qlung_plugin.inference.components import find_components

    components = find_components()
    if arguments.update:
        update_table(arguments.update, components)
    elif arguments.name is None:
        print(text_list(components))
    elif arguments.name in components:
        from qlung_plugin.inference.component_blocks import yaml_block

        print(yaml_block(arguments.name, components))
    else:
        raise ValueError(_unknown(arguments.name, components))


def text_list(components):
    """The components for a terminal, under the keys of the recipes.

    Arguments
    ---------
    components : dict
        :class:`qlung_plugin.inference.components.Component` by name.

    Returns
    -------
    str
        Text of several lines.
    """
    lines, key = [], None
    for component in components.values():
        if component.key != key:
            key = component.key
            lines.extend(["", f"{key}:"] if lines else [f"{key}:"])
        lines.append(f"  {component.tag}")
        arguments = ", ".join(
            argument.name
            if argument.default is None
            else f"{argument.name}={argument.default}"
            for argument in component.arguments
        )
        for text in (component.description, f"({arguments})"):
            wrapped = textwrap.wrap(text, 80 - 6)
            lines.extend(f"      {line}" for line in wrapped)
    return "\n".join(lines)


def markdown_table(components):
    """The components as a table in Markdown, a row per key of the recipes.

    Arguments
    ---------
    components : dict
        :class:`qlung_plugin.inference.components.Component` by name.

    Returns
    -------
    str
        Text of several lines.
    """
    rows = {}
    for component in components.values():
        name = component.path.removeprefix(f"{component.place}.")
        row = rows.setdefault((component.key, component.place), [])
        row.append(f"`{name}`")
    lines = ["| key | where | what there is |", "| --- | --- | --- |"]
    for (key, place), names in rows.items():
        lines.append(f"| `{key}` | `{place}` | {', '.join(names)} |")
    return "\n".join(lines)


def update_table(path, components):
    """Renews the table between the lines :data:`BEGIN` and :data:`END`.

    Arguments
    ---------
    path : str or Path
        The file.
    components : dict
        See :func:`markdown_table`.

    Raises
    ------
    ValueError
        If the two lines are not there, or more than once.
    """
    from qlung_plugin.utils.files import write_text

    with open(path, encoding="utf-8") as file:
        text = file.read()
    updated, count = re.subn(
        f"^{BEGIN}$.*?^{END}$",
        lambda match: "\n".join([BEGIN, markdown_table(components), END]),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    if count != 1:
        raise ValueError(
            f"{path} has {count} tables between the lines {BEGIN} and {END},"
            " where one is needed"
        )
    write_text(updated, path)


def _unknown(name, components):
    similar = difflib.get_close_matches(name, components)
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    return f"no component is called {name}: {hint}`qlung components` lists them"
